"""Run the command line: in this process, or in one of its own."""

import os
import subprocess
import sys
from typing import NamedTuple

import pytest

from l2lnp.cli import main

SHORT = ("--steps", "12", "--batch-size", "32", "--eval-every", "5", "--threads", "1")


class Ended(NamedTuple):
    code: int
    out: str
    err: str


def l2lnp(capsys, *arguments):
    """Run ``l2lnp`` in this process and return how it ended."""
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return Ended(end.value.code, *capsys.readouterr())


def start(*arguments, env=None, stdout=subprocess.PIPE):
    """Start ``l2lnp`` in a process of its own."""
    command = [sys.executable, "-m", "l2lnp", *map(str, arguments)]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", **(env or {})}
    return subprocess.Popen(command, env=environment, text=True, stdout=stdout, stderr=subprocess.PIPE)


def files_in(folder):
    """Return everything in a folder, hidden files too."""
    return {path.relative_to(folder) for path in folder.rglob("*")}
