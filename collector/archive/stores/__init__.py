"""Where an archive is kept: the protocol of a store, and which paths every store can have.

A store has objects: bytes under a path such as `orders/date=2030-12-31/00000001.parquet`. An object is created once,
and is never changed, replaced or removed. Paths are relative to the root of the archive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, Protocol

from collector.errors import StoreRefused

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST_PATH = 900
"""Bytes of a path: S3 and GCS take 1,024 with the prefix."""
LONGEST_NAME = 255
"""Bytes of a part of a path: file systems take no more."""


class Store(Protocol):
    """A place for the objects of an archive.

    Each method raises StoreUnavailable or StoreRefused, ends within the store's patience, and is not cut when its
    caller is cancelled. The same call may be repeated after any error.
    """

    where: str
    """The place as errors and the log name it, without a secret."""

    async def create(self, path: str, data: bytes) -> bool:
        """Create an object, whole and durable when this returns; False when there is one already, by any creator.

        It never replaces. After StoreUnavailable with `ambiguous` the object may be there, whole, or may come later.
        """

    async def read(self, path: str) -> bytes:
        """Return the content of an object. Raises NotThere."""

    async def copy(self, path: str, file: BinaryIO) -> None:
        """Write the content of an object into a file, in pieces. Raises NotThere.

        After another error a part of it may be in the file.
        """

    async def after(self, prefix: str, path: str) -> list[str]:
        """Return all paths in a folder and its folders that are greater than `path`, sorted.

        `prefix` is the folder, the empty one for all. Text is compared by code points.
        """


def check_path(path: str) -> None:
    """Raise StoreRefused when a store may not be able to have an object under this path."""
    for expected, is_so in _RULES:
        if not is_so(path):
            raise StoreRefused(
                f"expected a path {expected}, got {path[:100]!r}{'…' if len(path) > 100 else ''}:"
                " change the template of paths, or the key"
            )


def _fits(path: str) -> bool:
    try:
        return len(path.encode()) <= LONGEST_PATH
    except UnicodeEncodeError:  # half of a surrogate pair
        return False


_RULES: tuple[tuple[str, Callable[[str], bool]], ...] = (
    (f"of at most {LONGEST_PATH} bytes of UTF-8", _fits),
    (
        f"of parts with 1 to {LONGEST_NAME} bytes each",
        lambda path: all(0 < len(part.encode()) <= LONGEST_NAME for part in path.split("/")),
    ),
    ("without the parts . and ..", lambda path: not {".", ".."}.intersection(path.split("/"))),
    ("of printable characters without a backslash", lambda path: path.isprintable() and "\\" not in path),
)
