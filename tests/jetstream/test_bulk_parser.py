"""The bulk parser against nats-py's own: whatever the server sends, however it is cut, both see the same."""

from __future__ import annotations

import time
import timeit
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nats.errors import ProtocolError
from nats.protocol.parser import Parser

from collector.jetstream.parser import BulkParser, Frame

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collector.jetstream.parser import AnyFrame

OURS, OTHER = 7, 8


class Heard:
    """What a parser calls nats-py's client with, in order."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.parser: Parser = Parser(self)
        self.lose_connection_at = ""

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        self.calls.append((sid, Frame(subject, reply, headers or b"", data)))

    async def _process_ping(self) -> None:
        self._hear("PING")

    async def _process_pong(self) -> None:
        self._hear("PONG")

    async def _process_err(self, text: str) -> None:
        self._hear(f"-ERR {text}")

    async def _process_info(self, info: dict[str, Any]) -> None:
        self._hear(f"INFO {info}")

    def _hear(self, word: str) -> None:
        self.calls.append(word)
        if word == self.lose_connection_at:
            self.parser.reset()


class HeardInBulk(Heard):
    """The same by our parser, which takes the frames of one subscription itself."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[list[Frame]] = []
        self.bulk = BulkParser(self)  # type: ignore[arg-type]
        self.bulk.receivers[OURS] = self._receive
        self.parser = self.bulk

    def _receive(self, read: Sequence[AnyFrame]) -> None:
        frames = [Frame(*one) for one in read]
        self.reads.append(frames)
        self.calls += [(OURS, frame) for frame in frames]


def msg(sid: int, body: bytes, reply: bytes = b"", subject: bytes = b"a.b") -> bytes:
    arguments = b" ".join(part for part in (subject, b"%d" % sid, reply, b"%d" % len(body)) if part)
    return b"MSG %s\r\n%s\r\n" % (arguments, body)


def hmsg(sid: int, headers: bytes, body: bytes, reply: bytes = b"") -> bytes:
    sizes = b"%d %d" % (len(headers), len(headers) + len(body))
    arguments = b" ".join(part for part in (b"a.b", b"%d" % sid, reply, sizes) if part)
    return b"HMSG %s\r\n%s%s\r\n" % (arguments, headers, body)


_sids = st.sampled_from([OURS, OTHER])
_replies = st.sampled_from([b"", b"$JS.ACK.s.d.1.2.3.4.5", b"_INBOX.x"])
_bodies = st.one_of(st.binary(max_size=40), st.just(b"MSG a 7 3\r\nabc\r\n"), st.just(b"\r\n"), st.just(b"PING\r\n"))
_headers = st.sampled_from([b"NATS/1.0\r\n\r\n", b"NATS/1.0 100 Idle Heartbeat\r\n\r\n", b"NATS/1.0\r\na: b\r\n\r\n"])
_words = st.sampled_from([b"PING\r\n", b"PONG\r\n", b"+OK\r\n", b'INFO {"a":1}\r\n', b"-ERR 'Slow Consumer'\r\n"])
_wire = st.lists(
    st.one_of(st.builds(msg, _sids, _bodies, _replies), st.builds(hmsg, _sids, _headers, _bodies, _replies), _words),
    max_size=25,
)


def feed(heard: Heard, reads: list[bytes]) -> None:
    async def parse() -> None:
        for read in reads:
            await heard.parser.parse(read)

    anyio.run(parse)


def cut(wire: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(wire) + 1) for place in places), len(wire)]
    return [wire[start:end] for start, end in pairwise(edges)]


@settings(max_examples=200)
@given(parts=_wire, places=st.lists(st.integers(0, 10_000), max_size=30))
def test_it_sees_the_same_as_nats_py_wherever_the_reads_are_cut(parts: list[bytes], places: list[int]) -> None:
    reads = cut(b"".join(parts), places)
    theirs, ours = Heard(), HeardInBulk()
    feed(theirs, reads)
    feed(ours, reads)
    of_ours = [call for call in theirs.calls if call[0] == OURS]
    assert [call for call in ours.calls if call[0] == OURS] == of_ours
    assert [call for call in ours.calls if call[0] != OURS] == [call for call in theirs.calls if call[0] != OURS]
    assert not ours.bulk._chunks, "everything that was whole has been taken"


def test_one_byte_at_a_time_is_enough() -> None:
    wire = msg(OURS, b"one", b"_INBOX.x") + b"PING\r\n" + hmsg(OURS, b"NATS/1.0\r\n\r\n", b"two") + msg(OTHER, b"three")
    heard = HeardInBulk()
    feed(heard, [wire[index : index + 1] for index in range(len(wire))])
    assert heard.calls == [
        (OURS, Frame(b"a.b", b"_INBOX.x", b"", b"one")),
        "PING",
        (OURS, Frame(b"a.b", b"", b"NATS/1.0\r\n\r\n", b"two")),
        (OTHER, Frame(b"a.b", b"", b"", b"three")),
    ]


def test_one_read_is_one_list() -> None:
    heard = HeardInBulk()
    feed(heard, [b"".join(msg(OURS, b"%d" % number) for number in range(100))])
    assert [len(frames) for frames in heard.reads] == [100]


def test_what_came_before_a_pong_is_there_before_whoever_waits_for_the_pong_goes_on() -> None:
    heard = HeardInBulk()
    feed(heard, [msg(OURS, b"before") + b"PONG\r\n" + msg(OURS, b"after")])
    assert [call if isinstance(call, str) else call[1].body for call in heard.calls] == [b"before", "PONG", b"after"]


def test_a_frame_of_a_subscription_that_is_not_ours_keeps_its_place_among_the_others() -> None:
    heard = HeardInBulk()
    feed(heard, [msg(OURS, b"1") + msg(OTHER, b"2") + msg(OURS, b"3")])
    assert [call[1].body for call in heard.calls] == [b"1", b"2", b"3"]


def test_a_huge_message_in_many_reads_is_put_together_once() -> None:
    """It costs as much as a few joins of the reads. Reads that are put together at each of them cost 2,048 joins."""
    body = b"x" * 32 * 1024 * 1024
    wire = msg(OURS, body)
    reads = [wire[start : start + 8192] for start in range(0, len(wire), 8192)]
    joined = min(timeit.repeat(lambda: b"".join(reads), timer=time.process_time, number=1))
    heard, started = HeardInBulk(), time.process_time()
    feed(heard, reads)
    took = time.process_time() - started
    assert heard.calls[0][1].body == body
    assert took < 200 * joined


def test_a_long_line_of_the_server_is_read_as_nats_py_reads_it() -> None:
    """The INFO of a large cluster names all its servers, and is no subject to the limit for clients' lines."""
    line = b'INFO {"connect_urls":["' + b"nats://server:4222," * 1000 + b'"]}\r\n'
    theirs, ours = Heard(), HeardInBulk()
    for heard in (theirs, ours):
        feed(heard, cut(line, [10, 5000, 9000]))
    assert ours.calls == theirs.calls
    assert len(ours.calls) == 1


def test_after_a_reset_nothing_of_the_old_connection_is_left() -> None:
    heard = HeardInBulk()
    feed(heard, [msg(OURS, b"x" * 100)[:50]])
    heard.parser.reset()
    feed(heard, [msg(OURS, b"new")])
    assert [call[1].body for call in heard.calls] == [b"new"]


@pytest.mark.parametrize("after", [b"", msg(OURS, b"old"), msg(OTHER, b"old"), b"PING\r\n", b"MSG a"])
def test_a_line_that_ends_the_connection_ends_the_read_too(after: bytes) -> None:
    heard = HeardInBulk()
    heard.lose_connection_at = "-ERR 'stale connection'"
    feed(heard, [msg(OURS, b"before") + b"-ERR 'Stale Connection'\r\n" + after])
    feed(heard, [msg(OURS, b"new")])
    assert [call if isinstance(call, str) else call[1].body for call in heard.calls] == [
        b"before",
        "-ERR 'stale connection'",
        b"new",
    ]


@pytest.mark.parametrize("line", [b"HELLO\r\n", b"MSG a\r\n", b"MSG a b c d e\r\n", b"MSG a 7 -1\r\n", b"\r\n"])
def test_what_is_no_line_of_the_protocol_is_an_error_for_nats_py_to_handle(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        feed(HeardInBulk(), [line])


@pytest.mark.parametrize(
    "line",
    [
        b"INFO no JSON\r\n",
        b"INFO \xff\r\n",
        b"MSG a 7 " + b"9" * 5000 + b"\r\n",
        b"-ERR '\xff'\r\n",
        msg(OTHER, b"secret"),
    ],
    ids=["info", "info_not_utf8", "number", "err_not_utf8", "callback"],
)
@pytest.mark.parametrize("reporting_fails", [False, True])
def test_every_error_makes_nats_py_connect_again_and_its_text_is_not_reported(
    line: bytes, *, reporting_fails: bool
) -> None:
    """nats-py ends its reading loop for any other error and does not connect again."""
    heard, reported = HeardInBulk(), list[str]()

    async def fail(*_: Any) -> None:
        raise RuntimeError("secret")

    async def report(error: Exception) -> None:
        reported.append(str(error))
        if reporting_fails:
            await fail()

    vars(heard).update(_process_msg=fail, _process_err=fail, _error_cb=report)
    with pytest.raises(ProtocolError):
        feed(heard, [line])
    assert len(reported) == 1
    assert "secret" not in reported[0]
