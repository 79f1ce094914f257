"""Reading what comes to the inbox of a pull: what the server's words mean, deliveries, messages without a body."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.jetstream.messages import Bare, PullStatus, read_bare, read_delivery, read_status, unused
from collector.jetstream.parser import Frame
from tests.support.frames import FOREIGN

# words


@pytest.mark.parametrize(
    ("line", "status"),
    [
        # server/consumer.go and server/client.go of nats-server 2.15
        ("100 Idle Heartbeat", PullStatus.HEARTBEAT),
        ("404 No Messages", PullStatus.NO_MESSAGES),
        ("408 Request Timeout", PullStatus.REQUEST_EXPIRED),
        ("408 Interest Expired", PullStatus.REQUEST_EXPIRED),
        ("409 Batch Completed", PullStatus.REQUEST_DONE),
        ("409 Message Size Exceeds MaxBytes", PullStatus.MESSAGE_TOO_LARGE),
        ("409 Consumer Deleted", PullStatus.DURABLE_DELETED),
        ("409 Consumer is push based", PullStatus.DURABLE_IS_PUSH),
        ("409 Leadership Change", PullStatus.LEADER_CHANGED),
        ("409 Server Shutdown", PullStatus.SERVER_STOPS),
        ("409 Exceeded MaxWaiting", PullStatus.LIMIT_EXCEEDED),
        ("409 Exceeded MaxRequestBatch of 100", PullStatus.LIMIT_EXCEEDED),
        ("409 Exceeded MaxRequestExpires of 1s", PullStatus.LIMIT_EXCEEDED),
        ("409 Exceeded MaxRequestMaxBytes of 1024", PullStatus.LIMIT_EXCEEDED),
        ("409 Something New", PullStatus.UNKNOWN),
        ("423 Nats-Wrong-Pin-Id", PullStatus.UNKNOWN),
        ("503", PullStatus.NOBODY_ANSWERS),
        ("", PullStatus.UNKNOWN),
    ],
)
def test_every_status_of_the_server_is_named(line: str, status: PullStatus) -> None:
    assert read_status(f"NATS/1.0 {line}\r\n\r\n".encode()) == (status, line)


@given(st.binary(max_size=60))
def test_no_header_block_is_too_strange_to_read(raw: bytes) -> None:
    assert isinstance(read_status(raw)[0], PullStatus)
    assert min(unused(raw)) >= 0


def test_what_a_request_leaves_unused_is_read_from_its_end() -> None:
    assert unused(b"NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 7\r\nNats-Pending-Bytes: 1024\r\n\r\n") == (
        7,
        1024,
    )
    assert unused(b"NATS/1.0 409 Leadership Change\r\n\r\n") == (0, 0)
    assert unused(b"NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: many\r\n\r\n") == (0, 0)


# reply subjects


@pytest.mark.parametrize(
    "reply",
    [
        "$JS.ACK.beta:logs:system.durable.3.42.57.1714979289123456789.8",
        "$JS.ACK.hub.ACCOUNT4HASH.beta:logs:system.durable.3.42.57.1714979289123456789.8",  # ADR-15
        "$JS.ACK._.ACCOUNT4HASH.beta:logs:system.durable.3.42.57.1714979289123456789.8.rAnDoM",
    ],
)
def test_both_forms_of_the_reply_subject_are_read(reply: str) -> None:
    found = read_delivery(Frame(b"beta.logs.system", reply.encode(), b"NATS/1.0\r\n\r\n", b"body"))
    assert (found.stream, found.sequence, found.num_delivered) == ("beta:logs:system", 42, 3)
    assert found.published_ns == 1_714_979_289_123_456_789
    assert (found.subject, found.reply, found.body, found.size) == ("beta.logs.system", reply, b"body", 16)


@pytest.mark.parametrize("reply", FOREIGN)
def test_a_message_that_jetstream_did_not_deliver_is_told_apart(reply: bytes) -> None:
    with pytest.raises(ValueError, match=r"\$JS\.ACK|invalid"):
        read_delivery(Frame(b"subject", reply, b"", b""))


@pytest.mark.parametrize(
    ("headers", "kind"),
    [
        ("Nats-Msg-Size: 1", Bare.CUT),
        ("Content-Type: application/json\r\nnats-msg-size: 1048576", Bare.CUT),
        ("Nats-Msg-Size: 0", Bare.ENTRY),
        ("Nats-Msg-Size: 00", Bare.ENTRY),
        ("Nats-Msg-Size: many", Bare.ENTRY),
        ("Nats-Msg-Size:", Bare.ENTRY),
        ("Content-Type: application/json", Bare.ENTRY),
        ("Nats-Marker-Reason: MaxAge", Bare.MARKER),
        ("Nats-Marker-Reason: Purge\r\nNats-TTL: 1s", Bare.MARKER),
    ],
)
def test_a_message_without_a_body_is_told_by_its_headers(headers: str, kind: Bare) -> None:
    assert read_bare(f"NATS/1.0\r\n{headers}\r\n\r\n".encode()) is kind
