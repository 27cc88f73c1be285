"""Progress: one live line on a terminal, plain lines elsewhere."""

import os
import pty
import re
import select
import signal
import time

import pytest

from l2lnp.cli.progress import clock, describe
from l2lnp.runs.training import Progress

from .command_line import start


def run_on_a_terminal(*arguments, env=None, after=None):
    """Run ``l2lnp`` on a pseudo-terminal and return code and output; ``after`` sees the output so far."""
    leader, follower = pty.openpty()
    process = start(*arguments, env={"COLUMNS": "100", "TERM": "xterm", **(env or {})}, stdout=follower)
    os.close(follower)
    output, deadline = b"", time.monotonic() + 60
    while time.monotonic() < deadline:
        if not select.select([leader], [], [], 1)[0]:
            continue
        try:
            part = os.read(leader, 65536)
        except OSError:  # the other end has closed
            break
        output += part
        if after is not None:
            after(process, output)
    os.close(leader)
    process.communicate(timeout=30)
    return process.returncode, output.decode()


def test_a_terminal_gets_one_live_line(tmp_path):
    code, output = run_on_a_terminal(
        "train", "--steps", "60", "--eval-every", "20", "--out", tmp_path / "run"
    )
    assert code == 0
    assert "\x1b[2K" in output or "\x1b[1A" in output or "\r" in output
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", output)
    rows = [row for row in re.split(r"[\r\n]+", text) if "step " in row and "steps/s" in row]
    assert len(rows) >= 2
    assert all(
        re.search(r"step +\d+/60  loss \S+ +test error .* %  \S+ steps/s  \d+:\d\d left", row) for row in rows
    )
    # the live line takes one row of the screen: between its updates no new row is begun
    live = output[output.index("step ") : output.rindex("steps/s")]
    assert live.count("\n") <= 1
    assert "test error" in text.split("written to")[0]


def test_a_dumb_terminal_gets_plain_lines(tmp_path):
    options = ("--steps", "10", "--eval-every", "5", "--out", tmp_path / "run")
    code, output = run_on_a_terminal("train", *options, env={"TERM": "dumb"})
    assert code == 0
    assert "\x1b" not in output
    assert output.count("steps/s") == 2


def test_ctrl_c_on_a_terminal_saves(tmp_path):
    sent = []

    def interrupt_once(process, output):
        if b"steps/s" in output and not sent:
            process.send_signal(signal.SIGINT)
            sent.append(output)

    code, output = run_on_a_terminal(
        "train", "--steps", "9000", "--out", tmp_path / "run", after=interrupt_once
    )
    assert code == 130
    assert re.search(r"interrupted after step \d+ and saved", output)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00"), (65, "1:05"), (3599.7, "1:00:00"), (90061, "25:01:01")]
)
def test_times_as_a_clock_shows_them(seconds, text):
    assert clock(seconds) == text


def test_the_line_says_where_a_run_stands():
    line = describe(Progress(7, 120, 0.012345, 0.0472, True, 93.4, 75.0))
    assert line == "step   7/120  loss 0.0123    test error  4.72 %  93 steps/s  1:15 left"
    slow = describe(Progress(7, 120, 2.5, None, False, 0.25, 452.0))
    assert slow == "step   7/120  loss 2.5       test error   -   %  0.2 steps/s  7:32 left"
