"""The commit that results are said to come from."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from l2lnp import version

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="there is no Git")


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder under Git with the file ``here.py`` in it; returns what runs Git there."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)

    def git(*words):
        who = ("-c", "user.name=A", "-c", "user.email=a@b.c")
        command = ["git", "-C", str(tmp_path), *who, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    git("init", "-q")
    (tmp_path / "here.py").write_text("1\n")
    git("add", "here.py")
    git("commit", "-q", "-m", "first")
    return git


def test_the_commit_of_a_checkout_is_told_and_whether_files_were_changed(checkout, tmp_path):
    of = version.commit.__wrapped__
    first = checkout("rev-parse", "--short=12", "HEAD")
    checkout("tag", "-a", "v1", "-m", "a tag is no commit")
    assert of(str(tmp_path / "here.py")) == first
    (tmp_path / "here.py").write_text("2\n")
    assert of(str(tmp_path / "here.py")) == f"{first}+"


def test_a_package_that_only_lies_in_a_checkout_has_none(checkout, tmp_path):
    (tmp_path / "installed.py").write_text("1\n")
    assert version.commit.__wrapped__(str(tmp_path / "installed.py")) is None


def test_without_a_checkout_or_without_git_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert version.commit.__wrapped__(str(tmp_path / "here.py")) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert version.commit.__wrapped__(str(Path(version.__file__))) is None
