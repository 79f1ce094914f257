"""A message may come with an empty reply field, as nats-server sends the answer to CONSUMER.RESET."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from anyio import fail_after
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.jetstream.parser import BulkParser, Frame
from tests.support.pulling import BODY, LINKS, Inbox, came, connected, durable, fill, pulling, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nats.aio.client import Client

    from collector.jetstream.link import Link
    from collector.jetstream.parser import AnyFrame
    from collector.local import NatsServer


@pytest.mark.parametrize("make", LINKS)
async def test_a_durable_can_be_reset_over_a_connection_of_the_collector_and_of_the_client(
    nats_server: NatsServer, namespace: str, make: Callable[[Client], Link]
) -> None:
    """The fast link has the collector's parser, the plain one that of nats-py, which is the client's too."""
    with fail_after(60):
        async with durable(nats_server, namespace) as jetstream, connected(nats_server) as connection:
            link, inbox = make(connection), Inbox()
            pull = pulling(connection, link, namespace)
            await pull.open()
            await fill(jetstream, namespace, [BODY] * 3)
            await pull.ask(3, 1_000_000)
            await until(pull, lambda: came(pull, 3))
            first = pull.take()

            reset = f"$JS.API.CONSUMER.RESET.{namespace}.{namespace}"
            asked = await connection.request(reset, b"", timeout=30)
            await link.subscribe(f"{namespace}.answers.*", inbox.receive)
            await link.publish(reset, b"", f"{namespace}.answers.1")
            (frame,) = await inbox.until(1)
            for answer in (asked.data, frame.body):
                said = msgspec.json.decode(answer)
                assert (said["type"].rpartition(".")[2], "error" in said) == ("consumer_reset_response", False)
            assert frame.reply == b""

            await pull.ask(3, 1_000_000)
            await until(pull, lambda: came(pull, 3))
            again = pull.take()
            assert [one.sequence for one in again] == [one.sequence for one in first] == [1, 2, 3]
            assert [one.num_delivered for one in again] == [1, 1, 1]
            assert connection.stats["reconnects"] == 0


# --- a reader of the protocol that takes one byte string apart by its spaces, and nothing else


def reference(wire: bytes) -> Iterator[tuple[int, Frame]]:
    """Yield sid and frame of each message; fields are parted by one space each, and a reply field may be empty."""
    while wire:
        line, _, rest = wire.partition(b"\r\n")
        verb, subject, sid, *fields = line.split(b" ")
        sizes = [int(size) for size in fields[-1 if verb == b"MSG" else -2 :]]
        reply = b"".join(fields[: len(fields) - len(sizes)])
        headers, body = (rest[: sizes[0]], rest[sizes[0] : sizes[-1]]) if len(sizes) == 2 else (b"", rest[: sizes[0]])
        yield int(sid), Frame(subject, reply, headers, body)
        assert rest[sizes[-1] :].startswith(b"\r\n")
        wire = rest[sizes[-1] + 2 :]


_TOKEN = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12).map(str.encode)
_NO_FIELD = None
_REPLY = st.one_of(st.just(_NO_FIELD), st.just(b""), st.just(b"7"), _TOKEN)
_BODY = st.one_of(st.binary(max_size=30), st.sampled_from([b"\r\n", b"MSG a 7  3\r\nabc\r\n", b"HMSG a 7  12 15\r\n"]))
_HEADERS = st.one_of(st.just(b""), st.binary(max_size=20).map(lambda text: b"NATS/1.0" + text + b"\r\n\r\n"))


def written_as(subject: bytes, sid: int, reply: bytes | None, headers: bytes, body: bytes) -> bytes:
    sizes = [b"%d" % len(headers)] * bool(headers) + [b"%d" % (len(headers) + len(body))]
    fields = [b"HMSG" if headers else b"MSG", subject, b"%d" % sid, *([] if reply is None else [reply]), *sizes]
    return b" ".join(fields) + b"\r\n" + headers + body + b"\r\n"


class Heard:
    """Take messages both ways: as frames of a receiver, and one by one as nats-py's client does."""

    def __init__(self, receivers: Sequence[int]) -> None:
        self.heard: list[tuple[int, Frame]] = []
        self.parser = BulkParser(self)  # type: ignore[arg-type]
        for sid in receivers:
            self.parser.receivers[sid] = self._receiver(sid)

    def _receiver(self, sid: int) -> Callable[[Sequence[AnyFrame]], None]:
        def receive(read: Sequence[AnyFrame]) -> None:
            self.heard += [(sid, Frame(*frame)) for frame in read]

        return receive

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        self.heard.append((sid, Frame(subject, reply, headers or b"", data)))


@settings(max_examples=150, deadline=None)
@given(
    messages=st.lists(
        st.builds(written_as, _TOKEN, st.sampled_from([1, 7, 77]), _REPLY, _HEADERS, _BODY), min_size=1, max_size=12
    ),
    receivers=st.sets(st.sampled_from([1, 7, 77])),
    step=st.integers(1, 200),
)
def test_the_parser_reads_as_the_reference_reads(messages: list[bytes], receivers: set[int], step: int) -> None:
    wire = b"".join(messages)
    heard = Heard(sorted(receivers))

    for start in range(0, len(wire), step):
        with pytest.raises(StopIteration):  # nothing in it waits, so it needs no event loop
            heard.parser.parse(wire[start : start + step]).send(None)
    expected = list(reference(wire))
    for sid in (1, 7, 77):  # the order among subscriptions that are read in one list each is not kept
        assert [one for one in heard.heard if one[0] == sid] == [one for one in expected if one[0] == sid]
