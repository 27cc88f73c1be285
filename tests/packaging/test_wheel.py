"""What a user installs: the wheel, in a fresh environment, run from another folder."""

import json
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOT_SOURCE = (".git", ".venv", "*.egg-info", ".*_cache", "__pycache__")
pytestmark = pytest.mark.slow


def run(*command, cwd):
    result = subprocess.run(
        [str(c) for c in command], cwd=cwd, capture_output=True, text=True, timeout=600, check=False
    )
    assert result.returncode == 0, f"{command} failed:\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder with sdist and wheel; the wheel is built from the sdist.

    Built from a copy: setuptools writes beside the sources, and every worker of pytest-xdist builds.
    """
    out = tmp_path_factory.mktemp("dist")
    source = tmp_path_factory.mktemp("source") / "l2lnp"
    shutil.copytree(ROOT, source, symlinks=True, ignore=shutil.ignore_patterns(*NOT_SOURCE))
    run(sys.executable, "-m", "build", "--outdir", out, source, cwd=out)
    return out


@pytest.fixture(scope="module")
def environment(built, tmp_path_factory):
    """The bin folder of a fresh environment that holds the wheel and nothing else of ours."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    run(folder / "bin" / "pip", "install", "--quiet", *built.glob("*.whl"), cwd=folder)
    return folder / "bin"


def test_wheel_holds_the_package_and_its_files_alone(built):
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if "dist-info" not in name} == {"l2lnp"}
    for needed in (
        "l2lnp/cli/__init__.py",
        "l2lnp/data/digits.h5",
        "l2lnp/networks/small.toml",
        "l2lnp/kernels/cuda/lstm.cu",
        "l2lnp/kernels/cuda/features.cuh",
        "l2lnp/py.typed",
    ):
        assert needed in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_every_module_is_in_the_wheel(built):
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    folders = {"l2lnp": "l2lnp", "cli": "l2lnp/cli", "data": "l2lnp/data"}
    for folder, package in folders.items():
        for file in (ROOT / folder).rglob("*.py"):
            assert f"{package}/{file.relative_to(ROOT / folder)}" in names


def test_the_console_script_works_from_another_folder(environment, tmp_path):
    assert "Usage: l2lnp" in run(environment / "l2lnp", "--help", cwd=tmp_path)
    assert "l2lnp" in run(environment / "python", "-m", "l2lnp", "--version", cwd=tmp_path)
    assert "conv" in run(environment / "l2lnp", "gradcheck", "--layer", "conv", cwd=tmp_path)


def test_a_short_training_run_learns_from_the_wheel(environment, tmp_path):
    run(environment / "l2lnp", "train", "--steps", "120", "--out", "run", cwd=tmp_path)
    metrics = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert metrics[-1]["step"] == 120
    assert metrics[-1]["train_loss"] < metrics[0]["train_loss"]
    assert "error" in run(environment / "l2lnp", "evaluate", "run", cwd=tmp_path)


def test_types_are_right_by_package_name(environment, tmp_path):
    run(
        *(sys.executable, "-m", "mypy", "--python-executable", environment / "python"),
        *("--config-file", ROOT / "pyproject.toml", "--cache-dir", tmp_path / "cache", "-p", "l2lnp"),
        cwd=tmp_path,
    )
