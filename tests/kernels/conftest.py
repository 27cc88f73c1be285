"""What tests of kernels share."""

import pytest

import l2lnp.kernels.cuda


@pytest.fixture
def plant(monkeypatch):
    """``plant(file, right, wrong)`` puts an error into the source of kernels, until the test ends."""
    original = l2lnp.kernels.cuda.source

    def planted(file, right, wrong):
        assert right in original(file), "the line to change is gone: change this entry with it"
        monkeypatch.setattr(l2lnp.kernels.cuda, "source", lambda f: original(f).replace(right, wrong))

    return planted
