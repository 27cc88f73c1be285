"""What the tests of the command line share."""

import pytest


@pytest.fixture
def undrawn(monkeypatch):
    """Leave the picture of a run empty: drawing it takes longer than the short runs of the tests."""
    monkeypatch.setattr("l2lnp.runs.curves.draw_curves", lambda path, lines, title: path.write_bytes(b""))
