"""Whom the messages of a pull wake: the consumer when it has something to do, and the reading when nobody waits."""

from __future__ import annotations

from typing import Any

from anyio import current_time

from collector.flow.in_hand import InHand
from collector.jetstream.parser import Frame
from collector.jetstream.pull import Pull
from tests.support.fakes import ATTACHED, FakeLink, delivery, frame

TRICKLES, WAKES = True, False
"""What `receive` says to the reading."""


class Scene:
    """A pull that is told whether what comes is worth waking the consumer."""

    def __init__(self) -> None:
        self.enough = False
        self.pull = Pull(
            FakeLink(),
            ATTACHED,
            inbox="_INBOX.a",
            in_hand=InHand(),
            clock=current_time,
            wakes=lambda _messages, _size, _now: self.enough,
        )

    def come(self, *frames: Any) -> tuple[bool, bool]:
        """Return what the reading is told, and whether the consumer is woken."""
        told = self.pull.receive(frames)
        return told, self.pull.changed.is_set()

    def status(self, text: str, request: int = 1) -> tuple[bool, bool]:
        headers = f"NATS/1.0 {text}\r\nNats-Pending-Messages: 0\r\nNats-Pending-Bytes: 0\r\n\r\n"
        return self.come(Frame(b"_INBOX.a.%d" % request, b"", headers.encode(), b""))


async def test_messages_wake_the_consumer_when_there_are_enough() -> None:
    scene = Scene()
    await scene.pull.ask(10, 4096)
    assert scene.come(frame(delivery(1))) == (TRICKLES, False)
    assert scene.come(frame(delivery(2)), frame(delivery(3))) == (TRICKLES, False)
    scene.enough = True
    assert scene.come(frame(delivery(4))) == (WAKES, True)
    scene.enough = False
    assert scene.come(frame(delivery(5))) == (WAKES, True), "until it has taken them, the consumer is awake"
    assert [one.sequence for one in scene.pull.take()] == [1, 2, 3, 4, 5]
    assert scene.come(frame(delivery(6))) == (TRICKLES, False)


async def test_a_heartbeat_wakes_nobody() -> None:
    scene = Scene()
    await scene.pull.ask(10, 4096)
    assert scene.status("100 Idle Heartbeat") == (TRICKLES, False)


async def test_the_end_of_a_request_wakes_only_when_it_was_the_last_one() -> None:
    scene = Scene()
    await scene.pull.ask(10, 4096)
    await scene.pull.ask(10, 4096)
    assert scene.status("409 Batch Completed", 1) == (TRICKLES, False), "messages of the other request may come"
    assert scene.status("409 Batch Completed", 2) == (WAKES, True)


async def test_a_status_to_act_on_wakes_at_once() -> None:
    for text in ("409 Consumer Deleted", "503", "409 Leadership Change", "409 Exceeded MaxRequestBatch of 5"):
        scene = Scene()
        await scene.pull.ask(10, 4096)
        await scene.pull.ask(10, 4096)
        assert scene.status(text, 1) == (WAKES, True)


async def test_at_the_end_every_message_wakes_because_somebody_waits_for_the_last_one() -> None:
    scene = Scene()
    await scene.pull.drain()
    assert scene.come(frame(delivery(1))) == (WAKES, True)
