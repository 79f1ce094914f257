"""Dead letters in a folder, for a replica without MongoDB: `dead-letters/KEY/ID.json`, a file for each.

A file has the fields of a letter in MongoDB as JSON: ids as hex text, times in RFC 3339, bytes in base64. Headers that
are no text are `{"base64": …}`. Replicas and commands that change the letters of a logger hold its lock.
"""

from __future__ import annotations

import base64
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from anyio import to_thread
from bson import ObjectId
from bson.errors import InvalidId

from collector.dead_letters.letter import letter_of
from collector.dead_letters.letters import GROUP, fields_of, parts, summary_of
from collector.dead_letters.summary import Letter
from collector.errors import SinkUnavailable
from collector.runtime.durably import describe_failure, locked, make_folder, sync_folder, write_new
from transfer.ndjson import json_object

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from pathlib import Path

    from collector.dead_letters.summary import Filter, Summary
    from collector.model import Rejected

FOLDER = "dead-letters"
_ENDING = ".json"
_PATIENCE = 15.0
"""Seconds to wait for the lock, which is held for one group of letters at a time."""
_NO_LETTER = (ValueError, KeyError, TypeError, InvalidId, msgspec.MsgspecError)
"""Errors of reading a file that is no letter."""
_Result = TypeVar("_Result")


class LetterFiles:
    """The dead letters of one logger as files. All methods block, and raise OSError."""

    __slots__ = ("_lock", "_patience", "folder")

    def __init__(self, folder: Path, key: str, patience: float = _PATIENCE) -> None:
        """Keep them in `folder`; a change waits for the lock for so many seconds."""
        self.folder = folder / FOLDER / key
        self._lock = self.folder / ".lock"
        self._patience = patience

    def prepare(self) -> None:
        """Make the folder, so that a logger without letters is known too."""
        make_folder(self.folder)

    def put(self, letters: Sequence[dict[str, Any]]) -> None:
        """Store letters durably; a stored letter is replaced only by one of a later attempt."""
        make_folder(self.folder)
        with locked(self._lock, self._patience):
            for letter in letters:
                there = self.read(letter["_id"])
                if there is None or there.summary.attempt < letter.get("attempt", 1):
                    write_new(self._path(letter["_id"]), _encode(letter))
            sync_folder(self.folder)

    def ids(self) -> Iterator[ObjectId]:
        """Yield the ids of all letters, in no order."""
        with suppress(FileNotFoundError):
            for path in self.folder.iterdir():
                if path.name.endswith(_ENDING) and ObjectId.is_valid(path.stem):
                    yield ObjectId(path.stem)

    def read(self, letter_id: ObjectId) -> Letter | None:
        """Return a letter; None when there is none."""
        path = self._path(letter_id)
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            return _decode(text)
        except _NO_LETTER as exc:
            raise SinkUnavailable(f"expected a dead letter in {path}, got something else: remove the file") from exc

    def remove(self, letters: Sequence[Summary]) -> int:
        """Remove letters durably, each if it was not replaced since it was read; return how many."""
        removed = 0
        with locked(self._lock, self._patience):
            for letter in letters:
                there = self.read(letter.id)
                if there is not None and (there.summary.failed_at, there.summary.attempt) == (
                    letter.failed_at,
                    letter.attempt,
                ):
                    self._path(letter.id).unlink()
                    removed += 1
            sync_folder(self.folder)
        return removed

    def _path(self, letter_id: ObjectId) -> Path:
        return self.folder / f"{letter_id}{_ENDING}"


class LetterFileStore:
    """The store of one logger's dead letters in files. See `DeadLetterSink`."""

    __slots__ = ("_clock", "_files")

    def __init__(self, files: LetterFiles, clock: Callable[[], float]) -> None:
        self._files = files
        self._clock = clock

    async def store(self, rejects: Sequence[Rejected]) -> None:
        """Store a letter for each reject, durably, under the entry's identity; storing it again changes nothing.

        The letter of an entry that a redrive has published again replaces the earlier letter. Raises SinkUnavailable
        when a letter may not be stored; then call again with the same rejects.
        """
        for start in range(0, len(rejects), GROUP):
            now = self._clock()
            await _in_thread(
                self._files, self._files.put, [letter_of(one, now) for one in rejects[start : start + GROUP]]
            )


class LetterFileReader:
    """The dead letters of one logger in files. See `Letters`."""

    def __init__(self, files: LetterFiles, entries: Path) -> None:
        """Read from `files`; `entries` is the file of the logger's entries."""
        self._files = files
        self._entries = entries

    async def missing(self) -> str:
        """See `Letters`."""
        there = self._files.folder.is_dir() or self._entries.exists()
        return "" if there else f"{self._files.folder} nor {self._entries}"

    async def count(self, wanted: Filter) -> int:
        """See `Letters`."""
        return len(await _in_thread(self._files, self._wanted, wanted))

    async def find(self, wanted: Filter) -> AsyncIterator[list[Summary]]:
        """See `Letters`."""
        ids = await _in_thread(self._files, self._wanted, wanted)
        for start in range(0, len(ids), GROUP):
            found = await self.read(ids[start : start + GROUP])
            for part in parts([letter.summary for letter in found]):
                yield part

    async def read(self, ids: Sequence[ObjectId]) -> list[Letter]:
        """See `Letters`."""
        return await _in_thread(self._files, self._read, ids)

    async def remove(self, letters: Sequence[Summary]) -> int:
        """See `Letters`."""
        return await _in_thread(self._files, self._files.remove, letters)

    def _read(self, ids: Sequence[ObjectId]) -> list[Letter]:
        return [letter for letter_id in ids if (letter := self._files.read(letter_id)) is not None]

    def _wanted(self, wanted: Filter) -> list[ObjectId]:
        """Return the ids of the letters that the filter selects, in the order in which they failed."""
        ids = wanted.ids or self._files.ids()
        letters = (letter.summary for letter_id in ids if (letter := self._files.read(letter_id)) is not None)
        found = sorted({(letter.failed_at, letter.id) for letter in letters if wanted.means(letter)})
        return [letter_id for _, letter_id in found[: wanted.limit]]


async def _in_thread(files: LetterFiles, work: Callable[[Any], _Result], argument: Any) -> _Result:
    try:
        return await to_thread.run_sync(work, argument)
    except OSError as exc:
        raise SinkUnavailable(f"expected to keep dead letters in {files.folder}, got {describe_failure(exc)}") from exc


def _encode(letter: dict[str, Any]) -> bytes:
    headers = letter["headers"]
    marked = _marked(headers) if isinstance(headers, bytes) else [[_marked(one) for one in pair] for pair in headers]
    return json_object(letter | {"headers": marked}) + b"\n"


def _marked(value: str | bytes) -> str | dict[str, str]:
    return value if isinstance(value, str) else {"base64": base64.b64encode(value).decode()}


def _unmarked(value: str | dict[str, str]) -> str | bytes:
    return value if isinstance(value, str) else base64.b64decode(value["base64"])


def _decode(text: bytes) -> Letter:
    """Read the output of `_encode`. Raises `_NO_LETTER` for any other text."""
    stored = msgspec.json.decode(text)
    body = base64.b64decode(stored["body"])
    headers = stored["headers"]
    pairs: Any = _unmarked(headers) if isinstance(headers, dict) else [list(map(_unmarked, pair)) for pair in headers]
    stored |= {
        "_id": ObjectId(stored["_id"]),
        "published_at": datetime.fromisoformat(stored["published_at"]),
        "failed_at": datetime.fromisoformat(stored["failed_at"]),
        "size": len(body),
    }
    return Letter(summary_of(stored), stored["error"], fields_of(pairs), body)
