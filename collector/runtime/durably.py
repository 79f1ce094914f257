"""Files and folders that survive a loss of power. All functions here block, and raise OSError."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CHUNK = 1024 * 1024
_PERIOD = 0.02
"""Seconds between two tries to get a lock."""


def make_folder(folder: Path) -> None:
    """Make a folder and its parents where they are missing, durably."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Store the names in a folder durably."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(path: Path, content: bytes) -> None:
    """Replace the content of a file durably: a reader finds all of the old content or all of the new one."""
    write_new(path, content)
    sync_folder(path.parent)


def write_new(path: Path, content: bytes) -> None:
    """Do as `replace` does, except for syncing the folder, which the caller has to do."""
    new = path.with_name(path.name + ".new")
    with new.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def write_all(descriptor: int, content: bytes) -> None:
    """Write all bytes; after an error a part of them may be written."""
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]


def write_anew(path: Path, start: int, end: int) -> None:
    """Write a part of a file over itself, so that the next sync stores it whatever an earlier one has lost."""
    with path.open("r+b", buffering=0) as file:
        for at in range(start, end, _CHUNK):
            part = os.pread(file.fileno(), min(_CHUNK, end - at), at)
            while part:
                written = os.pwrite(file.fileno(), part, at)
                part, at = part[written:], at + written  # noqa: PLW2901 - the rest of this part


def lock(path: Path) -> int | None:
    """Return a descriptor that holds a lock until it is closed or the process ends; None when another one has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        os.close(descriptor)
        if exc.errno in {errno.EAGAIN, errno.EACCES}:
            return None
        raise
    return descriptor


def is_named(descriptor: int, path: Path) -> bool:
    """Tell whether the open file still has this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def locked(path: Path, patience: float) -> Iterator[None]:
    """Hold a lock while the block lasts. Raises TimeoutError when another one has it for so many seconds."""
    deadline = time.monotonic() + patience
    while (descriptor := lock(path)) is None:
        if time.monotonic() >= deadline:
            raise TimeoutError(errno.ETIMEDOUT, f"another process holds the lock for more than {patience:g} s")
        time.sleep(_PERIOD)
    try:
        yield
    finally:
        with suppress(OSError):
            os.close(descriptor)


def describe_failure(exc: OSError) -> str:
    """Return name and text of an error of the system, without a path."""
    name = errno.errorcode.get(exc.errno or 0, type(exc).__name__)
    return f"{name} ({exc.strerror})" if exc.strerror else name
