"""The file of one logger: lines are appended to it durably, and each message once. All functions here block.

The files of a folder:

    KEY.ndjson                           is written; it only grows, by whole lines
    KEY.20301231T235959.000000Z.ndjson   was written until that time
    .collector/KEY.lock                  the holder of its lock is the only writer
    .collector/KEY.json                  the checkpoint: the messages of KEY.ndjson up to an offset

The checkpoint may be old: the lines behind its offset are read back when the file is opened. Before a file is renamed,
the checkpoint covers all of it. Before the first write into the new file, the checkpoint is at its beginning. So
renamed files are never read, and may be taken away.
"""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from collector.errors import SinkUnavailable
from collector.runtime.durably import (
    describe_failure,
    is_named,
    lock,
    make_folder,
    replace,
    sync_folder,
    write_all,
    write_anew,
)
from collector.sinks.known import MOST_LINES, Checkpoint, Known, digest, read_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from collector.decoding.identity import Incarnation
    from collector.model import Entry

HIDDEN = ".collector"
"""The folder for locks and checkpoints."""
_UNKNOWN = 1024 * 1024
"""Bytes behind the checkpoint after which a new one is written."""
_READ_BACK = 64 * 1024 * 1024
"""Bytes that are read back at most; there are more only when the checkpoint was lost."""
_CHUNK = 1024 * 1024
_MICROSECOND = timedelta(microseconds=1)
_LAST = datetime.max.replace(tzinfo=UTC)
_NAMED_BY = "%Y%m%dT%H%M%S.%fZ"


@dataclass(frozen=True, slots=True)
class Rotation:
    """The limits of a file: a new one is begun at the first of them."""

    bytes: int
    age: float


class LogFile:
    """The file of one logger in a folder. Each method raises SinkUnavailable, and can be called again then."""

    def __init__(
        self, folder: Path, key: str, incarnation: Incarnation, rotation: Rotation, clock: Callable[[], float]
    ) -> None:
        self.path = folder / f"{key}.ndjson"
        self._key = key
        self._checkpoint_path = folder / HIDDEN / f"{key}.json"
        self._lock_path = folder / HIDDEN / f"{key}.lock"
        self._incarnation = incarnation
        self._rotation = rotation
        self._clock = clock
        self._known = Known()
        self._lock: int | None = None
        self._file: int | None = None
        self._inode = 0
        self._size = 0
        """Bytes of whole lines that are stored durably."""
        self._torn = False
        """Whether a failed write may have left bytes behind the whole lines."""
        self._unknown = 0
        """Bytes behind the checkpoint."""
        self._began = 0.0
        self._doubtful = False
        """Whether a sync of the lines that were read back failed: the next one need not say that they are lost."""
        self._of_others = False
        """Whether the checkpoint is one of another incarnation, which stays until the first line is written."""

    def open(self) -> None:
        """Become the only writer of the file, and learn which messages it has."""
        try:
            self._be_the_writer()
            self._know()
        except OSError as exc:
            raise self._unavailable(exc) from exc

    def close(self) -> None:
        """Close the file, with a checkpoint that covers all of it."""
        if self._file is not None:
            with suppress(OSError):
                self._make_checkpoint(self._size)
        self._close_file()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def append(self, entries: Sequence[Entry], lines: Sequence[bytes]) -> int:
        """Store the lines of messages that are not in the file; return how many were there.

        All is stored durably when it returns, and none of it is there when it raises.
        """
        fresh = self._known.fresh(entries, lines)
        content = b"".join([lines[place] for place in fresh])
        try:
            if content:
                self._begin_append(len(content))
                self._append(content)
            self._known.add(entries)
            self._known.look_at_lines(self._clock())
        except OSError as exc:
            raise self._unavailable(exc) from exc
        if self._unknown >= _UNKNOWN:
            with suppress(OSError):  # then the next one is longer in coming, and more is read back
                self._make_checkpoint(self._size)
        return len(lines) - len(fresh)

    def look_at_age(self) -> None:
        """Begin a new file when the present one is old enough, also when nothing comes."""
        try:
            if self._is_old() and not self._of_others:
                self._rotate()
        except OSError as exc:
            raise self._unavailable(exc) from exc

    def _be_the_writer(self) -> None:
        """Hold the lock, and lock anew in a folder that was removed and is made again."""
        make_folder(self._lock_path.parent)
        if self._lock is not None and not is_named(self._lock, self._lock_path):
            os.close(self._lock)
            self._lock = None
        if self._lock is None:
            self._lock = lock(self._lock_path)
        if self._lock is None:
            raise SinkUnavailable(
                f"expected to be the only writer of {self.path}, but another process writes it:"
                " waiting until it ends (or give each replica a folder of its own)"
            )

    # --- what is in the file

    def _know(self) -> None:
        checkpoint = self._read_checkpoint()
        self._of_others = False
        if checkpoint is None:
            self._open_file()
            return
        ours = self._incarnation
        self._of_others = (checkpoint.stream, checkpoint.created) != (ours.stream, ours.created)
        self._known = Known(() if self._of_others else checkpoint.counts, checkpoint.lines)
        self._began = checkpoint.began
        self._open_file(checkpoint.offset)

    def _read_checkpoint(self) -> Checkpoint | None:
        try:
            return read_checkpoint(self._checkpoint_path.read_bytes())
        except FileNotFoundError:
            return None

    def _read_back(self, offset: int, end: int) -> None:
        """Remember the lines behind a place, and cut off a last one that is not whole."""
        start = offset if offset <= end else 0  # it was made shorter, or is another file
        digests: deque[bytes] = deque(maxlen=MOST_LINES)
        with self.path.open("rb") as file:
            self._size = file.seek(start if end - start <= _READ_BACK else end - _READ_BACK)
            for line in file:
                if line.endswith(b"\n"):
                    digests.append(digest(line))
                    self._size += len(line)
        self._known.read_back(digests)
        self._unknown, self._torn = self._size - start, self._size < end
        self._cut()

    def _make_checkpoint(self, offset: int) -> None:
        if not self._of_others:
            self._replace_checkpoint(offset)

    def _replace_checkpoint(self, offset: int) -> None:
        made = Checkpoint(
            stream=self._incarnation.stream,
            created=self._incarnation.created,
            offset=offset,
            began=self._began,
            counts=self._known.counts(),
            lines=self._known.lines,
        )
        replace(self._checkpoint_path, msgspec.json.encode(made))
        self._unknown = 0

    # --- the file

    def _open_file(self, offset: int = 0) -> None:
        """Open the file and read it back from an offset; a new one gets a checkpoint before its first write."""
        self._close_file()
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        try:
            found = os.fstat(self._file)
            self._inode = found.st_ino
            if found.st_size:
                doubtful, self._doubtful = self._doubtful, True
                self._read_back(offset, found.st_size)
                if doubtful:
                    write_anew(self.path, self._size - self._unknown, self._size)
                os.fsync(self._file)  # a kill may have come before; a message is answered when its line is known
                self._doubtful = False
                self._began = self._began or self._clock()
                if self._unknown or not offset:
                    self._make_checkpoint(self._size)
            else:
                self._size, self._torn, self._began = 0, False, self._clock()
                sync_folder(self.path.parent)
                self._make_checkpoint(0)
        except BaseException:
            self._close_file()
            raise

    def _close_file(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _begin_append(self, size: int) -> None:
        if self._file is None or not self._is_there():
            self._be_the_writer()
            self._open_file()
        self._cut()
        if self._of_others:
            self._replace_checkpoint(self._size)
            self._of_others = False
        if self._size and (self._size + size > self._rotation.bytes or self._is_old()):
            self._rotate()

    def _is_there(self) -> bool:
        """Tell whether the file was not changed: somebody may have renamed or removed it, or cut it short."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return False
        return found.st_ino == self._inode and found.st_size >= self._size

    def _append(self, content: bytes) -> None:
        if self._file is None:
            raise FileNotFoundError(self.path)
        self._torn = True  # until the write is whole; a failed sync may have lost any part of it
        try:
            write_all(self._file, content)
            os.fsync(self._file)
        except OSError:
            with suppress(OSError):  # the next write cuts it otherwise
                self._cut()
            raise
        self._torn = False
        self._size += len(content)
        self._unknown += len(content)

    def _cut(self) -> None:
        """Cut off the bytes that a failed write has left."""
        if self._torn and self._file is not None:
            os.ftruncate(self._file, self._size)
            os.fsync(self._file)
            self._torn = False

    def _is_old(self) -> bool:
        return bool(self._size) and self._clock() - self._began >= self._rotation.age

    def _rotate(self) -> None:
        """Give the file the name of this moment, and begin a new one."""
        self._cut()
        self._make_checkpoint(self._size)
        self.path.rename(self._name_of_now())
        self._open_file()

    def _name_of_now(self) -> Path:
        """Return a free name that sorts behind all others of this logger, also after the clock was set back."""
        moment = datetime.fromtimestamp(self._clock(), UTC)
        names = [path.name for path in self.path.parent.glob(f"{self._key}.*Z.ndjson")]
        before = [found for name in names if (found := _moment_of(name, self._key)) is not None]
        if before:
            moment = max(moment, max(before) + _MICROSECOND)
        return self.path.with_name(_name_of(moment, self._key))

    def _unavailable(self, exc: OSError) -> SinkUnavailable:
        return SinkUnavailable(f"expected to store entries in {self.path}, got {describe_failure(exc)}")


def _name_of(moment: datetime, key: str) -> str:
    return f"{key}.{moment.strftime(_NAMED_BY)}.ndjson"


def _moment_of(name: str, key: str) -> datetime | None:
    """Return the moment in the name of a file; None when the name is no name of a rotation."""
    with suppress(ValueError):
        moment = datetime.strptime(name, f"{key}.{_NAMED_BY}.ndjson").replace(tzinfo=UTC)
        return moment if name == _name_of(moment, key) and moment < _LAST else None
    return None
