"""What downloads and imports say where there is no terminal: rate and time left, now and then."""

import pytest

from l2lnp.cli import data_progress
from l2lnp.cli.data_progress import shown_bytes, shown_pictures


@pytest.fixture
def clock_s(monkeypatch):
    """The time, in a list so that tests can move it."""
    now = [100.0]
    monkeypatch.setattr(data_progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(data_progress, "is_live", lambda: False)
    return now


def test_downloads_tell_size_speed_and_time_left(capsys, clock_s):
    with shown_bytes() as report:
        told = report("x.gz")
        for done in (0, 2_000_000, 5_000_000, 40_000_000):
            told(done, 40_000_000)
            clock_s[0] += 4
        report("y.gz")(10, None)
    assert capsys.readouterr().out.splitlines() == [
        "x.gz: 5.0 of 40.0 MB, 0.62 MB/s, 0:56 left",
        "x.gz: 40.0 of 40.0 MB, 3.33 MB/s",
    ]


def test_imports_tell_pictures_rate_and_time_left(capsys, clock_s):
    with shown_pictures() as report:
        for done in (32, 64, 3232, 6432):
            report(done, 6432)
            clock_s[0] += 4
    assert capsys.readouterr().out.splitlines() == [
        "3,232/6,432 pictures, 400/s, 0:08 left",
        "6,432/6,432 pictures; computing checksums",
    ]
