"""The version of the package, as it was installed, and the commit of a checkout that it is imported from."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

VERSION = version("l2lnp")


@cache
def commit(file: str = __file__) -> str | None:
    """Return the commit of the checkout that ``file`` belongs to, with a + where files were changed since.

    None: it belongs to none, as in an installed package, or Git is not there.
    """
    try:
        _git(file, "ls-files", "--error-unmatch", Path(file).name)
        return _git(file, "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=+")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(file: str, *words: str) -> str:
    """Return what Git says in the folder of ``file``; it writes nothing."""
    command = ["git", "-C", str(Path(file).parent), *words]
    quiet = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    done = subprocess.run(command, env=quiet, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()
