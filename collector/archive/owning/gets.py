"""Messages of a stream by their sequences, some hundreds of requests at a time. It works on each kind of stream."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec
from anyio import CancelScope, fail_after

from collector.model import Delivery
from collector.runtime.latch import Latch
from transfer.errors import Unavailable
from transfer.jetstream.api import api_prefix
from transfer.jetstream.streams import stream_state

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from nats.js import JetStreamContext

    from collector.jetstream.link import Link
    from collector.jetstream.parser import AnyFrame
    from transfer.jetstream.streams import StreamState

_AT_ONCE = 256
_BYTES_AT_ONCE = 8 << 20
"""Bytes of messages that are asked for at once, by the size of the last ones."""
_TIMEOUT = 10.0
"""Seconds for the answers to all requests that are made at once."""
NOT_FOUND = 10037


class _Message(msgspec.Struct):
    subject: str
    seq: int
    time: str
    hdrs: bytes = b""
    data: bytes = b""


class _Error(msgspec.Struct):
    err_code: int = 0
    description: str = ""


class _Answer(msgspec.Struct):
    message: _Message | None = None
    error: _Error | None = None


_decode = msgspec.json.Decoder(_Answer).decode


class Gets:
    """Gets messages of one stream. See `Messages`."""

    def __init__(self, jetstream: JetStreamContext, link: Link, stream: str, inbox: str) -> None:
        """Ask over a link; `inbox` is a prefix that nobody else uses."""
        self.stream = stream
        self._jetstream = jetstream
        self._link = link
        self._inbox = inbox
        self._subject = f"{api_prefix(jetstream)}.STREAM.MSG.GET.{stream}"

    async def state(self) -> StreamState:
        """Return the stream as it is now. Raises UnknownStream, Unavailable or Refused."""
        return await stream_state(self._jetstream, self.stream)

    async def get(self, sequences: Sequence[int]) -> AsyncIterator[Delivery]:
        """See `Messages`."""
        start, at_once = 0, _AT_ONCE
        while start < len(sequences):
            found = await self._get(sequences[start : start + at_once])
            start += at_once
            if found:
                size = sum(message.size for message in found) // len(found)
                at_once = max(1, min(_AT_ONCE, _BYTES_AT_ONCE // max(1, size)))
            for message in found:
                yield message

    async def _get(self, sequences: Sequence[int]) -> list[Delivery]:
        answers: dict[int, _Answer] = {}
        done = Latch()

        def receive(frames: Sequence[AnyFrame]) -> None:
            for subject, _, _, body in frames:
                answers[int(subject.rpartition(b".")[2])] = _decode(body) if body else _Answer()
            if len(answers) >= len(sequences):
                done.set()

        with CancelScope(shield=True):  # it ends with its own deadline
            subscribed = await self._link.subscribe(f"{self._inbox}.*", receive)
            try:
                with fail_after(_TIMEOUT):
                    for sequence in sequences:
                        wanted = msgspec.json.encode({"seq": sequence})
                        await self._link.publish(self._subject, wanted, f"{self._inbox}.{sequence}")
                    await done.wait()
            except TimeoutError:
                raise Unavailable(
                    f"{self._subject}: expected {len(sequences)} answers within {_TIMEOUT:g} s, got {len(answers)}"
                ) from None
            finally:
                await subscribed.drain()
        return [message for sequence in sequences if (message := self._message(answers[sequence])) is not None]

    def _message(self, answer: _Answer) -> Delivery | None:
        found, error = answer.message, answer.error
        if found is not None:
            return Delivery(
                found.subject, "", found.data, found.hdrs, self.stream, found.seq, 1, nanoseconds(found.time)
            )
        if error is None or error.err_code != NOT_FOUND:
            said = "no message" if error is None else error.description
            raise Unavailable(f"{self._subject}: expected a message, or that it is gone, got {said}")
        return None

    async def time_of(self, sequence: int) -> int | None:
        """Return when the stream stored a message, in nanoseconds since 1970; None when it has left the stream."""
        found = await self._get([sequence])
        return found[0].published_ns if found else None


def nanoseconds(text: str) -> int:
    """Return a time of JetStream, RFC 3339 in UTC with up to nine digits, in nanoseconds since 1970."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    return round(datetime.fromisoformat(f"{whole}+00:00").timestamp()) * 1_000_000_000 + int(
        fraction.ljust(9, "0") or 0
    )
