"""Imports: parallel or not, interrupted or not, the same bytes; bad pictures are named."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from data_files import encoded, picture, write_tree

from l2lnp.data import disk_room, importing
from l2lnp.data.decoding import decode
from l2lnp.data.folder import list_folder
from l2lnp.data.hdf5_reading import verify_file
from l2lnp.data.importing import Settings, import_pictures
from l2lnp.data.workers import Job, decode_all
from l2lnp.errors import InputError
from l2lnp.lock import locked

SHAPE = (8, 8, 3)
N = 90


def quiet(done, total):
    pass


@pytest.fixture
def tree(tmp_path):
    files = {f"train/{'cat' if i % 3 else 'dog'}/{i}.png": encoded(picture(i), "PNG") for i in range(N)}
    files |= {f"test/dog/{i}.png": encoded(picture(100 + i), "PNG") for i in range(7)}
    return write_tree(tmp_path / "own", files)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Jobs of 4 pictures, a journal after every second."""
    monkeypatch.setattr(importing, "_JOB_PICTURES", 4)
    monkeypatch.setattr(importing, "_CHECKPOINT_BYTES", 8 * int(np.prod(SHAPE)))
    monkeypatch.setattr(importing, "_PIECES_WORTH_A_PROCESS", 1)


def run(tree, out, report=quiet, **settings):
    return import_pictures(list_folder(tree), out, Settings(SHAPE, **settings), report)


def contents(path):
    verify_file(path)
    with h5py.File(path) as file:
        places = [f"{split}/{kind}" for split in ("train", "test") for kind in ("images", "labels")]
        values = [file[place][...].tobytes() for place in places]
        return values, {key: str(value) for key, value in file.attrs.items()}


def test_pictures_and_labels_stay_together_in_a_random_order(tree, tmp_path):
    out = tmp_path / "own.h5"
    assert run(tree, out) == []
    paths = sorted(tree.glob("*/*/*"))
    expected = {decode(p.read_bytes(), SHAPE).tobytes(): p.relative_to(tree).as_posix() for p in paths}
    with h5py.File(out) as file:
        assert file.attrs["class_names"] == b"cat\ndog"
        train = [expected[image.tobytes()] for image in file["train/images"]]
        assert sorted(train) == sorted(n for n in expected.values() if n.startswith("train"))
        assert train != sorted(train)
        assert [n.split("/")[1] for n in train] == [("cat", "dog")[label] for label in file["train/labels"]]
        assert all(expected[image.tobytes()].startswith("test/dog") for image in file["test/images"])
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_several_processes_give_the_same_file(tree, tmp_path):
    run(tree, tmp_path / "one.h5", n_workers=1)
    run(tree, tmp_path / "two.h5", n_workers=2)
    assert contents(tmp_path / "one.h5") == contents(tmp_path / "two.h5")


def test_compressed_is_the_same_and_smaller(tmp_path):
    flat = {f"train/{c}/{i}.png": encoded(picture(i, (300, 300)), "PNG") for c in "ab" for i in range(9)}
    tree = write_tree(tmp_path / "own", flat)
    for compress in (False, True):
        settings = Settings((64, 64, 3), compress=compress)
        import_pictures(list_folder(tree), tmp_path / f"{compress}.h5", settings, quiet)
    assert contents(tmp_path / "False.h5") == contents(tmp_path / "True.h5")
    assert (tmp_path / "True.h5").stat().st_size < 0.8 * (tmp_path / "False.h5").stat().st_size


class StoppedError(Exception):
    pass


def stopping(at):
    """A report that ends the import once it has come so far."""

    def report(done, total):
        if done >= at:
            raise StoppedError

    return report


@pytest.mark.parametrize("stop_after", [1, 3, 20, 24])
def test_a_stopped_import_goes_on_and_ends_in_the_same_bytes(tree, tmp_path, stop_after):
    reports = []

    def stop(done, total):
        reports.append(done)
        if len(reports) == stop_after:
            raise StoppedError

    run(tree, tmp_path / "whole.h5")
    with pytest.raises(StoppedError):
        run(tree, tmp_path / "stopped.h5", report=stop)
    assert not (tmp_path / "stopped.h5").exists()
    before = reports[-1]
    reports.clear()
    run(tree, tmp_path / "stopped.h5", report=lambda done, total: reports.append(done))
    assert reports[0] > before - 12  # at most two jobs and what was under way are done again
    assert contents(tmp_path / "stopped.h5") == contents(tmp_path / "whole.h5")


KILLED = """
import sys, time
from pathlib import Path
from l2lnp.data import importing
from l2lnp.data.folder import list_folder

def report(done, total):
    print(done, flush=True)
    if done >= int(sys.argv[3]):
        time.sleep(60)

if __name__ == "__main__":
    importing._JOB_PICTURES, importing._CHECKPOINT_BYTES, importing._PIECES_WORTH_A_PROCESS = 4, 8 * 192, 1
    settings = importing.Settings((8, 8, 3), n_workers=int(sys.argv[4]))
    importing.import_pictures(list_folder(Path(sys.argv[1])), Path(sys.argv[2]), settings, report)
"""


def kill_import(tree, out, at, n_workers):
    """Start an import in a process of its own and kill it after ``at`` pictures."""
    script = tree.parent / "killed.py"
    script.write_text(KILLED)
    command = [sys.executable, str(script), str(tree), str(out), str(at), str(n_workers)]
    environment = os.environ | {"KILLED_IMPORT": str(out)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        for line in process.stdout:
            if int(line) >= at:
                break
        process.kill()
    assert not out.exists()


def test_an_import_killed_again_and_again_ends_in_the_same_bytes(tree, tmp_path):
    out = tmp_path / "killed.h5"
    for at, n_workers in ((10, 1), (50, 2), (90, 1)):
        kill_import(tree, out, at, n_workers)
    first = []
    run(tree, out, report=lambda done, total: first.append(done))
    assert first[0] > 80
    run(tree, tmp_path / "whole.h5")
    assert contents(out) == contents(tmp_path / "whole.h5")


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_no_process_outlives_a_killed_import(tree, tmp_path):
    kill_import(tree, tmp_path / "killed.h5", 10, 2)
    deadline = time.monotonic() + 10
    while processes_with(f"KILLED_IMPORT={tmp_path / 'killed.h5'}") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not processes_with(f"KILLED_IMPORT={tmp_path / 'killed.h5'}")


def processes_with(variable):
    """The processes that have ``variable`` in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if variable.encode() in path.read_bytes().split(b"\0"):
                found.append(path)
    return found


def test_a_second_import_of_the_same_file_says_that_it_waits(tree, tmp_path):
    out, first = tmp_path / "own.h5", contextlib.ExitStack()
    first.enter_context(locked(tmp_path / ".own.h5.importing" / "lock", lambda: None))

    def waiting():
        assert not out.exists()
        out.write_bytes(b"of the first")
        first.close()

    with pytest.raises(InputError, match=r"own\.h5 exists already"):
        import_pictures(list_folder(tree), out, Settings(SHAPE), quiet, waiting)
    assert out.read_bytes() == b"of the first"


def test_other_pictures_or_another_size_start_anew(tree, tmp_path):
    out = tmp_path / "own.h5"
    with pytest.raises(StoppedError):
        run(tree, out, stopping(40))
    (tree / "train" / "cat" / "new.png").write_bytes(encoded(picture(1000), "PNG"))
    run(tree, out)
    assert sum(map(len, verify_file(out).labels.values())) == N + 8


def _cut(path):
    path.write_bytes(path.read_bytes()[:-1000])


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        *(
            ("journal.json", lambda path, text=text: path.write_bytes(text))
            for text in (b"", b"{", b"[]", b"null", b'{"unknown": 1}', b"\xff", b"[" * 100_000)
        ),
        ("journal.json", lambda path: path.write_text(path.read_text().replace('"train": ', '"train": 9'))),
        ("images.h5", _cut),
        ("images.h5", lambda path: path.write_bytes(b"garbage")),
        ("images.h5", lambda path: h5py.File(path, "w").close()),
    ],
)
def test_damaged_work_files_start_anew(tree, tmp_path, file, damage):
    out = tmp_path / "own.h5"
    with pytest.raises(StoppedError):
        run(tree, out, stopping(40))
    damage(tmp_path / ".own.h5.importing" / file)
    first = []
    run(tree, out, lambda done, total: first.append(done))
    assert first[0] == 4
    run(tree, tmp_path / "whole.h5")
    assert contents(out) == contents(tmp_path / "whole.h5")


def test_a_bad_picture_stops_the_import_and_is_named(tree, tmp_path):
    (tree / "train" / "cat" / "1.png").write_bytes(b"no picture")
    with pytest.raises(
        InputError, match=r"train/cat/1\.png cannot be decoded \(it is no JPEG or PNG\): .*skip"
    ):
        run(tree, tmp_path / "own.h5")
    assert not (tmp_path / "own.h5").exists()


def test_bad_pictures_are_skipped_where_asked_also_after_a_stop(tree, tmp_path):
    (tree / "train" / "cat" / "1.png").write_bytes(b"no picture")
    (tree / "test" / "dog" / "3.png").write_bytes(b"")
    out = tmp_path / "own.h5"
    with pytest.raises(InputError):
        run(tree, out)
    skipped = run(tree, out, skip_bad=True)
    assert sorted(reason.partition(" ")[0] for reason in skipped) == ["test/dog/3.png", "train/cat/1.png"]
    found = verify_file(out)
    assert [len(found.labels[s]) for s in ("train", "test")] == [N - 1, 6]
    assert "2 pictures that could not be decoded left out" in found.description.provenance


def test_with_bad_pictures_a_stopped_import_loses_no_other_and_no_label(tree, tmp_path):
    bad = [f"train/{'cat' if i % 3 else 'dog'}/{i}.png" for i in range(0, 40, 3)]
    write_tree(tree, dict.fromkeys(bad, b"no picture"))
    out = tmp_path / "own.h5"
    for stop_at in (20, 60):
        with pytest.raises(StoppedError):
            run(tree, out, stopping(stop_at), skip_bad=True)
    skipped = run(tree, out, skip_bad=True)
    assert sorted(reason.partition(" ")[0] for reason in skipped) == sorted(bad)
    good = [path for path in sorted(tree.glob("train/*/*")) if path.relative_to(tree).as_posix() not in bad]
    expected = sorted((decode(path.read_bytes(), SHAPE).tobytes(), path.parent.name) for path in good)
    with h5py.File(out) as file:
        labels = [("cat", "dog")[label] for label in file["train/labels"]]
        found = [image.tobytes() for image in file["train/images"]]
    assert sorted(zip(found, labels, strict=True)) == expected


def test_refuses_when_nothing_can_be_decoded(tmp_path):
    tree = write_tree(tmp_path / "own", {f"train/a/{i}.png": b"" for i in range(5)})
    with pytest.raises(InputError, match="none of the 5 training pictures can be decoded"):
        run(tree, tmp_path / "own.h5", skip_bad=True)


@pytest.mark.parametrize("compress", [False, True])
def test_refuses_an_existing_file_and_a_full_disk(tree, tmp_path, monkeypatch, compress):
    (tmp_path / "there.h5").write_bytes(b"")
    with pytest.raises(InputError, match="exists already"):
        run(tree, tmp_path / "there.h5")
    usage = type("Usage", (), {"free": (1 << 20) + 97 * (8 * 8 * 3 + 4) * (1 + compress) - 1})
    monkeypatch.setattr(disk_room.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(
        InputError, match=r"own\.h5 needs 0\.00 GB of disk, .* are free: choose another place"
    ):
        run(tree, tmp_path / "own.h5", compress=compress)


def test_a_worker_that_dies_is_reported(tmp_path):
    """A process that the system kills, as it does when memory runs out."""
    with pytest.raises(InputError, match="died, perhaps by lack of memory"):
        list(decode_all(iter([Job([], SHAPE), Killing(), Job([], SHAPE)]), 2))


class Killing:
    entries = property(lambda self: os.kill(os.getpid(), signal.SIGKILL))


def test_no_more_jobs_are_taken_than_under_way():
    taken = []

    def jobs():
        for i in range(100):
            taken.append(i)
            yield Job([], SHAPE)

    outcomes = decode_all(jobs(), 2)
    next(outcomes)
    time.sleep(0.1)
    assert len(taken) <= 7
    outcomes.close()
