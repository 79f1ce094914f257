"""20,000 mutated messages: the process lives, each message has exactly one outcome, none is delivered a third time.

The mutations are drawn from a seed, which a failure names; with `COLLECTOR_TEST_SEED=...` they are drawn again.
"""

from __future__ import annotations

import gzip
import os
import random
import secrets
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import hypothesis.strategies as st
import msgspec
import pytest
import zstandard
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as hypothesis_seed

from collector.decoding.codec import Codec
from collector.decoding.identity import Incarnation
from collector.model import Delivery
from collector.sinks.timeseries.horizon import hashable
from tests.support.ancestor import Ancestor, entry
from tests.support.flood import frame, send
from tests.support.waiting import state, until, until_empty
from transfer.jetstream.streams import stream_state

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymongo.database import Database

    from collector.local import NatsServer, Replica

pytestmark = pytest.mark.timeout(300)

MESSAGES = 20_000
INVENTED = 1_000
"""Of them, made by hypothesis; the others are valid ones with bytes changed."""
LOGGERS = ("mutated0", "mutated1", "mutated2", "mutated3")
BUNDLE = b"Content-Type: application/vnd.transfer.bundle+msgpack\r\n"
JSON = b"Content-Type: application/json\r\n"
GZIP, ZSTD = b"Content-Encoding: gzip\r\n", b"Content-Encoding: zstd\r\n"


class Message(NamedTuple):
    """What is published: the fields of its header block, and its body."""

    fields: bytes
    body: bytes

    @property
    def raw_headers(self) -> bytes:
        return b"NATS/1.0\r\n" + self.fields + b"\r\n" if self.fields else b""


def valid(rng: random.Random) -> Message:
    """Return a message of any form that is all right."""
    number = rng.randrange(1 << 40)
    one = entry(number, rng.randrange(1 << 34))
    as_json = msgspec.json.encode({"data": {"number": number, "text": "naïve"}, "timestamp": "2024-05-06T07:08:09.5Z"})
    with_id = msgspec.msgpack.encode({"id": rng.randbytes(12), "data": {"n": [number, None, {"a": 1.5}]}})
    bundle = bytes([0x90 | 3]) + one + with_id + entry(number + 1)
    forms = (
        Message(b"", one),
        Message(b"Nats-Msg-Id: %d\r\nTransfer-Attempt: 1\r\n" % number, with_id),
        Message(JSON, as_json),
        Message(BUNDLE, bundle),
        Message(GZIP, gzip.compress(one, 1)),
        Message(BUNDLE + ZSTD, zstandard.compress(bundle)),
        Message(JSON + GZIP, gzip.compress(as_json, 1)),
        Message(b"Transfer-Content-Id: %b\r\n" % rng.randbytes(12).hex().encode(), one),
    )
    return rng.choice(forms)


def mutated(message: Message, rng: random.Random) -> Message:
    """Return it with bytes changed, left out, doubled or added, in its body, its headers or both."""
    fields = _changed(message.fields, rng, _HEADER_BYTES) if rng.random() < 0.3 else message.fields
    body = _changed(message.body, rng, _ANY_BYTES) if rng.random() < 0.8 else message.body
    return Message(_lines(fields), body)


_ANY_BYTES = bytes(range(256))
_HEADER_BYTES = bytes(byte for byte in _ANY_BYTES if byte not in b"\r\n\0")


def _changed(text: bytes, rng: random.Random, alphabet: bytes) -> bytes:
    changed = bytearray(text)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        at = rng.randrange(len(changed) + 1)
        match rng.randrange(4):
            case 0 if at < len(changed):
                changed[at] = rng.choice(alphabet)
            case 1:
                del changed[at : at + rng.randrange(8)]
            case 2:
                changed[at:at] = bytes(rng.choices(alphabet, k=rng.randrange(8)))
            case _:
                changed[at:at] = changed[at : at + rng.randrange(32)]
    return bytes(changed)


def _lines(fields: bytes) -> bytes:
    """Return header lines that nats-server takes: complete, none of them empty, no message id that is used twice."""
    lines = [line.replace(b"\r", b"").replace(b"\n", b"") for line in fields.split(b"\r\n")]
    kept = [line for line in lines if line and b":" in line and not line.lower().startswith(b"nats-")]
    return b"".join(line + b"\r\n" for line in kept)


def invented(seed: int) -> list[Message]:
    """Return messages that hypothesis makes: any structure as msgpack and as JSON, any bytes, any header line."""
    found: list[Message] = []
    values = st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=8,
    )
    names = st.sampled_from(["data", "timestamp", "metadata", "id", "other"])
    entries = st.dictionaries(names, values | st.fixed_dictionaries({"_id": values}), max_size=5)
    line = st.sampled_from([b"", BUNDLE, JSON, GZIP, ZSTD, BUNDLE + GZIP, b"Content-Type: text/plain\r\n"])

    @hypothesis_seed(seed)
    @settings(
        max_examples=INVENTED,
        database=None,
        phases=[Phase.generate],
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(line, entries | st.lists(entries, max_size=4), st.binary(max_size=40), st.booleans())
    def collect(fields: bytes, value: Any, tail: bytes, cut: bool) -> None:
        body = msgspec.msgpack.encode(value)
        found.append(Message(fields, body[: len(body) // 2] + tail if cut else body))

    collect()
    return found


async def test_of_20_000_mutated_messages_each_has_its_outcome_exactly_once(
    start_replica: Callable[..., Replica],
    go: Ancestor,
    nats_server: NatsServer,
    database: Database[dict[str, Any]],
    namespace: str,
) -> None:
    seed = int(os.environ.get("COLLECTOR_TEST_SEED", secrets.randbits(32)))
    rng = random.Random(seed)  # noqa: S311 - repeatable on purpose
    messages = invented(seed)
    messages += [mutated(valid(rng), rng) for _ in range(MESSAGES - len(messages))]
    rng.shuffle(messages)
    replica = start_replica()
    await go.declare(*LOGGERS)
    await until(lambda: all(state(replica, key) == "running" for key in LOGGERS), 10)
    streams = [f"{namespace}:logs:{key}" for key in LOGGERS]
    lives = [Incarnation(stream, (await stream_state(go.jetstream, stream)).created) for stream in streams]
    shares = [messages[number :: len(LOGGERS)] for number in range(len(LOGGERS))]
    for key, share in zip(LOGGERS, shares, strict=True):
        subject = f"{namespace}.logs.{key}".encode()
        await send(nats_server, [frame(subject, one.body, one.raw_headers) for one in share])
    for stream in streams:
        await until_empty(go.jetstream, stream, 60)

    assert replica.alive, f"seed {seed}"
    assert replica.metric("collector_actor_restarts_total") == 0, f"seed {seed}"
    assert replica.metric("collector_redelivered_messages_total") == 0, f"seed {seed}"
    assert replica.metric("collector_received_messages_total") == MESSAGES, f"seed {seed}"
    written = sum(replica.metric(f"collector_{name}_entries_total") for name in ("written", "duplicate"))
    letters = replica.metric("collector_dead_lettered_entries_total")
    assert written + letters == replica.metric("collector_received_entries_total"), f"seed {seed}"
    for key, share, life in zip(LOGGERS, shares, lives, strict=True):
        wrong = faults(database, key, share, Codec(life))
        assert not wrong, f"seed {seed}: {wrong[:3]}"


def faults(database: Database[dict[str, Any]], key: str, share: list[Message], codec: Codec) -> list[str]:
    """Return what is wrong: each entry is a document or a letter and not both, and nothing else is there.

    The codec says which entries there are. Where a publisher uses an `_id` of its own twice, the document under it and
    the letter are of two entries.
    """
    stored = {hashable(found["_id"]) for found in database[f"{key}_logs"].find({}, {"_id": 1})}
    letters = [(one["sequence"], one["entry"]) for one in database[f"{key}_fail"].find({}, {"sequence": 1, "entry": 1})]
    unclaimed = Counter(letters)
    documents = set(stored)
    wrong = []
    for sequence, message in enumerate(share, 1):
        decoded = codec.decode(Delivery("", "", message.body, message.raw_headers, "", sequence, 1, 1))
        for entry_ in decoded.entries:
            place, identity = (sequence, entry_.position), hashable(entry_.document["_id"])
            outcomes = (identity in stored) + unclaimed.pop(place, 0)
            documents.discard(identity)
            if outcomes != 1 and not (entry_.own_id and outcomes == 2):
                wrong.append(f"{place} has {outcomes} outcomes: {message}")
        places = [(sequence, reject.position) for reject in decoded.rejects]
        wrong += [f"{place} has no letter: {message}" for place in places if unclaimed.pop(place, 0) != 1]
    return [*wrong, *(f"{place} is a letter and was not sent" for place in unclaimed), *map(str, documents)]
