"""The pace of a replica: heartbeats and renewals of all its loggers together, and when silence is noticed."""

from __future__ import annotations

import pytest

from collector.flow.in_hand import InHand
from collector.jetstream.messages import Signal
from collector.jetstream.pace import HEARTBEAT, LIFETIME, Pace
from collector.jetstream.pull import Pull
from tests.support.fakes import ATTACHED, FakeLink

SHORT = 10.0


@pytest.mark.parametrize("loggers", [0, 1, 100, 200])
def test_a_replica_with_few_loggers_hears_of_each_request_every_two_seconds(loggers: int) -> None:
    assert Pace(lambda: loggers).of() == (HEARTBEAT, LIFETIME)


@pytest.mark.parametrize("loggers", [1_000, 3_000, 5_000, 10_000])
def test_the_heartbeats_of_all_requests_together_are_few_however_many_loggers_there_are(loggers: int) -> None:
    assert loggers / Pace(lambda: loggers).of().heartbeat <= max(100, loggers / (LIFETIME / 2))


@pytest.mark.parametrize("loggers", [1, 300, 1_000, 3_000, 10_000, 1_000_000])
def test_a_heartbeat_is_at_most_half_a_lifetime_as_nats_server_demands(loggers: int) -> None:
    pace = Pace(lambda: loggers)
    for times in (pace.of(), pace.of(SHORT), pace.alone):
        assert 2 * times.heartbeat <= times.lifetime <= LIFETIME
    assert pace.of().heartbeat <= pace.away.heartbeat <= pace.away.lifetime / 2


async def test_silence_is_measured_by_the_longest_heartbeat_of_the_outstanding_requests() -> None:
    now, loggers, link = 1000.0, 1, FakeLink()
    pace = Pace(lambda: loggers)
    pull = Pull(link, ATTACHED, inbox="_INBOX.a", in_hand=InHand(), clock=lambda: now, pace=pace)
    await pull.open()
    assert pull.heard_at() is None
    await pull.ask(10, 4096)
    assert (pull.deadline, pull.heard_at()) == (now + 2.5 * HEARTBEAT, now)
    loggers = 1_000
    await pull.ask(10, 4096)
    loggers = 1
    await pull.ask(10, 4096)
    assert pull.deadline == now + 2.5 * 10
    assert [wanted["idle_heartbeat"] for _, wanted in link.requests] == [2 * 10**9, 10 * 10**9, 2 * 10**9]
    now += 2.5 * 10
    assert pull.signals() == {Signal.SILENT}
    assert pull.heard_at() is None
    await pull.ask(10, 4096)
    assert pull.deadline == now + 2.5 * HEARTBEAT
