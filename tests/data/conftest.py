"""Where tests find the official files, if anywhere."""

import os
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def data_dir():
    """The folder with official files; tests that need it are skipped where there is none."""
    folder = Path(os.environ.get("L2LNP_DATA_DIR", PROJECT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no official data files: set L2LNP_DATA_DIR, or put them at {folder}")
    return folder
