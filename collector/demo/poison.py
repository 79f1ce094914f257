"""Messages that no collector can store, sent past the client as a broken program would send them."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
from bson import ObjectId

from collector.decoding.identity import Incarnation
from collector.model import Reason
from transfer import new_id
from transfer.wire import BUNDLE, CONTENT_ENCODING, CONTENT_TYPE, JSON, MAX_INFLATED

if TYPE_CHECKING:
    from nats.js import JetStreamContext

    from collector.demo.ledger import Ledger
    from transfer import Transfer

_CONFIRM_TIMEOUT = 10.0
_GOOD_IN_BUNDLE = 10


@dataclass(frozen=True, slots=True)
class BadMessage:
    """A message with one entry that has to become a dead letter, and possibly good entries around it."""

    what: str
    body: bytes
    headers: dict[str, str]
    reason: Reason
    entry_id: bytes | None = None
    """The id of the bad entry, when it can be read."""
    good: tuple[bytes, ...] = ()
    """The ids of the other entries in the same bundle."""


def bad_messages() -> tuple[BadMessage, ...]:
    """Make one bad message of each kind."""
    return (
        BadMessage("bytes that are no msgpack", b"\xc1\xc1\xc1", {}, Reason.MALFORMED),
        _null_data(),
        _bundle(),
        BadMessage(
            f"{MAX_INFLATED * 2 >> 20} MiB in a gzip of a few KiB",
            gzip.compress(bytes(MAX_INFLATED * 2), compresslevel=6),
            {CONTENT_ENCODING: "gzip"},
            Reason.TOO_LARGE_INFLATED,
        ),
    )


def _null_data() -> BadMessage:
    entry_id = new_id()
    body = json.dumps({"data": None, "id": entry_id.hex()}).encode()
    return BadMessage("JSON whose data is null", body, {CONTENT_TYPE: JSON}, Reason.MALFORMED, entry_id)


def _bundle() -> BadMessage:
    good, bad = tuple(new_id() for _ in range(_GOOD_IN_BUNDLE)), new_id()
    entries = [{"data": {"msg": "in good company", "number": number}, "id": one} for number, one in enumerate(good)]
    entries.insert(_GOOD_IN_BUNDLE // 2, {"data": "text, not a map", "id": bad})
    what = f"one bad entry among {_GOOD_IN_BUNDLE} good ones in a bundle"
    return BadMessage(what, msgspec.msgpack.encode(entries), {CONTENT_TYPE: BUNDLE}, Reason.MALFORMED, bad, good)


async def send(
    messages: tuple[BadMessage, ...], key: str, transfer: Transfer, jetstream: JetStreamContext, ledger: Ledger
) -> None:
    """Publish the messages by NATS alone; the ledger has their entries when JetStream has confirmed them."""
    stream = (await transfer.get(key)).stream
    incarnation = Incarnation(transfer.names.stream(key), stream.created if stream else "")
    for message in messages:
        ack = await jetstream.publish(
            transfer.names.subject(key), message.body, headers=message.headers or None, timeout=_CONFIRM_TIMEOUT
        )
        derived = incarnation.identity(ack.seq)
        bad = derived if message.entry_id is None else ObjectId(message.entry_id)
        ledger.confirm_bad(key, bad, message.what, message.reason)
        for entry_id in message.good:
            ledger.confirm(key, entry_id)
