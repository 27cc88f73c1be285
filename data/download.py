"""Download a file from the first of several addresses that serves the right bytes.

pooch keeps the files, compares checksums and lets none appear before it is whole. What
it does not do is here: a broken download goes on where it stopped, a server that stalls
or sends too much is left, and every address that failed is named with its reason.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pooch
import requests
from urllib3.exceptions import HTTPError, ReadTimeoutError

from l2lnp.data.addresses import Download
from l2lnp.files import cannot

STALLED_S = 20.0  # a server that sends nothing for so long, or too little, is left
SLOWEST_BYTES_PER_S = 500

_PAUSES_S = (0.0, 1.0, 4.0)  # before each round through the addresses whose trouble may pass
_PIECE_BYTES = 1 << 16
_PASSING_STATUS = (408, 429, 500, 502, 503, 504)

Report = Callable[[int, int | None], None]  # is told how many bytes there are, of how many if that is known


class DownloadError(Exception):
    """No address served the file; the message names each with its reason."""


class AddressError(Exception):
    """What is wrong with one address, and whether it may pass."""

    def __init__(self, reason: str, passing: bool = False) -> None:
        super().__init__(reason)
        self.passing = passing


def download(wanted: Download, folder: Path, report: Report = lambda done, total: None) -> Path:
    """Return the file ``wanted`` in ``folder``, downloaded unless it is there with the right checksum.

    Raises
    ------
    DownloadError
        If no address serves it.
    InputError
        If ``folder`` cannot be written.
    """
    fetch = _Fetch(wanted, folder / f".{wanted.name}.part", report)
    troubles: dict[str, AddressError] = {}
    for pause_s in _PAUSES_S:
        time.sleep(pause_s)
        for url in wanted.urls:
            if url not in troubles or troubles[url].passing:
                try:
                    return _retrieve(wanted, url, folder, fetch)
                except AddressError as error:
                    troubles[url] = error
        if not any(trouble.passing for trouble in troubles.values()):
            break
    reasons = "; ".join(f"{url} {trouble}" for url, trouble in troubles.items())
    raise DownloadError(f"cannot download {wanted.name}: {reasons}")


def _retrieve(wanted: Download, url: str, folder: Path, fetch: _Fetch) -> Path:
    try:
        with _quiet_pooch(), _named_troubles():
            return Path(pooch.retrieve(url, wanted.known_hash, wanted.name, folder, downloader=fetch))
    except ValueError:  # pooch's way to say that the checksum is wrong
        raise AddressError("sent other bytes than those expected", passing=fetch.resumed) from None
    except OSError as error:
        raise cannot("write", folder / wanted.name, error) from error


@contextmanager
def _quiet_pooch() -> Iterator[None]:
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def _named_troubles() -> Iterator[None]:
    """Turn everything that the network can do into `AddressError`."""
    try:
        yield
    except requests.TooManyRedirects:
        raise AddressError("redirects without end") from None
    except (requests.Timeout, ReadTimeoutError):
        raise AddressError(f"stalled for {STALLED_S:g} s", passing=True) from None
    except requests.exceptions.SSLError:
        raise AddressError("has no valid certificate") from None
    except requests.ConnectionError:
        raise AddressError("cannot be reached, or broke off", passing=True) from None
    except HTTPError:
        raise AddressError("broke off", passing=True) from None
    except requests.RequestException as error:
        raise AddressError(f"cannot be used ({type(error).__name__})") from None


class _Fetch:
    """The part of a download that pooch leaves to its caller: get the bytes into a file."""

    def __init__(self, wanted: Download, part: Path, report: Report) -> None:
        self.resumed = False
        self._wanted, self._part, self._report = wanted, part, report

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        """Download ``url`` to ``output_file``, going on from what an earlier try has left."""
        there = self._part.stat().st_size if self._part.exists() else 0
        headers = {"Accept-Encoding": "identity"}
        if there:
            headers["Range"] = f"bytes={there}-"
        with requests.get(url, headers=headers, stream=True, timeout=STALLED_S) as response:
            start, total = self._answer(response, there)
            self.resumed = start > 0
            done = self._receive(response, start, total)
        if total is not None and done < total:
            raise AddressError(f"broke off after {done} of {total} bytes", passing=True)
        os.replace(self._part, output_file)

    def _answer(self, response: requests.Response, there: int) -> tuple[int, int | None]:
        """Return from which byte on the server sends, and how many the file has if it says so."""
        if response.status_code == 206:
            places = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
            if places and int(places[1]) == there:
                return there, int(places[2])
        if response.status_code in (206, 416):  # it does not have, or does not send, what comes next
            self._part.unlink()
            raise AddressError("would not go on where the download stopped", passing=True)
        if response.status_code != 200:
            reason = f"answered {response.status_code} {response.reason or ''}".strip()
            raise AddressError(reason, passing=response.status_code in _PASSING_STATUS)
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdigit() else None

    def _receive(self, response: requests.Response, start: int, total: int | None) -> int:
        """Write what the server sends behind the first ``start`` bytes; return how many there are then."""
        done = start
        with self._part.open("r+b" if start else "wb") as file:
            file.seek(start)
            for piece in _pieces(response.raw):
                done += len(piece)
                if done > self._wanted.most_bytes:
                    raise AddressError(f"sent more than {self._wanted.most_bytes} bytes")
                file.write(piece)
                self._report(done, total)
        return done


def _pieces(raw: Any) -> Iterator[bytes]:
    """Yield bytes as they come, as long as they come fast enough."""
    read = getattr(raw, "read1", raw.read)  # read waits for a whole piece
    since, received = time.monotonic(), 0
    while piece := read(_PIECE_BYTES, decode_content=False):
        yield piece
        received += len(piece)
        elapsed_s = time.monotonic() - since
        if elapsed_s >= STALLED_S:
            if received < SLOWEST_BYTES_PER_S * elapsed_s:
                raise AddressError(f"sent only {received} bytes in {elapsed_s:.0f} s", passing=True)
            since, received = time.monotonic(), 0
