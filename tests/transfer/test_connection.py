"""Nothing but our own `close` ends or deafens a connection: whatever the server says, sends, or leaves out."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

import anyio
import nats.errors
import pytest
from anyio import fail_after, move_on_after
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.jetstream.link import BulkLink
from tests.transfer.noted import Broken, connected, works
from tests.transfer.scripted import INFO, scripted
from transfer.jetstream.server_words import SENTENCES, Follows, ServerSaid

if TYPE_CHECKING:
    from collector.jetstream.parser import AnyFrame

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

# Every -ERR in nats-server 2.15.1 that a client can hear, as its source writes it, see server_words.py.
EVERY_ERR = [
    'Permissions Violation for Publish to "$JS.API.INFO"',
    'Permissions Violation for Publish with Reply of "_INBOX.x"',
    'Permissions Violation for Subscription to "a.b"',
    'Permissions Violation for Subscription to "a.b" using queue "q"',
    'Permissions Violation for Subscription to "a.b", too many tokens',
    'Permissions Violation for Subscription to "a.b" (sid "1")',
    'Permissions Violation for Subscription to "a.b" using queue "q" (sid "1")',
    "maximum subscriptions exceeded",
    "Invalid Subject",
    "Invalid Publish Subject",
    "Authorization Violation",
    "Authentication Timeout",
    "User Authentication Expired",
    "User Authentication Revoked",
    "Account Authentication Expired",
    "Failed Account Registration",
    "maximum connections exceeded",
    "maximum account active connections exceeded",
    "Connection throttling is active. Please try again later.",
    "Stale Connection",
    "Maximum Payload Violation",
    "maximum control line exceeded",
    "Unknown Protocol Operation",
    "invalid client protocol",
    "no responders requires headers support",
    "Secure Connection - TLS Required",
    "attempted to connect to route port",
    "attempted to connect to gateway port",
    "attempted to connect to leaf node port",
]
UNHEARD_OF = ["Something that nats-server 3 says", "", "it's 'quoted'", "ü \\xff"]


def test_the_table_names_each_sentence_of_the_source_once() -> None:
    begins = [one.begins for one in SENTENCES]
    for words in EVERY_ERR:
        assert len([one for one in begins if words.lower().startswith(one)]) == 1, words
    assert all(any(words.lower().startswith(one) for words in EVERY_ERR) for one in begins)


@pytest.mark.parametrize("bulk", [False, True], ids=["client", "collector"])
@pytest.mark.parametrize("words", EVERY_ERR + UNHEARD_OF)
async def test_whatever_the_server_says_the_connection_goes_on_or_is_made_anew(words: str, *, bulk: bool) -> None:
    async with scripted() as server, connected(server, bulk=bulk) as noted:
        await server.say(b"-ERR '%b'\r\n" % words.encode())
        if ServerSaid(words).follows is not Follows.NOTHING:
            await server.hang_up()
            await server.until(lambda: noted.back == 1)
            said = isinstance(noted.lost[0], ServerSaid) and noted.lost[0].words == words
            assert said or words not in EVERY_ERR, "the reason is the server's, and not that it hung up"
        await works(server, noted)
        assert words not in EVERY_ERR or [error for error in noted.errors if isinstance(error, ServerSaid)]
        assert noted.closed == 0


@pytest.mark.parametrize("words", EVERY_ERR)
async def test_whatever_the_server_says_to_a_new_connection_it_is_tried_again_and_the_reason_is_known(
    words: str,
) -> None:
    async with scripted() as server:
        said = b"-ERR '%b'\r\n" % words.encode()
        server.greeting = lambda number: INFO if number in {1, 4} else [INFO + said, said][number % 2]
        async with connected(server) as noted:
            await server.hang_up()
            await server.until(lambda: noted.back == 1)
            assert len([error for error in noted.errors if words in str(error)]) == 2
            await works(server, noted)


@pytest.mark.parametrize("bulk", [False, True], ids=["client", "collector"])
async def test_the_answer_to_a_flush_that_was_cut_deafens_nobody(*, bulk: bool) -> None:
    async with scripted() as server, connected(server, bulk=bulk) as noted:
        server.answering = anyio.Event()
        with move_on_after(0.05) as cut:
            await noted.connection.flush()
        assert cut.cancelled_caught
        with pytest.raises(nats.errors.FlushTimeoutError):
            await noted.connection.flush(timeout=0.05)  # type: ignore[arg-type]
        server.answering.set()
        await works(server, noted)
        assert noted.lost == []


@pytest.mark.parametrize("bulk", [False, True], ids=["client", "collector"])
@pytest.mark.parametrize(
    "frame",
    [
        b"INFO {\r\n",
        b"INFO \xff\r\n",
        b"-ERR \r\n",
        b"-ERR '\xff'\r\n",
        b"-ERR 'unfinished\r\n",
        b"MSG a 1 99999x\r\n",
        b"HMSG a 1 9 3\r\nabc\r\n",
        b"MSG a %b 0\r\n\r\n" % (b"1" * 5000),
        b"nonsense\r\n",
        b"\r\n",
    ],
)
async def test_a_frame_that_nobody_should_send_costs_one_reconnect_at_most(frame: bytes, *, bulk: bool) -> None:
    async with scripted() as server, connected(server, bulk=bulk) as noted:
        await server.say(frame)
        await server.say(b"PING\r\n")
        await server.until(lambda: b"PONG" in server.heard or noted.back == 1)
        await works(server, noted)
        assert len(noted.lost) <= 1


@pytest.mark.parametrize("error", [Broken("x"), RuntimeError("x"), asyncio.CancelledError(), KeyError("x")])
@pytest.mark.parametrize("where", ["_process_ping", "_process_info", "_process_pong"])
async def test_whatever_goes_wrong_while_reading_makes_a_new_connection_at_once(
    where: str, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scripted() as server, connected(server) as noted:

        async def fail(*_: object) -> None:
            monkeypatch.undo()
            raise error

        monkeypatch.setattr(noted.connection, where, fail)
        await server.say(b"PING\r\n" + INFO + b"PONG\r\n")
        await server.until(lambda: noted.back == 1)
        await works(server, noted)


async def test_a_message_that_cannot_be_read_is_lost_alone() -> None:
    async with scripted() as server, connected(server) as noted:
        came: list[bytes] = []

        async def receive(message: Any) -> None:
            came.append(message.data)

        await noted.connection.subscribe("a.>", cb=receive)
        await noted.connection.flush()
        await server.say(
            b"MSG a.\xff 1 3\r\nbad\r\n", b"HMSG a.b 1 8 11\r\nNATS/1.0bad\r\n", b"MSG a.b 1 4\r\ngood\r\n"
        )
        await server.until(lambda: came[-1:] == [b"good"])
        assert noted.lost == []
        await works(server, noted)


async def test_a_receiver_that_fails_harms_no_other_and_not_the_connection() -> None:
    async with scripted() as server, connected(server) as noted:
        came: list[AnyFrame] = []
        link = BulkLink(noted.connection)

        def fail(_: object) -> None:
            raise Broken

        await link.subscribe("a", fail)
        await link.subscribe("b", came.extend)
        await server.say(b"MSG a 1 1\r\nx\r\nMSG b 2 1\r\ny\r\n")
        await server.until(lambda: len(came) == 1)
        (error,) = noted.errors
        assert str(error).startswith("reading messages failed: Broken at ")
        await works(server, noted)


async def test_a_server_that_reads_nothing_more_holds_up_neither_the_next_connection_nor_the_end() -> None:
    """nats-py waits for room in its queue of flushes, then for the end of a transport that cannot be written out."""
    options: dict[str, Any] = {"ping_interval": 0.3, "max_outstanding_pings": 2, "flusher_queue_size": 8}
    async with scripted() as server, connected(server, **options) as noted, anyio.create_task_group() as group:
        await server.stop_reading(noted.connection)
        for _ in range(50):
            group.start_soon(noted.connection.publish, "a", b"x" * 1_000_000)
            group.start_soon(noted.connection._flush_pending)
        await server.until(lambda: bool(noted.lost))
        server.answering.set()
        await server.until(lambda: noted.back == 1)
        await works(server, noted)
        await server.stop_reading(noted.connection)
        await noted.connection._send_command(b"x" * 50_000_000)
        with fail_after(15):
            await noted.connection.close()
        server.answering.set()
        group.cancel_scope.cancel()


@settings(max_examples=60, deadline=None)
@given(
    frames=st.lists(
        st.one_of(
            st.sampled_from(
                [
                    b"PING\r\n",
                    b"+OK\r\n",
                    b"PONG\r\n",
                    INFO,
                    b"MSG a 7  3\r\nabc\r\n",
                    b"HMSG a 7  12 15\r\nNATS/1.0\r\n\r\nabc\r\n",
                    b"MSG a 7 r 0\r\n\r\n",
                    b"HMSG a 7 12 12\r\nNATS/1.0\r\n\r\n\r\n",
                    b"-ERR 'Invalid Subject'\r\n",
                ]
            ),
            st.binary(max_size=12).map(lambda junk: junk + b"\r\n"),
        ),
        max_size=6,
    ),
    cuts=st.lists(st.integers(0, 400), max_size=5),
)
def test_whatever_comes_and_however_it_is_cut_the_next_ping_is_answered(frames: list[bytes], cuts: list[int]) -> None:
    wire = b"".join(frames)
    edges = [0, *sorted(cut % (len(wire) + 1) for cut in cuts), len(wire)]

    async def play() -> None:
        async with scripted() as server, connected(server, bulk=True) as noted:
            for start, end in itertools.pairwise(edges):
                if noted.lost or start == end:
                    break
                try:
                    await server.say(wire[start:end])
                except anyio.BrokenResourceError:
                    break
                await anyio.lowlevel.checkpoint()
            if not noted.lost:
                with move_on_after(0.2):  # a frame may be open still: then what follows belongs to it
                    await noted.connection.flush()
            if not noted.lost and not noted.back:
                await server.hang_up()
            await server.until(lambda: noted.back >= 1)
            await works(server, noted)

    anyio.run(play)
