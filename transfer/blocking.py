"""`BlockingTransfer`: what `Transfer` does, for code without an event loop."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from transfer.background.process import EXIT_TIMEOUT
from transfer.background.sender import Sender, Stats
from transfer.client import Transfer
from transfer.jetstream.connection import CONNECT_TIMEOUT
from transfer.options import Options, PublishOptions, SendOptions, read_options

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
    from typing import Self, Unpack

    from transfer.client import Found, Logger
    from transfer.errors import UnreadableSpec
    from transfer.publishing import Confirmation

_T = TypeVar("_T")


class BlockingTransfer:
    """The methods of `Transfer`, with the same errors; each returns when it is done, and may be called from any thread.

    They run on the thread that sends what is given to `send`. After a fork the child connects anew by itself.
    """

    def __init__(self, sender: Sender, *, namespace: str, timeout: float = CONNECT_TIMEOUT) -> None:
        self._sender = sender
        self._namespace = namespace
        self._timeout = timeout

    @classmethod
    @contextmanager
    def connect(
        cls,
        servers: str | Sequence[str] | None = None,
        *,
        namespace: str | None = None,
        timeout: float = CONNECT_TIMEOUT,
        **options: Unpack[Options],
    ) -> Iterator[Self]:
        """See `Transfer.connect`."""
        settings, name, queue = read_options(servers, namespace, **options)
        transfer = cls(Sender(settings, name, queue), namespace=name, timeout=timeout)
        try:
            transfer._run(_nothing)
            yield transfer
        finally:
            transfer.close()

    def set(self, logger: Logger) -> None:
        """See `Transfer.set`."""
        self._run(lambda transfer: transfer.set(logger))

    def update(self, logger: Logger) -> None:
        """See `Transfer.update`."""
        self._run(lambda transfer: transfer.update(logger))

    def get(self, key: str) -> Found:
        """See `Transfer.get`."""
        return self._run(lambda transfer: transfer.get(key))

    def list(self) -> list[Found | UnreadableSpec]:
        """See `Transfer.list`."""
        return self._run(lambda transfer: transfer.list())

    def remove(self, key: str, *, drain: bool = False, force: bool = False, timeout: float = 60.0) -> None:
        """See `Transfer.remove`."""
        self._run(lambda transfer: transfer.remove(key, drain=drain, force=force, timeout=timeout))

    def publish(self, key: str, data: Mapping[str, object], **options: Unpack[PublishOptions]) -> Confirmation:
        """See `Transfer.publish`."""
        return self._run(lambda transfer: transfer.publish(key, data, **options))

    def send(self, key: str, data: object, **options: Unpack[SendOptions]) -> None:
        """Queue one entry and return at once; see `Sender.send`."""
        self._sender.send(key, data, **options)

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until what was given to `send` until now is confirmed or dropped; return whether it is, in time."""
        return self._sender.flush(timeout)

    def close(self, timeout: float = EXIT_TIMEOUT) -> None:
        """Flush and end. Entries that are still unconfirmed count as dropped, which is said once on standard error."""
        self._sender.close(timeout)

    def stats(self) -> Stats:
        """Return the counters of what was given to `send`."""
        return self._sender.stats()

    def _run(self, function: Callable[[Transfer], Coroutine[Any, Any, _T]]) -> _T:
        namespace = self._namespace
        return self._sender.call(lambda jetstream: function(Transfer(jetstream, namespace=namespace)), self._timeout)


async def _nothing(_: Transfer) -> None:
    """Connect only."""
