"""Locks between processes: one at a time, and free again when its holder is killed."""

import errno
import signal
import subprocess
import sys

import pytest

from l2lnp import lock
from l2lnp.errors import InputError
from l2lnp.lock import alone_in, locked

HOLDER = """
import sys, time
from pathlib import Path
from l2lnp.lock import locked

with locked(Path(sys.argv[1]), lambda: print("waiting", flush=True)):
    print("held", flush=True)
    sys.stdin.read(1)
"""


def start(path):
    command = [sys.executable, "-c", HOLDER, str(path)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_the_second_waits_for_the_first(tmp_path):
    path = tmp_path / "folder" / "lock"
    with start(path) as first:
        assert first.stdout.readline() == "held\n"
        with start(path) as second:
            assert second.stdout.readline() == "waiting\n"
            first.stdin.close()
            assert second.stdout.readline() == "held\n"
            second.stdin.close()


def test_a_killed_holder_frees_it(tmp_path):
    with start(tmp_path / "lock") as first:
        assert first.stdout.readline() == "held\n"
        first.send_signal(signal.SIGKILL)
        first.wait()
    waited = []
    with locked(tmp_path / "lock", lambda: waited.append(True)):
        pass
    assert not waited


FAILING_WRITER = """
import os, signal, sys
from pathlib import Path
from l2lnp import files

os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
files.replace_file(Path(sys.argv[1]), b"new")
"""


def test_what_a_killed_process_has_half_written_is_removed_by_the_next(tmp_path):
    path = tmp_path / "checkpoint.h5"
    path.write_bytes(b"old")
    assert subprocess.run([sys.executable, "-c", FAILING_WRITER, str(path)]).returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2
    with alone_in(tmp_path, "training"):
        assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"old"


def test_where_nothing_can_be_locked_nobody_waits_for_ever(tmp_path, monkeypatch):
    def fail(file):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(lock, "_lock", fail)
    for held in (locked(tmp_path / "lock", lambda: None), alone_in(tmp_path, "training")):
        with pytest.raises(InputError, match=r"cannot lock .*: no locks available"), held:
            pass
