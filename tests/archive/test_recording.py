"""The recorder of a capture: each of its events moves the metrics of its logger, and its numbers are gauges."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from collector.archive.reading import Doubt
from collector.archive.record import BlockKind, CutTrigger
from collector.archive.recording import Recorder
from collector.archive.told import (
    CutCompleted,
    CutStored,
    Doubted,
    Facts,
    MessagesExpired,
    Owning,
    StoredBlock,
    StoreFailed,
    Told,
    Waiting,
)
from collector.errors import CaptureRefused, RecordDamaged, StreamWentBack
from collector.events import LoggerState, State
from collector.events.archiving import CUT_TRIGGERS, DOUBTS, STORE_FAILURES, Archived, ArchiveGone
from collector.telemetry.metrics import Metrics
from collector.telemetry.status import Status
from tests.support.metrics import NOW, Scene

if TYPE_CHECKING:
    from collections.abc import Mapping

CUT = CutStored(
    number=3,
    trigger=CutTrigger.WINDOW,
    messages=10,
    rows=9,
    dead_letters=1,
    overflow=2,
    blocks=2,
    raw_bytes=900,
    bytes=100,
    to=40,
    seconds=0.5,
)
FACTS = Facts(
    is_owner=True,
    cursor=40,
    held_messages=5,
    lag_messages=25,
    oldest_message_age=3.5,
    open_cut_age=2.5,
    open_cut_bytes=700,
    open_cut_blocks=4,
    open_cut_keys=3,
    fetched=45,
    archived=40,
    blocks=2,
    rows=9,
    raw_bytes=900,
    stored_bytes=100,
    cuts={},
    store_failures={},
    store_seconds=0.1,
    repeats=7,
    resets={},
    tenures=1,
    completed_blocks=0,
    expired_messages=0,
    overflow_rows=0,
    dead_letters=0,
)


class Recorded(Scene):
    """The metrics of a replica, and the recorder of logger `a`."""

    def __init__(self, *loggers: str) -> None:
        super().__init__(*loggers)
        self.recorder = Recorder("a", self.metrics.observe, window=900.0)

    def archive(self) -> dict[tuple[str, str], float]:
        """Return the metrics of archives that are not 0, by name and by the value of their own label."""
        found = {}
        for (name, labels), value in self.samples().items():
            if name.startswith("archive_") and not name.endswith("_bucket") and value:
                of = dict(labels)
                assert of.pop("logger") == "a"
                found[name.removeprefix("archive_").removesuffix("_total"), "".join(of.values())] = value
        return found


# The names of docs/metrics.md, besides the counters: the queries of users rely on them.
GAUGES = (
    *("cursor", "lag_messages", "oldest_message_age_seconds", "open_cut_age_seconds", "open_cut_bytes", "keys"),
    *("unacked_messages", "window_seconds", "owner", "contradicted"),
)


def test_every_metric_of_archives_is_there_under_its_name() -> None:
    text = Scene("a").metrics.text(NOW).decode()
    counters = [f"{counter}_total" for counter in Archived]
    assert set(re.findall(r"^# TYPE collector_archive_(\S+)", text, re.MULTILINE)) == {
        *GAUGES,
        *counters,
        "store_seconds",
    }


def test_the_closed_lists_of_labels_are_those_of_the_archive() -> None:
    assert [*CutTrigger] == [*CUT_TRIGGERS]
    assert [*Doubt] == [*DOUBTS]


def test_an_archived_logger_has_every_child_from_its_first_event_and_another_one_has_none() -> None:
    scene = Recorded("a", "b")
    assert not [name for name, _ in scene.samples() if name.startswith("archive_")]
    scene.recorder.rest()
    children = {name: dict(labels) for name, labels in scene.samples() if name.startswith("archive_")}
    assert {f"archive_{counter}_total" for counter in Archived} <= children.keys()
    assert {labels["logger"] for labels in children.values()} == {"a"}
    for name, label, values in (
        ("cuts", "trigger", CUT_TRIGGERS),
        ("resets", "why", DOUBTS),
        ("store_failures", "reason", STORE_FAILURES),
    ):
        assert {scene.value(f"archive_{name}_total", logger="a", **{label: value}) for value in values} == {0}
    scene.metrics.observe(ArchiveGone("a"))
    assert not [name for name, _ in scene.samples() if name.startswith("archive_")]


def block(kind: BlockKind, error: str = "") -> StoredBlock:
    return StoredBlock("path", "key", kind, rows=9, bytes=100, seconds=0.25, error=error)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (Owning(7), {("tenures", ""): 1}),
        (Waiting("nats is away"), {}),
        (Doubted(Doubt.GAP, 4), {("resets", "gap"): 1}),
        (CUT, {("raw_bytes", ""): 900, ("cuts", "window"): 1}),
        (CutCompleted(3, blocks=2, rows=5, expired=4), {("completed_blocks", ""): 2, ("expired_messages", ""): 4}),
        (MessagesExpired(6), {("expired_messages", ""): 6}),
        (StoreFailed("full", "unavailable", 1, 0.2), {("store_failures", "unavailable"): 1}),
        (StoreFailed("no right", "refused", 1, 0.2), {("store_failures", "refused"): 1}),
        (
            block(BlockKind.ROWS),
            {("blocks", ""): 1, ("rows", ""): 9, ("stored_bytes", ""): 100},
        ),
        (
            block(BlockKind.OTHER),
            {("blocks", ""): 1, ("rows", ""): 9, ("overflow_rows", ""): 9, ("stored_bytes", ""): 100},
        ),
        (block(BlockKind.DEAD), {("blocks", ""): 1, ("dead_letters", ""): 9, ("stored_bytes", ""): 100}),
        (block(BlockKind.ROWS, "full"), {}),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, dict) else "",
)
def test_each_event_moves_its_metrics_and_no_other(event: Told, expected: Mapping[tuple[str, str], float]) -> None:
    scene = Recorded("a")
    scene.recorder.tell(event)
    seconds = {("store_seconds_count", ""): 1, ("store_seconds_sum", ""): 0.25} if type(event) is StoredBlock else {}
    assert scene.archive() == dict(expected) | seconds


def test_the_numbers_are_gauges_and_repeats_are_counted_once() -> None:
    scene = Recorded("a")
    expected = {
        ("cursor", ""): 40,
        ("lag_messages", ""): 25,
        ("oldest_message_age_seconds", ""): 3.5,
        ("open_cut_age_seconds", ""): 2.5,
        ("open_cut_bytes", ""): 700,
        ("keys", ""): 3,
        ("unacked_messages", ""): 5,
        ("window_seconds", ""): 900,
        ("owner", ""): 1,
        ("repeats", ""): 7,
    }
    for _ in range(2):
        scene.recorder.sample(FACTS)
        assert scene.archive() == expected
    scene.recorder.sample(replace(FACTS, is_owner=False, repeats=8))
    assert scene.archive() == {("window_seconds", ""): 900, ("repeats", ""): 8}, "another process may be the owner"


@pytest.mark.parametrize(("over", "left"), [(Owning(7), 0), (Waiting("b is the owner", owned=True), 0)])
@pytest.mark.parametrize("error", [StreamWentBack("s", "it lost some"), RecordDamaged("1.cut", "it is empty")])
def test_a_contradiction_stays_until_somebody_reads_again(error: Exception, over: Told, left: float) -> None:
    scene = Recorded("a")
    scene.recorder.ended(error)
    scene.recorder.rest()
    scene.recorder.tell(Waiting("nats is away"))
    assert scene.value("archive_contradicted", logger="a") == 1
    scene.recorder.tell(over)
    assert scene.value("archive_contradicted", logger="a") == left


def test_another_end_is_no_contradiction() -> None:
    scene = Recorded("a")
    scene.recorder.rest()
    scene.recorder.ended(CaptureRefused("the durable is push"))
    assert scene.value("archive_contradicted", logger="a") == 0
    assert scene.value("loggers", state="misconfigured") == 1


def test_a_process_that_only_archives_has_no_metrics_of_entries() -> None:
    metrics = Metrics("archive", "1", 0, mongodb=False, archives_only=True)
    metrics.observe(LoggerState("a", State.RUNNING))
    Recorder("a", metrics.observe, window=900.0).rest()
    names = {line.partition("{")[0] for line in metrics.text(0.0).decode().splitlines() if 'logger="a"' in line}
    assert names
    assert {name for name in names if not name.startswith("collector_archive_")} == set()


def test_the_status_names_owner_cursor_open_cut_and_last_cut_and_a_stored_cut_is_a_success() -> None:
    status = Status("beta", "1", mongodb=False)
    recorder = Recorder("a", status.observe, window=900.0)
    for event in (Owning(7), StoreFailed("full", "unavailable", 1, 0.2)):
        recorder.tell(event)
    assert any("no write succeeds" in why for why in status.not_ready)
    recorder.sample(FACTS)
    recorder.tell(CUT)
    assert not any("no write succeeds" in why for why in status.not_ready)
    archive = status.snapshot()["loggers"]["a"]["archive"]
    assert archive["last_cut"].pop("stored_at")
    assert archive == {
        "is_owner": True,
        "cursor": 40,
        "open_cut_age_seconds": 2.5,
        "open_cut_bytes": 700,
        "unacked_messages": 5,
        "last_cut": {"number": 3, "to": 40, "messages": 10, "trigger": "window"},
    }
    recorder.tell(Waiting("b is the owner", owned=True))
    recorder.sample(replace(FACTS, is_owner=False))
    a = status.snapshot()["loggers"]["a"]
    assert (a["state"], a["why"], a["archive"]["cursor"]) == ("standby", "b is the owner", None)
    status.observe(ArchiveGone("a"))
    assert status.snapshot()["loggers"]["a"]["archive"] is None
