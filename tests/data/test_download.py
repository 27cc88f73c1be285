"""Downloads from a real server on loopback that serves the right file, or lies about it."""

import hashlib

import numpy as np
import pytest
from lying_server import serving

from l2lnp.data import download as module
from l2lnp.data.addresses import Download
from l2lnp.data.download import DownloadError, download
from l2lnp.errors import InputError

CONTENT = np.random.default_rng(0).bytes(300_000)
NAME = "file.gz"
MOST_BYTES = 1 << 20


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(module, "_PAUSES_S", (0.0, 0.0, 0.0))
    monkeypatch.setattr(module, "STALLED_S", 0.3)
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    with serving({NAME: CONTENT}) as server:
        yield server


def wanted(server, mirrors=("first", "second")):
    digest = hashlib.sha256(CONTENT).hexdigest()
    return Download(NAME, tuple(server.url(NAME, m) for m in mirrors), f"sha256:{digest}", MOST_BYTES)


def asked(server):
    return [(mirror, part) for mirror, _, part in server.requests]


def test_the_first_address_that_serves_it_is_enough(server, tmp_path):
    reports = []
    path = download(wanted(server), tmp_path / "new", lambda done, total: reports.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert asked(server) == [("first", None)]
    assert reports[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in reports] == sorted(done for done, _ in reports)
    assert [p.name for p in path.parent.iterdir()] == [NAME]


def test_a_file_that_is_there_is_not_downloaded_again_unless_it_is_damaged(server, tmp_path):
    path = download(wanted(server), tmp_path)
    download(wanted(server), tmp_path)
    assert len(server.requests) == 1
    path.write_bytes(b"damaged")
    assert download(wanted(server), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "lie", [404, 403, 410, 500, 503, "truncate", "wrong", "stall", "drip", "loop", "endless"]
)
def test_the_next_mirror_is_tried(server, tmp_path, lie, monkeypatch):
    if lie == "drip":
        monkeypatch.setattr(module, "SLOWEST_BYTES_PER_S", 1 << 20)
    server.lies["first", NAME] = [lie] * (40 if lie == "loop" else 1)
    assert download(wanted(server), tmp_path).read_bytes() == CONTENT
    assert {mirror for mirror, _ in asked(server)} == {"first", "second"}


@pytest.mark.parametrize(
    ("lie", "message"),
    [
        (404, "answered 404 Not Found"),
        (403, "answered 403 Forbidden"),
        (503, "answered 503 Service Unavailable"),
        ("wrong", "sent other bytes than those expected"),
        ("stall", "stalled for 0.3 s"),
        ("drip", r"sent only \d+ bytes in"),
        ("loop", "redirects without end"),
        ("endless", f"sent more than {MOST_BYTES} bytes"),
    ],
)
def test_every_address_is_named_with_its_reason(server, tmp_path, lie, message, monkeypatch):
    if lie == "drip":
        monkeypatch.setattr(module, "SLOWEST_BYTES_PER_S", 1 << 20)
    server.lies["first", NAME] = [lie] * 40
    server.lies["second", NAME] = [404]
    with pytest.raises(
        DownloadError, match=rf"file\.gz: {server.url(NAME, 'first')} {message}.*; .*second.* 404"
    ):
        download(wanted(server), tmp_path)
    assert not (tmp_path / NAME).exists()


def test_an_address_that_nobody_listens_at_is_named(server, tmp_path):
    dead = Download(NAME, ("http://127.0.0.1:9/file.gz",), "sha256:" + "0" * 64, MOST_BYTES)
    with pytest.raises(DownloadError, match="cannot be reached"):
        download(dead, tmp_path)


def test_nothing_is_asked_again_that_cannot_change(server, tmp_path):
    server.lies[NAME] = [404, "wrong", 404, 404]
    with pytest.raises(DownloadError):
        download(wanted(server), tmp_path)
    assert asked(server) == [("first", None), ("second", None)]


def test_a_broken_download_goes_on_where_it_stopped(server, tmp_path):
    server.lies[NAME] = ["truncate", "truncate"]
    assert download(wanted(server, ["only"]), tmp_path).read_bytes() == CONTENT
    half = len(CONTENT) // 2
    assert asked(server) == [
        ("only", None),
        ("only", f"bytes={half}-"),
        ("only", f"bytes={half + half // 2}-"),
    ]


def test_it_goes_on_at_another_mirror_and_in_another_process(server, tmp_path):
    server.lies["first", NAME] = ["truncate", 404]
    server.lies["second", NAME] = [404]
    with pytest.raises(DownloadError):
        download(wanted(server), tmp_path)
    server.requests.clear()
    assert download(wanted(server), tmp_path).read_bytes() == CONTENT
    assert asked(server) == [("first", f"bytes={len(CONTENT) // 2}-")]


@pytest.mark.parametrize("lie", ["no ranges", "shifted"])
def test_servers_that_cannot_go_on_are_asked_for_the_whole(server, tmp_path, lie):
    server.lies[NAME] = ["truncate", lie]
    assert download(wanted(server, ["only"]), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("left", [b"other bytes from before", CONTENT + b"more"])
def test_wrong_bytes_left_from_before_are_thrown_away(server, tmp_path, left):
    (tmp_path / f".{NAME}.part").write_bytes(left)
    assert download(wanted(server, ["only"]), tmp_path).read_bytes() == CONTENT
    assert asked(server)[-1] == ("only", None)


def test_a_folder_that_cannot_be_written_is_bad_input(server, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="cannot write"):
        download(wanted(server), tmp_path / "file" / "folder")
