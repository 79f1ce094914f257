"""The pull subscription: what is asked for, what came, when it is silent."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.flow.homes import AT_HOME, ELSEWHERE, STARTING, TAKING_OVER
from collector.flow.in_hand import InHand
from collector.jetstream.endings import LARGEST
from collector.jetstream.messages import Signal
from collector.jetstream.outstanding import Outstanding
from collector.jetstream.pace import HEARTBEAT
from collector.jetstream.parser import Frame
from collector.jetstream.pull import Pull
from tests.support.fakes import ATTACHED, FakeLink, delivery, frame
from tests.support.frames import FOREIGN, bare

PENDING = "Nats-Pending-Messages: {}\r\nNats-Pending-Bytes: {}\r\n"


def looked_at(pull: Pull) -> None:
    pull.begin_check()
    pull.end_check()


# the subscription


class Scene:
    """A pull subscription that is open, with a clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.link, self.in_hand = FakeLink(), InHand()
        self.pull = Pull(
            self.link,
            ATTACHED,
            inbox="_INBOX.a",
            in_hand=self.in_hand,
            clock=lambda: self.now,
        )


async def opened_pull() -> Scene:
    scene = Scene()
    await scene.pull.open()
    return scene


async def test_a_request_says_how_many_how_much_and_how_long() -> None:
    scene = await opened_pull()
    await scene.pull.ask(10, 4096)
    reply, wanted = scene.link.requests[0]
    assert reply == "_INBOX.a.1"
    home = {"group": "home", "priority": AT_HOME}
    assert wanted == {"batch": 10, "max_bytes": 4096, "expires": 60 * 10**9, "idle_heartbeat": 2 * 10**9, **home}
    assert (scene.pull.outstanding.messages, scene.pull.outstanding.bytes) == (10, 4096)


async def test_deliveries_are_in_hand_from_the_moment_they_are_read_and_taken_in_order() -> None:
    scene = await opened_pull()
    await scene.pull.ask(10, 4096)
    scene.link.deliver(delivery(1), delivery(2))
    scene.link.deliver(delivery(3))
    assert len(scene.in_hand) == 3
    assert [one.sequence for one in scene.pull.take()] == [1, 2, 3]
    assert scene.pull.take() == []
    assert scene.pull.outstanding.messages == 7


@pytest.mark.parametrize("reply", FOREIGN)
async def test_a_foreign_message_neither_counts_nor_raises(reply: bytes) -> None:
    scene = await opened_pull()
    await scene.pull.ask(10, 4096)
    for body in (b"", b"body"):
        scene.link.receive([Frame(b"_INBOX.a.\xff", reply, b"", body), frame(delivery(1))])
    assert [one.sequence for one in scene.pull.take()] == [1, 1]
    assert scene.pull.outstanding.messages == 8
    assert scene.pull.signals() == set()


async def test_a_request_that_is_done_leaves_nothing_outstanding() -> None:
    scene = await opened_pull()
    await scene.pull.ask(2, 4096)
    scene.link.deliver(delivery(1), delivery(2))
    used = 4096 - scene.pull.outstanding.bytes
    scene.link.say("409 Batch Completed", headers=PENDING.format(0, 4096 - used))
    assert scene.pull.outstanding == Outstanding()


@pytest.mark.parametrize(("unused_messages", "too_small"), [(10, 4096), (9, 0)])
async def test_a_message_is_too_large_only_when_nothing_of_the_request_came(
    unused_messages: int, too_small: int
) -> None:
    scene = await opened_pull()
    await scene.pull.ask(10, 4096)
    scene.link.say("409 Message Size Exceeds MaxBytes", headers=PENDING.format(unused_messages, 4096))
    assert scene.pull.endings.too_small == too_small
    assert scene.pull.outstanding == Outstanding()


@given(size=st.integers(4097, LARGEST), next_size=st.integers(4097, LARGEST))
async def test_a_lone_message_of_any_size_is_asked_for_with_more_until_it_comes(size: int, next_size: int) -> None:
    scene = await opened_pull()
    for wanted in (size, next_size):
        await scene.pull.ask(10, 4096)
        scene.link.say("409 Message Size Exceeds MaxBytes", headers=PENDING.format(10, 4096))
        asks = 0
        while (asked := scene.pull.endings.alone_bytes) < wanted:
            await scene.pull.ask_for_one(asked)
            scene.link.say("409 Message Size Exceeds MaxBytes", headers=PENDING.format(1, asked))
            asks += 1
            assert asks < 16
        assert asked < max(2 * wanted, 1.25 * max(size, next_size) + 1)
        await scene.pull.ask_for_one(asked)
        assert scene.link.requests[-1][1] == {
            "batch": 1,
            "max_bytes": asked,
            "expires": 5 * 10**9,
            "idle_heartbeat": 2 * 10**9,
            "group": "home",
            "priority": AT_HOME,
        }
        besides = delivery(1)
        body = bytes(wanted - len(besides.subject) - len(besides.reply))
        scene.link.deliver(delivery(1, body))
        scene.link.say("409 Batch Completed", headers=PENDING.format(0, asked - wanted))
        assert (scene.pull.endings.too_small, scene.pull.endings.fruitless, scene.pull.signals()) == (0, 0, set())
        assert scene.pull.outstanding == Outstanding()
        scene.pull.take()


async def test_a_lone_message_that_did_not_come_in_time_is_asked_for_no_more() -> None:
    scene = await opened_pull()
    await scene.pull.ask(10, 4096)
    scene.link.say("409 Message Size Exceeds MaxBytes", headers=PENDING.format(10, 4096))
    await scene.pull.ask_for_one(8192)
    scene.now += 5
    scene.link.say("408 Request Timeout", headers=PENDING.format(1, 8192))
    assert scene.pull.endings.too_small == 0
    assert scene.pull.signals() == set()


async def test_one_event_that_ends_several_requests_is_one_and_the_next_in_a_row_is_a_refusal() -> None:
    scene = await opened_pull()
    for _ in range(3):
        await scene.pull.ask(10, 4096)
    for number in range(3):
        scene.link.say("409 Leadership Change", number=number)
    assert (scene.pull.endings.fruitless, scene.pull.signals()) == (1, set())
    await scene.pull.ask(10, 4096)
    scene.link.say("409 Server Shutdown")
    assert (scene.pull.endings.fruitless, scene.pull.signals()) == (2, {Signal.REFUSED})
    await scene.pull.ask(10, 4096)
    scene.link.deliver(delivery(1))
    assert scene.pull.endings.fruitless == 0


async def test_requests_that_end_at_their_time_are_no_refusal() -> None:
    scene = await opened_pull()
    for _ in range(3):
        await scene.pull.ask(10, 4096)
        scene.now += 60
        scene.link.say("408 Request Timeout", headers=PENDING.format(10, 4096))
        assert (scene.pull.endings.fruitless, scene.pull.signals()) == (0, set())


@pytest.mark.parametrize(
    ("words", "signals"),
    [
        ("409 Consumer Deleted", {Signal.RECHECK}),
        ("409 Consumer is push based", {Signal.RECHECK}),
        ("503", {Signal.RECHECK}),
        ("409 Exceeded MaxWaiting", {Signal.REFUSED}),
        ("409 Something New", {Signal.REFUSED}),
        ("409 Leadership Change", set()),
        ("409 Server Shutdown", set()),
        ("408 Request Timeout", set()),
    ],
)
async def test_a_request_that_the_server_ends_is_not_outstanding_and_signals_once(
    words: str, signals: set[Signal]
) -> None:
    scene = await opened_pull()
    await scene.pull.ask(10, 4096)
    looked_at(scene.pull)
    scene.link.say(words, headers=PENDING.format(10, 4096) if words.startswith("408") else "")
    assert scene.pull.outstanding == Outstanding()
    assert scene.pull.changed.is_set()
    assert scene.pull.signals() == signals
    assert scene.pull.signals() == set()
    assert scene.pull.unsure is bool(signals)


async def test_silence_for_two_heartbeats_and_a_half_is_a_signal_and_ends_what_was_asked_for() -> None:
    scene = await opened_pull()
    await scene.pull.ask(10, 4096)
    scene.now = scene.pull.deadline - 0.001
    assert scene.pull.signals() == set()
    scene.link.say("100 Idle Heartbeat")
    scene.now += 2.5 * HEARTBEAT
    assert scene.pull.signals() == {Signal.SILENT}
    assert scene.pull.outstanding == Outstanding()


async def test_nothing_is_silent_while_nothing_is_asked_for() -> None:
    scene = await opened_pull()
    scene.now += 3600
    assert scene.pull.deadline == math.inf
    assert scene.pull.signals() == set()
    await scene.pull.ask(1, 1)
    assert scene.pull.deadline == scene.now + 2.5 * HEARTBEAT


async def test_a_lost_connection_is_no_silence() -> None:
    scene = await opened_pull()
    await scene.pull.ask(10, 4096)
    scene.link.connected = False
    scene.now += 3600
    assert scene.pull.signals() == set()
    assert not scene.pull.can_ask


async def test_a_time_without_a_request_makes_unsure_and_an_overlap_does_not() -> None:
    scene = await opened_pull()
    unsure = []
    for happens in (looked_at, looked_at, lambda _: scene.link.connect_again()):
        await scene.pull.ask(1, 4096)
        unsure.append(scene.pull.unsure)
        happens(scene.pull)
    await scene.pull.ask(1, 4096)
    assert [*unsure, scene.pull.unsure] == [True, False, False, True]


async def test_what_a_forgotten_request_still_brings_is_taken_and_its_end_counts_for_nothing() -> None:
    scene = await opened_pull()
    await scene.pull.ask(10, 4096)
    scene.link.connect_again()
    scene.pull.forget_requests()
    await scene.pull.ask(5, 1024)
    scene.link.say("408 Request Timeout", number=0, headers=PENDING.format(10, 4096))
    assert (scene.pull.outstanding.messages, scene.pull.outstanding.bytes) == (5, 1024)
    scene.link.deliver(delivery(1))
    assert len(scene.pull.take()) == 1


async def test_draining_gives_what_was_still_under_way() -> None:
    scene = await opened_pull()
    await scene.pull.ask(10, 4096)
    scene.link.deliver(delivery(1))
    scene.link.late = [frame(delivery(2))]
    assert [one.sequence for one in await scene.pull.drain()] == [1, 2]
    assert len(scene.in_hand) == 2


async def test_a_message_whose_body_was_left_out_is_not_taken_and_asked_for_again_after_a_look() -> None:
    scene = await opened_pull()
    await scene.pull.ask(10, 4096)
    scene.link.deliver(bare(1, "Nats-Msg-Size: 31"), delivery(2))
    assert [one.sequence for one in scene.pull.take()] == [2]
    assert (len(scene.in_hand), scene.pull.outstanding.messages, scene.pull.unsure) == (1, 8, True)
    assert scene.pull.signals() == {Signal.CUT}
    assert scene.link.answers == []
    await scene.pull.answer_aside()
    await scene.pull.answer_aside()
    assert scene.link.answers == [(bare(1, "").reply, b"-NAK")]


async def test_a_publisher_who_sends_such_a_header_himself_holds_nobody_up_for_long() -> None:
    scene = await opened_pull()
    for times in range(1, 5):
        await scene.pull.ask(10, 4096)
        scene.link.deliver(bare(1, "Nats-Msg-Size: 31", times))
        await scene.pull.answer_aside()
    assert [one.num_delivered for one in scene.pull.take()] == [4]
    assert [answer for _, answer in scene.link.answers] == [b"-NAK"] * 3


async def test_a_marker_of_the_server_is_no_message_and_acked() -> None:
    scene = await opened_pull()
    await scene.pull.ask(10, 4096)
    scene.link.deliver(bare(1, "Nats-Marker-Reason: MaxAge"))
    await scene.pull.answer_aside()
    assert scene.link.answers == [], "it may be another stream's"
    looked_at(scene.pull)
    await scene.pull.answer_aside()
    await scene.pull.answer_aside()
    assert (scene.pull.take(), scene.pull.signals(), len(scene.in_hand)) == ([], set(), 0)
    assert scene.link.answers == [(bare(1, "").reply, b"+ACK")]


async def test_how_often_messages_came_cut_is_not_remembered_without_an_end() -> None:
    scene = await opened_pull()
    for sequence in range(20_000):
        scene.link.deliver(bare(sequence, "Nats-Msg-Size: 31"))
    assert len(scene.pull._aside._cut) == 10_000


# the priority


async def test_the_end_of_the_first_request_wakes_where_only_later_ones_are_left() -> None:
    link = FakeLink()
    pull = Pull(link, ATTACHED, inbox="_INBOX.a", in_hand=InHand(), clock=lambda: 100.0)
    await pull.open()
    for priority in (ELSEWHERE, AT_HOME, AT_HOME):
        await pull.ask(10, 4096, priority=priority)
    woken = []
    for number in (1, 2, 0):
        link.say("408 Request Timeout", number, PENDING.format(10, 4096))
        woken.append(pull.changed.is_set())
        pull.take()
    assert woken == [False, True, True]


@pytest.mark.parametrize(("priority", "seconds"), [(TAKING_OVER, 10), (AT_HOME, 60), (ELSEWHERE, 60), (STARTING, 10)])
async def test_a_request_has_the_priority_of_its_moment_and_one_that_takes_over_is_short(
    priority: int, seconds: int
) -> None:
    link = FakeLink()
    pull = Pull(link, ATTACHED, inbox="_INBOX.a", in_hand=InHand(), clock=lambda: 0.0)
    await pull.ask(10, 4096)
    await pull.ask(10, 4096, priority=priority)
    assert [wanted["priority"] for _, wanted in link.requests] == [AT_HOME, priority]
    assert link.requests[-1][1]["expires"] == seconds * 10**9
    assert pull.outstanding.priority == min(AT_HOME, priority)
