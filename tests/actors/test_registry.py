"""The registry with a scripted bucket."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio import Event, create_task_group, fail_after

from collector.actors.registry import Registry
from collector.errors import BucketMissing
from collector.events import Failed
from collector.events.readings import Declared
from collector.jetstream.bucket import Gone, Listed, Put
from collector.jetstream.connection import Reconnects
from tests.support.fake_bucket import FakeBucket
from tests.support.fakes import Reports, settled
from transfer.errors import JetStreamError, Unavailable
from transfer.wire import LoggerSpec, encode_spec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Desired:
    """What the registry asked for, instead of pipelines."""

    def __init__(self) -> None:
        self.wanted: dict[str, LoggerSpec] = {}
        self.parked: dict[str, str] = {}
        self.calls: list[str] = []

    @property
    def known(self) -> set[str]:
        return {*self.wanted, *self.parked}

    def want(self, spec: LoggerSpec) -> None:
        self.calls.append(f"want {spec.key}")
        self.parked.pop(spec.key, None)
        self.wanted[spec.key] = spec

    def drop(self, key: str) -> None:
        self.calls.append(f"drop {key}")
        self.wanted.pop(key, None)
        self.parked.pop(key, None)

    def park(self, key: str, why: str) -> None:
        self.calls.append(f"park {key}")
        self.wanted.pop(key, None)
        self.parked[key] = why


class Scene:
    """A registry that runs, and everything around it."""

    def __init__(self, period: float) -> None:
        self.bucket, self.desired, self.reports, self.reconnects = FakeBucket(), Desired(), Reports(), Reconnects()
        self.stopping = Event()
        self.registry = Registry(self.bucket, self.desired, self.reconnects, self.reports, period)  # type: ignore[arg-type]

    async def say(self, *changes: object) -> None:
        for change in changes:
            self.bucket.says(change)
        await settled()


@asynccontextmanager
async def playing(period: float = 3600.0) -> AsyncIterator[Scene]:
    scene = Scene(period)
    with fail_after(30):
        async with create_task_group() as group:
            group.start_soon(scene.registry.run, scene.stopping)
            await settled()
            yield scene
            scene.stopping.set()


def put(key: str, revision: int = 0) -> Put:
    return Put(key, encode_spec(LoggerSpec(key)), revision)


async def test_what_is_listed_and_what_is_put_later_is_wanted() -> None:
    async with playing() as scene:
        await scene.say(put("a"), Listed(), put("b"))
        assert sorted(scene.desired.wanted) == ["a", "b"]


async def test_what_is_gone_is_dropped() -> None:
    async with playing() as scene:
        await scene.say(put("a"), Listed(), Gone("a"))
        assert scene.desired.known == set()


@pytest.mark.parametrize(
    "change",
    [
        Put("a", b"\xc1"),
        Put("a", encode_spec(LoggerSpec("b"))),
        Put("a.b", encode_spec(LoggerSpec("a"))),
        Put("a", b""),
    ],
    ids=["bytes", "another's spec", "key", "nothing"],
)
async def test_a_value_that_cannot_be_read_parks_its_own_logger_and_says_why(change: Put) -> None:
    async with playing() as scene:
        await scene.say(put("good"), change, Listed())
        assert list(scene.desired.wanted) == ["good"]
        assert change.key in scene.desired.parked
        assert scene.desired.parked[change.key]


async def test_nothing_is_dropped_before_the_list_is_complete() -> None:
    async with playing() as scene:
        await scene.say(put("a"), put("b"), Listed())
        scene.reconnects.notify()
        await settled()
        await scene.say(put("a"))
        assert sorted(scene.desired.wanted) == ["a", "b"]


async def test_after_a_reconnect_the_bucket_is_listed_again_and_what_is_missing_is_dropped() -> None:
    async with playing() as scene:
        await scene.say(put("a"), put("b"), Put("c", b"bad"), Listed())
        scene.reconnects.notify()
        await settled()
        assert scene.bucket.watches == 2
        await scene.say(put("a"), put("b"), Listed())
        assert scene.desired.known == {"a", "b"}


async def test_lists_between_two_declarations_after_a_purge_stop_no_logger_that_is_still_to_be_declared() -> None:
    async with playing() as scene:
        await scene.say(*(put(key, 1) for key in "abcde"), Listed())
        for declared in range(1, 5):
            new = "abcde"[declared - 1]
            await scene.say(put(new, 1 + declared))
            await again(scene, *(put(key, 2 + number) for number, key in enumerate("abcde"[:declared])))
            assert scene.desired.known == set("abcde")
            assert f"{5 - declared} loggers that run" in trouble(scene)
        await scene.say(put("e", 6))
        assert not trouble(scene)


async def test_the_bucket_is_listed_again_a_period_after_it_was_listed() -> None:
    async with playing(period=0.01) as scene:
        for watches in range(1, 4):
            assert scene.bucket.watches == watches
            await scene.say(Listed())
            while scene.bucket.watches == watches:
                await scene.bucket.opened.wait()


async def test_a_listing_that_takes_longer_than_the_period_is_not_cut() -> None:
    async with playing(period=0.01) as scene:
        await scene.say(put("a"), put("b"), Listed())
        while scene.bucket.watches < 2:
            await scene.bucket.opened.wait()
        await scene.say(put("a"))
        await anyio.sleep(0.05)
        assert scene.bucket.watches == 2
        await scene.say(Listed())
        assert set(scene.desired.wanted) == {"a"}


async def again(scene: Scene, *changes: object, life: str = "made at 1") -> None:
    """Have the bucket listed again, with this in it."""
    scene.bucket.life = life
    watches = scene.bucket.watches
    scene.reconnects.notify()
    while scene.bucket.watches == watches:
        await scene.bucket.opened.wait()
    await settled()
    await scene.say(*changes, Listed())


def trouble(scene: Scene) -> str:
    return scene.reports.of(Declared)[-1].trouble


@pytest.mark.parametrize(
    ("found", "life", "left", "said"),
    [
        ([], "made at 1", {"a", "b", "c"}, True),
        ([], "made at 2", {"a", "b", "c"}, True),
        (["a"], "made at 1", {"a", "b", "c"}, True),
        (["a", "b"], "made at 1", {"a", "b"}, False),
        (["a"], "made at 2", {"a", "b", "c"}, True),
        (["x"], "made at 1", {"a", "b", "c", "x"}, True),
        (["x"], "made at 2", {"a", "b", "c", "x"}, True),
        (["a", "b", "c"], "made at 2", {"a", "b", "c"}, False),
    ],
)
async def test_what_is_absent_is_dropped_or_goes_on(found: list[str], life: str, left: set[str], said: bool) -> None:
    async with playing() as scene:
        await scene.say(put("a"), put("b"), Put("c", b"bad"), Listed())
        await again(scene, *map(put, found), life=life)
        for _ in range(2):
            assert scene.desired.known == left
            assert bool(trouble(scene)) is said
            await again(scene, *map(put, found), life=life)


async def test_a_delete_is_a_wish_also_of_the_last_logger_and_in_another_bucket() -> None:
    async with playing() as scene:
        await scene.say(put("a"), put("b"), Listed())
        await again(scene, Gone("a"), Gone("b"))
        assert scene.desired.known == set()
        await scene.say(put("a"), put("b"))
        await again(scene, Gone("a"), life="made at 2")
        assert scene.desired.known == {"b"}
        assert "1 loggers that run" in trouble(scene)
        await scene.say(Gone("b"))
        assert scene.desired.known == set()
        assert not trouble(scene)


async def test_a_bucket_that_is_gone_stops_nothing_and_is_said_until_it_is_back() -> None:
    async with playing() as scene:
        await scene.say(put("a"), put("b"), Listed())
        scene.bucket.failures = [BucketMissing("beta_logs", "it was there before")] * 3
        scene.reconnects.notify()
        while scene.bucket.watches < 5:
            await scene.bucket.opened.wait()
        await settled()
        assert scene.desired.known == {"a", "b"}
        assert "beta_logs" in trouble(scene)
        assert scene.reports.of(Declared)[-1].looked
        assert len(scene.reports.of(Failed)) == 3
        await scene.say(put("b"), put("a"), Listed())
        assert not trouble(scene)


async def test_a_replica_that_starts_without_the_bucket_says_that_it_never_read_it() -> None:
    scene = Scene(3600.0)
    scene.bucket.failures = [BucketMissing("beta_logs", "4 streams of loggers are there")]
    with fail_after(60):
        async with create_task_group() as group:
            group.start_soon(scene.registry.run, scene.stopping)
            await scene.reports.until(lambda: scene.reports.of(Declared))
            assert not scene.reports.of(Declared)[-1].looked
            scene.stopping.set()


async def test_what_declares_no_logger_is_counted() -> None:
    async with playing() as scene:
        await scene.say(put("a"), *(Put(f"junk{number}", b"\xc1") for number in range(30)), Listed())
        assert scene.reports.of(Declared)[-1].unreadable == 30
        await scene.say(Gone("junk7"), put("junk8"))
        assert scene.reports.of(Declared)[-1].unreadable == 28


@pytest.mark.parametrize("error", [Unavailable("down"), JetStreamError("$JS", 500, 10047, "insufficient storage")])
async def test_a_bucket_that_cannot_be_listed_is_tried_again_without_a_crash(error: Exception) -> None:
    async with playing() as scene:
        scene.bucket.failures = [error, error]
        scene.reconnects.notify()
        while scene.bucket.watches < 4:
            await scene.bucket.opened.wait()
        await settled()
        await scene.say(put("a"), Listed())
        assert list(scene.desired.wanted) == ["a"]
        assert len(scene.reports.of(Failed)) == 2


async def test_a_watch_that_dies_is_opened_again() -> None:
    async with playing() as scene:
        await scene.say(put("a"), Listed(), Unavailable("gone"))
        while scene.bucket.watches < 2:
            await scene.bucket.opened.wait()
        assert list(scene.desired.wanted) == ["a"]


async def test_it_returns_when_asked_to_stop_while_it_waits_to_try_again() -> None:
    scene = Scene(3600.0)
    scene.bucket.failures = [Unavailable("down")] * 100
    with fail_after(30):
        async with create_task_group() as group:
            group.start_soon(scene.registry.run, scene.stopping)
            await scene.reports.until(lambda: len(scene.reports.of(Failed)) == 1)
            scene.stopping.set()


async def test_cancelled_anywhere_it_leaves_no_listener_behind() -> None:
    scene = Scene(3600.0)
    with fail_after(30), anyio.CancelScope() as scope:
        async with create_task_group() as group:
            group.start_soon(scene.registry.run, scene.stopping)
            await settled()
            scope.cancel()
    assert not scene.reconnects._listeners
