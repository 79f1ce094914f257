"""A capture that runs: stopping it, its numbers, and how it ended."""

from __future__ import annotations

import signal
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anyio import CancelScope, create_task_group, current_time, open_signal_receiver

from collector.archive.told import Facts
from collector.errors import RecordDamaged, StreamWentBack
from collector.runtime.latch import Latch
from transfer.jetstream.api import NANOSECONDS

if TYPE_CHECKING:
    from collector.archive.owning.means import Means
    from collector.archive.owning.owner import Owner
    from collector.archive.owning.tenure import Tenure
    from collector.archive.told import Tally

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, slots=True)
class Summary:
    """The work of a capture from its start on: messages, and of dead letters entries."""

    fetched: int
    archived: int
    dead_lettered: int
    given_back: int
    """Messages that were read and are not archived. They are in the stream, and the next owner reads them."""
    blocks: int
    bytes: int

    def __str__(self) -> str:
        return (
            f"fetched {self.fetched:,}, archived {self.archived:,}, dead-lettered {self.dead_lettered:,},"
            f" given back {self.given_back:,}, blocks {self.blocks:,}, bytes {self.bytes:,}"
        )


class Running:
    """A capture that runs, from `run` to its end."""

    def __init__(self, means: Means, owner: Owner, shutdown_timeout: float) -> None:
        """Run an owner; after a stop it has `shutdown_timeout` seconds to store what it has read."""
        self.capture = means.capture
        self.stream = means.stream
        self._means = means
        self._owner = owner
        self._shutdown_timeout = shutdown_timeout
        self._stopping = Latch()
        self._ended = Latch()
        self._scope = CancelScope()
        self._failed: Exception | None = None

    async def run(self) -> None:
        """Archive until `stop`, or until log and stream contradict each other, which `until_stopped` raises."""
        try:
            with self._scope:
                await self._owner.run(self._stopping)
        except (RecordDamaged, StreamWentBack) as exc:
            self._failed = exc
        finally:
            self._ended.set()

    def stop(self) -> None:
        """Ask for the end: the open cut is closed and stored, within the shutdown timeout."""
        if not self._stopping.is_set():
            self._scope.deadline = current_time() + self._shutdown_timeout
            self._stopping.set()

    @property
    def is_stopping(self) -> bool:
        """Whether the end was asked for."""
        return self._stopping.is_set()

    async def until_stopped(self, *, at_signals: bool = True) -> Summary:
        """Wait for the end, and stop at SIGTERM or SIGINT; a second signal ends it at once.

        Raises RecordDamaged and StreamWentBack. Signals are handled in the main thread alone.
        """
        async with create_task_group() as group:
            if at_signals and threading.current_thread() is threading.main_thread():
                group.start_soon(self._stop_at_signals)
            await self._ended.wait()
            group.cancel_scope.cancel()
        if self._failed is not None:
            raise self._failed
        return self.summary

    async def _stop_at_signals(self) -> None:
        with open_signal_receiver(*_SIGNALS) as signals:
            async for _ in signals:
                if self._stopping.is_set():
                    self._scope.cancel()
                self.stop()

    @property
    def summary(self) -> Summary:
        """The work that was done so far."""
        facts = self.facts()
        return Summary(
            facts.fetched, facts.archived, facts.dead_letters, facts.held_messages, facts.blocks, facts.stored_bytes
        )

    def facts(self) -> Facts:
        """Return the numbers of this moment."""
        return facts_of(self._means.tally, self._owner)


def facts_of(tally: Tally, owner: Owner) -> Facts:
    """Return the numbers of an owner at this moment."""
    tenure = owner.tenure
    filling = None if tenure is None else tenure.filling
    is_open = filling is not None and bool(filling.cut)
    held = tenure.deliveries.held if tenure is not None else 0
    opened_at, first_time_ns = _oldest(tenure)
    return Facts(
        is_owner=owner.is_reading,
        cursor=tenure.deliveries.cursor if tenure is not None else 0,
        held_messages=held,
        lag_messages=held + (tenure.pending if tenure is not None else 0),
        oldest_message_age=max(0.0, time.time() - first_time_ns / NANOSECONDS) if first_time_ns else 0.0,
        open_cut_age=current_time() - opened_at if opened_at is not None else 0.0,
        open_cut_bytes=filling.blocks.size.bytes if filling is not None and is_open else 0,
        open_cut_blocks=len(filling.cut.places) if filling is not None else 0,
        open_cut_keys=len({place.key for place in filling.cut.places}) if filling is not None else 0,
        fetched=tally.fetched,
        archived=tally.archived,
        blocks=tally.blocks,
        rows=tally.rows,
        raw_bytes=tally.raw_bytes,
        stored_bytes=tally.stored_bytes,
        cuts=dict(tally.cuts),
        store_failures=dict(tally.store_failures),
        store_seconds=tally.store_seconds,
        repeats=tally.repeats,
        resets=dict(tally.resets),
        tenures=tally.tenures,
        completed_blocks=tally.completed_blocks,
        expired_messages=tally.expired_messages,
        overflow_rows=tally.overflow_rows,
        dead_letters=tally.dead_letters,
    )


def _oldest(tenure: Tenure | None) -> tuple[float | None, int]:
    """Return when the oldest cut was opened whose blocks are not all there, and the time of its first message."""
    if tenure is None:
        return None, 0
    if tenure.closed is not None:
        return tenure.closed
    if tenure.filling is not None and tenure.filling.cut:
        return tenure.opened_at, tenure.filling.first_time_ns
    return None, 0
