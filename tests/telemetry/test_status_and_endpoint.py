"""What is said about a replica over HTTP, also while its event loop is stuck."""

from __future__ import annotations

import json
import re
import socket
import time
from collections import Counter
from contextlib import contextmanager
from http.client import HTTPConnection
from threading import Thread
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from collector import events, readings
from collector.errors import CannotListen
from collector.events import Failure, LoggerState, Stage, State
from collector.telemetry.endpoint import serving
from collector.telemetry.metrics import Metrics
from collector.telemetry.status import ALIVE_WITHIN, READY_WITHIN, Status
from tests.support.batches import settled

if TYPE_CHECKING:
    from collections.abc import Iterator

UP = (
    events.ConnectionChanged("nats", connected=True, why="connected"),
    events.ConnectionChanged("mongodb", connected=True),
)


class Scene:
    """A status with a clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.status = Status("beta", "1.2.3", clock=lambda: self.now, buffer_limit=1024)
        self.metrics = Metrics("beta", "1.2.3", 1024)
        self.address = ("", 0)

    def observe(self, *several: events.Event) -> None:
        for event in several:
            self.status.observe(event)

    def get(self, path: str, method: str = "GET") -> tuple[int, str, dict[str, str]]:
        connection = HTTPConnection(*self.address, timeout=5)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, response.read().decode(), dict(response.getheaders())
        finally:
            connection.close()


@pytest.fixture
def scene() -> Iterator[Scene]:
    with served() as found:
        yield found


@contextmanager
def served(host: str = "127.0.0.1") -> Iterator[Scene]:
    found = Scene()
    with serving((host, 0), found.metrics, found.status) as found.address:
        yield found


# readiness and liveness


def test_it_is_ready_while_both_servers_are_connected_and_nobody_asked_it_to_stop(scene: Scene) -> None:
    assert scene.get("/readyz")[:2] == (503, "not connected to nats, not connected to mongodb\n")
    scene.observe(*UP)
    assert scene.get("/readyz")[:2] == (200, "ok\n")
    scene.observe(events.ConnectionChanged("mongodb", connected=False))
    assert scene.get("/readyz")[:2] == (503, "not connected to mongodb\n")
    scene.observe(*UP, events.Stopping("SIGTERM"))
    assert scene.get("/readyz")[:2] == (503, "stopping\n")


def test_liveness_depends_on_the_event_loop_alone(scene: Scene) -> None:
    assert scene.get("/livez")[:2] == (200, "ok\n")
    scene.now += ALIVE_WITHIN + 1
    assert scene.get("/livez")[:2] == (503, "the event loop does not turn\n")
    scene.observe(events.LoopLag(0.0))
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


def crashed(attempt: int, delay: float, logger: str | None = "a") -> events.Crashed:
    return events.Crashed("pipeline" if logger else "registry", logger, attempt, delay, ("ValueError('boom')",))


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


# paths


def test_metrics_are_served_in_the_exposition_format(scene: Scene) -> None:
    status, text, headers = scene.get("/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=")
    assert "# TYPE collector_loggers gauge" in text


def test_the_metrics_of_a_loop_that_is_stuck_say_so(scene: Scene) -> None:
    """It reports nothing any more, also not that the replica is not ready."""
    scene.observe(*UP)
    scene.metrics.observe(events.Ready(ready=True))
    assert 'collector_ready{log_namespace="beta"} 1.0' in scene.get("/metrics")[1]
    scene.now += 100
    text = scene.get("/metrics")[1]
    assert 'collector_ready{log_namespace="beta"} 0.0' in text
    assert 'collector_event_loop_lag_seconds{log_namespace="beta"} 100.0' in text


def test_a_query_is_passed_over(scene: Scene) -> None:
    assert scene.get("/livez?verbose")[0] == 200


def test_another_path_is_answered_with_the_list_of_them(scene: Scene) -> None:
    assert scene.get("/nothing")[:2] == (404, "paths: / /metrics /livez /readyz /status\n")


@pytest.mark.parametrize("path", ["/", "/metrics", "/livez", "/readyz", "/status", "/nothing"])
def test_head_gives_the_same_without_a_body(scene: Scene, path: str) -> None:
    (status, text, headers), (headed, nothing, its_headers) = scene.get(path), scene.get(path, "HEAD")
    assert (headed, nothing) == (status, "")
    if path != "/status":
        assert its_headers["Content-Length"] == headers["Content-Length"] == str(len(text))


def test_the_page_is_whole_and_may_ask_nobody_else(scene: Scene) -> None:
    status, text, headers = scene.get("/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; ")
    assert text.startswith("<!doctype html>")
    assert text.endswith("</html>\n")
    assert set(re.findall(r"https?://[^\"]+", text)) == {"http://www.w3.org/2000/svg"}  # a name, which nobody asks


def test_nothing_can_be_posted(scene: Scene) -> None:
    assert scene.get("/status", "POST")[0] == 501


def test_several_requests_go_over_one_connection(scene: Scene) -> None:
    connection = HTTPConnection(*scene.address, timeout=5)
    for path in ("/livez", "/metrics", "/livez"):
        connection.request("GET", path)
        assert connection.getresponse().read()
    connection.close()


def test_a_client_that_hangs_keeps_nobody_waiting() -> None:
    with served() as scene, socket.create_connection(scene.address) as silent:
        silent.sendall(b"GET /livez")
        assert scene.get("/livez")[0] == 200


def test_an_address_that_is_taken_is_an_error_at_once() -> None:
    with (
        served() as scene,
        pytest.raises(CannotListen, match=r"COLLECTOR_HTTP: expected .* in use; end the process") as caught,
        serving(scene.address, scene.metrics, scene.status),
    ):
        pass
    assert f"{scene.address[0]}:{scene.address[1]}" in str(caught.value)


@pytest.mark.parametrize(("host", "port"), [("192.0.2.1", 8080), ("no such host", 8080), ("999.1.1.1", 8080)])
def test_an_address_that_is_none_of_this_machines_is_an_error_that_names_the_variable(host: str, port: int) -> None:
    with (
        served() as scene,
        pytest.raises(CannotListen, match="COLLECTOR_HTTP"),
        serving((host, port), scene.metrics, scene.status),
    ):
        pass


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
@pytest.mark.parametrize(("host", "asked"), [("::1", "::1"), ("0.0.0.0", "127.0.0.1"), ("0.0.0.0", "::1")])  # noqa: S104
def test_it_listens_on_ipv6_too(host: str, asked: str) -> None:
    with served(host) as scene:
        scene.address = (asked, scene.address[1])
        assert scene.get("/livez")[0] == 200


# status


def test_the_snapshot_says_of_each_logger_what_this_replica_knows(scene: Scene) -> None:
    scene.observe(
        *UP,
        LoggerState("a", State.RUNNING),
        LoggerState("b", State.BACKING_OFF, "no stream"),
        events.Received("a", 5, 9, 100, 0),
        events.Held("a", 3, 60),
        events.WritesInProgress("a", 2),
        settled(),
        events.Returned("a", 4),
        events.Retried("a", Stage.WRITE, Failure.UNAVAILABLE, 1, 0.1, "no primary"),
        events.Crashed("pipeline", "b", 1, 0.1, ("ValueError('boom')",)),
        events.Failed("", Stage.CONTROL, Failure.UNAVAILABLE, "no bucket", "trying again"),
        events.LoopLag(0.25),
        readings.Sampled(
            "a",
            messages=10,
            bytes=1,
            oldest_age_seconds=1.5,
            pending=6,
            ack_pending=3,
            ack_pending_limit=9,
            redelivered=0,
            waiting_pulls=1,
            at=1.0,
        ),
    )
    found: dict[str, Any] = json.loads(scene.get("/status")[1])
    assert (found["namespace"], found["version"], found["ready"], found["not_ready"]) == ("beta", "1.2.3", True, [])
    assert found["connected"] == {"nats": True, "mongodb": True}
    assert found["entries"] == {"received": 9, "written": 6, "duplicates": 1, "dead_lettered": 2, "returned": 4}
    assert (found["last_error"], found["event_loop_lag_seconds"]) == ("no bucket", 0.25)
    a, b = found["loggers"]["a"], found["loggers"]["b"]
    assert a["last_error_at"] >= a["since"]
    assert {**a, "since": "", "last_error_at": ""} == {
        "state": "running",
        "since": "",
        "why": "",
        "lag_messages": 9,
        "oldest_message_age_seconds": 1.5,
        "in_hand_messages": 3,
        "in_hand_bytes": 60,
        "writes_in_progress": 2,
        "received": 9,
        "written": 6,
        "duplicates": 1,
        "dead_lettered": 2,
        "restarts": 0,
        "last_error": "no primary",
        "last_error_at": "",
        "last_error_past": False,
        "received_per_second": 0.0,
        "written_per_second": 0.0,
        "backoff": None,
    }
    assert found["buffer"] == {"messages": 3, "bytes": 60, "limit_bytes": 1024}
    assert found["connections"]["nats"]["why"] == "connected"
    assert b["backoff"] == {"attempt": 1, "restart_in_seconds": 0.1}
    assert (b["state"], b["why"], b["restarts"], b["last_error"]) == (
        "backing_off",
        "no stream",
        1,
        "ValueError('boom')",
    )


def test_a_logger_that_is_gone_is_not_in_the_snapshot_and_still_in_the_tally(scene: Scene) -> None:
    scene.observe(LoggerState("a", State.RUNNING), settled(), LoggerState("a", None), settled())
    assert scene.status.snapshot()["loggers"] == {}
    assert scene.status.tally.written == 6


def test_since_is_when_the_state_began(scene: Scene) -> None:
    scene.observe(LoggerState("a", State.RUNNING))
    since = scene.status.snapshot()["loggers"]["a"]["since"]
    scene.observe(LoggerState("a", State.RUNNING, "again"))
    assert scene.status.snapshot()["loggers"]["a"]["since"] == since


def test_a_logger_that_another_replica_owns_stands_by_and_the_replica_is_ready(scene: Scene) -> None:
    scene.observe(
        *UP,
        LoggerState("a", State.STANDBY, "another replica may own it"),
        events.OwnershipChanged("a", events.OwnershipChange.LOST, 7),
        events.Suspected("a", Counter()),
    )
    found = json.loads(scene.get("/status")[1])
    assert (found["loggers"]["a"]["state"], found["loggers"]["a"]["why"]) == ("standby", "another replica may own it")
    assert found["ready"]
    assert found["loggers"]["a"]["last_error_at"] is None
    assert found["loggers"]["a"]["last_error"] == "", "to lose an ownership is no error"


# what is over, and what nobody knows


def lag(logger: str = "a") -> readings.Sampled:
    return readings.Sampled(
        logger,
        messages=10,
        bytes=1,
        oldest_age_seconds=1.5,
        pending=6,
        ack_pending=3,
        ack_pending_limit=9,
        redelivered=0,
        waiting_pulls=1,
        at=1.0,
    )


def test_a_lag_that_was_read_more_than_a_minute_ago_is_not_known(scene: Scene) -> None:
    def of(key: str) -> tuple[int | None, float | None]:
        found = scene.status.snapshot()["loggers"][key]
        return found["lag_messages"], found["oldest_message_age_seconds"]

    scene.observe(LoggerState("a", State.RUNNING), LoggerState("b", State.RUNNING), lag("a"), lag("b"))
    scene.now += 60
    scene.observe(lag("b"))
    assert (of("a"), of("b")) == ((9, 1.5), (9, 1.5))
    scene.now += 0.1
    assert (of("a"), of("b")) == ((None, None), (9, 1.5))
    scene.now += 3600
    assert of("b") == (None, None)
    scene.observe(lag("b"))
    assert of("b") == (9, 1.5)


RETRIED = events.Retried("a", Stage.WRITE, Failure.UNAVAILABLE, 1, 0.1, "no primary")
PULL = events.Failed("a", Stage.PULL, Failure.SILENT, "no heartbeat", "asking again")
CONTROL = events.Failed("", Stage.CONTROL, Failure.UNAVAILABLE, "no bucket", "listing it again")
CRASHED = events.Crashed("registry", None, 1, 0.1, ("boom",))


def part(said: dict[str, Any], error: events.Event) -> dict[str, Any]:
    """Return what is said of whom the error befell."""
    found: dict[str, Any] = said if error in (CONTROL, CRASHED) else said["loggers"]["a"]
    return found


@pytest.mark.parametrize(
    ("trouble", "recovery"),
    [
        ([RETRIED], [settled()]),
        ([RETRIED, LoggerState("a", State.FAILING, "no primary")], [LoggerState("a", State.RUNNING)]),
        ([PULL], [events.Received("a", 1, 1, 1, 0)]),
        ([PULL], [settled()]),
        ([LoggerState("a", State.BACKING_OFF, "no stream"), RETRIED], [LoggerState("a", State.RUNNING)]),
        ([CONTROL], [events.ConnectionChanged("nats", connected=True)]),
    ],
)
def test_an_error_is_past_with_what_shows_that_it_works_again(
    scene: Scene, trouble: list[events.Event], recovery: list[events.Event]
) -> None:
    scene.observe(*UP, LoggerState("a", State.RUNNING), *trouble)
    at_first = scene.status.snapshot()
    before = part(at_first, trouble[-1])
    assert before["last_error"]
    assert not before["last_error_past"]
    scene.observe(*recovery)
    now = part(scene.status.snapshot(), trouble[-1])
    assert (now["last_error_past"], now["last_error_at"]) == (True, before["last_error_at"])


@pytest.mark.parametrize("error", [RETRIED, PULL, CONTROL, CRASHED], ids=lambda error: type(error).__name__)
def test_an_error_that_has_not_come_again_for_a_minute_is_past_and_one_that_goes_on_is_not(
    scene: Scene, error: events.Event
) -> None:
    scene.observe(*UP, LoggerState("a", State.RUNNING), error)
    for _ in range(5):
        scene.now += 59
        assert not part(scene.status.snapshot(), error)["last_error_past"]
        scene.observe(error)
    scene.now += 61
    assert part(scene.status.snapshot(), error)["last_error_past"]


@pytest.mark.parametrize("state", sorted(set(State) - {State.RUNNING, State.STANDBY}))
def test_an_error_of_a_logger_that_is_still_in_trouble_is_not_past(scene: Scene, state: State) -> None:
    scene.observe(LoggerState("a", State.RUNNING), PULL, LoggerState("a", state, "no stream"))
    scene.now += 3600
    assert not scene.status.snapshot()["loggers"]["a"]["last_error_past"]


def test_an_event_that_it_knows_nothing_of_is_passed_over(scene: Scene) -> None:
    class Unheard:
        """What somebody reports one day."""

    before = scene.status.snapshot()
    scene.status.observe(Unheard())  # type: ignore[arg-type]
    assert scene.status.snapshot() == before


# writes that fail


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


# rates and restarts


def test_rates_are_those_of_the_last_seconds(scene: Scene) -> None:
    def tick(seconds: int, entries: int) -> tuple[float, float]:
        for _ in range(seconds):
            scene.now += 1
            scene.observe(events.Received("a", entries, entries, 0, 0), events.LoopLag(0.0))
        a = scene.status.snapshot()["loggers"]["a"]
        return a["received_per_second"], a["written_per_second"]

    scene.observe(LoggerState("a", State.RUNNING), events.LoopLag(0.0))
    assert tick(2, 100) == (100.0, 0.0)
    assert tick(20, 100) == (100.0, 0.0)
    received, _ = tick(2, 1000)
    assert 100.0 < received < 1000.0
    assert tick(10, 1000)[0] == 1000.0
    assert tick(11, 0)[0] == 0.0


def test_a_rate_falls_while_the_loop_is_blocked(scene: Scene) -> None:
    scene.observe(LoggerState("a", State.RUNNING), events.LoopLag(0.0), events.Received("a", 100, 100, 0, 0))
    scene.now += 10
    assert scene.status.snapshot()["loggers"]["a"]["received_per_second"] == 10.0
    scene.now += 90
    assert scene.status.snapshot()["loggers"]["a"]["received_per_second"] == 1.0


def test_the_actors_of_the_root_say_what_they_wait_for(scene: Scene) -> None:
    calm = {"state": "running", "restarts": 0, "backoff": None}
    assert scene.status.snapshot()["actors"] == dict.fromkeys(
        ("owners", "registry", "sampler", "storage", "pipelines"), calm
    )
    scene.observe(crashed(2, 4.0, logger=None))
    scene.now += 1
    backoff = {"attempt": 2, "restart_in_seconds": 3.0}
    waiting = {"state": "backing_off", "restarts": 1, "backoff": backoff}
    assert scene.status.snapshot()["actors"]["registry"] == waiting
    scene.now += 3
    assert scene.status.snapshot()["actors"]["registry"] == {"state": "running", "restarts": 1, "backoff": None}


def test_a_logger_says_when_it_is_started_again_until_it_works(scene: Scene) -> None:
    def backoff() -> dict[str, Any] | None:
        found: dict[str, Any] | None = scene.status.snapshot()["loggers"]["a"]["backoff"]
        return found

    scene.observe(LoggerState("a", State.RUNNING), crashed(3, 2.0), LoggerState("a", State.BACKING_OFF, "boom"))
    scene.now += 0.5
    assert backoff() == {"attempt": 3, "restart_in_seconds": 1.5}
    scene.now += 5
    assert backoff() == {"attempt": 3, "restart_in_seconds": 0.0}
    scene.observe(LoggerState("a", State.STANDBY))
    assert backoff() is None


@pytest.mark.parametrize("state", [State.BACKING_OFF, State.MISCONFIGURED])
def test_a_reason_to_wait_is_the_last_error_until_the_logger_works(scene: Scene, state: State) -> None:
    def error() -> tuple[str, bool]:
        logger = scene.status.snapshot()["loggers"]["a"]
        return logger["last_error"], logger["last_error_past"]

    scene.observe(LoggerState("a", state, "no stream"))
    assert error() == ("no stream", False)
    scene.now += 3600
    assert error() == ("no stream", False)
    scene.observe(LoggerState("a", State.RUNNING))
    assert error() == ("no stream", True)


def test_the_crashes_of_a_logger_are_counted_once_and_forgotten_with_it(scene: Scene) -> None:
    def restarts() -> int:
        found: int = scene.status.snapshot()["loggers"]["a"]["restarts"]
        return found

    for attempt in range(1, 4):
        scene.observe(LoggerState("a", State.BACKING_OFF, "boom"), crashed(attempt, 0.1))
        scene.observe(LoggerState("a", State.RUNNING))
        assert restarts() == attempt
    assert scene.status.snapshot()["actors"]["pipelines"]["restarts"] == 0
    scene.observe(LoggerState("a", None), LoggerState("a", State.RUNNING))
    assert restarts() == 0
