"""The ack extender and the sampler: two loops on a clock."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
import pytest
from anyio import Event, create_task_group, current_time, fail_after

from collector.actors.ack_extender import AckExtender
from collector.actors.sampler import Sampler, pause_after
from collector.events import Failed, Failure, Mended
from collector.events.readings import STALE_AFTER, Sampled, Waiting
from collector.flow.in_hand import InHand
from collector.jetstream.doubts import Doubts
from collector.jetstream.stuck import SIGHTINGS, Stuck
from tests.support.fakes import ATTACHED, KEY, FakeLink, FakeSource, Reports, delivery
from tests.support.keeping import Kept
from transfer.difference import Difference, Remedy
from transfer.errors import JetStreamError, Misconfigured, Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Sequence


class HeardLink(FakeLink):
    """Says when answers were sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[float, list[tuple[str, bytes]]]] = []
        self.changed = Event()

    async def answer(self, answers: Sequence[tuple[str, bytes]]) -> int:
        self.sent.append((current_time(), list(answers)))
        self.changed.set()
        self.changed = Event()
        return 0


async def test_everything_in_hand_is_kept_alive_three_times_in_an_ack_wait() -> None:
    in_hand, link = InHand(), HeardLink()
    in_hand.take([delivery(1), delivery(2)])
    with fail_after(30):
        begun = current_time()
        async with create_task_group() as group:
            group.start_soon(AckExtender([Kept(in_hand, 0.3)], link, 30).run)
            await link.changed.wait()
            in_hand.release([delivery(1)])
            await link.changed.wait()
            group.cancel_scope.cancel()
    assert [answers for _, answers in link.sent] == [
        [(delivery(1).reply, b"+WPI"), (delivery(2).reply, b"+WPI")],
        [(delivery(2).reply, b"+WPI")],
    ]
    assert link.sent[1][0] - begun > 0.19


async def test_while_nats_is_away_nothing_is_kept_alive() -> None:
    in_hand, link = InHand(), HeardLink()
    in_hand.take([delivery(1)])
    link.connected = False
    with fail_after(30):
        async with create_task_group() as group:
            group.start_soon(AckExtender([Kept(in_hand, 0.003)], link, 30).run)
            await anyio.sleep(0.1)  # many times as long as it waits
            assert link.sent == []
            link.connected = True
            await link.changed.wait()
            group.cancel_scope.cancel()


class ScriptedLag:
    """Lag that is played by the test."""

    def __init__(self, *script: Exception | list[Sampled] | list[Waiting]) -> None:
        self.script, self.asked = list(script), list[set[str]]()
        self.mended: list[str] = []
        self.of_bucket: tuple[Difference, ...] = ()

    async def stuck(self, key: str) -> Stuck | None:
        if key == "broken":
            raise Unavailable("down")
        return Stuck("made at 1", 7, 5)

    async def bucket(self) -> tuple[Difference, ...]:
        return self.of_bucket

    async def bring_back(self, key: str, stuck: Stuck) -> bool:
        self.mended.append(f"{key} {stuck.durable}, made anew")
        return True

    async def sample(self, keys: Collection[str]) -> list[Sampled] | list[Waiting]:
        self.asked.append(set(keys))
        found = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(found, Exception):
            raise found
        return found


class CountingLag(ScriptedLag):
    """Counts the close looks."""

    looks = 0

    async def stuck(self, key: str) -> Stuck | None:
        self.looks += 1
        return await super().stuck(key)


class Running:
    """Pipelines that run."""

    running = frozenset({"a"})


def sampled(at: float, key: str = "a", messages: int = 1, **found: Any) -> Sampled:
    return Sampled(
        key,
        messages=messages,
        bytes=2,
        oldest_age_seconds=3,
        pending=1,
        ack_pending=0,
        ack_pending_limit=10,
        redelivered=0,
        waiting_pulls=1,
        at=at,
        **found,
    )


async def test_the_sampler_survives_errors_and_says_them() -> None:
    errors = [Unavailable("down"), JetStreamError("$JS", 500, 10008, "not available")]
    lag, reports, stopping = ScriptedLag(*errors, [sampled(1.0)]), Reports(), Event()
    with fail_after(30):
        async with create_task_group() as group:
            group.start_soon(Sampler(lag, FakeSource(), Doubts(), Running(), reports, period=0.01).run, stopping)  # type: ignore[arg-type]
            await reports.until(lambda: len(reports.of(Sampled)) == 2)
            stopping.set()
    assert [failed.error for failed in reports.of(Failed)] == [str(error) for error in errors]
    assert lag.asked[0] == {"a"}
    assert reports.of(Sampled)[0] == sampled(1.0)


async def test_the_sampler_returns_at_once_when_asked_to_stop_while_it_waits() -> None:
    reports, stopping = Reports(), Event()
    with fail_after(30):
        async with create_task_group() as group:
            lag = ScriptedLag([sampled(1.0)])
            group.start_soon(Sampler(lag, FakeSource(), Doubts(), Running(), reports, period=3600).run, stopping)  # type: ignore[arg-type]
            await reports.until(lambda: reports.of(Sampled))
            stopping.set()


async def test_what_is_seen_to_be_stuck_again_and_again_is_brought_back_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.jetstream.stuck.SETTLED", 0.05)
    lag, reports, stopping = ScriptedLag([sampled(1.0, messages=6)]), Reports(), Event()
    with fail_after(30):
        async with create_task_group() as group:
            group.start_soon(Sampler(lag, FakeSource(), Doubts(), Running(), reports, period=0.01).run, stopping)  # type: ignore[arg-type]
            await reports.until(lambda: len(reports.of(Sampled)) == 20)
            stopping.set()
    assert len(lag.asked) >= SIGHTINGS
    assert lag.mended == ["a made at 1, made anew"]
    assert [(mended.logger, mended.messages) for mended in reports.of(Mended)] == [("a", 5)]


def difference(remedy: Remedy, got: str = "3") -> Difference:
    return Difference("durable 'a'", "max_deliver", "-1", got, remedy, "why", "command")


@asynccontextmanager
async def sampling(lag: ScriptedLag, source: FakeSource, doubts: Doubts, reports: Reports) -> AsyncIterator[None]:
    """Have a sampler read, a few times a second."""
    stopping = Event()
    with fail_after(5):
        async with create_task_group() as group:
            group.start_soon(Sampler(lag, source, doubts, Running(), reports, period=0.01).run, stopping)  # type: ignore[arg-type]
            yield
            stopping.set()


async def test_a_durable_that_is_not_as_needed_is_brought_in_line_though_another_logger_cannot_be_looked_at() -> None:
    broken, wrong = sampled(1.0, "broken", messages=6), sampled(1.0, KEY, differences=(difference(Remedy.UPDATE),))
    source, doubts, reports = FakeSource(), Doubts(), Reports()
    with doubts.moving(KEY, ATTACHED) as doubted:
        async with sampling(ScriptedLag([broken, wrong]), source, doubts, reports):
            await reports.until(lambda: reports.of(Failed) and source.looks)
        assert not doubted.is_set()
    assert {failed.logger for failed in reports.of(Failed)} == {"broken"}


@pytest.mark.parametrize(
    "found",
    [
        {"differences": (difference(Remedy.MEND),)},
        {"ack_wait": ATTACHED.ack_wait / 2},
        {"ack_wait": ATTACHED.ack_wait, "differences": (difference(Remedy.RISK),)},
    ],
)
async def test_a_pipeline_that_knows_something_else_is_told_to_attach_again(found: dict[str, Any]) -> None:
    misconfigured = Misconfigured(difference(Remedy.MEND))
    source, doubts, reports = FakeSource(misconfigured), Doubts(), Reports()
    with doubts.moving(KEY, ATTACHED) as doubted:
        async with sampling(ScriptedLag([sampled(1.0, KEY, **found)]), source, doubts, reports):
            await doubted.wait()
    assert reports.of(Failed) == []


async def test_a_logger_that_is_not_moved_and_one_that_is_as_it_was_are_left_alone() -> None:
    risky = difference(Remedy.RISK)
    known = replace(ATTACHED, risks=(risky,))
    same = sampled(1.0, KEY, ack_wait=known.ack_wait + 10, differences=(risky,))
    waiting = sampled(1.0, "waiting", differences=(difference(Remedy.MEND),))
    source, doubts, reports = FakeSource(), Doubts(), Reports()
    with doubts.moving(KEY, known) as doubted:
        async with sampling(ScriptedLag([same, waiting]), source, doubts, reports):
            await reports.until(lambda: len(reports.of(Sampled)) == 20)
        assert (doubted.is_set(), source.looks) == (False, 0)


async def test_nothing_is_taken_for_stuck_while_something_else_explains_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.jetstream.stuck.SETTLED", 0.0)
    filtered = sampled(1.0, messages=6, differences=(difference(Remedy.UPDATE),))
    lag, reports = ScriptedLag([filtered]), Reports()
    async with sampling(lag, FakeSource(), Doubts(), reports):
        await reports.until(lambda: len(reports.of(Sampled)) == 20)
    assert lag.mended == []


async def test_only_a_logger_that_has_more_in_its_stream_twice_in_a_row_is_looked_at_closely() -> None:
    """Streams are read before durables: under load nearly every logger has more in its stream, now and then."""
    busy, calm = sampled(1.0, messages=6), sampled(1.0)
    script = [[busy], [calm]] * 20 + [[busy], [busy], [calm]]
    lag, reports, stopping = CountingLag(*script), Reports(), Event()
    with fail_after(5):
        async with create_task_group() as group:
            group.start_soon(Sampler(lag, FakeSource(), Doubts(), Running(), reports, period=0.001).run, stopping)  # type: ignore[arg-type]
            await reports.until(lambda: len(reports.of(Sampled)) > len(script))
            stopping.set()
    assert lag.looks == 1


async def test_what_waits_for_a_logger_without_a_durable_is_said_and_nothing_is_mended() -> None:
    lag, reports, stopping = CountingLag([Waiting("a", 5, 1.0)]), Reports(), Event()
    with fail_after(5):
        async with create_task_group() as group:
            group.start_soon(Sampler(lag, FakeSource(), Doubts(), Running(), reports, period=0.001).run, stopping)  # type: ignore[arg-type]
            await reports.until(lambda: len(reports.of(Waiting)) > 3)
            stopping.set()
    assert (lag.looks, lag.mended) == (0, [])


async def test_a_bucket_that_loses_declarations_is_said_and_the_lag_is_read_nevertheless() -> None:
    lag, reports = ScriptedLag([sampled(1.0)]), Reports()
    lag.of_bucket = (difference(Remedy.MEND, "60 s"), difference(Remedy.RISK))
    async with sampling(lag, FakeSource(), Doubts(), reports):
        await reports.until(lambda: reports.of(Sampled))
    assert {(failed.logger, failed.error) for failed in reports.of(Failed)} == {("", str(lag.of_bucket[0]))}


@pytest.mark.parametrize("deaf", [True, False])
async def test_a_logger_for_which_messages_wait_while_its_requests_hear_nothing_begins_again(*, deaf: bool) -> None:
    """In a replica with many loggers a heartbeat is missed much later."""
    waiting, reports, doubts = sampled(1.0, KEY), Reports(), Doubts()
    heard_at = current_time()
    with doubts.moving(KEY, ATTACHED, lambda: heard_at if deaf else current_time()) as doubted:
        async with sampling(ScriptedLag([waiting]), FakeSource(), doubts, reports):
            await reports.until(lambda: len(reports.of(Sampled)) >= 4)
        assert doubted.is_set() is deaf
    assert {failed.failure for failed in reports.of(Failed)} == ({Failure.SILENT} if deaf else set())


@pytest.mark.parametrize(
    ("script", "requested"),
    [
        ([{"pending": 0, "messages": 0}], True),
        ([{"ack_pending": 1, "messages": 2}], True),
        ([{}, {"pending": 0, "messages": 0}], True),
        ([{}], False),
    ],
    ids=["nothing waits", "somebody works", "it waits in every other reading", "no request"],
)
async def test_a_logger_whose_requests_may_rightly_hear_nothing_goes_on(
    script: list[dict[str, Any]], *, requested: bool
) -> None:
    readings = [[msgspec.structs.replace(sampled(1.0, KEY), **changes)] for changes in script] * 10
    reports, doubts, heard_at = Reports(), Doubts(), current_time()
    with doubts.moving(KEY, ATTACHED, lambda: heard_at if requested else None) as doubted:
        async with sampling(ScriptedLag(*readings), FakeSource(), doubts, reports):
            await reports.until(lambda: len(reports.of(Sampled)) >= 6)
        assert not doubted.is_set()


@pytest.mark.parametrize(
    ("loggers", "period", "pause"),
    [(0, 5, 5), (1_000, 5, 5), (2_500, 5, 5), (5_000, 5, 10), (10_000, 5, 20), (100_000, 5, 20), (100_000, 60, 60)],
)
def test_with_very_many_loggers_the_lag_is_read_less_often_and_often_enough_to_be_known(
    loggers: int, period: float, pause: float
) -> None:
    assert pause_after(loggers, period) == pause
    assert period > 20 or pause < STALE_AFTER / 2
