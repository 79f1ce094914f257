"""The supervisor of the permanent children and the one of the pipelines, with scripted children."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from anyio import CancelScope, Event, create_task_group, fail_after
from msgspec.structs import replace

from collector.actors.supervisor import Intensity, Pipelines, Supervisor
from collector.errors import GaveUp
from collector.events import Crashed, GivenUp, LoggerState, State
from collector.telemetry.metrics import Metrics
from tests.support.fakes import Reports, settled
from tests.support.scripted_child import ScriptedChild
from transfer.wire import ArchiveSpec, CollectionSpec, LoggerSpec, StreamSpec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BOOM = ValueError("boom")
NOT_ASKED = ("stray cancellation", "cancels its own task", "return", BOOM)


def states(reports: Reports, key: str = "a") -> list[State | None]:
    moved = (event for event in reports.all if isinstance(event, LoggerState | Crashed))
    return [event.state for event in moved if event.logger == key]


# the permanent ones


@pytest.mark.parametrize("end", NOT_ASKED)
async def test_a_permanent_child_that_ends_unasked_is_started_again(end: str | Exception) -> None:
    child, reports, stopping = ScriptedChild("registry", end, "run"), Reports(), Event()
    with fail_after(30):
        async with create_task_group() as group:
            group.start_soon(Supervisor([child], reports).run, stopping)
            while child.runs < 2:
                child.started = Event()
                await child.started.wait()
            stopping.set()
    assert [(crash.actor, crash.attempt) for crash in reports.of(Crashed)] == [("registry", 1)]


async def test_a_crash_of_one_permanent_child_leaves_the_others_running() -> None:
    bad, good, stopping = ScriptedChild("bad", BOOM, BOOM, "run"), ScriptedChild("good"), Event()
    with fail_after(30):
        async with create_task_group() as group:
            group.start_soon(Supervisor([bad, good], Reports()).run, stopping)
            while bad.runs < 3:
                bad.started = Event()
                await bad.started.wait()
            assert (good.runs, good.running) == (1, 1)
            stopping.set()


async def test_it_gives_up_when_a_child_crashes_too_often() -> None:
    child, other, reports = ScriptedChild("registry", BOOM), ScriptedChild("other"), Reports()
    with fail_after(30), pytest.raises(ExceptionGroup) as raised:
        await Supervisor([child, other], reports, Intensity(crashes=3, seconds=60)).run(Event())
    assert raised.group_contains(GaveUp, match="registry crashed 3 times")
    (given_up,) = reports.of(GivenUp)
    assert given_up.actor == "registry"
    assert given_up.error.startswith("registry crashed 3 times")
    assert (child.runs, other.running) == (3, 0)


async def test_a_child_that_is_asked_to_stop_while_it_waits_for_its_restart_is_not_started_again() -> None:
    child, reports, stopping = ScriptedChild("registry", BOOM), Reports(), Event()
    with fail_after(30):
        async with create_task_group() as group:
            group.start_soon(Supervisor([child], reports).run, stopping)
            await reports.until(lambda: reports.of(Crashed))
            stopping.set()
    assert child.runs == 1


async def test_a_cancellation_from_outside_goes_through() -> None:
    child = ScriptedChild("registry")
    with fail_after(30), CancelScope() as scope:
        async with create_task_group() as group:
            group.start_soon(Supervisor([child], Reports()).run, Event())
            await settled()
            scope.cancel()
    assert scope.cancelled_caught
    assert child.runs == 1


# the pipelines


class Scene:
    """Pipelines that run; each child plays what was written for it before it was wanted."""

    def __init__(self) -> None:
        self.reports, self.stopping = Reports(), Event()
        self.made: list[ScriptedChild] = []
        self.specs: list[LoggerSpec] = []
        self.scripts: dict[str, list[str | Exception]] = {}
        self.pipelines = Pipelines(self._make, self.reports)

    def _make(self, spec: LoggerSpec) -> ScriptedChild:
        child = ScriptedChild(spec.key, *self.scripts.get(spec.key, []))
        self.made.append(child)
        self.specs.append(spec)
        return child

    @property
    def running(self) -> list[str]:
        return sorted(child.name for child in self.made if child.running)


@asynccontextmanager
async def playing() -> AsyncIterator[Scene]:
    scene = Scene()
    with fail_after(30):
        async with create_task_group() as group:
            group.start_soon(scene.pipelines.run, scene.stopping)
            await settled()
            yield scene
            scene.stopping.set()
    assert scene.running == []
    assert scene.pipelines.running == set()


async def test_the_same_key_wanted_again_has_still_one_pipeline() -> None:
    async with playing() as scene:
        for description in ("one", "two", "two"):
            scene.pipelines.want(LoggerSpec("a", description))
            await settled()
        assert scene.running == ["a"]
        assert len(scene.made) == 1


async def test_what_was_wanted_before_it_ran_is_started() -> None:
    scene = Scene()
    scene.pipelines.want(LoggerSpec("a"))
    with fail_after(30):
        async with create_task_group() as group:
            group.start_soon(scene.pipelines.run, scene.stopping)
            await settled()
            assert scene.running == ["a"]
            scene.stopping.set()


CHANGED = {
    "collection": CollectionSpec(kind="timeseries"),
    "stream": StreamSpec(max_bytes=1_000_000),
    "destination": "file",
    "archive": ArchiveSpec(),
}
"""Another value of each field that a pipeline is made by."""


def test_there_is_another_value_of_each_field_of_a_spec() -> None:
    assert {"key", "description", *CHANGED} == set(LoggerSpec.__struct_fields__)


@pytest.mark.parametrize("field", CHANGED)
async def test_a_changed_spec_replaces_the_pipeline_after_the_old_one_has_drained(field: str) -> None:
    async with playing() as scene:
        scene.pipelines.want(LoggerSpec("a"))
        await settled()
        old = scene.made[0]
        old.drained = Event()
        scene.pipelines.want(replace(LoggerSpec("a", "also described anew"), **{field: CHANGED[field]}))
        await settled()
        assert (len(scene.made), old.running) == (1, 1)
        old.drained.set()
        await settled()
        assert (len(scene.made), old.running, scene.made[1].running) == (2, 0, 1)
        assert getattr(scene.specs[1], field) == CHANGED[field]


@pytest.mark.parametrize("field", CHANGED)
async def test_a_spec_that_changes_while_its_pipeline_waits_after_a_crash_is_run_at_once(field: str) -> None:
    async with playing() as scene:
        scene.pipelines._curve = lambda _: 3600.0
        scene.scripts["a"] = [BOOM]
        scene.pipelines.want(LoggerSpec("a"))
        await scene.reports.until(lambda: State.PARKED in states(scene.reports))
        scene.scripts["a"] = ["run"]
        scene.pipelines.want(replace(LoggerSpec("a"), **{field: CHANGED[field]}))
        await settled()
        assert scene.running == ["a"]
        assert getattr(scene.specs[-1], field) == CHANGED[field]


async def test_a_dropped_logger_drains_and_is_gone() -> None:
    async with playing() as scene:
        scene.pipelines.want(LoggerSpec("a"))
        await settled()
        scene.pipelines.drop("a")
        await settled()
        assert scene.running == []
        assert states(scene.reports)[-1] is None


async def test_a_logger_that_is_wanted_again_while_it_drains_starts_when_it_has() -> None:
    async with playing() as scene:
        scene.pipelines.want(LoggerSpec("a"))
        await settled()
        scene.made[0].drained = Event()
        scene.pipelines.drop("a")
        scene.pipelines.want(LoggerSpec("a"))
        await settled()
        assert len(scene.made) == 1
        scene.made[0].drained.set()
        await settled()
        assert (len(scene.made), scene.running) == (2, ["a"])


async def test_a_parked_logger_stops_says_why_and_starts_when_it_is_wanted_again() -> None:
    async with playing() as scene:
        scene.pipelines.want(LoggerSpec("a"))
        await settled()
        scene.pipelines.park("a", "it is not msgpack")
        scene.pipelines.park("a", "it is not msgpack")
        await settled()
        assert scene.running == []
        assert scene.reports.of(LoggerState)[-1] == LoggerState("a", State.PARKED, "it is not msgpack")
        scene.pipelines.want(LoggerSpec("a"))
        await settled()
        assert scene.running == ["a"]


async def test_a_parked_logger_that_is_dropped_is_gone() -> None:
    async with playing() as scene:
        scene.pipelines.park("a", "why")
        assert scene.pipelines.known == {"a"}
        scene.pipelines.drop("a")
        assert states(scene.reports) == [State.PARKED, None]
        assert scene.pipelines.known == set()


async def test_a_crash_before_anything_else_is_counted_for_its_logger_too() -> None:
    metrics = Metrics("beta", "1.2.3", 1)
    async with playing() as scene:
        scene.scripts["bad"] = [RuntimeError("boom"), "run"]
        scene.pipelines.want(LoggerSpec("bad"))
        await scene.reports.until(lambda: scene.reports.of(Crashed))
    for event in scene.reports.all[: scene.reports.all.index(scene.reports.of(Crashed)[0]) + 1]:
        metrics.observe(event)
    assert 'logger="bad",actor="pipeline",reason="crashed"} 1.0' in metrics.text(0).decode()


@pytest.mark.parametrize("end", NOT_ASKED)
async def test_a_pipeline_that_ends_unasked_is_started_again_and_disturbs_no_other(end: str | Exception) -> None:
    async with playing() as scene:
        scene.scripts["bad"] = [end, end, "run"]
        scene.pipelines.want(LoggerSpec("good"))
        scene.pipelines.want(LoggerSpec("bad"))
        await scene.reports.until(lambda: len(scene.reports.of(Crashed)) == 2)
        crashes = scene.reports.of(Crashed)
        assert [(crash.logger, crash.attempt) for crash in crashes] == [("bad", 1), ("bad", 2)]
        assert crashes[0].delay < crashes[1].delay
        assert [child.runs for child in scene.made if child.name == "good"] == [1]
        assert states(scene.reports, "bad") == [State.BACKING_OFF] * 2
        assert [event for event in scene.reports.of(LoggerState) if event.logger == "bad"] == [], "the crash says it"


async def test_a_pipeline_that_crashes_again_and_again_is_never_given_up() -> None:
    async with playing() as scene:
        scene.pipelines._curve = lambda attempt: 0.0 if attempt < 20 else 30.0
        scene.scripts["bad"] = [BOOM]
        scene.pipelines.want(LoggerSpec("bad"))
        await scene.reports.until(lambda: len(scene.reports.of(Crashed)) == 20)
        assert states(scene.reports, "bad")[-1] is State.PARKED
        scene.pipelines.drop("bad")
        await settled()
        assert states(scene.reports, "bad")[-1] is None


async def test_when_asked_to_stop_all_pipelines_drain_at_the_same_time() -> None:
    scene = Scene()
    with fail_after(30):
        async with create_task_group() as group:
            group.start_soon(scene.pipelines.run, scene.stopping)
            for key in "abc":
                scene.pipelines.want(LoggerSpec(key))
            await settled()
            for child in scene.made:
                child.drained = Event()
            scene.stopping.set()
            await settled()
            assert scene.running == ["a", "b", "c"]
            for child in reversed(scene.made):
                child.drained.set()


async def test_nothing_is_started_any_more_once_it_was_asked_to_stop() -> None:
    """A change of the bucket may be under way at the very moment of the stop."""
    scene = Scene()
    with fail_after(30):
        async with create_task_group() as group:
            group.start_soon(scene.pipelines.run, scene.stopping)
            await settled()
            scene.pipelines.want(LoggerSpec("a"))
            await settled()
            scene.made[0].drained = Event()
            scene.stopping.set()
            await settled()
            scene.pipelines.want(LoggerSpec("a"))
            scene.pipelines.want(LoggerSpec("b"))
            await settled()
            scene.made[0].drained.set()
    assert [child.name for child in scene.made] == ["a"]


async def test_after_a_crash_of_the_pipelines_themselves_all_that_is_wanted_runs_again() -> None:
    scene = Scene()
    with fail_after(30):
        with pytest.raises(ExceptionGroup):  # noqa: PT012 - the crash ends what goes on in the block
            async with create_task_group() as group:
                group.start_soon(scene.pipelines.run, scene.stopping)
                await settled()
                scene.pipelines.want(LoggerSpec("a"))
                await settled()
                raise BOOM
        scene.pipelines.want(LoggerSpec("b"))  # between the crash and the restart
        async with create_task_group() as group:
            group.start_soon(scene.pipelines.run, scene.stopping)
            await settled()
            assert scene.running == ["a", "b"]
            scene.stopping.set()
