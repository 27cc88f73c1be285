"""What all tests share: reproducible draws, one BLAS thread a process, and where real data lies."""

import os
import shutil
import signal
import sys
import tempfile

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy is imported

from pathlib import Path

import pytest

try:
    from hypothesis import Phase, settings
except ImportError:  # the checks on a GPU do without it
    pass
else:
    settings.register_profile("l2lnp", deadline=None, max_examples=20, derandomize=True)
    settings.register_profile("quick to fail", settings.get_profile("l2lnp"), phases=[Phase.generate])
    settings.load_profile(os.environ.get("L2LNP_HYPOTHESIS_PROFILE", "l2lnp"))

ROOT = Path(__file__).resolve().parent.parent
KERNELS = "L2LNP_TEST_KERNELS"  # names the folder of the compiled kernels that all processes share


def pytest_configure(config):
    """Make a folder for compiled kernels, unless this process is one of a run that has one.

    A suite started with & is to ignore Ctrl-C, and so would be the processes that it starts and interrupts.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.own_folder_of_kernels = None
    if KERNELS not in os.environ:
        config.own_folder_of_kernels = os.environ[KERNELS] = tempfile.mkdtemp(prefix="l2lnp-kernels-")


def pytest_unconfigure(config):
    """Remove the folder that `pytest_configure` made."""
    if config.own_folder_of_kernels:
        del os.environ[KERNELS]
        shutil.rmtree(config.own_folder_of_kernels, ignore_errors=True)


@pytest.fixture
def cupy(monkeypatch):
    """A stand-in for CuPy, where ``import cupy`` finds it."""
    from stand_in.module import make

    module = make()
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data sets; without it the test is skipped."""
    folder = Path(os.environ.get("L2LNP_DATA_DIR") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("no real data: set L2LNP_DATA_DIR to a folder with mnist/ and cifar-10-batches-py/")
    return folder


def pytest_terminal_summary(terminalreporter):
    """Say how much of what was checked ran on a GPU."""
    on_gpu = [r for r in terminalreporter.stats.get("passed", ()) if ("gpu", True) in r.user_properties]
    if on_gpu:
        terminalreporter.write_line(f"GPU: {len(on_gpu)} checks ran on one")
    else:
        terminalreporter.write_line(
            "GPU: none ran; kernels and arrays were checked on the CPU alone (docs/gpu.md)"
        )
