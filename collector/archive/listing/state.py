"""How far a capture is: by its log, and by its stream where NATS is asked."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from collector.archive.layout import record_path
from collector.archive.log import missing
from collector.archive.owning.lease import Lease, lease_key
from collector.archive.patient import patiently
from collector.errors import RecordDamaged
from transfer.environment import Environment
from transfer.jetstream.api import request
from transfer.jetstream.connection import open_connection
from transfer.nats_settings import DEFAULT_HOSTS, NatsSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collector.archive.finding import FoundLog
    from collector.archive.record import Record
    from collector.archive.stores import Store

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Ends(msgspec.Struct):
    messages: int
    last_seq: int


class StreamFacts(msgspec.Struct):
    """A stream, as nats-server knows it."""

    created: str
    state: _Ends
    owners: dict[str, str] = {}
    """The replica that owns each capture of it now; empty when there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """How far one capture is."""

    log: FoundLog
    last: Record | None
    absent: int = 0
    """Blocks of the last cut that are not there."""
    damage: str = ""
    stream: StreamFacts | None = None

    @property
    def cursor(self) -> int:
        """The highest sequence whose cut has all of its blocks."""
        return 0 if self.last is None else self.last.after if self.absent else self.last.to

    @property
    def is_other_stream(self) -> bool:
        """Whether the stream was made anew since."""
        return self.last is not None and self.stream is not None and self.stream.created != self.last.incarnation

    @property
    def lag(self) -> int | None:
        """Sequences of the stream above the cursor; None without a stream of this incarnation."""
        if self.stream is None or self.is_other_stream:
            return None
        return max(0, self.stream.state.last_seq - self.cursor)

    @property
    def owner(self) -> str:
        """The replica that owns the capture now; empty when none does, or NATS was not asked."""
        return "" if self.last is None or self.stream is None else self.stream.owners.get(self.last.capture, "")

    @property
    def is_well(self) -> bool:
        """Whether the log is readable and the last cut complete."""
        return not self.damage and not self.absent

    def as_json(self) -> dict[str, Any]:
        """Return the facts."""
        facts: dict[str, Any] = {"folder": self.log.folder, "cursor": self.cursor, "cuts": len(self.log.numbers)}
        if (last := self.last) is not None:
            facts |= {
                "capture": last.capture,
                "incarnation": last.incarnation,
                "last_cut": last.number,
                "to": last.to,
                "to_time": utc(last.to_time_ns),
                "trigger": last.trigger.value,
                "made_by": last.owner,
                "complete": not self.absent,
                "absent_blocks": self.absent,
            }
        if self.stream is not None:
            facts |= {
                "lag": self.lag,
                "stream_last": self.stream.state.last_seq,
                "same_stream": not self.is_other_stream,
                "owner": self.owner,
            }
        return facts | ({"damage": self.damage} if self.damage else {})

    def lines(self) -> list[str]:
        """Return the facts for people."""
        last = self.last
        if last is None:
            return [f"{self.log.folder}: {self.damage or 'no cut yet'}"]
        interval = f"sequences {last.after + 1:,} to {last.to:,}, the last of {utc(last.to_time_ns)}"
        end = f"open: {self.absent:,} blocks are not there" if self.absent else "each block is there"
        lines = [
            f"{last.capture}: cut {last.number:,}, {interval}; {last.trigger.value}, by {last.owner}",
            f"  cursor {self.cursor:,}; {end}",
        ]
        if self.is_other_stream:
            lines.append("  the stream was made anew since, and its new incarnation has a log of its own")
        elif self.stream is not None:
            owner = f"owned by {self.owner}" if self.owner else "nobody owns it now"
            lines.append(f"  lag {self.lag:,}: the stream ends at {self.stream.state.last_seq:,}; {owner}")
        return lines


async def read_state(store: Store, log: FoundLog) -> State:
    """Return the state of a capture."""
    if not log.numbers or log.numbers[-1] < log.hint:
        gone = RecordDamaged(record_path(log.folder, log.hint), "neither it nor a later one is there any more")
        return State(log=log, last=None, damage=str(gone))
    try:
        last = await patiently(partial(log.read, store, log.numbers[-1]))
    except RecordDamaged as damage:
        return State(log=log, last=None, damage=str(damage))
    absent = await patiently(partial(missing, store, last))
    return State(log=log, last=last, absent=len(absent))


async def with_stream(states: Sequence[State], name: str, where: str) -> list[State]:
    """Ask nats-server about a stream and the owners of its captures. Raises WrongSettings and a TransferError."""
    environment = Environment(os.environ)
    settings = NatsSettings.read(environment, DEFAULT_HOSTS)
    environment.finish()
    async with open_connection(settings, name="collector archive status") as connection:
        jetstream = connection.jetstream()
        facts = msgspec.json.decode(await request(jetstream, f"STREAM.INFO.{name}"), type=StreamFacts)
        for capture in {state.last.capture for state in states if state.last is not None}:
            facts.owners[capture] = await Lease(jetstream, lease_key(capture, name, where), "").holder()
    return [replace(state, stream=facts) for state in states]


def utc(time_ns: int) -> str:
    """Return a time in nanoseconds since 1970 as RFC 3339 in UTC."""
    return (_EPOCH + timedelta(microseconds=time_ns // 1000)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
