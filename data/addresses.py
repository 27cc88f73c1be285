"""Where a file can be downloaded, and how to know that it is the right one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Download:
    """A file that can be downloaded."""

    name: str
    urls: tuple[str, ...]  # in the order in which they are tried
    known_hash: str  # "sha256:..." or "md5:..."
    most_bytes: int  # a server that sends more is left
