"""What nats-py says of a connection, as the events that are made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import nats.errors
import pytest

from collector.events import Event, Failed, Failure, Stage
from collector.events.lifecycle import ConnectionChanged
from collector.jetstream.connection import Callbacks


@dataclass
class Played:
    """A connection in a state."""

    is_connected: bool = True
    is_closed: bool = False
    why_lost: Exception | None = None
    failed_requests: int = 0
    forgotten: int = 0

    def fail_requests(self) -> None:
        self.failed_requests += 1

    def forget_unsent(self) -> None:
        self.forgotten += 1


UP, AWAY, CLOSED = Played(), Played(is_connected=False), Played(is_connected=False, is_closed=True)


def failed(error: str, action: str, failure: Failure = Failure.UNAVAILABLE) -> Failed:
    return Failed("", Stage.CONTROL, failure, error, action)


def callbacks(connection: Played) -> tuple[Callbacks, list[Event]]:
    heard: list[Event] = []
    return Callbacks(cast("Any", connection), heard.append), heard


@pytest.mark.parametrize(
    ("connection", "error", "said"),
    [
        (UP, ValueError("bad headers"), [failed("NATS: bad headers", "going on")]),
        (UP, nats.errors.StaleConnectionError(), [failed("NATS: the server has not answered for a while", "going on")]),
        (
            UP,
            nats.errors.Error('Permissions Violation for Publish to "$JS.API.STREAM.LIST"'),
            [
                failed(
                    "NATS does not permit us to publish to $JS.API.STREAM.LIST",
                    "waiting until it is granted",
                    Failure.REFUSED,
                )
            ],
        ),
        (AWAY, ConnectionRefusedError("refused"), [ConnectionChanged("nats", connected=False, why="refused")]),
        (AWAY, TimeoutError(), [ConnectionChanged("nats", connected=False, why="no answer in time")]),
        (CLOSED, ConnectionRefusedError("refused"), []),
    ],
)
async def test_an_error_is_of_the_connection_while_there_is_none_and_else_of_a_request(
    connection: Played, error: Exception, said: list[Event]
) -> None:
    called, heard = callbacks(connection)
    await called.on_error(error)
    assert heard == said


@pytest.mark.parametrize(
    ("connection", "said"),
    [
        (Played(is_connected=False, why_lost=nats.errors.UnexpectedEOF()), ["the server ended the connection"]),
        (Played(is_connected=False, why_lost=OSError("no route")), ["no route"]),
        (Played(is_connected=False, is_closed=True), []),
    ],
)
async def test_a_loss_is_reported_unless_we_closed_it_and_what_was_asked_or_waits_is_ended(
    connection: Played, said: list[str]
) -> None:
    called, heard = callbacks(connection)
    await called.on_disconnect()
    assert heard == [ConnectionChanged("nats", connected=False, why=f"the connection was lost: {why}") for why in said]
    assert (connection.failed_requests, connection.forgotten) == (1, 1)


async def test_a_reconnect_forgets_why_it_was_lost_and_tells_the_listeners_once_each() -> None:
    connection = Played(why_lost=OSError("no route"))
    called, heard = callbacks(connection)
    told: list[str] = []
    with called.reconnects.listening(lambda: told.append("a")), called.reconnects.listening(lambda: told.append("b")):
        await called.on_reconnect()
    await called.on_reconnect()
    assert sorted(told) == ["a", "b"]
    assert heard == [ConnectionChanged("nats", connected=True, why="connected again", again=True)] * 2
    assert connection.why_lost is None


async def test_a_callback_that_fails_raises_nothing_into_nats_py() -> None:
    def fail(_: Event) -> None:
        raise ValueError

    called = Callbacks(cast("Any", Played(is_connected=False)), fail)
    keywords = called.keywords()
    for name in ("disconnected_cb", "reconnected_cb", "closed_cb"):
        await keywords[name]()
    assert called.closed.is_set()
