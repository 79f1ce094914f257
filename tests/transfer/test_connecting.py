"""A greeting that is none, and whatever else goes wrong in a try to connect, ends that try and not the trying."""

from __future__ import annotations

from typing import Any

import pytest

from tests.transfer.noted import Broken, connected, works
from tests.transfer.scripted import INFO, scripted
from transfer.jetstream.connection import open_connection
from transfer.jetstream.outage import Outage
from transfer.nats_settings import NatsSettings

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]


@pytest.mark.parametrize(
    "greeting",
    [b"", b"\r\n", b"INFO\t{}\r\n", b"INFO nonsense\r\n", b"INFO {}", b"x" * 70_000 + b"\r\n", INFO + b"HELLO\r\n"],
    ids=lambda greeting: greeting[:12].decode(),
)
async def test_a_greeting_that_is_none_ends_that_try_and_not_the_trying(greeting: bytes) -> None:
    async with scripted() as server, connected(server, connect_timeout=1) as noted:
        server.greeting = lambda number: greeting if number == 2 else INFO
        await server.hang_up()
        await server.until(lambda: server.connections == 2)
        await server.hang_up()
        await server.until(lambda: noted.back == 1)
        await works(server, noted)


async def test_what_may_stand_between_greeting_and_answer_is_no_answer() -> None:
    async with scripted() as server:
        server.greeting = lambda _: INFO + b"+OK\r\nPING\r\n" + INFO
        async with connected(server) as noted:
            await works(server, noted)


async def test_a_greeting_may_be_as_long_as_a_large_cluster_makes_it() -> None:
    urls = ",".join(f'"10.0.{number // 250}.{number % 250}:4222"' for number in range(5000)).encode()
    async with scripted() as server:
        server.greeting = lambda _: INFO.replace(b"{", b'{"connect_urls":[%b],' % urls)
        async with connected(server) as noted:
            await works(server, noted)


@pytest.mark.parametrize("attempt", ["_connect_command", "_process_info"])
async def test_whatever_goes_wrong_in_a_try_to_connect_it_is_tried_again(
    attempt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scripted() as server, connected(server) as noted:

        def fail(*_: object, **__: object) -> None:
            monkeypatch.undo()
            raise Broken

        monkeypatch.setattr(noted.connection, attempt, fail)
        await server.hang_up()
        await server.until(lambda: noted.back == 1)
        assert "Broken" in str(noted.errors)
        await works(server, noted)


async def test_a_callback_that_fails_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with scripted() as server:
        outage = Outage("x")

        def fail(*_: object) -> None:
            raise Broken

        outage.away = outage.back = fail  # type: ignore[method-assign,assignment]
        with suppress_first(outage):
            async with open_connection(NatsSettings((server.url,)), name="test", outage=outage) as connection:
                await server.hang_up()
                await server.until(lambda: server.connections == 2 and connection.is_connected)
                await connection.flush()


def suppress_first(outage: Outage) -> Any:
    """Let the first `back` pass: it is called by us and not by nats-py."""
    failing = outage.back

    class Once:
        def __enter__(self) -> None:
            outage.back = self.pass_once  # type: ignore[method-assign]

        def pass_once(self) -> None:
            outage.back = failing  # type: ignore[method-assign]

        def __exit__(self, *_: object) -> None: ...

    return Once()
