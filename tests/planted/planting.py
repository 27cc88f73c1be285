"""Plant an error in a copy of the package, and run the tests that should notice on that copy."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]

QUICK = {"L2LNP_HYPOTHESIS_PROFILE": "quick to fail"}  # a failure need not be made small
RUN_ON_COPY = """
import sys
import l2lnp, pytest
if not l2lnp.__file__.startswith(sys.argv[1]):
    print("the tests would not run on the copy")
    sys.exit(9)
sys.exit(pytest.main(sys.argv[2:]))
"""


class Planted(NamedTuple):
    """``old`` in the package's ``file`` becomes ``new``; ``tests`` must notice."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


def assert_caught(planted, tmp_path):
    """Fail unless the tests of ``planted`` fail on a copy of the package with its one line changed."""
    package = tmp_path / "l2lnp"
    shutil.copytree(ROOT / "l2lnp", package)  # with what Python made of the modules, so as not to compile all
    for part in ("cli", "data"):
        shutil.copytree(ROOT / part, package / part)
    file = package / planted.file
    source = file.read_text()
    assert source.count(planted.old) >= 1, "the line to change is gone: change this entry with it"
    for compiled in (file.parent / "__pycache__").glob(f"{file.stem}.*"):
        compiled.unlink()
    file.write_text(source.replace(planted.old, planted.new))

    tests = [str(ROOT / test) for test in planted.tests]
    # A failure is counted, not explained: pytest's account of two unequal files of bytes takes minutes.
    short = ["-x", "-q", "--assert=plain", "--tb=no"]
    options = [*short, "-p", "no:cacheprovider", "-p", "no:xdist", "-c", str(ROOT / "pyproject.toml")]
    result = subprocess.run(
        [sys.executable, "-c", RUN_ON_COPY, str(package), *options, *tests],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"} | QUICK,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 1, f"not caught:\n{result.stdout}\n{result.stderr}"
    assert " failed" in result.stdout
