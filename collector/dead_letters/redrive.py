"""Dead letters back into the stream of their logger: published again, confirmed, removed.

An entry is never lost and never there twice, wherever this is killed, however often and by however many it is run.

Each letter has an attempt: the `Transfer-Attempt` of the message that it was made of, 1 without one. A letter of
attempt n is published as attempt n + 1, under its own `_id` (`Transfer-Content-Id`, where its bytes bring no `id`), and
only when JetStream has confirmed that, the letter is removed.

*Not lost.* That message leaves the stream when its entry is written, or when a letter of attempt n + 1 is stored. The
removal asks for the letter exactly as it was read (`_id`, `failed_at`, attempt), so it can only remove what the message
stands for, never the letter of attempt n + 1. And that letter is really stored, whichever comes first:

- `DeadLetterStore.store` after the removal: an insert like any other.
- `DeadLetterStore.store` before it: the insert finds the `_id` taken, by the letter that is about to go. That does not
  count as stored: the letter is replaced, in one atomic update, if its attempt is lower. The removal finds nothing.
- The removal between that insert and that update: the update finds no letter and says so; all is stored again.

A body in GridFS belongs to one attempt and is removed in one transaction with its letter.

*Not twice.* All copies of an entry have one `_id`, and the collection takes it once. A redrive that is run again, or
twice at the same time, sends the same `Nats-Msg-Id` for the same letter (`_id`, attempt and `failed_at`), so that
within the stream's duplicate window there is not even a second message; after it, the collection refuses the second.
`Transfer-Attempt` tells the collector to look such an entry up where nothing refuses duplicates.

*One case is left.* A collector judges a copy before the cause is mended, is frozen, and stores its letter after a
redrive has removed the earlier one. Then a letter stands beside the document; a redrive of that letter removes it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from anyio import create_task_group

from collector.decoding.headers import MAX_ATTEMPT
from transfer.errors import JetStreamError, TransferError
from transfer.wire import (
    CONTENT_ENCODING,
    CONTENT_TYPE,
    MESSAGE_ID,
    TRANSFER_ATTEMPT,
    TRANSFER_CONTENT_ID,
    TRANSFER_CONTENT_TIME,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from bson import ObjectId

    from collector.dead_letters.letters import Letters
    from collector.dead_letters.summary import Letter, Summary
    from collector.jetstream.publisher import RawPublisher

_SERVERS = b"nats-"
"""The beginning of headers that JetStream acts on: they were meant for the first publishing."""
_OURS = frozenset(name.lower().encode() for name in (TRANSFER_ATTEMPT, TRANSFER_CONTENT_ID, TRANSFER_CONTENT_TIME))
_BUNDLES = frozenset(name.lower().encode() for name in (CONTENT_TYPE, CONTENT_ENCODING))
"""Headers that describe the bundle of an entry; the entry's own bytes are plain msgpack."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message to be published: a header block, from `NATS/1.0` to the empty line, and a body."""

    headers: bytes
    body: bytes


class Left(NamedTuple):
    """A letter that stays where it is, and why."""

    id: ObjectId
    why: str


@dataclass(slots=True)
class Redriven:
    """The number of letters that JetStream has confirmed, and the letters that were left."""

    redriven: int = 0
    left: list[Left] = field(default_factory=list)


def prepare(letter: Letter, max_bytes: int) -> Message | Left:
    """Return the message that takes the letter's place, or why the letter has to stay."""
    summary = letter.summary
    if letter.body is None:
        return Left(summary.id, _NO_BODY)
    if summary.attempt >= MAX_ATTEMPT:
        return Left(summary.id, f"expected a Transfer-Attempt below {MAX_ATTEMPT}, got {summary.attempt}")
    message = message_of(letter, letter.body)
    size = len(message.headers) + len(message.body)
    if size > max_bytes:
        expected = f"expected at most {max_bytes} bytes with headers, which is what the server takes"
        return Left(summary.id, f"{expected}, got {size}")
    return message


_NO_BODY = "expected its body in GridFS, but it is not there: the letter was replaced or removed meanwhile"


def message_of(letter: Letter, body: bytes) -> Message:
    """Return the message that takes the letter's place: the original bytes and headers, marked as published again."""
    summary = letter.summary
    again = summary.attempt + 1
    failed_ms = _milliseconds(summary.failed_at)
    marks = {
        MESSAGE_ID: f"{summary.id}-{again}-{failed_ms}",
        TRANSFER_ATTEMPT: str(again),
        TRANSFER_CONTENT_ID: str(summary.id),
        TRANSFER_CONTENT_TIME: str(_milliseconds(summary.published_at)),
    }
    dropped = _OURS if summary.entry is None else _OURS | _BUNDLES
    kept = [
        (name, value)
        for name, value in letter.headers
        if name.lower() not in dropped and not name.lower().startswith(_SERVERS)
    ]
    fields = [*((name.encode(), value.encode()) for name, value in marks.items()), *kept]
    lines = [b"NATS/1.0", *(b"%s: %s" % pair for pair in fields), b"", b""]
    return Message(b"\r\n".join(lines), body)


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


async def redrive(letters: Letters, group: Sequence[Summary], publisher: RawPublisher, result: Redriven) -> None:
    """Publish the letters of a group again and remove what was confirmed; add to `result` what became of each.

    Raises a TransferError or SinkUnavailable when NATS or the place of the letters does not answer; run it again then.
    """
    confirmed: list[Summary] = []
    unavailable: list[TransferError] = []

    async def publish(letter: Letter) -> None:
        message = prepare(letter, publisher.max_bytes)
        if isinstance(message, Left):
            result.left.append(message)
            return
        try:
            await publisher.publish(message.headers, message.body)
        except JetStreamError as error:
            result.left.append(Left(letter.summary.id, str(error)))
        except TransferError as error:
            unavailable.append(error)
        else:
            confirmed.append(letter.summary)

    found = await letters.read([summary.id for summary in group])
    async with create_task_group() as tasks:
        for letter in found:
            tasks.start_soon(publish, letter)
    await letters.remove(confirmed)
    result.redriven += len(confirmed)
    if unavailable:
        raise unavailable[0]
