"""The publisher of one captured stream: each message once, and remembered with the sequence that JetStream gave it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio import create_task_group, current_time, sleep, sleep_until
from nats import errors as nats_errors
from nats.js import errors as js_errors

from tests.chaos.archive import content
from tests.chaos.content import fingerprint
from tests.chaos.found import ENTRY_HEADER
from tests.chaos.ledger import Special, State

if TYPE_CHECKING:
    from anyio import Event
    from nats.js import JetStreamContext

    from tests.chaos.archive.captures import Captured
    from tests.chaos.ledger import Source

_TIMEOUT = 3.0
_TICK = 0.05
_POISON_EVERY = 41
_REGIONS = ("eu", "us", "asia")


class Publisher:
    """Publishes into one stream at a steady rate. A publish is never repeated: a second one would be a message more."""

    def __init__(self, captured: Captured, source: Source, jetstream: JetStreamContext, rate: float) -> None:
        self.sequences: dict[int, int] = {}
        """The sequence of each message that was confirmed, by its number."""
        self.source = source
        self._captured = captured
        self._jetstream = jetstream
        self._rate = rate

    async def run(self, stopping: Event) -> None:
        """Publish until asked to stop; what is under way then is still published."""
        each = max(1, round(self._rate * _TICK))
        while not stopping.is_set():
            due = current_time() + each / self._rate
            async with create_task_group() as group:
                for number in self.source.take(each):
                    group.start_soon(self._publish, number)
            await sleep_until(due)

    async def _publish(self, number: int) -> None:
        source, headers = self.source, {ENTRY_HEADER: f"{self.source.name} {number}"}
        body = content.body(source.name, number)
        if self._captured.poison and number % _POISON_EVERY == 0:
            body = content.poison(source.name, number)
            source.special[number] = Special(fingerprint(body), "malformed")
        subject = f"{self._captured.stream}.{_REGIONS[number % len(_REGIONS)]}"
        source.set([number], State.MAYBE)
        try:
            answer = await self._jetstream.publish(subject, body, timeout=_TIMEOUT, headers=headers)
        except js_errors.NoStreamResponseError:
            source.set([number], State.NOT_SENT)
            await sleep(_TICK)
        except (nats_errors.Error, TimeoutError, OSError):
            await sleep(_TICK)
        else:
            self.sequences[number] = answer.seq
            source.set([number], State.CONFIRMED)
