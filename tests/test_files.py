"""Files that are written beside their place and renamed."""

from multiprocessing import get_context
from pathlib import Path

import pytest

from l2lnp.errors import InputError
from l2lnp.files import check_place, replace_file


def write(path, letter):
    for _ in range(100):
        replace_file(path, letter * 10_000)


def test_processes_that_write_the_same_file_do_not_disturb_each_other(tmp_path):
    path, context = tmp_path / "file", get_context("spawn")
    processes = [context.Process(target=write, args=(path, letter)) for letter in (b"a", b"b")]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert path.read_bytes() in (b"a" * 10_000, b"b" * 10_000)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("place", "message"),
    [(".", "is a folder"), ("/", "is a folder"), ("none/file", "there is no folder none")],
)
def test_a_place_where_no_file_can_be_is_refused(tmp_path, monkeypatch, place, message):
    monkeypatch.chdir(tmp_path)
    for refuse in (check_place, lambda path: replace_file(path, b"")):
        with pytest.raises(InputError, match=message if refuse is check_place else "cannot write"):
            refuse(Path(place))
    check_place(Path("file"))
    assert list(tmp_path.iterdir()) == []
