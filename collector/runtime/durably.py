"""Files and folders that a loss of power does not take away. Everything here blocks, and raises OSError."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def make_folder(folder: Path) -> None:
    """Have a folder, with those above it; the folder above each new one knows it durably."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder stored durably."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(path: Path, content: bytes) -> None:
    """Have a file with this content, durably: a reader finds all of the old content or all of the new one."""
    write_new(path, content)
    sync_folder(path.parent)


def write_new(path: Path, content: bytes) -> None:
    """Do as `replace` does, but for the last of it: the folder has to be synced."""
    new = path.with_name(path.name + ".new")
    with new.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def write_all(descriptor: int, content: bytes) -> None:
    """Write all of it; when that fails some of it may be there."""
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]


def lock(path: Path, *, wait: bool) -> int | None:
    """Return a descriptor that holds a lock until it is closed or the process ends; None when another one has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as exc:
        os.close(descriptor)
        if exc.errno in {errno.EAGAIN, errno.EACCES}:
            return None
        raise
    return descriptor


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock for the block; wait for it."""
    descriptor = lock(path, wait=True)
    try:
        yield
    finally:
        if descriptor is not None:
            with suppress(OSError):
                os.close(descriptor)


def said(exc: OSError) -> str:
    """Return what the system says, without a path."""
    name = errno.errorcode.get(exc.errno or 0, type(exc).__name__)
    return f"{name} ({exc.strerror})" if exc.strerror else name
