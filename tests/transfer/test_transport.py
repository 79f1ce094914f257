"""A host with several addresses: silent ones take no time from those that answer, and leave nothing behind."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlparse

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer.jetstream import transport
from transfer.jetstream.transport import Tcp

pytestmark = pytest.mark.timeout(120)


class Streams:
    """Connections that a script makes, refuses or never answers; `left` counts those that nobody has ended."""

    def __init__(self, script: list[str]) -> None:
        self.script = script
        self.begun = self.left = 0

    async def open(self, _: str, port: int, **__: object) -> tuple[Any, Any]:
        self.begun += 1
        self.left += 1
        does = self.script[port]
        try:
            await checkpoint()
            if does == "is silent":
                await asyncio.Event().wait()
            if does == "refuses":
                raise ConnectionRefusedError(port)  # noqa: TRY301 - as a connection does
        except BaseException:
            self.left -= 1
            raise
        return port, self

    @property
    def transport(self) -> Streams:
        return self

    def abort(self) -> None:
        self.left -= 1


async def _connect(script: list[str], timeout: float) -> tuple[object, Streams]:
    streams = Streams(script)

    async def found(*_: object) -> list[tuple[str, int]]:
        return [(f"10.0.0.{number}", number) for number in range(len(script))]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transport, "_addresses", found)
        patch.setattr(transport, "_HEAD_START", 0.001)
        patch.setattr(asyncio, "open_connection", streams.open)
        connection = Tcp()
        try:
            await connection.connect(urlparse("nats://many:4222"), 1024, timeout)
        except OSError as error:
            return error, streams
    return connection._io_reader, streams


@settings(deadline=None, max_examples=60)
@given(script=st.lists(st.sampled_from(["answers", "refuses", "is silent"]), min_size=1, max_size=20))
def test_the_first_address_that_answers_is_taken_whatever_the_others_do(script: list[str]) -> None:
    answers = "answers" in script
    result, streams = asyncio.run(_connect(script, 60 if answers or "is silent" not in script else 0.02))
    if answers:
        assert result == script.index("answers")
        assert streams.left == 1
    else:
        assert isinstance(result, TimeoutError if "is silent" in script else ConnectionRefusedError)
        assert streams.left == 0


def test_every_address_is_tried_within_half_of_the_time() -> None:
    _, streams = asyncio.run(_connect(["is silent"] * 50, 0.5))
    assert streams.begun == 50


def test_who_is_cut_leaves_no_connection_behind() -> None:
    async def connect() -> None:
        _, connected = await transport._first_that_answers([("a", 0), ("b", 1), ("c", 2)], 1024, 0.0001)
        connected.transport.abort()

    async def cut(turns: int) -> Streams:
        streams = Streams(["is silent", "refuses", "answers"])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(asyncio, "open_connection", streams.open)
            async with anyio.create_task_group() as group:
                group.start_soon(connect)
                for _ in range(turns):
                    await checkpoint()
                group.cancel_scope.cancel()
        return streams

    for turns in range(30):
        assert asyncio.run(cut(turns)).left == 0, turns
