"""The checks for a GPU run over the stand-in, so that they are right when there is one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_checks_pass_over_the_stand_in_and_claim_no_gpu():
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "tests/gpu"]
    environment = os.environ | {"L2LNP_GPU_STAND_IN": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
    assert "GPU: none ran" in done.stdout
