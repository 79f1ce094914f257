"""The ways in which entries are published, and how each comes to know that they are confirmed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import msgspec
from anyio import sleep
from nats import errors as nats_errors
from nats.js import errors as js_errors

from tests.chaos.content import data, metadata, moment
from tests.chaos.ledger import State
from transfer import PublishUnconfirmed, TransferError, new_id
from transfer.entries.entry import encode_entry
from transfer.wire import BUNDLE, CONTENT_TYPE, MESSAGE_ID, TRANSFER_ATTEMPT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nats.js import JetStreamContext

    from tests.chaos.ledger import Source
    from transfer import Transfer

_TIMEOUT = 3.0
_PAUSE = 0.1
"""Seconds between two tries."""


class Way(ABC):
    """One way to publish the entries of a source."""

    entries: ClassVar[int] = 1
    """How many go into one message."""

    def __init__(self, source: Source, transfer: Transfer, jetstream: JetStreamContext) -> None:
        self.source = source
        self._transfer = transfer
        self._jetstream = jetstream
        self._subject = transfer.names.subject(source.key)

    @abstractmethod
    async def send(self, numbers: Sequence[int]) -> None:
        """Publish entries in one message; return when it is confirmed, or will never be. Cancelled, they may be there.

        `numbers` are as many as `entries` says, or fewer.
        """


class ByClient(Way):
    """By `transfer`, one entry a message, again under its identity until it is confirmed."""

    async def send(self, numbers: Sequence[int]) -> None:
        """See `Way`."""
        for number in numbers:
            await self._send(number)

    async def _send(self, number: int) -> None:
        source, entry_id, patience = self.source, None, _TIMEOUT
        while source.state(number) is not State.CONFIRMED:
            source.set([number], State.MAYBE)
            try:
                await self._transfer.publish(
                    source.key,
                    data(source.name, number),
                    metadata=metadata(source.name),
                    timestamp=moment(number),
                    id=entry_id,
                    timeout=patience,
                )
            except PublishUnconfirmed as unconfirmed:
                entry_id, patience = unconfirmed.id, 2 * patience  # else thousands of tries keep each other waiting
            except TransferError:  # it says that the entry is not stored, so it gets a new identity: that is tested too
                await sleep(_PAUSE)
            else:
                source.set([number], State.CONFIRMED)


class AsGo(Way):
    """As the Go client does it: no headers, no identity, one try; without an answer the entry may be there."""

    async def send(self, numbers: Sequence[int]) -> None:
        """See `Way`."""
        for number in numbers:
            body = encode(self.source, number)
            await publish_once(self._jetstream, self._subject, body, {}, self.source, [number])


class InBundles(Way):
    """Many entries a message, each with its identity, again under the same until they are confirmed."""

    entries = 25

    async def send(self, numbers: Sequence[int]) -> None:
        """See `Way`."""
        body = bundle([encode(self.source, number, new_id()) for number in numbers])
        await publish_until_confirmed(
            self._jetstream, self._subject, body, {CONTENT_TYPE: BUNDLE}, self.source, numbers
        )


def encode(source: Source, number: int, entry_id: bytes | None = None) -> bytes:
    """Return the bytes of an entry."""
    return encode_entry(data(source.name, number), moment(number), metadata(source.name), entry_id)


def bundle(entries: Sequence[bytes]) -> bytes:
    """Put entries into one message."""
    return msgspec.msgpack.encode([msgspec.Raw(entry) for entry in entries])


async def publish_once(
    jetstream: JetStreamContext,
    subject: str,
    body: bytes,
    headers: Mapping[str, str],
    source: Source,
    numbers: Sequence[int],
) -> None:
    """Send a message without an identity, once: a second one would be another entry."""
    source.set(numbers, State.MAYBE)
    try:
        await jetstream.publish(subject, body, timeout=_TIMEOUT, headers=dict(headers) or None)
    except js_errors.NoStreamResponseError:
        source.set(numbers, State.NOT_SENT)
        await sleep(_PAUSE)
    except (nats_errors.Error, TimeoutError, OSError):
        await sleep(_PAUSE)
    else:
        source.set(numbers, State.CONFIRMED)


async def publish_until_confirmed(
    jetstream: JetStreamContext,
    subject: str,
    body: bytes,
    headers: Mapping[str, str],
    source: Source,
    numbers: Sequence[int],
) -> None:
    """Send a message whose entries have identities, under one message id, until JetStream confirms it."""
    attempt, message_id = 1, new_id().hex()
    source.set(numbers, State.MAYBE)
    while True:
        again = {TRANSFER_ATTEMPT: str(attempt)} if attempt > 1 else {}
        try:
            await jetstream.publish(
                subject, body, timeout=_TIMEOUT, headers={**headers, MESSAGE_ID: message_id, **again}
            )
        except (nats_errors.Error, TimeoutError, OSError):
            attempt += 1
            await sleep(_PAUSE)
        else:
            source.set(numbers, State.CONFIRMED)
            return
