"""The names of the captures in an archive: an object for each, so that two streams never share the log of one name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from collector.archive.layout import quoted
from collector.errors import CaptureRefused

if TYPE_CHECKING:
    from collector.archive.log import LogStore

FOLDER = "_archive/_captures"


class Named(msgspec.Struct, frozen=True):
    """A capture of an archive."""

    capture: str
    stream: str


def name_path(capture: str) -> str:
    """Return the path of the object of a capture."""
    return f"{FOLDER}/{quoted(capture)}.json"


async def claim_name(store: LogStore, capture: str, stream: str) -> None:
    """Take the name for a stream. Raises CaptureRefused when it is that of another one, and the errors of the store."""
    ours = Named(capture, stream)
    if await store.create(name_path(capture), msgspec.json.encode(ours)):
        return
    found = _read_name(await store.read(name_path(capture)))
    if found != ours:
        other = "something else" if found is None else f"stream {found.stream}"
        raise CaptureRefused(
            f"expected the capture {capture} of this archive to be of stream {stream}, but it is of {other}:"
            " give this one another name with --capture, or another place"
        )


def _read_name(content: bytes) -> Named | None:
    """Return the capture that an object is of; None for other bytes."""
    try:
        return msgspec.json.decode(content, type=Named)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
