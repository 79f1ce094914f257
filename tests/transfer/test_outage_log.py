"""The lines that an application reads in its own log of a connection that is away."""

from __future__ import annotations

import logging

import nats.errors
import pytest

from tests.transfer.noted import Broken
from tests.transfer.scripted import INFO, scripted
from transfer.jetstream.connection import open_connection, why
from transfer.jetstream.outage import Outage
from transfer.nats_settings import NatsSettings

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "transfer"]


def test_an_outage_is_a_line_when_it_begins_one_a_minute_and_one_at_its_end(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    outage = Outage("nats://a", clock=lambda: now)
    for now in range(180):
        outage.away(f"refused at {now}")
    outage.back()
    outage.back()
    said = lines(caplog)
    assert said == [
        "NATS at nats://a is away: refused at 0; connecting again",
        "NATS at nats://a is away: refused at 60; connecting again (the 60th time in 60 s)",
        "NATS at nats://a is away: refused at 120; connecting again (the 60th time in 60 s)",
        "NATS at nats://a is back after 179 s",
    ]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


async def test_a_loss_and_a_return_are_two_lines_however_often_it_was_tried(caplog: pytest.LogCaptureFixture) -> None:
    async with scripted() as server:
        server.greeting = lambda number: b"-ERR 'maximum connections exceeded'\r\n" if 1 < number < 6 else INFO
        async with open_connection(NatsSettings((server.url,)), name="test") as connection:
            connection._server_pool[0].reconnects = 0
            connection.options["reconnect_time_wait"] = 0.01
            await server.say(b"-ERR 'User Authentication Expired'\r\n")
            await server.hang_up()
            await server.until(lambda: server.connections == 6 and connection.is_connected)
            await connection.flush()
    said = lines(caplog)
    assert len(said) == 2, said
    assert "is away: nats-server said 'User Authentication Expired'; give us a new creds file; connecting" in said[0]
    assert "is back after" in said[1]


def test_every_reason_has_words() -> None:
    for error in (nats.errors.UnexpectedEOF(), nats.errors.StaleConnectionError(), TimeoutError(), Broken(), None):
        assert why(error)
