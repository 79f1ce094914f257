"""The proxy before a store does to requests what the weather says, and to no others."""

from __future__ import annotations

from contextlib import asynccontextmanager
from random import Random
from typing import TYPE_CHECKING

import pytest
from anyio import BrokenResourceError, EndOfStream, connect_tcp, create_task_group, create_tcp_listener, fail_after
from anyio.abc import SocketAttribute, SocketStream
from anyio.lowlevel import checkpoint

from tests.chaos.archive.http_proxy import HttpProxy, read_request
from tests.chaos.archive.weather import Blow, Weather

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone"
CREATE = b"PUT /b/o HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\nContent-Length: 10\r\n\r\n0123456789"
READ = b"GET /b/o HTTP/1.1\r\nHost: x\r\n\r\n"


@asynccontextmanager
async def before_a_server(weather: dict[str, float]) -> AsyncIterator[tuple[HttpProxy, list[bytes]]]:
    """Give a proxy before a server that notes each whole request."""
    done: list[bytes] = []

    async def serve(stream: SocketStream) -> None:
        async with stream:
            try:
                request = await read_request(stream)
            except (EndOfStream, BrokenResourceError):
                return
            done.append(request.head + request.body)
            await stream.send(ANSWER)

    listener = await create_tcp_listener(local_host="127.0.0.1", local_port=0)
    port = listener.extra(SocketAttribute.local_port)  # noqa: S610 - no Django here
    proxy = HttpProxy(port, Random(1), lambda _: None)  # noqa: S311 - a test
    proxy.weather = Weather(weather, pause=0.01)
    async with listener, create_task_group() as group:
        group.start_soon(listener.serve, serve)
        await group.start(proxy.serve, group)
        with fail_after(20):
            yield proxy, done
        group.cancel_scope.cancel()


async def asked(proxy: HttpProxy, request: bytes) -> bytes:
    """Return all that the proxy answers; nothing when it resets the connection."""
    answer = bytearray()
    async with await connect_tcp("127.0.0.1", proxy.port) as stream:
        await stream.send(request)
        try:
            while True:
                answer += await stream.receive()
        except (EndOfStream, BrokenResourceError):
            return bytes(answer)


async def test_a_request_in_clear_weather_is_passed_on_once_and_whole() -> None:
    async with before_a_server({}) as (proxy, done):
        assert await asked(proxy, CREATE) == ANSWER
        (request,) = done
        assert request.endswith(b"Connection: close\r\n\r\n0123456789")
        assert b"keep-alive" not in request


@pytest.mark.parametrize(
    ("blow", "passed_on", "answered"),
    [
        (Blow.FULL, 0, b"HTTP/1.1 507"),
        (Blow.CONFLICT, 0, b"HTTP/1.1 409"),
        (Blow.LATE, 1, ANSWER),
        (Blow.LATE_ANSWER, 1, ANSWER),
        (Blow.LOST_ANSWER, 1, b""),
        (Blow.CUT, 0, b""),
        (Blow.CUT_ANSWER, 1, ANSWER[: len(ANSWER) // 2]),
    ],
)
async def test_each_blow_does_as_it_says(blow: Blow, passed_on: int, answered: bytes) -> None:
    async with before_a_server({blow: 1.0}) as (proxy, done):
        assert (await asked(proxy, CREATE)).startswith(answered)
        assert len(done) == passed_on


async def test_a_request_that_is_done_after_its_failure_is_done_once() -> None:
    async with before_a_server({Blow.ZOMBIE: 1.0}) as (proxy, done):
        assert await asked(proxy, CREATE) == b""
        assert proxy.late == 1
        while proxy.late:
            await checkpoint()
        assert len(done) == 1


async def test_a_refused_request_is_not_passed_on_and_a_read_is_never_in_conflict() -> None:
    async with before_a_server({Blow.REFUSED: 1.0}) as (proxy, done):
        answers = {(await asked(proxy, CREATE))[9:12] for _ in range(20)}
        assert answers == {b"503", b"500", b"429", b""}
        assert done == []
    async with before_a_server({Blow.CONFLICT: 1.0}) as (proxy, done):
        assert await asked(proxy, READ) == ANSWER


async def test_a_closed_proxy_takes_no_request() -> None:
    async with before_a_server({}) as (proxy, done):
        proxy.open = False
        assert (await asked(proxy, CREATE), done) == (b"", [])


def test_weather_strikes_the_share_that_it_says() -> None:
    chance, weather = Random(3), Weather({Blow.LATE: 0.25, Blow.CUT: 0.25})  # noqa: S311 - a test
    drawn = [weather.draw(chance) for _ in range(4000)]
    assert all(900 < drawn.count(blow) < 1100 for blow in (Blow.LATE, Blow.CUT))
    assert set(drawn) == {None, Blow.LATE, Blow.CUT}
