"""The benchmark on real servers, at sizes that take no time: it measures, and leaves nothing behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from bench.backlog import publish
from bench.cli import main
from bench.entries import Form, Traffic
from bench.errors import NotAsExpected
from bench.groups import ceiling
from bench.groups.drain import Case, drain
from bench.processes import Meter, is_available, peak_mib
from bench.stand import stream_names
from bench.waiting import until
from bench.wire import WireBroken, wired

if TYPE_CHECKING:
    from bench.stand import Stand

pytestmark = pytest.mark.skipif(not is_available(), reason="expected Linux, which counts in /proc")


@pytest.mark.parametrize("case", [Case(Form.CLIENT), Case(Form.BUNDLE, "timeseries"), Case(Form.JSON, replicas=2)])
def test_a_drain_stores_everything_and_measures_all_three_processes(stand: Stand, case: Case) -> None:
    drained = drain(stand, case, 3000)
    measures = drained.measures()
    assert drained.rate > 100
    assert set(drained.cpu) == {"collector", "nats-server", "mongod"}
    assert sum(drained.written) == 3000
    assert drained.barriers == 0
    assert 20 < measures["peak MiB"] < 200
    assert measures["efficiency"] == pytest.approx(measures["entries/s"] / measures["limit"])


def test_a_namespace_of_the_benchmark_leaves_nothing_behind(stand: Stand) -> None:
    drain(stand, Case(Form.GO), 100)
    with wired(stand.nats.port) as wire:
        assert not [name for name in stream_names(wire, ">") if "bench_" in name]
    assert not [name for name in stand.mongo.list_database_names() if name.startswith("bench_")]


def test_the_ceiling_inserts_each_document_once(stand: Stand) -> None:
    assert ceiling.mongod_takes(stand, "timeseries", 100, 2000) > 1000


def test_a_barrier_takes_some_time(stand: Stand) -> None:
    ceiling.barrier_takes(stand)
    figure = stand.figures.find(ceiling.NAME, "a barrier", "median ms")
    assert figure is not None
    assert figure.median > 0


def test_a_bare_subscription_is_given_the_whole_backlog(stand: Stand) -> None:
    ceiling.nats_delivers(stand)
    assert stand.figures.find(ceiling.NAME, "nats-server, bare pull and ack", "entries/s") is not None


def test_publishing_to_nobody_is_an_error(stand: Stand) -> None:
    with pytest.raises(WireBroken, match="expected JetStream to confirm"):
        publish(stand.nats.port, Traffic(Form.GO, 100), ["bench_none.logs.none"], 10)


def test_what_does_not_come_in_time_is_no_figure() -> None:
    with pytest.raises(NotAsExpected, match="expected a miracle within 0 s"):
        until(lambda: False, "a miracle", 0.01, 0.02)


def test_a_process_that_works_uses_cpu_time_and_memory(stand: Stand) -> None:
    meter = Meter({"mongod": [stand.mongod.pid]})
    ceiling.mongod_takes(stand, "plain", 300, 5000)
    assert meter.used()["mongod"] > 0
    assert peak_mib(stand.mongod.pid) > 20


def test_an_unknown_group_is_a_wrong_use() -> None:
    result = CliRunner().invoke(main, ["--only", "drain,everything"])
    assert result.exit_code == 2
    assert "got everything" in result.output
