"""Stores of objects in S3, Azure and GCS, through obstore.

A create is one PUT with a condition (`If-None-Match: *`; `x-goog-if-generation-match: 0`), never a multipart upload,
which would replace an object. obstore repeats no request here: after a lost answer its second PUT would find what the
first one created, and a caller could not tell. So a lost answer is StoreUnavailable with `ambiguous`.

obstore says "already exists" for every 409 as well. In S3 that is also the answer of two creates at once of which none
may have been applied, so the object is looked for before anybody is told that it is there.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import obstore
from anyio import fail_after
from obstore.exceptions import AlreadyExistsError, BaseError, NotModifiedError, PreconditionError
from obstore.store import AzureStore, GCSStore, S3Store

from collector.archive.stores import check_path
from collector.archive.stores.clouds import AZURE, GCS, S3, Task
from collector.archive.stores.failures import Failure, is_overwriting, translated
from collector.errors import NotThere, StoreRefused, StoreUnavailable
from transfer.secret import Unreadable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator

    from obstore.store import ObjectStore as Client

    from collector.archive.stores.place import Place

_Result = TypeVar("_Result")
_NEVER_AGAIN = {"max_retries": 0}
_CONNECTING = 10.0
"""Seconds within which a connection has to be made."""
_PAGE = 1000
_PIECE = 1024 * 1024
_AGREED = re.compile(r"([0-9A-Za-z=_]+)[0-9A-Za-z=_]")
_THERE = (AlreadyExistsError, PreconditionError, NotModifiedError)
_FAILURES = (BaseError, OSError, ValueError)
"""The errors of obstore; of a call that is too slow too, as TimeoutError is an OSError."""
_MAKERS: dict[str, Any] = {S3.name: S3Store, AZURE.name: AzureStore, GCS.name: GCSStore}


class ObjectStore:
    """The objects of an archive in a bucket or container. See `Store`."""

    def __init__(self, place: Place, *, patience: float, certificate: bytes | None = None) -> None:
        """Use a place that is there; each request ends within `patience` seconds."""
        self.where = place.where
        self._place = place
        self._patience = patience
        self._certificate = certificate
        self._client: Client | None = None
        self._made_from: object = None

    async def create(self, path: str, data: bytes) -> bool:
        """See `Store`."""
        check_path(path)
        try:
            await self._put(path, data)
        except _THERE:
            return await self._confirm(path)
        except _FAILURES as exc:
            if is_overwriting(exc):
                return await self._confirm(path)
            raise self._translated(exc, Task.CREATE, path) from None
        return True

    async def read(self, path: str) -> bytes:
        """See `Store`."""
        with self._reading(path):
            return await self._within_patience(self._get(path))

    async def copy(self, path: str, file: BinaryIO) -> None:
        """See `Store`."""
        with self._reading(path):
            found = await self._within_patience(obstore.get_async(self._up_to_date(), path))
            pieces = aiter(found.stream(min_chunk_size=_PIECE))
            while piece := await self._within_patience(anext(pieces, None)):
                file.write(piece)

    @contextmanager
    def _reading(self, path: str) -> Iterator[None]:
        check_path(path)
        try:
            yield
        except FileNotFoundError as exc:
            if Failure.of(exc).is_of_container:
                raise self._translated(exc, Task.READ, path) from None
            raise NotThere(self.where, path) from None
        except _FAILURES as exc:
            raise self._translated(exc, Task.READ, path) from None

    async def after(self, prefix: str, path: str) -> list[str]:
        """See `Store`."""
        folder = prefix.strip("/")
        if folder:
            check_path(folder)
        try:
            pages = obstore.list(self._up_to_date(), folder or None, offset=_offset(folder, path), chunk_size=_PAGE)
            found: list[str] = []
            while page := await self._within_patience(anext(pages, None)):
                found += [each["path"] for each in page if each["path"] > path]
        except _FAILURES as exc:
            raise self._translated(exc, Task.LIST, folder or "all") from None
        return sorted(found)

    async def _put(self, path: str, data: bytes) -> None:
        client = self._up_to_date()
        await self._within_patience(obstore.put_async(client, path, data, mode="create", use_multipart=False))

    async def _get(self, path: str) -> bytes:
        found = await obstore.get_async(self._up_to_date(), path)
        return (await found.bytes_async()).to_bytes()

    async def _confirm(self, path: str) -> bool:
        """Return False when the object is there; the store has said that it is, or that creates were in conflict."""
        try:
            await self._within_patience(obstore.head_async(self._up_to_date(), path))
        except FileNotFoundError:
            raise StoreUnavailable(
                f"expected {self.where} to create {path}, got a conflict with another create, and no object:"
                " create it again",
                ambiguous=True,
            ) from None
        except _FAILURES as exc:
            error = self._translated(exc, Task.READ, path)
            if isinstance(error, StoreUnavailable):
                error.ambiguous = True
            raise error from None
        return False

    async def _within_patience(self, call: Awaitable[_Result]) -> _Result:
        """Wait for obstore, whatever becomes of the caller; a call that is too slow is ended."""
        with fail_after(self._patience, shield=True):
            return await call

    # --- obstore

    def _up_to_date(self) -> Client:
        """Return obstore's client with the login as it is now: the files of a secret may have been replaced."""
        try:
            made_from = (self._place.login.values(), self._place.login.stamp())
        except Unreadable as exc:
            raise StoreUnavailable(str(exc)) from None
        except OSError as exc:
            raise StoreUnavailable(f"expected to read the key file of {self.where}, got {exc.strerror}") from None
        if self._client is None or made_from != self._made_from:
            self._client, self._made_from = self._made(made_from[0]), made_from
        return self._client

    def _made(self, values: dict[str, str]) -> Client:
        options: dict[str, object] = {
            "timeout": timedelta(seconds=self._patience),
            "connect_timeout": timedelta(seconds=min(_CONNECTING, self._patience)),
            "allow_http": any(value.startswith("http://") for value in values.values()),
        }
        if self._certificate:
            options["root_certificate"] = self._certificate
        make = _MAKERS[self._place.cloud.name]
        try:
            made: Client = make(
                self._place.container,
                prefix=self._place.prefix or None,
                config=values,
                client_options=options,
                retry_config=_NEVER_AGAIN,
            )
        except (BaseError, OSError, ValueError) as exc:
            raise StoreRefused(
                f"expected a login that obstore understands for {self.where}, got {type(exc).__name__}:"
                f" look at {self._place.cloud.login}"
            ) from None
        return made

    def _translated(self, exc: BaseException, task: Task, path: str) -> StoreUnavailable | StoreRefused:
        login = self._place.login
        return translated(exc, self._place.cloud, task, f"{self.where} to {task.value} {path}", login.missing)


def _offset(folder: str, path: str) -> str | None:
    """Return a path to list from, such that every store lists all that is greater than `path`, and little more.

    Some stores (seaweedfs, Azure accounts with folders) sort a folder by its name alone, and not by the slash behind
    it. They agree with the others about letters and digits, which are greater than a slash. The last of these is left
    out, as a folder with that very name comes before the path in some stores, and behind it in others.
    """
    inside = path.removeprefix(f"{folder}/") if folder else path
    agreed = _AGREED.match(inside)
    if agreed is None or (folder and inside == path):
        return None
    return path[: len(path) - len(inside)] + agreed[1]
