"""The consumer looks at stream and durable before it hands on what may be another life's."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec
import pytest
from anyio import EndOfStream, Event

from collector.events import Answered, Failed, Failure, Received, Stage
from collector.flow.settlement import ACK
from collector.jetstream.endings import LARGEST
from tests.support.consuming import playing, sequences
from tests.support.fakes import (
    ANOTHER_LIFE,
    ATTACHED,
    KEY,
    FakeSource,
    delivery,
    frame,
    settled,
)
from transfer.errors import DurableInUse, Unavailable, UnknownStream

if TYPE_CHECKING:
    from collector.jetstream.source import Attached

NO_STREAM = UnknownStream("$JS.API.STREAM.INFO", 404, 10059, "stream not found")


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


async def test_a_durable_that_went_with_its_server_is_made_at_once_and_without_a_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its server had it in memory. A second refusal on the same connection is no such thing."""
    monkeypatch.setattr("collector.actors.consumer._PAUSE", lambda _: math.inf)
    async with playing() as scene:
        scene.link.connect_again()
        scene.reconnects.notify()
        await settled()
        asked = len(scene.asked)
        scene.link.say("503")
        await settled()
        assert (scene.source.looks, len(scene.asked)) == (1, asked + 1)
        assert scene.reports.of(Failed) == []
        scene.link.say("503")
        await settled()
        assert (scene.source.looks, len(scene.asked)) == (1, asked + 1)
        assert [failed.failure for failed in scene.reports.of(Failed)] == [Failure.DURABLE_LOST]


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


@pytest.mark.parametrize("found", [ANOTHER_LIFE, NO_STREAM, DurableInUse("x")], ids=["anew", "gone", "another's"])
async def test_after_a_look_that_found_no_such_stream_and_durable_nothing_is_answered(
    found: Attached | Exception,
) -> None:
    """Nothing but a gap between two requests has caused the look: no status said that anything is gone."""
    async with playing(FakeSource(ATTACHED, found)) as scene:
        scene.link.deliver(delivery(1))
        assert await scene.came() == [1]
        asked = len(scene.asked)
        for number in range(asked):
            scene.link.say("408 Request Timeout", number=number)
        while len(scene.asked) == asked:
            await scene.link.asked.wait()
        assert scene.pull.may_answer
        marker = msgspec.structs.replace(delivery(3, b""), raw_headers=b"NATS/1.0\r\nNats-Marker-Reason: Purge\r\n\r\n")
        scene.link.deliver(delivery(2), marker)
        await scene.returned.wait()
        assert await scene.pull.answer([(delivery(4).reply, ACK)]) == 1
    assert scene.link.answers == []


async def test_while_it_cannot_look_it_keeps_what_came_in_hand_and_asks_again() -> None:
    async with playing(FakeSource(Unavailable("no leader"), Unavailable("no leader"), ATTACHED)) as scene:
        scene.link.deliver(delivery(1))
        assert sequences((await scene.mailbox.receive()).decoded) == [1]
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
