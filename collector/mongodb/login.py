"""The login to MongoDB: URI and certificates as their files are now, and whether the server accepts them.

pymongo reads URI and certificates once. Here a client changes to the new ones in place: databases, collections and
sessions that were made from it go on. That needs private names of pymongo: only `renew` uses them, and
`tests/service/test_rotation.py` fails when they change.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from anyio import CancelScope, create_task_group, move_on_after, sleep
from pymongo.errors import OperationFailure, PyMongoError

from collector import events
from collector.errors import SinkUnavailable, StillOwned
from collector.mongodb.calls import calling, new_client
from collector.mongodb.errors import describe_failure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from collector.events import Report
    from collector.mongodb.lanes import LaneClient
    from transfer.secret import Secret

_PERIOD = 2.0
"""Seconds between two readings of the files. A content that is read twice in a row is complete."""
_TIMEOUT = 5.0
_GRACE = 15.0
"""Seconds that running calls have to end on the connections of the old login."""
_FILES = ("tlscafile", "tlscertificatekeyfile", "tlscrlfile")


@dataclass(frozen=True, slots=True, repr=False)
class Access:
    """A URI, and the content of the files that it names."""

    uri: str
    files: tuple[bytes, ...]

    @classmethod
    def read(cls, secret: Secret) -> Access:
        """Read URI and files as they are now. Raises OSError, and ValueError when the URI is not valid."""
        uri = secret.read()
        options = {name.lower(): values[-1] for name, values in parse_qs(urlsplit(uri).query).items()}
        return cls(uri, tuple(Path(options[name]).read_bytes() for name in _FILES if name in options))

    @property
    def user(self) -> str:
        """The user that logs in, or an empty text."""
        return urlsplit(self.uri).username or ""


class MongoLogin:
    """Follows the files of a login; `refused` says why the server refuses it now, and is empty while it does not."""

    def __init__(self, secret: Secret) -> None:
        self.refused = ""
        self._secret = secret
        self._place = Access.read(secret)
        self._last = self._place
        self._refused_place: Access | None = None
        """The last content of the files that no client can be made of."""
        self._had_user = bool(self._place.user)
        """Whether the server has named a user: else the client would be renewed again and again without an effect."""

    @property
    def uri(self) -> str:
        """The URI that is used now."""
        return self._place.uri

    async def follow(
        self,
        client: LaneClient,
        owning_nothing: Callable[[], AbstractAsyncContextManager[None]],
        report: Report,
    ) -> None:
        """Look now and then, and have the client go over to what has changed, until cancelled.

        `owning_nothing` surrounds a change of the user: MongoDB recognises a numbered write only from the user who sent
        it, so a repeat by the new user would be stored twice.
        """
        async with create_task_group() as closing:
            while True:
                await sleep(_PERIOD)
                place = self._changed()
                if place is None and not await self._is_void(client):
                    continue
                control, unavailable = events.Stage.CONTROL, events.Failure.UNAVAILABLE
                try:
                    close = await self._go_over(client, place or self._place, owning_nothing)
                except StillOwned as exc:
                    report(
                        events.Failed("", control, unavailable, str(exc), "keeping the old login of MongoDB for now")
                    )
                except (PyMongoError, OSError, ValueError) as exc:
                    self._refused_place = place
                    error = f"the login of MongoDB has changed, and is none: {type(exc).__name__}"
                    report(events.Failed("", control, unavailable, error, "keeping the old one"))
                else:
                    closing.start_soon(_close_later, close, name="old connections to mongodb")

    async def _go_over(
        self,
        client: LaneClient,
        place: Access,
        owning_nothing: Callable[[], AbstractAsyncContextManager[None]],
    ) -> Callable[[], Awaitable[None]]:
        new_client(place.uri)  # never opened: it raises for a wrong URI before anything is given up
        async with owning_nothing() if place.user != self._place.user else nullcontext():
            close = await renew(client, place.uri)
        self._place, self._had_user = place, False
        return close

    def _changed(self) -> Access | None:
        """Return the content of the files if it is new and was the same at the last reading, else None."""
        try:
            now = Access.read(self._secret)
        except (OSError, ValueError):
            return None  # a file is being replaced; the old login is used on
        before, self._last = self._last, now
        return now if now == before and now not in (self._place, self._refused_place) else None

    async def _is_void(self, client: LaneClient) -> bool:
        """Ask the server for our user; True when it names none any more, because the user was made anew."""
        try:
            async with calling(_TIMEOUT):
                status = await client.admin.command("connectionStatus")
        except SinkUnavailable:
            return False  # the topology shows an outage
        except OperationFailure as exc:
            self.refused = f"MongoDB does not let us in: {describe_failure(exc)}"
            return False
        self.refused = ""
        users = status["authInfo"]["authenticatedUsers"]
        void, self._had_user = self._had_user and not users, bool(users)
        return void


async def renew(client: LaneClient, uri: str) -> Callable[[], Awaitable[None]]:
    """Change a client to another URI, or to the present certificates of the same one.

    pymongo does the same to itself after a fork. Running calls end on the old connections; the returned function closes
    these. Raises pymongo's errors for a wrong URI or certificate; then nothing has changed.
    """
    fresh = new_client(uri)  # never opened: only its parts are used
    topology, executor = client._topology, client._kill_cursors_executor  # noqa: SLF001 - see the module's docstring

    async def close() -> None:
        await client.lanes.sweep()
        executor.close()
        await topology.close()
        await topology.cleanup_monitors()
        await executor.join()

    with CancelScope(shield=True):
        vars(client).update(vars(fresh))
        client._init_background()  # noqa: SLF001 - as above
        await client.aconnect()
    return close


async def _close_later(close: Callable[[], Awaitable[None]]) -> None:
    try:
        await sleep(_GRACE)
    finally:
        with CancelScope(shield=True), move_on_after(_TIMEOUT):
            await close()
