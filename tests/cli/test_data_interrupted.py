"""Real processes of ``l2lnp data``, stopped by Ctrl-C and SIGTERM: they say how to go on, and do."""

import hashlib
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from data_files import encoded, picture, write_tree
from lying_server import serving

from .command_line import l2lnp

SLOWLY = """
import sys, time
from l2lnp.cli import main
from l2lnp.data import importing

def slowly(jobs, n_workers, decode_all=importing.decode_all):
    for decoded in decode_all(jobs, n_workers):
        time.sleep(0.05)
        yield decoded

if __name__ == "__main__":
    importing.decode_all = slowly
    importing._JOB_PICTURES, importing._CHECKPOINT_BYTES, importing._PIECES_WORTH_A_PROCESS = 2, 1, 1
    main(sys.argv[1:])
"""

FETCH = """
import dataclasses, sys
from l2lnp.cli import main
from l2lnp.data import catalogue
from l2lnp.data.addresses import Download

wanted = Download("x.gz", (sys.argv[1],), "sha256:" + sys.argv[2], 1 << 20)
catalogue.KNOWN["mnist"] = dataclasses.replace(catalogue.KNOWN["mnist"], downloads=(wanted,))
main(["data", "fetch", "mnist"])
"""
STOPPED = ["stopped: the same command goes on from here", "l2lnp: interrupted"]
SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


def stopped(command, ready, number, **environment):
    """Start a command, send it a signal once ``ready()``, and return what it said on the error stream."""
    with subprocess.Popen(
        [sys.executable, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    ) as process:
        deadline = time.monotonic() + 60
        while not ready() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    return [line for line in err.splitlines() if line]


@SIGNALS
def test_a_stopped_import_goes_on(tmp_path, capsys, number):
    files = {f"train/{'cat' if i % 3 else 'dog'}/{i}.png": encoded(picture(i), "PNG") for i in range(60)}
    options = ("folder", "--from", write_tree(tmp_path / "own", files), "--size", 8, "--workers", 2)
    out, script = tmp_path / "stopped.h5", tmp_path / "slowly.py"
    script.write_text(SLOWLY)
    journal = tmp_path / ".stopped.h5.importing" / "journal.json"

    def half_way():
        return journal.exists() and '"tried": {"train": 2' in journal.read_text()

    said = stopped([script, "data", "import", *options, "--out", out], half_way, number)
    assert said == STOPPED
    assert not out.exists()
    assert l2lnp(capsys, "data", "import", *options, "--out", out).code == 0
    assert l2lnp(capsys, "data", "import", *options, "--out", tmp_path / "whole.h5").code == 0
    assert out.read_bytes() == (tmp_path / "whole.h5").read_bytes()


@SIGNALS
def test_a_stopped_fetch_keeps_what_it_has(tmp_path, number):
    content = np.random.default_rng(0).bytes(300_000)
    downloads = tmp_path / "downloads" / "mnist"
    part = downloads / ".x.gz.part"
    with serving({"x.gz": content}) as server:
        server.lies["x.gz"] = ["stall"]
        command = ["-c", FETCH, server.url("x.gz"), hashlib.sha256(content).hexdigest()]

        def half_way():
            return part.exists() and part.stat().st_size >= len(content) // 2

        assert stopped(command, half_way, number, L2LNP_CACHE=str(tmp_path)) == STOPPED
    assert part.read_bytes() == content[: len(content) // 2]
    assert [path.name for path in downloads.iterdir()] == [part.name]
