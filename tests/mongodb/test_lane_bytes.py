"""The bytes of a lane: a reply is read in whatever pieces it comes, and only the reply that was asked for is taken."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import bson
import pytest
from anyio import create_task_group, fail_after, lowlevel
from hypothesis import given
from hypothesis import strategies as st
from pymongo.errors import ProtocolError

from collector.mongodb.lanes import Lane, read_reply

TIMEOUT = 5.0


class Transport:
    """A transport that takes everything."""

    def __init__(self) -> None:
        self.aborted = False

    def pause_reading(self) -> None:
        """See `asyncio.Transport`."""

    set_protocol = write = lambda *_: None
    resume_reading = pause_reading

    def abort(self) -> None:
        self.aborted = True


def reply_to(number: int, document: dict[str, Any], operation: int = 2013, flags: int = 0) -> bytes:
    body = flags.to_bytes(4, "little") + b"\0" + bson.encode(document)
    return b"".join(part.to_bytes(4, "little") for part in (16 + len(body), 1, number, operation)) + body


@given(cuts=st.lists(st.integers(0, 120), max_size=6))
async def test_a_reply_is_read_in_whatever_pieces_it_comes(cuts: list[int]) -> None:
    whole, answers = reply_to(7, {"n": 5, "ok": 1.0, "text": "x" * 60}), []
    lane = unconnected_lane()

    async def ask() -> None:
        answers.append(read_reply(await lane.ask(b"", TIMEOUT), 7))

    with fail_after(30):
        async with create_task_group() as group:
            group.start_soon(ask)
            await lowlevel.checkpoint()
            places = sorted({0, len(whole), *(cut % len(whole) for cut in cuts)})
            for begin, end in pairwise(places):
                lane.data_received(whole[begin:end])
    assert [answer["n"] for answer in answers] == [5]


def unconnected_lane() -> Any:
    class Anything:
        description = type("Description", (), {"address": ("127.0.0.1", 27017)})
        cancel_context = type("Context", (), {"cancelled": False})

    anything: Any = Anything()
    anything.conn, anything._topology = anything, None
    anything.conn.conn = (Transport(), None)
    return Lane(anything, anything, anything, type("Connection", (), {"conn": anything, **vars(Anything)}))


@pytest.mark.parametrize(
    "reply", [reply_to(8, {"ok": 1}), reply_to(7, {"ok": 1}, operation=1), reply_to(7, {"ok": 1}, flags=2)]
)
def test_a_reply_to_something_else_is_not_taken(reply: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_reply(reply, 7)


async def test_a_message_that_nobody_has_asked_for_ends_the_connection() -> None:
    lane = unconnected_lane()
    lane.data_received(reply_to(7, {"ok": 1}))
    assert lane._transport.aborted
