"""The inbox of a capture waits until something happens: what nats-server says about a request wakes its owner once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from collector.archive.owning.inbox import Inbox, Limits
from collector.jetstream.parser import Frame

if TYPE_CHECKING:
    from collector.jetstream.parser import Receive

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]


class Scripted:
    """A link that notes the requests, and hands over what a test says."""

    connected = True
    life = 1

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.receive: Receive = lambda _: None

    async def subscribe(self, _: str, receive: Receive) -> Scripted:
        self.receive = receive
        return self

    async def drain(self) -> None:
        pass

    async def publish(self, _: str, __: bytes, reply: str) -> None:
        self.asked.append(reply)

    async def answer(self, answers: object) -> int:
        raise AssertionError(answers)

    def answer_at_once(self, answers: object) -> int:
        raise AssertionError(answers)


@pytest.mark.parametrize(
    "line", ["408 Request Timeout", "409 Batch Completed", "409 Message Size Exceeds MaxBytes", "404 No Messages"]
)
async def test_after_the_end_of_a_request_the_owner_asks_again_and_then_waits(line: str) -> None:
    link = Scripted()
    inbox = Inbox(link, "next", "inbox", Limits())
    await inbox.open()
    for number in range(1, 4):
        await inbox.ask()
        assert len(link.asked) == number
        assert not inbox.changed.is_set()
        link.receive([Frame(link.asked[-1].encode(), b"", b"NATS/1.0 %b\r\n\r\n" % line.encode(), b"")])
        assert inbox.changed.is_set()
        assert inbox.doubt is None


async def test_what_has_come_wakes_the_owner_until_it_is_taken() -> None:
    link = Scripted()
    inbox = Inbox(link, "next", "inbox", Limits())
    await inbox.open()
    await inbox.ask()
    link.receive([Frame(b"subject", b"$JS.ACK.S.C.1.1.1.1.0", b"", b"body")])
    await inbox.ask()
    assert inbox.changed.is_set()
    assert len(inbox.take(10)) == 1
    assert not inbox.changed.is_set()
