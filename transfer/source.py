"""What all have in common that entries come from: the handler, and the bridges of other logging libraries."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, ParamSpec

from transfer.inside import Making, is_making
from transfer.lenient import safe_repr
from transfer.names import check_key
from transfer.options import Options, read_options
from transfer.sender import Sender, Stats

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Unpack

_P = ParamSpec("_P")
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
        """Return whether what is logged would feed itself.

        That is what this package logs, NATS's client, the sender's thread, and whoever is called to make an entry.
        """
        ours = isinstance(name, str) and name.partition(".")[0] in _OURS
        return ours or is_making() or self._sender.is_own_thread(threading.get_ident())

    @staticmethod
    def _fields(mapping: Callable[_P, dict[str, object]], *given: _P.args, **more: _P.kwargs) -> dict[str, object]:
        """Return the fields of an entry; those of one that cannot be mapped say so."""
        with Making():
            try:
                return mapping(*given, **more)
            except Exception as error:  # noqa: BLE001 - what an application logs may be of its own classes
                return {"msg": safe_repr(given[-1]), "mapping_error": safe_repr(error)}
