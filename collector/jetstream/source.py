"""The JetStream side of one logger: its stream and durable, checked or made before messages are pulled."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from collector.decoding.identity import Incarnation
from collector.events import Mended
from collector.jetstream.priorities import Priorities
from transfer.difference import Remedy, with_remedy
from transfer.errors import Misconfigured
from transfer.jetstream.api import connection_of
from transfer.jetstream.durable_needs import ARCHIVED_ACK_WAIT, durable_needs
from transfer.jetstream.durables import ensure_durable
from transfer.jetstream.needs import compare_durable, compare_stream
from transfer.jetstream.streams import stream_state

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nats.js import JetStreamContext

    from collector.events import Report
    from transfer.difference import Difference
    from transfer.jetstream.comparison import Need
    from transfer.jetstream.configurations import DurableInfo
    from transfer.names import Names


@dataclass(frozen=True, slots=True)
class Attached:
    """The stream and durable of a logger, as a pipeline has to know them before it pulls."""

    incarnation: Incarnation
    stream: str
    durable: str
    ack_wait: float
    """Seconds, as the durable has it: they may be more than this replica's setting."""
    risks: tuple[Difference, ...] = ()
    """Differences of stream and durable that may harm entries."""


class DurableSource(Protocol):
    """One stream and one durable of it: where the messages of a pipeline come from."""

    async def attach(self) -> Attached:
        """Check the stream, and make or update the durable as it is needed.

        Raises UnknownStream while there is no stream, Misconfigured while somebody else has to change stream or
        durable, DurableInUse while the durable of the Go collector is still used by somebody, Unavailable while
        JetStream does not answer.
        """


class Sources(Protocol):
    """The sources of loggers."""

    def of(self, key: str) -> DurableSource:
        """Return the source of one logger. Nothing is asked of JetStream."""


class LoggerSources:
    """Streams and durables of the loggers of one namespace. See `Sources`."""

    def __init__(self, jetstream: JetStreamContext, names: Names, ack_wait: float, report: Report) -> None:
        self.jetstream = jetstream
        self.names = names
        self.ack_wait = ack_wait
        self.priorities = Priorities(connection_of(jetstream))
        self.report = report
        self._archived: set[str] = set()
        self._needs = {
            (homes, seconds): durable_needs(seconds, homes=homes)
            for homes in (False, True)
            for seconds in (ack_wait, ARCHIVED_ACK_WAIT)
        }

    def needs_of(self, key: str) -> tuple[Need, ...]:
        """Return what is needed of the durable of a logger now."""
        return self._needs[self.priorities.are_due(key), self.ack_wait_of(key)]

    def ack_wait_of(self, key: str) -> float:
        """Return the ack wait that the durable of a logger has to have now."""
        return ARCHIVED_ACK_WAIT if key in self._archived else self.ack_wait

    @contextmanager
    def archiving(self, key: str) -> Iterator[None]:
        """Need the durable of this logger as that of an archived one, while the block lasts."""
        self._archived.add(key)
        try:
            yield
        finally:
            self._archived.discard(key)

    def of(self, key: str) -> LoggerSource:
        """Return the source of one logger."""
        return LoggerSource(self, key)


class LoggerSource:
    """The stream and the durable of one logger. See `DurableSource`."""

    __slots__ = ("_key", "_shared")

    def __init__(self, shared: LoggerSources, key: str) -> None:
        self._shared = shared
        self._key = key

    async def attach(self) -> Attached:
        """See `DurableSource`. A deleted durable is made again; each change of a durable is reported."""
        names = self._shared.names
        state = await stream_state(self._shared.jetstream, names.stream(self._key))
        stream = compare_stream(state.config, names, self._key)
        mend = with_remedy(stream, Remedy.MEND)
        if mend and state.config.retention != "interest":  # else messages go at once without a durable
            raise Misconfigured(*mend)
        homes = await self._shared.priorities.look(self._key, state)
        durable = await self._ensure_durable(state.config.retention, homes=homes)
        if mend:
            raise Misconfigured(*mend)
        risks = (*stream, *compare_durable(durable, names, self._key, self._shared.needs_of(self._key)))
        incarnation = Incarnation(durable.stream_name, state.created)
        return Attached(incarnation, durable.stream_name, durable.name, durable.ack_wait, risks)

    async def _ensure_durable(self, retention: str, *, homes: bool) -> DurableInfo:
        shared, key = self._shared, self._key

        def changed(difference: Difference) -> None:
            if difference.field == "priority_policy":
                shared.priorities.were_set(key)
            shared.report(Mended(key, 0, str(difference)))

        return await ensure_durable(
            shared.jetstream,
            shared.names,
            key,
            ack_wait=shared.ack_wait_of(key),
            retention=retention,
            homes=homes,
            keep=not shared.priorities.are_due(key),
            on_change=changed,
        )
