"""The consumer between a scripted JetStream and the batcher's mailbox."""

from __future__ import annotations

import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from anyio import EndOfStream, Event, create_memory_object_stream, create_task_group, current_time, fail_after, lowlevel

from collector.actors.consumer import Consumer, PullLimits
from collector.events import Answered, Failed, Failure, Held, Received, Stage, Suspicion
from collector.flow.budget import Budget
from collector.flow.in_hand import MESSAGE
from collector.jetstream.connection import Reconnects
from collector.jetstream.pull import LARGEST
from collector.model import Decoded
from collector.settings import Settings
from collector.sinks import PASS_ALL, Admission
from collector.sinks.timeseries.horizon import Horizon
from tests.support.fakes import (
    ANOTHER_LIFE,
    ATTACHED,
    KEY,
    FakeLink,
    FakeSource,
    Reports,
    delivery,
    entry,
    frame,
    settled,
)
from tests.support.moving import ENVIRON, moving, shared
from transfer.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from anyio.abc import TaskGroup

SETTINGS = Settings.read(
    {**ENVIRON, "COLLECTOR_BATCH_ENTRIES": "50", "COLLECTOR_WRITES": "4", "COLLECTOR_BATCH_BYTES": "1MiB"}
)
ROOM = PullLimits(messages=SETTINGS.most_held, request_bytes=SETTINGS.batch_bytes)


def sequences(several: list[Decoded]) -> list[int]:
    return [delivery.sequence for one in several for delivery in one.deliveries]


class Scene:
    """A consumer that runs."""

    def __init__(
        self, source: FakeSource, mailbox: float, budget: Budget, admission: Admission, heartbeat: float
    ) -> None:
        self.source, self.link, self.reports = source, FakeLink(), Reports()
        self.reconnects, self.stopping, self.returned = Reconnects(), Event(), Event()
        self.budget = budget
        of_replica = shared(self.link, self.reports, self.reconnects, source, budget=budget, settings=SETTINGS)
        whole = moving(of_replica, admission=admission, heartbeat=heartbeat)
        self.pull, self.in_hand, self.accounts = whole.pull, whole.in_hand, whole.accounts
        outbox, self.mailbox = create_memory_object_stream[list[Decoded]](mailbox)
        self.group: TaskGroup
        self.consumer = Consumer(whole, outbox)

    async def run(self) -> None:
        await self.consumer.run(self.stopping)
        self.returned.set()

    async def came(self) -> list[int]:
        """Take what is in the mailbox."""
        await settled()
        found = []
        while self.mailbox.statistics().current_buffer_used or self.mailbox.statistics().tasks_waiting_send:
            found += sequences(await self.mailbox.receive())
        return found

    @property
    def asked(self) -> list[tuple[int, int]]:
        return [(wanted["batch"], wanted["max_bytes"]) for _, wanted in self.link.requests]


@asynccontextmanager
async def playing(
    source: FakeSource | None = None,
    *,
    mailbox: float = math.inf,
    limit: int = 16 * 1024 * 1024,
    heartbeat: float = 60.0,
    horizon: Admission = PASS_ALL,
) -> AsyncIterator[Scene]:
    scene = Scene(source or FakeSource(), mailbox, Budget(limit), horizon, heartbeat)
    with fail_after(60):
        async with scene.mailbox, create_task_group() as scene.group:
            scene.group.start_soon(scene.run)
            while not scene.link.requests:
                await scene.link.asked.wait()
            yield scene
            scene.stopping.set()
            scene.pull.wake()
            if not scene.group.cancel_scope.cancel_called:
                await scene.returned.wait()
            scene.group.cancel_scope.cancel()


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
            came += sequences(await scene.mailbox.receive())
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


async def test_asked_to_stop_it_leaves_in_hand_what_there_is_no_room_for() -> None:
    body = b"\x81\xa4data\x81\xa1a\xdc\x27\x10" + b"\x80" * 10_000
    async with playing(limit=2 * 1024 * 1024) as scene:
        scene.link.deliver(delivery(1, body), delivery(2, body))
        assert await scene.came() == [1]
        scene.stopping.set()
        scene.pull.wake()
        await scene.returned.wait()
        assert await scene.came() == []
        assert len(scene.in_hand) == 2


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
        assert scene.reports.of(Held)[-1] == Held(KEY, 90, scene.in_hand.bytes + scene.in_hand.decoded_bytes)


async def test_it_asks_for_no_more_bytes_than_the_budget_has() -> None:
    async with playing(limit=256 * 1024) as scene:
        await settled()
        promised = 256 * 1024 // 4 // 2  # half of the pool: nothing flows yet
        ((messages, max_bytes),) = scene.asked
        assert messages * MESSAGE + max_bytes == promised
        assert scene.accounts.received.used == promised


async def test_without_room_in_the_budget_it_waits_without_turning_until_something_is_settled() -> None:
    async with playing(limit=384 * 1024) as scene:
        await settled()
        other = scene.budget.open(lambda: None)
        scene.link.deliver(delivery(1, b"x" * 30_000))
        scene.link.say("408 Request Timeout", headers="Nats-Pending-Messages: 299\r\nNats-Pending-Bytes: 0\r\n")
        other.received.use(72 * 1024)
        await scene.came()
        asked, held = len(scene.asked), len(scene.reports.of(Held))
        await settled()
        assert len(scene.asked) == asked
        assert len(scene.reports.of(Held)) - held < 50, "it turns and turns"
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


@pytest.mark.parametrize("words", ["409 Consumer Deleted", "409 Consumer is push based", "503"])
async def test_when_the_durable_is_gone_and_the_stream_is_the_same_it_goes_on(words: str) -> None:
    async with playing() as scene:
        scene.link.say(words)
        while len(scene.asked) < 2:
            await scene.link.asked.wait()
        assert scene.source.looks == 1
        (failed,) = scene.reports.of(Failed)
        assert (failed.stage, failed.failure) == (Stage.PULL, Failure.DURABLE_LOST)
        assert repr(words) in failed.error
        scene.link.deliver(delivery(1))
        assert await scene.came() == [1]


async def test_what_comes_from_another_life_of_the_stream_is_not_opened_and_ends_it() -> None:
    async with playing(FakeSource(ANOTHER_LIFE)) as scene:
        scene.link.say("409 Consumer Deleted")
        scene.link.deliver(delivery(1))
        await scene.returned.wait()
        assert await scene.came() == []
        assert [one.sequence for one in scene.in_hand.all()] == [1]
        assert scene.in_hand.owned([(delivery(1).reply, b"+ACK")]) == [], "it would ack another message"
        assert scene.reports.of(Received) == []
        with pytest.raises(EndOfStream):
            await scene.mailbox.receive()


async def test_the_first_messages_after_a_time_without_a_request_are_looked_at_first() -> None:
    async with playing(FakeSource(ANOTHER_LIFE)) as scene:
        scene.link.deliver(delivery(1))
        await scene.returned.wait()
        assert await scene.came() == []
        assert len(scene.in_hand) == 1


async def test_while_it_cannot_look_it_keeps_what_came_in_hand_and_asks_again() -> None:
    async with playing(FakeSource(Unavailable("no leader"), Unavailable("no leader"), ATTACHED)) as scene:
        scene.link.deliver(delivery(1))
        assert sequences(await scene.mailbox.receive()) == [1]
        assert [failed.error for failed in scene.reports.of(Failed)] == ["no leader", "no leader"]
        assert not scene.returned.is_set()


async def test_asked_to_stop_while_it_cannot_look_it_leaves_what_came_in_hand() -> None:
    async with playing(FakeSource(Unavailable("no leader"))) as scene:
        scene.link.deliver(delivery(1))
        await scene.reports.until(lambda: bool(scene.reports.of(Failed)))
        scene.stopping.set()
        scene.pull.wake()
        await scene.returned.wait()
        assert await scene.came() == []
        assert len(scene.in_hand) == 1


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


STATUSES = {
    "404 No Messages": "",
    "408 Request Timeout": "Nats-Pending-Messages: {}\r\nNats-Pending-Bytes: {}\r\n",
    "408 Interest Expired": "",
    "408 Requests Pending": "",
    "409 Batch Completed": "Nats-Pending-Messages: {}\r\nNats-Pending-Bytes: {}\r\n",
    "409 Message Size Exceeds MaxBytes": "Nats-Pending-Messages: {}\r\nNats-Pending-Bytes: {}\r\n",
    "409 Consumer Deleted": "",
    "409 Consumer is push based": "",
    "409 Leadership Change": "",
    "409 Server Shutdown": "",
    "409 Exceeded MaxWaiting": "",
    "409 Exceeded MaxRequestBatch of 100": "",
    "409 Exceeded MaxRequestExpires of 1s": "",
    "409 Exceeded MaxRequestMaxBytes of 1024": "",
    "409 Something New": "",
    "400 Bad Request - Priority Group missing": "",
    "421 Something Else": "",
    "423 Nats-Wrong-Pin-Id": "",
    "503": "",
    "599 Beyond": "Nats-Pending-Messages: {}\r\nNats-Pending-Bytes: {}\r\n",
    "": "",
}
"""What nats-server 2.15 says of a pull request, in the words of server/consumer.go, and what a later one may say."""


@pytest.mark.parametrize("words", STATUSES)
async def test_no_status_that_comes_again_and_again_makes_a_hot_loop_or_goes_unsaid(
    words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[int] = []

    def for_ever(attempt: int) -> float:
        pauses.append(attempt)
        return math.inf

    monkeypatch.setattr("collector.actors.consumer._PAUSE", for_ever)
    async with playing() as scene:
        said = 0
        while not pauses:
            scene.link.say(words, headers=STATUSES[words].format(*scene.asked[-1]))
            said += 1
            await settled()
            assert said < 20, "it asks again and again"
        asked = len(scene.asked)
        await settled()
        assert len(scene.asked) == asked, "it pauses"
        (failed,) = scene.reports.of(Failed)
        assert failed.stage is Stage.PULL
        assert repr(words) in failed.error
        if words != "409 Message Size Exceeds MaxBytes":
            assert said <= 2
        else:
            assert scene.asked[-1] == (1, LARGEST)
            assert "no larger" in failed.error


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


@pytest.mark.parametrize("same", [True, False])
async def test_what_is_owed_is_answered_after_a_reconnect_and_a_look_and_never_to_another_stream(*, same: bool) -> None:
    async with playing(FakeSource(ATTACHED if same else ANOTHER_LIFE)) as scene:
        await settled()
        scene.link.connected = False
        scene.in_hand.owe([(delivery(1).reply, b"+ACK"), (delivery(2).reply, b"+TERM bad")])
        scene.pull.wake()
        await settled()
        assert (scene.link.answers, scene.source.looks) == ([], 0)
        scene.link.connect_again()
        scene.reconnects.notify()
        await settled()
        assert scene.source.looks == 1
        if same:
            assert scene.link.answers == [(delivery(1).reply, b"+ACK"), (delivery(2).reply, b"+TERM bad")]
            assert scene.reports.of(Answered) == [Answered(KEY, 2)]
        else:
            assert scene.link.answers == []
            assert scene.returned.is_set()
        assert not scene.in_hand.owes


async def test_asked_to_stop_it_hands_on_what_is_still_under_way_and_closes_the_mailbox() -> None:
    async with playing() as scene:
        scene.link.deliver(delivery(1))
        assert await scene.came() == [1]
        scene.link.late = [frame(delivery(2)), frame(delivery(3))]
        scene.stopping.set()
        scene.pull.wake()
        await scene.returned.wait()
        assert await scene.came() == [2, 3]
        assert scene.link.drained.is_set()
        with pytest.raises(EndOfStream):
            await scene.mailbox.receive()


async def test_asked_to_stop_it_does_not_look_for_the_sake_of_nothing() -> None:
    async with playing() as scene:
        await settled()
        scene.stopping.set()
        scene.pull.wake()
        await scene.returned.wait()
        assert scene.source.looks == 0


async def test_what_comes_at_the_very_end_is_looked_at_too() -> None:
    async with playing(FakeSource(ATTACHED, ANOTHER_LIFE)) as scene:
        scene.link.deliver(delivery(1))
        assert await scene.came() == [1]
        deleted = scene.link.requests[-1][0]
        scene.link.let_drain = Event()
        scene.stopping.set()
        scene.pull.wake()
        await settled()
        scene.link.say("409 Consumer Deleted", number=[reply for reply, _ in scene.link.requests].index(deleted))
        scene.link.late = [frame(delivery(1))]
        scene.link.let_drain.set()
        await scene.returned.wait()
        assert await scene.came() == []


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_drain_is_never_cut_and_what_comes_meanwhile_is_handed_on_or_stays_in_hand(*, cancelled: bool) -> None:
    """A call of a driver that is cut leaves the driver in a state that nobody knows; the link has the deadline."""
    async with playing() as scene:
        scene.link.deliver(delivery(1))
        assert await scene.came() == [1]
        scene.link.let_drain = Event()
        scene.stopping.set()
        scene.pull.wake()
        await settled()
        scene.link.deliver(delivery(2))
        if cancelled:
            scene.group.cancel_scope.cancel()
        for _ in range(10):
            await lowlevel.cancel_shielded_checkpoint()
        assert not scene.returned.is_set()
        assert not scene.link.drained.is_set()
        scene.link.let_drain.set()
        if not cancelled:
            await scene.returned.wait()
            assert await scene.came() == [2]
    assert scene.link.drained.is_set()
    assert {one.sequence for one in scene.in_hand.all()} == {1, 2}


@pytest.mark.parametrize("where", ["waiting", "looking", "handing on", "draining"])
async def test_cancelled_anywhere_what_came_is_in_hand_and_the_subscription_ends(where: str) -> None:
    source = FakeSource()
    async with playing(source, mailbox=0) as scene:
        await settled()
        if where == "looking":
            source.let_look = Event()
        if where != "waiting":
            scene.link.deliver(delivery(1))
            await settled()
        if where == "draining":
            scene.link.let_drain = Event()
            scene.stopping.set()
            scene.group.start_soon(scene.mailbox.receive)
            await settled()
        scene.group.cancel_scope.cancel()
        source.let_look.set()
        scene.link.let_drain.set()
    assert scene.link.drained.is_set()
    assert len(scene.in_hand) == (where != "waiting")
    assert not scene.reconnects._listeners


async def test_what_comes_while_the_mailbox_is_full_is_in_hand_and_so_kept_alive() -> None:
    async with playing(mailbox=0) as scene:
        scene.link.deliver(delivery(1))
        await settled()
        scene.link.deliver(delivery(2), delivery(3))
        assert len(scene.in_hand) == 3
        assert sequences(await scene.mailbox.receive()) == [1]
        assert sequences(await scene.mailbox.receive()) == [2, 3]


# a horizon: a time-series collection


async def test_with_a_horizon_what_may_have_been_written_is_handed_on_as_a_suspect() -> None:
    horizon = Horizon(2)
    async with playing(horizon=horizon) as scene:
        scene.link.deliver(*(delivery(number) for number in range(1, 5)))
        assert await scene.came() == [1, 2, 3, 4]
        assert horizon.suspects == {delivery(number).reply: Suspicion.BELOW_HORIZON for number in (1, 2)}
        assert horizon.highest == 4


async def test_a_copy_of_what_is_in_hand_waits_without_holding_up_others_and_is_handed_on_when_that_is_settled() -> (
    None
):
    horizon = Horizon(0)
    first, again = delivery(1), delivery(1, delivered=2)
    async with playing(horizon=horizon) as scene:
        scene.link.deliver(first, again, delivery(2))
        assert await scene.came() == [1, 2]
        assert len(scene.in_hand) == 3, "the copy is kept alive while it waits"
        assert sum(one.messages for one in scene.reports.of(Received)) == 2
        horizon.settled([first], [entry(first)])
        scene.in_hand.release([first])
        scene.pull.wake()
        assert await scene.came() == [1]
        assert horizon.suspects == {again.reply: Suspicion.BELOW_HORIZON}
        received = scene.reports.of(Received)
        assert (sum(one.messages for one in received), sum(one.redelivered for one in received)) == (3, 1)


async def test_a_copy_that_still_waits_at_the_stop_stays_in_hand_to_be_given_back() -> None:
    again = delivery(1, delivered=2)
    async with playing(horizon=Horizon(0)) as scene:
        scene.link.deliver(delivery(1), again)
        assert await scene.came() == [1]
        scene.stopping.set()
        scene.pull.wake()
        await scene.returned.wait()
        assert await scene.came() == []
        assert again in scene.in_hand.all()


async def test_cancelled_while_a_copy_is_handed_on_it_is_in_hand() -> None:
    horizon, first, again = Horizon(0), delivery(1), delivery(1, delivered=2)
    async with playing(horizon=horizon, mailbox=0) as scene:
        scene.link.deliver(first, again)
        assert await scene.came() == [1]
        horizon.settled([first], [entry(first)])
        scene.in_hand.release([first])
        scene.pull.wake()
        await settled()
        assert scene.mailbox.statistics().tasks_waiting_send == 1
        scene.group.cancel_scope.cancel()
    assert scene.in_hand.all() == [again]
