"""The consumer: it asks for what there is room for, and hands on what comes in order."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from anyio import create_task_group, current_time, fail_after

from collector.events import Failed, Failure, Held, Received, Stage
from collector.flow.budget import Budget
from collector.flow.in_hand import MESSAGE
from collector.flow.levels import Level
from collector.sinks import PASS_ALL
from tests.support.consuming import Scene, playing, sequences
from tests.support.fakes import (
    KEY,
    FakeSource,
    delivery,
    settled,
)

if TYPE_CHECKING:
    import pytest


async def test_what_is_delivered_is_handed_on_in_order_and_is_in_hand() -> None:
    async with playing() as scene:
        scene.link.deliver(*(delivery(number) for number in range(1, 150)))
        scene.link.deliver(delivery(150, delivered=2))
        assert await scene.came() == list(range(1, 151))
        assert len(scene.in_hand) == 150
        received = scene.reports.of(Received)
        assert (sum(one.messages for one in received), sum(one.redelivered for one in received)) == (150, 1)
        assert sum(one.entries for one in received) == 150


async def test_large_entries_are_opened_few_at_a_time_so_that_those_behind_them_stay_as_small_as_they_came() -> None:
    body = b"\x81\xa4data\x81\xa1a\xc6" + (600_000).to_bytes(4, "big") + bytes(600_000)
    async with playing(mailbox=1, limit=64 * 1024 * 1024) as scene:
        scene.link.deliver(*(delivery(number, body) for number in range(1, 11)))
        await settled()
        assert sum(one.messages for one in scene.reports.of(Received)) == 2, "one in the mailbox, one at its door"
        came: list[int] = []
        while len(came) < 10:
            came += sequences((await scene.mailbox.receive()).decoded)
        assert came == list(range(1, 11))


async def test_what_there_is_no_room_for_stays_as_it_came_until_something_is_answered() -> None:
    body = b"\x81\xa4data\x81\xa1a\xdc\x27\x10" + b"\x80" * 10_000
    async with playing(limit=2 * 1024 * 1024) as scene:
        scene.link.deliver(*(delivery(number, body) for number in range(1, 6)))
        assert await scene.came() == [1], "of what came nothing is too much, of what it becomes all but the first"
        assert [one.sequence for one in scene.in_hand.all()] == [1, 2, 3, 4, 5]
        assert scene.accounts.decoded.used == scene.in_hand.decoded_bytes > 1_000_000
        for number in range(1, 5):
            scene.in_hand.release([delivery(number, body)], scene.in_hand.decoded_bytes)
            scene.pull.wake()
            assert await scene.came() == [number + 1]


async def test_it_asks_for_what_there_is_room_for_and_again_when_a_third_is_free() -> None:
    async with playing() as scene:
        await settled()
        assert [messages for messages, _ in scene.asked] == [300]
        scene.link.deliver(*(delivery(number) for number in range(1, 200)))
        await scene.came()
        assert len(scene.asked) == 1, "199 in hand and 101 still asked for"
        scene.in_hand.release([delivery(number) for number in range(1, 90)])
        scene.pull.wake()
        await settled()
        assert len(scene.asked) == 1
        scene.in_hand.release([delivery(number) for number in range(90, 110)])
        scene.pull.wake()
        await settled()
        assert [messages for messages, _ in scene.asked] == [300, 109]
        scene.levels.tell(scene.reports)
        assert scene.reports.of(Held)[-1] == Held(KEY, 90, scene.in_hand.bytes + scene.in_hand.decoded_bytes)


async def test_it_asks_for_no_more_bytes_than_the_budget_has() -> None:
    async with playing(limit=256 * 1024) as scene:
        await settled()
        promised = 256 * 1024 // 4 // 2  # half of the pool: nothing flows yet
        ((messages, max_bytes),) = scene.asked
        assert messages * MESSAGE + max_bytes == promised
        assert scene.accounts.received.used == promised


async def test_without_room_in_the_budget_it_waits_without_turning_until_something_is_settled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turns: list[Level] = []

    def turned(level: Level) -> None:
        turns.append(level)

    monkeypatch.setattr(Level, "touch", turned)
    async with playing(limit=384 * 1024) as scene:
        await settled()
        other = scene.budget.open(lambda: None)
        scene.link.deliver(delivery(1, b"x" * 30_000))
        scene.link.say("408 Request Timeout", headers="Nats-Pending-Messages: 299\r\nNats-Pending-Bytes: 0\r\n")
        other.received.use(72 * 1024)
        await scene.came()
        asked, before = len(scene.asked), len(turns)
        await settled()
        assert len(scene.asked) == asked
        assert before
        assert len(turns) - before < 50, "it turns and turns"
        scene.in_hand.release([delivery(1, b"x" * 30_000)])
        other.close()
        scene.pull.wake()
        await settled()
        assert len(scene.asked) == asked + 1


async def test_a_message_larger_than_what_is_free_is_asked_for_alone() -> None:
    async with playing() as scene:
        await settled()
        messages, max_bytes = scene.asked[0]
        scene.link.say(
            "409 Message Size Exceeds MaxBytes",
            headers=f"Nats-Pending-Messages: {messages}\r\nNats-Pending-Bytes: {max_bytes}\r\n",
        )
        await settled()
        assert scene.asked[1] == (1, 2 * max_bytes)


async def test_after_a_reconnect_it_asks_again_and_looks_before_it_hands_on() -> None:
    async with playing() as scene:
        await settled()
        scene.link.connect_again()
        scene.reconnects.notify()
        await settled()
        assert len(scene.asked) == 2
        looks = scene.source.looks
        scene.link.deliver(delivery(1))
        assert await scene.came() == [1]
        assert scene.source.looks == looks + 1
        scene.link.deliver(delivery(2))
        assert await scene.came() == [2]
        assert scene.source.looks == looks + 1, "sure since"


async def test_while_disconnected_it_asks_for_nothing() -> None:
    async with playing() as scene:
        await settled()
        scene.link.connected = False
        scene.pull.forget_requests()
        await settled()
        assert len(scene.asked) == 1
        scene.link.connect_again()
        scene.reconnects.notify()
        await settled()
        assert len(scene.asked) == 2


async def test_silence_is_looked_into_and_asked_again() -> None:
    async with playing(heartbeat=0.02) as scene:
        while len(scene.asked) < 2:
            await scene.link.asked.wait()
        assert scene.source.looks == 1
        assert scene.reports.of(Failed)[0].failure is Failure.SILENT


async def test_a_server_that_refuses_every_request_makes_no_hot_loop() -> None:
    async with playing() as scene:
        begun = current_time()
        for _ in range(3):
            asked = len(scene.asked)
            scene.link.say("409 Exceeded MaxRequestBatch of 100")
            while len(scene.asked) == asked:
                await scene.link.asked.wait()
        assert current_time() - begun > 1.0
        assert {(failed.stage, failed.failure) for failed in scene.reports.of(Failed)} == {
            (Stage.PULL, Failure.UNAVAILABLE)
        }


async def test_200_loggers_whose_next_message_is_large_ask_for_one_pool_and_one_message_at_most() -> None:
    payload = 8 * 1024 * 1024
    budget, most = Budget(64 * 1024 * 1024), 0
    scenes = [Scene(FakeSource(), math.inf, budget, PASS_ALL, 60.0) for _ in range(200)]
    with fail_after(60):
        async with create_task_group() as group:
            for scene in scenes:
                group.start_soon(scene.run)
            for _ in range(12):
                await settled()
                asked_for = [scene.pull.outstanding.bytes for scene in scenes]
                messages = sum(scene.pull.outstanding.messages for scene in scenes)
                assert sum(asked_for) <= budget.received.limit + payload + 64 * 1024
                assert budget.received.used == sum(asked_for) + MESSAGE * messages
                most = max(most, *asked_for)
                for scene in [one for one in scenes if 0 < one.pull.outstanding.bytes < payload + 100]:
                    headers = "Nats-Pending-Messages: {}\r\nNats-Pending-Bytes: {}\r\n".format(*scene.asked[-1])
                    scene.link.say("409 Message Size Exceeds MaxBytes", headers=headers)
            assert most > payload, "one of them got what it needs"
            group.cancel_scope.cancel()
    for scene in scenes:
        scene.mailbox.close()


async def test_what_comes_while_the_mailbox_is_full_is_in_hand_and_so_kept_alive() -> None:
    async with playing(mailbox=0) as scene:
        scene.link.deliver(delivery(1))
        await settled()
        scene.link.deliver(delivery(2), delivery(3))
        assert len(scene.in_hand) == 3
        assert sequences((await scene.mailbox.receive()).decoded) == [1]
        assert sequences((await scene.mailbox.receive()).decoded) == [2, 3]
