"""What all have in common that entries come from: the handler, and the bridges of other logging libraries."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from transfer.names import check_key
from transfer.options import Options, read_options
from transfer.sender import Sender, Stats

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Unpack

_OURS = ("transfer", "nats")


class Source:
    """Sends entries of one logger, with a sender of its own.

    Raises `InvalidKey` and `WrongSettings` when it is made, never later.
    """

    def __init__(
        self,
        key: str,
        *,
        url: str | Sequence[str] | None = None,
        namespace: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        self.key = check_key(key)
        self._sender = Sender(*read_options(url, namespace, **options))

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all that was logged until now is confirmed or dropped; return whether it is, in time."""
        return self._sender.flush(timeout)

    def close(self) -> None:
        """Take no more; what waits is still sent, in the background and, bounded, at the exit of the process."""
        self._sender.close_when_empty()

    def stats(self) -> Stats:
        """Return the counters of this process."""
        return self._sender.stats()

    def _leaves_out(self, name: object) -> bool:
        """Return whether it is logged by this package, NATS's client or the sender's thread: it would feed itself."""
        ours = isinstance(name, str) and name.partition(".")[0] in _OURS
        return ours or self._sender.is_own_thread(threading.get_ident())
