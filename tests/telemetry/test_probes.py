"""Readiness and liveness of a replica, also while its event loop is stuck or no write succeeds."""

from __future__ import annotations

import time
from threading import Thread

import anyio
import pytest

from collector import events
from collector.events import LoggerState, State, lifecycle
from collector.events.readings import Declared
from collector.telemetry.status import ALIVE_WITHIN, READY_WITHIN
from tests.support.batches import settled
from tests.support.status import UP, Scene, crashed, served


def test_it_is_ready_while_both_servers_are_connected_and_nobody_asked_it_to_stop(scene: Scene) -> None:
    unread = "the bucket of loggers was not read yet"
    assert scene.get("/readyz")[:2] == (503, f"not connected to nats, not connected to mongodb, {unread}\n")
    scene.observe(*UP)
    assert scene.get("/readyz")[:2] == (200, "ok\n")
    scene.observe(lifecycle.ConnectionChanged("mongodb", connected=False))
    assert scene.get("/readyz")[:2] == (503, "not connected to mongodb\n")
    scene.observe(*UP, lifecycle.Stopping("SIGTERM"))
    assert scene.get("/readyz")[:2] == (503, "stopping\n")


def test_it_is_not_ready_before_it_has_read_the_bucket_once_and_stays_ready_when_the_bucket_goes(scene: Scene) -> None:
    """A rollout must not replace a replica that moves entries by one that knows of no logger."""
    scene.observe(*UP[:2])
    assert scene.get("/readyz")[:2] == (503, "the bucket of loggers was not read yet\n")
    scene.observe(Declared("the bucket is gone", looked=False))
    assert scene.get("/readyz")[:2] == (503, "the bucket is gone\n")
    scene.observe(Declared())
    assert scene.get("/readyz")[:2] == (200, "ok\n")
    scene.observe(Declared("the bucket is gone"))
    assert scene.get("/readyz")[0] == 200


def test_liveness_depends_on_the_event_loop_alone(scene: Scene) -> None:
    assert scene.get("/livez")[:2] == (200, "ok\n")
    scene.now += ALIVE_WITHIN + 1
    assert scene.get("/livez")[:2] == (503, "the event loop does not turn\n")
    scene.observe(lifecycle.LoopLag(0.0))
    assert scene.get("/livez")[0] == 200


def test_a_loop_that_has_not_turned_for_a_while_is_not_ready_and_still_alive(scene: Scene) -> None:
    scene.observe(*UP)
    scene.now += READY_WITHIN + 1
    assert scene.get("/readyz")[:2] == (503, "the event loop does not turn\n")
    assert scene.get("/livez")[0] == 200


def test_a_supervisor_that_gave_up_fails_both_until_the_process_has_ended(scene: Scene) -> None:
    scene.observe(*UP, events.GivenUp("registry", "registry crashed 10 times"))
    for path in ("/livez", "/readyz"):
        assert scene.get(path)[:2] == (503, "the supervisor gave up on registry\n")


def test_a_pipeline_that_backs_off_is_ready_and_one_that_is_parked_after_crashes_is_not(scene: Scene) -> None:
    scene.observe(*UP, LoggerState("a", State.RUNNING), crashed(1, 0.1), LoggerState("a", State.BACKING_OFF))
    assert scene.get("/readyz")[0] == 200
    scene.observe(crashed(9, 30.0), LoggerState("a", State.PARKED))
    assert scene.get("/readyz")[:2] == (503, "the pipeline of a crashes again and again\n")
    assert scene.get("/livez")[0] == 200
    scene.observe(LoggerState("a", State.RUNNING))
    assert scene.get("/readyz")[0] == 200


@pytest.mark.parametrize("state", [State.RUNNING, State.STANDBY, State.BACKING_OFF, State.PARKED, State.DRAINING])
def test_a_logger_that_never_crashed_keeps_no_replica_from_being_ready(scene: Scene, state: State) -> None:
    scene.observe(*UP, LoggerState("a", state, "its declaration cannot be read"))
    assert scene.get("/readyz")[0] == 200


def test_a_logger_that_is_removed_while_it_is_parked_takes_its_crashes_with_it(scene: Scene) -> None:
    scene.observe(*UP, LoggerState("a", State.RUNNING), crashed(9, 30.0), LoggerState("a", None))
    scene.observe(LoggerState("a", State.PARKED, "its declaration cannot be read"))
    assert scene.get("/readyz")[0] == 200


def test_it_answers_while_the_event_loop_is_blocked() -> None:
    answers: list[int] = []

    async def block() -> None:
        with served() as scene:
            scene.observe(*UP)

            def ask() -> None:
                answers.extend(scene.get(path)[0] for path in ("/livez", "/readyz", "/metrics", "/status"))
                scene.now += READY_WITHIN + 1
                answers.extend(scene.get(path)[0] for path in ("/livez", "/readyz"))
                scene.now += ALIVE_WITHIN
                answers.extend(scene.get(path)[0] for path in ("/livez", "/readyz", "/status"))

            thread = Thread(target=ask)
            thread.start()
            deadline = time.monotonic() + 5
            while thread.is_alive() and time.monotonic() < deadline:
                time.sleep(0.01)  # noqa: ASYNC251 - the loop is to be blocked

    anyio.run(block)
    assert answers == [200, 200, 200, 200, *(200, 503), *(503, 503, 200)]


def test_a_replica_none_of_whose_writes_succeeds_is_not_ready_until_one_does(scene: Scene) -> None:
    """A rollout whose role lacks `insert` must not replace the replicas that work."""
    scene.observe(*UP, LoggerState("a", State.RUNNING), LoggerState("b", State.RUNNING))
    scene.observe(LoggerState("b", State.FAILING, "its user may not insert on beta.b_logs"))
    assert scene.get("/readyz")[:2] == (503, "no write succeeds, b: its user may not insert on beta.b_logs\n")
    assert scene.get("/livez")[0] == 200
    scene.observe(settled())
    assert scene.get("/readyz")[0] == 200, "one failing logger among many"
    scene.now += 10
    scene.observe(LoggerState("a", State.FAILING, "no majority"))
    assert scene.get("/readyz")[0] == 503
    scene.observe(LoggerState("a", State.RUNNING))
    assert scene.get("/readyz")[0] == 200


def test_an_outage_of_all_writes_makes_a_replica_unready_that_has_written_before(scene: Scene) -> None:
    keys = [f"l{number}" for number in range(50)]
    scene.observe(*UP, *(LoggerState(key, State.RUNNING) for key in keys), settled("l0"))
    scene.now += 10
    scene.observe(LoggerState("l1", State.FAILING, "no majority"))
    assert scene.get("/readyz")[0] == 200
    scene.observe(LoggerState("l2", State.FAILING, "no majority"))
    assert scene.get("/readyz")[:2] == (503, "no write succeeds, l1: no majority\n")
    scene.observe(LoggerState("l1", None))
    assert scene.get("/readyz")[0] == 200


def test_loggers_that_are_not_written_here_do_not_hide_that_all_others_fail(scene: Scene) -> None:
    scene.observe(*UP, LoggerState("a", State.RUNNING), settled())
    scene.observe(LoggerState("b", State.STANDBY), LoggerState("c", State.PARKED), LoggerState("d", State.BACKING_OFF))
    scene.now += 10
    scene.observe(LoggerState("a", State.FAILING, "no majority"))
    assert scene.get("/readyz")[0] == 503
