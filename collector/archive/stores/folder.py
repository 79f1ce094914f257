"""The objects of an archive as files of a folder, created durably and once. All functions here block.

A file is written without a name, synced, and then linked to its name: no reader ever sees a part of it, and a kill
leaves nothing behind. Where the file system has no files without a name (NFS has none), the file has one in the folder
`.collector` of the root until it is linked, and what a kill has left there is removed an hour later.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NoReturn

from collector.archive.stores import check_path
from collector.errors import NotThere, StoreRefused, StoreUnavailable
from collector.runtime.durably import describe_failure, write_all

if TYPE_CHECKING:
    from collections.abc import Iterator

HIDDEN = ".collector"
"""The folder for files that are not linked yet, and whose names are no paths of the archive."""
_NO_PART_OF_IT = {HIDDEN, "lost+found"}
"""Folders of the root that are never listed."""
_OPEN_FILES = Path("/proc/self/fd")
_PIECE = 1024 * 1024
_MODE = 0o640
_FOLDER_MODE = 0o750
_LEFT_BEHIND = 3600.0
"""Seconds, by the clock of the file system, after which the writer of an unlinked file is taken for dead."""
_MOST_KNOWN = 10_000
"""Folders whose durable names are remembered; then they are synced again."""
_NO_UNNAMED = {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL}
_FULL = {errno.ENOSPC: "make room", errno.EDQUOT: "raise the quota", errno.EFBIG: "raise the limit of file sizes"}
_REFUSED = {
    errno.EACCES: "let the user of this process read and write it",
    errno.EPERM: "let the user of this process write it, on a file system with hard links",
    errno.EROFS: "mount it for writing",
    errno.EXDEV: "keep the whole archive on one file system",
    errno.EMLINK: "use a file system with hard links",
    errno.EOPNOTSUPP: "use a file system with hard links",
    errno.ENOTDIR: "remove or rename the file that is where a folder has to be",
    errno.EISDIR: "remove or rename the folder that is where a file has to be",
    errno.ENAMETOOLONG: "use a shorter template of paths",
    errno.ELOOP: "remove the symbolic links that lead in a circle",
}


class Folder:
    """A folder with the objects of an archive. It has to be there: one that is made here may be under a lost mount."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.where = str(root)
        self._identity: tuple[int, int] | None = None
        self._durable: set[tuple[int, int]] = set()
        """Folders whose names are stored durably."""
        self._unnamed = hasattr(os, "O_TMPFILE") and _OPEN_FILES.is_dir()

    def create(self, path: str, data: bytes) -> bool:
        """See `Store`."""
        check_path(path)
        *folders, name = path.split("/")
        if folders and folders[0] in _NO_PART_OF_IT:
            raise StoreRefused(f"expected a path outside of {folders[0]}/, got {path}: change the template of paths")
        with self._translated(f"to create {path}"), self._opened_root() as root, self._made(root, folders) as folder:
            if _is_there(folder, name):
                return self._confirm(folder, path, name)
            try:
                self._write(root, folder, name, data)
            except FileExistsError:
                return self._confirm(folder, path, name)
            self._sync_name(folder, path)
            return True

    def read(self, path: str) -> bytes:
        """See `Store`."""
        with self._opened(path) as file:
            return file.read()

    def copy(self, path: str, file: BinaryIO) -> None:
        """See `Store`."""
        with self._opened(path) as source:
            shutil.copyfileobj(source, file, _PIECE)

    @contextmanager
    def _opened(self, path: str) -> Iterator[BinaryIO]:
        check_path(path)
        with self._translated(f"to read {path}"), self._opened_root() as root:
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK, dir_fd=root)
            except FileNotFoundError:
                raise NotThere(self.where, path) from None
            with _closing(descriptor), os.fdopen(descriptor, "rb", closefd=False) as file:
                yield file

    def after(self, prefix: str, path: str) -> list[str]:
        """See `Store`."""
        prefix = prefix.strip("/")
        if prefix:
            check_path(prefix)
        with self._translated(f"to list {prefix or 'all'}"), self._opened_root() as root:
            return sorted(_names_after(root, prefix, path))

    # --- folders

    @contextmanager
    def _opened_root(self) -> Iterator[int]:
        """Open the root, which must be the same folder for the life of this object."""
        try:
            root = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            raise StoreRefused(
                f"expected the folder {self.root} of the archive to be there, but it is not: mount it, or make it"
            ) from None
        with _closing(root):
            identity = _identity_of(root)
            self._identity = self._identity or identity
            if identity != self._identity:
                raise StoreRefused(
                    f"expected {self.root} to be the folder that it was, got another one: mount the archive again;"
                    " if this folder is the right one, start the replica again"
                )
            yield root

    @contextmanager
    def _made(self, root: int, folders: list[str]) -> Iterator[int]:
        """Open a folder below the root; it is made where it is missing, and its names are durable."""
        folder = os.dup(root)
        try:
            for name in folders:
                with suppress(FileExistsError):
                    os.mkdir(name, _FOLDER_MODE, dir_fd=folder)
                inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder)
                outer, folder = folder, inner
                with _closing(outer):
                    self._keep_name(outer, inner)
            yield folder
        finally:
            os.close(folder)

    def _keep_name(self, outer: int, inner: int) -> None:
        """Store the name of a folder durably, also when another process has just made it."""
        identity = _identity_of(inner)
        if identity not in self._durable:
            os.fsync(outer)
            if len(self._durable) >= _MOST_KNOWN:
                self._durable.clear()
            self._durable.add(identity)

    # --- files

    def _write(self, root: int, folder: int, name: str, data: bytes) -> None:
        """Write a file and link it to its name. Raises FileExistsError when somebody was first."""
        if self._unnamed:
            try:
                descriptor = os.open(".", os.O_TMPFILE | os.O_WRONLY, _MODE, dir_fd=folder)
            except OSError as exc:
                if exc.errno not in _NO_UNNAMED:
                    raise
                self._unnamed = False
            else:
                with _closing(descriptor):
                    _write_durably(descriptor, data)
                    # an empty name is taken only from the privileged: man 2 open
                    os.link(_OPEN_FILES / str(descriptor), name, dst_dir_fd=folder)
                return
        self._write_named(root, folder, name, data)

    def _write_named(self, root: int, folder: int, name: str, data: bytes) -> None:
        with self._made(root, [HIDDEN]) as hidden:
            new = f"{secrets.token_hex(16)}.new"
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE, dir_fd=hidden)
            try:
                with _closing(descriptor):
                    _write_durably(descriptor, data)
                    _remove_older(hidden, os.fstat(descriptor).st_mtime - _LEFT_BEHIND)
                os.link(new, name, src_dir_fd=hidden, dst_dir_fd=folder)
            finally:
                with suppress(OSError):
                    os.unlink(new, dir_fd=hidden)

    def _sync_name(self, folder: int, path: str) -> None:
        try:
            os.fsync(folder)
        except OSError as exc:
            self._raise(exc, f"to create {path}", ambiguous=True)

    def _confirm(self, folder: int, path: str, name: str) -> bool:
        """Return False when a file that another one created is durable: its creator may have been killed just now."""
        descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK, dir_fd=folder)
        with _closing(descriptor):
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise IsADirectoryError(errno.EISDIR, "is not a file")
            os.fsync(descriptor)
        self._sync_name(folder, path)
        return False

    # --- errors

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            self._raise(exc, doing)

    def _raise(self, exc: OSError, doing: str, *, ambiguous: bool = False) -> NoReturn:
        number = exc.errno or 0
        said = f"expected {doing} in {self.where}, got {describe_failure(exc)}"
        if number in _REFUSED and not ambiguous:
            raise StoreRefused(f"{said}: {_REFUSED[number]}") from exc
        do = _FULL.get(number, "look at the disk, or at the server of the folder")
        raise StoreUnavailable(f"{said}: {do}", ambiguous=ambiguous) from exc


@contextmanager
def _closing(descriptor: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(descriptor)


def _identity_of(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


def _is_there(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _write_durably(descriptor: int, data: bytes) -> None:
    write_all(descriptor, data)
    os.fsync(descriptor)


def _remove_older(hidden: int, moment: float) -> None:
    """Remove the files that killed writers have left; a living one that is so slow writes another one."""
    with os.scandir(hidden) as found:
        for entry in found:
            with suppress(OSError):
                if entry.name.endswith(".new") and entry.stat(follow_symlinks=False).st_mtime < moment:
                    os.unlink(entry.name, dir_fd=hidden)


def _names_after(root: int, prefix: str, path: str) -> Iterator[str]:
    try:
        walk = os.fwalk(prefix or ".", onerror=_unless_gone, dir_fd=root)
        for top, folders, files, _ in walk:
            inside = "" if top == "." else f"{top.removeprefix('./')}/"
            hidden = set() if inside else _NO_PART_OF_IT
            folders[:] = [name for name in folders if name not in hidden and not _is_before(f"{inside}{name}/", path)]
            yield from (name for file in files if (name := inside + file) > path)
    except FileNotFoundError:
        return


def _unless_gone(exc: OSError) -> None:
    if not isinstance(exc, FileNotFoundError):
        raise exc


def _is_before(folder: str, path: str) -> bool:
    """Tell whether all paths in a folder are less than a path."""
    return folder < path and not path.startswith(folder)
