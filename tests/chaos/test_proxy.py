"""The proxy does to connections what the faults count on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest
from anyio import BrokenResourceError, EndOfStream, connect_tcp, create_task_group, create_tcp_listener
from anyio.abc import SocketAttribute, SocketStream

from tests.chaos.proxy import Direction, Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """Give a proxy before a server that sends back what it gets."""

    async def echo(stream: SocketStream) -> None:
        async with stream:
            try:
                async for chunk in stream:
                    await stream.send(chunk)
            except BrokenResourceError:
                pass

    listener = await create_tcp_listener(local_host="127.0.0.1", local_port=0)
    proxy = Proxy(listener.extra(SocketAttribute.local_port))  # noqa: S610 - no Django here
    async with listener, create_task_group() as group:
        group.start_soon(listener.serve, echo)
        await group.start(proxy.serve)
        with anyio.fail_after(10):
            yield proxy
        group.cancel_scope.cancel()


async def opened(proxy: Proxy) -> SocketStream:
    stream = await connect_tcp("127.0.0.1", proxy.port)
    await stream.send(b"hello")
    assert await stream.receive() == b"hello"
    return stream


async def silent(stream: SocketStream) -> bool:
    with anyio.move_on_after(0.1) as patience:
        await stream.receive()
    return patience.cancelled_caught


async def test_bytes_pass_both_ways_and_are_counted(proxy: Proxy) -> None:
    async with await opened(proxy):
        assert (proxy.connections, proxy.passed) == (1, 10)


async def test_a_cut_connection_ends_and_the_next_one_passes(proxy: Proxy) -> None:
    async with await opened(proxy) as stream:
        proxy.cut()
        with pytest.raises(EndOfStream):
            await stream.receive()
    async with await opened(proxy):
        assert proxy.connections == 1


async def test_a_reset_connection_breaks(proxy: Proxy) -> None:
    async with await opened(proxy) as stream:
        proxy.reset()
        with pytest.raises(BrokenResourceError):
            await stream.receive()


@pytest.mark.parametrize("direction", Direction)
async def test_what_is_stalled_comes_when_it_is_opened_again(proxy: Proxy, direction: Direction) -> None:
    async with await opened(proxy) as stream:
        proxy.stall(direction)
        await stream.send(b"late")
        assert await silent(stream)
        proxy.open()
        assert await stream.receive() == b"late"


async def test_what_a_reset_finds_stalled_on_its_way_up_never_reaches_the_server(proxy: Proxy) -> None:
    async with await opened(proxy) as stream:
        passed = proxy.passed
        proxy.stall(Direction.UP)
        await stream.send(b"gone")
        assert await silent(stream)
        proxy.reset()
        proxy.open()
        with pytest.raises(BrokenResourceError):
            await stream.receive()
    assert proxy.passed == passed


async def test_a_slow_connection_takes_its_time(proxy: Proxy) -> None:
    async with await opened(proxy) as stream:
        proxy.slow(100, Direction.DOWN)
        await stream.send(bytes(30))
        assert await silent(stream)
        assert await stream.receive() == bytes(30)
