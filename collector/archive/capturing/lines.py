"""The log of captures: a line for each cut and for each trouble, readable on a terminal and JSON in a pipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog

from collector.archive.told import (
    CutCompleted,
    CutStored,
    Doubted,
    MessagesExpired,
    Owning,
    StoredBlock,
    StoreFailed,
    Waiting,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from collector.archive.told import Told


class Lines:
    """Writes about the events of one capture."""

    def __init__(self, capture: str) -> None:
        self._log = structlog.get_logger().bind(capture=capture) if capture else structlog.get_logger()
        self._saying: Mapping[type, Callable[[Any], None]] = {
            Owning: self._owning,
            Waiting: self._waiting,
            Doubted: self._doubted,
            CutStored: self._cut_stored,
            CutCompleted: self._cut_completed,
            MessagesExpired: self._expired,
            StoreFailed: self._store_failed,
            StoredBlock: self._block,
        }

    def tell(self, event: Told) -> None:
        """Write about an event."""
        self._saying[type(event)](event)

    def _owning(self, event: Owning) -> None:
        self._log.info("reading", after=event.cursor)

    def _waiting(self, event: Waiting) -> None:
        self._log.warning("waiting", why=event.why)

    def _doubted(self, event: Doubted) -> None:
        action = "reading again what is not stored"
        self._log.warning("not sure", why=event.why, messages=event.messages, action=action)

    def _cut_stored(self, event: CutStored) -> None:
        facts: dict[str, object] = {"trigger": event.trigger.value, "messages": event.messages, "rows": event.rows}
        facts |= {"files": event.blocks, "bytes": event.bytes, "seconds": round(event.seconds, 3)}
        self._log.info("cut stored", cut=event.number, **facts)
        if event.dead_letters:
            self._log.warning("dead letters", cut=event.number, entries=event.dead_letters, action="look into _dead/")
        if event.overflow:
            action = "look into __other__, and group by a key with fewer values"
            self._log.warning("too many keys", cut=event.number, rows=event.overflow, action=action)

    def _cut_completed(self, event: CutCompleted) -> None:
        self._log.info("cut completed", cut=event.number, files=event.blocks, rows=event.rows)
        if event.expired:
            self._gone(event.expired, "they had left the stream before their file was stored")

    def _expired(self, event: MessagesExpired) -> None:
        self._gone(event.messages, "they left the stream before they were read")

    def _gone(self, messages: int, why: str) -> None:
        self._log.error("messages gone", messages=messages, why=why, action="let the stream keep its messages longer")

    def _store_failed(self, event: StoreFailed) -> None:
        action = f"trying again in {event.delay:.2g} s"
        self._log.warning("store failed", error=event.error, attempt=event.attempt, action=action)

    def _block(self, event: StoredBlock) -> None:
        self._log.debug("file", path=event.path, rows=event.rows, bytes=event.bytes, error=event.error)
