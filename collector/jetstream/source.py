"""The JetStream side of one logger: its stream and durable, checked or made before messages are pulled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from collector.decoding.identity import Incarnation
from collector.events import Mended
from transfer.difference import Remedy, with_remedy
from transfer.errors import Misconfigured
from transfer.jetstream.durables import ensure_durable
from transfer.jetstream.needs import compare_durable, compare_stream, durable_needs
from transfer.jetstream.streams import stream_state

if TYPE_CHECKING:
    from nats.js import JetStreamContext

    from collector.events import Report
    from transfer.difference import Difference
    from transfer.jetstream.configurations import DurableInfo
    from transfer.names import Names


@dataclass(frozen=True, slots=True)
class Attached:
    """The stream and durable of a logger, as a pipeline has to know them before it pulls."""

    incarnation: Incarnation
    ack_wait: float
    """Seconds, as the durable has it: they may be more than this replica's setting."""
    risks: tuple[Difference, ...] = ()
    """Differences of stream and durable that may harm entries."""


class DurableSource(Protocol):
    """Where a pipeline's messages come from."""

    async def attach(self, key: str) -> Attached:
        """Check the stream, and make or update the durable as it is needed.

        Raises UnknownStream while there is no stream, Misconfigured while somebody else has to change stream or
        durable, DurableInUse while the durable of the Go collector is still used by somebody, Unavailable while
        JetStream does not answer.
        """


class JetStreamSource:
    """Streams and durables of one namespace."""

    def __init__(self, jetstream: JetStreamContext, names: Names, ack_wait: float, report: Report) -> None:
        self._jetstream = jetstream
        self._names = names
        self._ack_wait = ack_wait
        self._needs = durable_needs(ack_wait)
        self._report = report

    async def attach(self, key: str) -> Attached:
        """See `DurableSource`. A deleted durable is made again; each change of a durable is reported."""
        state = await stream_state(self._jetstream, self._names.stream(key))
        stream = compare_stream(state.config, self._names, key)
        mend = with_remedy(stream, Remedy.MEND)
        if mend and state.config.retention != "interest":  # else messages go at once without a durable
            raise Misconfigured(*mend)
        durable = await self._ensure_durable(key)
        if mend:
            raise Misconfigured(*mend)
        risks = (*stream, *compare_durable(durable, self._names, key, self._needs))
        return Attached(Incarnation(self._names.stream(key), state.created), durable.ack_wait, risks)

    async def _ensure_durable(self, key: str) -> DurableInfo:
        return await ensure_durable(
            self._jetstream,
            self._names,
            key,
            ack_wait=self._ack_wait,
            on_change=lambda difference: self._report(Mended(key, 0, str(difference))),
        )
