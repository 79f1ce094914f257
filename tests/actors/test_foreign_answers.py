"""A write is under way, and meanwhile the stream may be made anew under the same name, with the same reply subjects.

An ack would then remove a message that nobody has written. So whatever happens in between, what is acked was looked at
on the connection that takes the ack; and when the stream is the same, everything is acked in the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest
from anyio import Event

from collector.events import Answered, BatchSettled
from tests.actors.test_pipeline import Scene, playing
from tests.support.fakes import ANOTHER_LIFE, ATTACHED, FakeSink, FakeSource, delivery, settled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

HELD = 3


async def connected_again_and_nobody_told(scene: Scene) -> None:
    scene.link.connect_again()


async def connected_again(scene: Scene) -> None:
    scene.link.connected = False
    await settled()
    scene.link.connect_again()
    scene.reconnects.notify()
    await settled()


async def connected_again_while_the_mailbox_is_full(scene: Scene) -> None:
    for number in range(HELD + 1, HELD + 21):
        scene.link.deliver(delivery(number))
        await anyio.sleep(0.02)  # as many batches as the writer, the batcher and the mailboxes take
    await connected_again(scene)


async def connected_again_twice(scene: Scene) -> None:
    scene.source.let_look = Event()
    scene.source.answers.insert(0, ATTACHED)  # what the first of these connections answers
    await connected_again(scene)
    looks = scene.source.looks
    scene.link.deliver(delivery(HELD + 1))  # which is looked at when it is old enough
    while scene.source.looks == looks:  # noqa: ASYNC110 - no event tells it
        await anyio.sleep(0.005)
    scene.link.connect_again()
    scene.source.let_look.set()
    await settled()


async def connected_again_and_asked_to_stop(scene: Scene) -> None:
    scene.link.connect_again()
    scene.stopping.set()
    await settled()


async def asked_to_stop_and_connected_again(scene: Scene) -> None:
    scene.stopping.set()
    await settled()
    scene.link.connect_again()


async def asked_to_stop_and_written_long_after(scene: Scene) -> None:
    scene.stopping.set()
    await scene.link.drained.wait()
    await settled()
    scene.skew += 10


async def a_long_time_without_a_request(scene: Scene) -> None:
    wanted = scene.link.requests[-1][1]
    rest = (wanted["batch"] - HELD, wanted["max_bytes"] // 2)
    scene.budget.received.limit = scene.budget.received.guaranteed = 0  # so that none is asked for again
    scene.link.say(
        "409 Batch Completed", headers="Nats-Pending-Messages: {}\r\nNats-Pending-Bytes: {}\r\n".format(*rest)
    )
    await settled()
    scene.skew += 10


async def a_durable_that_may_be_gone(scene: Scene) -> None:
    scene.source.let_look = Event()
    scene.link.say("503")
    await settled()
    scene.group.start_soon(later, scene.source.let_look)


async def later(event: Event) -> None:
    """Let a look be answered after what was written has found no certainty."""
    await settled()
    event.set()


HAPPENINGS = [
    connected_again_and_nobody_told,
    connected_again,
    connected_again_while_the_mailbox_is_full,
    connected_again_twice,
    connected_again_and_asked_to_stop,
    asked_to_stop_and_connected_again,
    asked_to_stop_and_written_long_after,
    a_long_time_without_a_request,
    a_durable_that_may_be_gone,
]


@pytest.mark.parametrize("happens", HAPPENINGS, ids=lambda happens: happens.__name__)
@pytest.mark.parametrize("same", [True, False], ids=["same", "anew"])
async def test_what_is_written_is_acked_only_by_the_stream_that_it_came_from(
    happens: Callable[[Scene], Awaitable[None]], *, same: bool
) -> None:
    sink = FakeSink()
    sink.let_write = Event()
    source = FakeSource(ATTACHED)
    async with playing(source, sink) as scene:
        await scene.asked()
        scene.link.deliver(*(delivery(number) for number in range(1, HELD + 1)))
        await sink.writing.wait()
        await settled()
        assert source.looks == 2, "at the beginning, and before the first message is handed on"
        if not same:
            source.answers = [ANOTHER_LIFE]
        await happens(scene)
        assert scene.link.answers == []
        sink.let_write.set()
        await scene.until_settled()
        if same:
            held = {delivery(number).reply for number in range(1, HELD + 1)}
            await scene.reports.until(lambda: scene.answers(b"+ACK") >= held)
        await settled()
    acked = [reply for reply, answer in scene.link.answers if answer == b"+ACK"]
    assert len(acked) == len(set(acked))
    if not same:
        assert acked == []
    batches = scene.reports.of(BatchSettled)
    at_once = sum(one.messages - one.unanswered - one.owed for one in batches)
    assert at_once + sum(one.messages for one in scene.reports.of(Answered)) == len(acked), "counted as it is"
