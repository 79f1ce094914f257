"""The cursor of a replay: a file beside the command, so that a replay which was stopped or killed goes on.

It is a file and no key in NATS: it asks for no right and no bucket, and an operator can read it. An entry of a logger
is stored once without it, too; it saves the work that is done. All functions here block.
"""

from __future__ import annotations

import os
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from collector.archive.replaying import NOWHERE, Place
from collector.errors import WrongCursor
from collector.runtime.durably import lock, replace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class _Kept(msgspec.Struct):
    replay: str
    of: dict[str, str]
    """The archive, its part and the target: another replay has another file."""
    place: Place = NOWHERE
    entries: int = 0


class Cursor:
    """How far a replay is. It is stored when `save` is called, and not before."""

    def __init__(self, path: Path, kept: _Kept) -> None:
        self._path = path
        self._kept = kept
        self.replay = kept.replay
        self.start = kept.place
        self.before = kept.entries
        """Entries that earlier runs of this replay have published."""

    def save(self, place: Place, entries: int) -> None:
        """Store durably that everything up to a place is published, with the entries of this run."""
        self._kept.place = place
        self._kept.entries = self.before + entries
        replace(self._path, msgspec.json.encode(self._kept) + b"\n")

    def remove(self) -> None:
        """Forget the replay: it is done, and the same command begins anew."""
        self._path.unlink(missing_ok=True)


@contextmanager
def opened_cursor(path: Path, of: dict[str, str]) -> Iterator[Cursor]:
    """Give the cursor in a file, or a new one. Raises WrongCursor when it is that of another replay, or in use."""
    locking = path.with_name(f"{path.name}.lock")
    descriptor = lock(locking)
    if descriptor is None:
        raise WrongCursor(f"expected to use the cursor {path} alone, but another process replays by it: wait for it")
    try:
        yield Cursor(path, _read(path, of))
    finally:
        locking.unlink(missing_ok=True)
        os.close(descriptor)


def _read(path: Path, of: dict[str, str]) -> _Kept:
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=_Kept)
    except FileNotFoundError:
        return _Kept(secrets.token_hex(8), of)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WrongCursor(
            f"expected {path} to be the cursor of a replay, but it is not ({error}): remove it"
        ) from error
    if kept.of != of:
        other = [name for name in sorted({*of, *kept.of}) if of.get(name) != kept.of.get(name)]
        raise WrongCursor(
            f"expected {path} to be the cursor of this replay, but it has another {', '.join(other)}: give the same"
            " options as before, or name another file with --cursor"
        )
    return kept
