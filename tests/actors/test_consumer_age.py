"""The consumer is woken for batches and not for messages: when what came is full, old enough or wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from collector.events import Received
from tests.support.consuming import Scene, playing, sequences
from tests.support.fakes import delivery, settled

if TYPE_CHECKING:
    from collector.model import Delivery

NEVER = "10h"


async def test_what_trickles_in_is_opened_together_when_the_first_of_it_is_old_enough() -> None:
    async with playing(age="200ms") as scene:
        for number in range(1, 6):
            scene.link.deliver(delivery(number))
        await settled()
        assert scene.reports.of(Received) == []
        assert len(scene.in_hand) == 5, "kept alive, and given back at the end"
        handed_on = await scene.mailbox.receive()
        assert (sequences(handed_on.decoded), handed_on.leaves) == ([1, 2, 3, 4, 5], True)
        assert len(scene.reports.of(Received)) == 1


async def test_a_batch_is_opened_at_once_and_does_not_leave_before_it_is_full_or_old() -> None:
    async with playing(age=NEVER) as scene:
        for number in range(1, 50):
            scene.link.deliver(delivery(number))
        assert await scene.came() == []
        scene.link.deliver(delivery(50), delivery(51))
        handed_on = await scene.mailbox.receive()
        assert (len(handed_on.decoded[0].deliveries), handed_on.leaves) == (51, False)


async def test_what_a_full_batch_leaves_over_leaves_by_its_age() -> None:
    async with playing(age="50ms") as scene:
        scene.link.deliver(*(delivery(number) for number in range(1, 61)))
        assert not (await scene.mailbox.receive()).leaves
        assert await scene.mailbox.receive() == ([], True)


def end_of_the_request(scene: Scene) -> None:
    left = scene.pull.outstanding
    headers = f"Nats-Pending-Messages: {left.messages}\r\nNats-Pending-Bytes: {left.bytes}\r\n"
    scene.link.say("408 Request Timeout", headers=headers)


async def test_what_nothing_more_can_come_to_leaves_at_once() -> None:
    """A logger whose part of the budget is small never fills a batch: what it may hold leaves without waiting."""
    async with playing(age=NEVER) as scene:
        scene.link.deliver(delivery(1))
        scene.budget.received.limit = scene.budget.received.guaranteed = 0
        end_of_the_request(scene)
        handed_on = await scene.mailbox.receive()
        assert (sequences(handed_on.decoded), handed_on.leaves) == ([1], True)


async def test_what_more_may_come_to_waits_while_it_is_asked_for() -> None:
    async with playing(age=NEVER) as scene:
        scene.link.deliver(delivery(1))
        end_of_the_request(scene)
        await settled()
        assert len(scene.asked) == 2
        handed_on = await scene.mailbox.receive()
        assert (sequences(handed_on.decoded), handed_on.leaves) == ([1], False)
        scene.budget.received.limit = scene.budget.received.guaranteed = 0
        end_of_the_request(scene)
        assert await scene.mailbox.receive() == ([], True), "what was handed on before leaves too"


async def test_there_is_no_room_to_open_more_so_what_is_open_leaves() -> None:
    body = b"\x81\xa4data\x81\xa1a\xdc\x27\x10" + b"\x80" * 10_000
    async with playing(age=NEVER, limit=2 * 1024 * 1024) as scene:
        scene.link.deliver(*(delivery(number, body) for number in range(1, 6)))
        scene.pull.wake()
        handed_on = await scene.mailbox.receive()
        assert (sequences(handed_on.decoded), handed_on.leaves) == ([1], True)


async def test_what_had_to_wait_for_room_leaves_when_it_is_there_as_no_age_will_end_for_it() -> None:
    body = msgspec.msgpack.encode({"data": {"a": "x" * 70_000}})
    async with playing(age=NEVER) as scene:
        others = scene.budget.open(lambda: None)
        others.decoded.use(scene.budget.decoded.limit)
        scene.accounts.decoded.use(scene.budget.decoded.guaranteed)
        scene.in_hand.decoded_bytes = scene.budget.decoded.guaranteed
        scene.link.deliver(delivery(1, body))
        scene.pull.wake()
        assert await scene.came() == [], "there is no room to open it"
        others.decoded.use(0)
        assert sequences((await scene.mailbox.receive()).decoded) == [1]
        assert await scene.mailbox.receive() == ([], True), "while more is asked for, it does not wait for that"


@pytest.mark.parametrize("wanted", ["stop", "status"])
async def test_what_waits_is_taken_before_its_age_when_it_is_wanted(wanted: str) -> None:
    async with playing(age=NEVER) as scene:
        scene.link.deliver(delivery(1))
        if wanted == "stop":
            scene.stopping.set()
            scene.pull.wake()
        else:
            scene.link.say("409 Leadership Change")
        assert sequences((await scene.mailbox.receive()).decoded) == [1]


async def test_after_a_settlement_nobody_is_woken_unless_there_is_enough_room_to_ask_for_more() -> None:
    async with playing(limit=1024 * 1024) as scene:
        await settled()

        def settle(several: list[Delivery]) -> bool:
            scene.in_hand.release(several)
            return scene.requests.settled()

        many = [delivery(number) for number in range(1, 202)]
        scene.link.deliver(*many)
        await scene.came()
        used = scene.accounts.received.used
        assert not settle(many[:3])
        assert scene.accounts.received.used < used, "the room is there for others all the same"
        assert settle(many[3:])
        scene.link.connected = False
        assert not scene.requests.settled(), "a request would reach nobody"


@pytest.mark.parametrize("loggers", [1, 10, 100, 1000, 5000])
async def test_the_consumer_is_woken_after_a_settlement_only_when_it_asks_for_more_then(loggers: int) -> None:
    async with playing(limit=64 * 1024 * 1024) as scene:
        for _ in range(1, loggers):
            scene.budget.open(lambda: None)
        end_of_the_request(scene)  # that of a lone logger
        await settled()
        asked, number = len(scene.asked), 0
        while number < 120 and scene.pull.outstanding.messages:
            number += 1
            scene.link.deliver(delivery(number))
            await scene.mailbox.receive()
            scene.in_hand.release([delivery(number)])
            before = len(scene.asked)
            if scene.requests.settled():
                scene.pull.wake()
                await settled()
                assert len(scene.asked) == before + 1, "else it was woken for nothing"
        assert number >= 12, "half of the smallest request at least is used by then"
        assert len(scene.asked) - asked <= number / 4, "a request is for many messages"
