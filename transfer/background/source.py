"""The common part of all sources of entries: the handler, and the bridges of other logging libraries."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, ParamSpec

from transfer.background.sender import Sender, Stats
from transfer.entries.lenient import safe_repr
from transfer.names import check_key
from transfer.options import Options, read_options
from transfer.system.inside import SENDING, Making, is_making

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Unpack

_P = ParamSpec("_P")


class Unmapped(dict[str, object]):
    """The fields of an entry that could not be mapped; a field of the user's may be called `mapping_error` too."""


class Emitter:
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
        """Give up thread and connection once what waits is sent, in the background. The next entry begins anew."""
        self._sender.rest()

    def stats(self) -> Stats:
        """Return the counters of this process."""
        return self._sender.stats()

    @staticmethod
    def _leaves_out(thread: object = None, process: object = None) -> bool:
        """Return whether a record would cause the next one, whatever the name of the logger is.

        Records of a thread that sends do so, of this thread or of the one that the record names. Records that are
        logged while an entry is made do so too.
        """
        if is_making() or threading.get_ident() in SENDING:
            return True
        return isinstance(thread, int) and thread in SENDING and (process is None or process == os.getpid())

    @staticmethod
    def _fields(mapping: Callable[_P, dict[str, object]], *given: _P.args, **more: _P.kwargs) -> dict[str, object]:
        """Return the fields of an entry; those of one that cannot be mapped say so."""
        with Making():
            try:
                data: object = mapping(*given, **more)
                if isinstance(data, dict):
                    return data
                raise TypeError(f"expected the mapping to return a dict, got {type(data).__name__}")  # noqa: TRY301
            except Exception as error:  # noqa: BLE001 - what an application logs may be of its own classes
                return Unmapped({"msg": safe_repr(given[-1]), "mapping_error": safe_repr(error)})
