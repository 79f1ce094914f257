"""nats-py's parser made fast: one read of the socket becomes one list of frames for each subscription.

It needs names which nats-py calls private; see `link.py`.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import nats.errors
from nats.errors import ProtocolError
from nats.protocol.parser import AWAITING_CONTROL_LINE, Parser

from collector.errors import safe_description

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from nats.aio.client import Client

_MAX_LINE = 1024 * 1024  # the INFO of a large cluster names all its servers; no line is longer than this
NO_HEADERS = b""
# https://docs.nats.io/reference/reference-protocols/nats-protocol, written as nats-server writes it
# `[^ ]+` is fast because the regex engine scans for one excluded byte in C. If a message has no reply subject, its size
# follows directly. The answer to $JS.API.CONSUMER.RESET has an empty reply subject.
_PLAIN = re.compile(rb"MSG ([^ ]+) (\d+) (?:(\d+)|([^ ]*) (\d+))\r\n")
_HEADED = re.compile(rb"HMSG ([^ ]+) (\d+) (?:(\d+) (\d+)|([^ ]*) (\d+) (\d+))\r\n")


class Frame(NamedTuple):
    """One message as it stood on the wire. `BulkLink` hands over plain tuples of these four fields instead."""

    subject: bytes
    reply: bytes
    raw_headers: bytes
    """The header block from `NATS/1.0` to the empty line; empty when the message has no headers."""
    body: bytes


AnyFrame: TypeAlias = "tuple[bytes, bytes, bytes, bytes]"
Receive: TypeAlias = "Callable[[Sequence[AnyFrame]], object]"
"""It returns True when nobody is woken by these frames."""


class BulkParser(Parser):
    """nats-py's parser, which hands the frames of some subscriptions to receivers, as one list for each read."""

    def __init__(self, connection: Client, after_read: Callable[[int], Awaitable[None]] | None = None) -> None:
        """Parse what `connection` reads; `after_read` may wait when nobody is woken by the messages of a read."""
        self.receivers: dict[int, Receive] = {}
        self._after_read = after_read
        self._wakes = False
        self._life = 0
        super().__init__(connection)

    def reset(self) -> None:
        """Forget a frame that was read in part: the connection is a new one."""
        super().reset()
        self._life += 1
        self._chunks: list[bytes] = []
        self._have = 0
        self._need = 0

    async def parse(self, data: bytes = b"") -> None:
        """Take the whole frames out of the data and keep the rest for the next read.

        Raises ProtocolError for every error: nats-py connects again after it. Any other error would end nats-py's
        reading loop, and the connection would be deaf until the next pings fail.
        """
        self._chunks.append(data)
        self._have += len(data)
        if self._have < self._need:  # a large message in many reads is joined once, not at every read
            return
        buffer = data if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks, self._have, self._need = [], 0, 0
        self._wakes = False
        try:
            rest = await self._take_frames(buffer)
        except (ProtocolError, OSError):
            raise
        except Exception as error:
            with suppress(Exception):
                await self._report(error)
            raise ProtocolError from error
        if rest:
            self._chunks, self._have = [rest], len(rest)
        elif not self._wakes and self._after_read is not None:
            await self._after_read(len(buffer))

    async def _take_frames(self, buffer: bytes) -> bytes:  # noqa: C901 - the hot path: one loop, no calls
        """Return the unfinished frame at the end; set `_need` when the length of that frame is known."""
        taken: dict[int, list[AnyFrame]] = {}
        life, start, end = self._life, 0, len(buffer)
        digits, frames = b"", None  # of the frame before: most come for the same subscription
        while start < end:
            if found := _PLAIN.match(buffer, start):
                subject, sid_digits, unanswered_size, reply, size = found.groups()
                headers, body_start = NO_HEADERS, found.end()
                body_end = body_start + int(size or unanswered_size)
            elif found := _HEADED.match(buffer, start):
                subject, sid_digits, first_size, second_size, reply, headers_size, size = found.groups()
                headers_start = found.end()
                body_start = headers_start + int(headers_size or first_size)
                body_end = headers_start + int(size or second_size)
                headers = buffer[headers_start:body_start]
            else:
                line_end = buffer.find(b"\r\n", start) + 2
                if line_end < 2:
                    break
                await self._hand_over(taken)  # frames that came before a PONG are handed over before `flush` returns
                digits = b""
                await self._handle_line(buffer[start:line_end])
                if self._life != life:  # that line was the end of the connection
                    return b""
                start = line_end
                continue
            if body_end + 2 > end:
                self._need = body_end + 2 - start
                break
            if sid_digits != digits:
                digits, frames = sid_digits, self._frames(taken, int(sid_digits))
            if frames is not None:
                frames.append((subject, reply or b"", headers, buffer[body_start:body_end]))
            else:
                await self._hand_over(taken)
                digits, self._wakes = b"", True
                body = buffer[body_start:body_end]
                await self.nc._process_msg(int(sid_digits), subject, reply or b"", body, headers or None)  # noqa: SLF001
                if self._life != life:
                    return b""
            start = body_end + 2
        await self._hand_over(taken)
        if not self._need and end - start > _MAX_LINE:
            raise ProtocolError
        return buffer[start:]

    def _frames(self, taken: dict[int, list[AnyFrame]], sid: int) -> list[AnyFrame] | None:
        """Return the list for the frames of a subscription; None when nats-py handles that subscription."""
        return taken.setdefault(sid, []) if sid in self.receivers else None

    async def _handle_line(self, line: bytes) -> None:
        """Leave PING, PONG, INFO, +OK and -ERR to nats-py."""
        self._wakes = True
        await super().parse(line)
        if self.buf or self.state != AWAITING_CONTROL_LINE:
            raise ProtocolError

    async def _hand_over(self, taken: dict[int, list[AnyFrame]]) -> None:
        for sid, frames in taken.items():
            try:
                if self.receivers[sid](frames) is not True:
                    self._wakes = True
            except Exception as error:  # noqa: BLE001 - one logger's trouble is its own
                await self._report(error)
        taken.clear()

    async def _report(self, error: Exception) -> None:
        """Report an error that nobody foresaw without its text, which may quote a message."""
        await self.nc._error_cb(nats.errors.Error(f"reading messages failed: {safe_description(error)}"))  # noqa: SLF001
