"""The judgement of `collector check`: facts in, findings out, without any server."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from collector.check.clock import TOLERATED, ahead, judge_clock
from collector.check.facts import LoggerFacts, Members, MongoDB, Nats, Stream
from collector.check.findings import Finding, Level, as_json, warning
from collector.check.mongodb_findings import NEEDED, judge_mongodb
from collector.check.nats_findings import Plan, judge_nats
from collector.mongodb.listed import Collection, Index
from transfer.jetstream.configurations import ConsumerLimits, DurableConfig, DurableInfo, StreamConfig
from transfer.names import Names
from transfer.wire import CollectionSpec, LoggerSpec, StreamSpec

NAMES = Names("beta")
PLAN = Plan(names=NAMES, replicas=3, held=6000, ack_wait=30.0)
STREAM = Stream(config=StreamConfig(name="beta:logs:a", subjects=("beta.logs.a",)))
BUCKET = StreamConfig(
    name="KV_beta_logs", subjects=("$KV.beta_logs.>",), retention="limits", discard="new", allow_direct=True
)
CONFIG = DurableConfig(ack_wait=30_000_000_000, max_ack_pending=100_000, max_waiting=512, mem_storage=True)
DURABLE = DurableInfo(stream_name="beta:logs:a", name="beta:logs:a", created="now", config=CONFIG)
LOGGER = LoggerFacts(key="a", spec=LoggerSpec("a"), stream=STREAM, durable=DURABLE)
TIMESERIES = LoggerSpec("a", collection=CollectionSpec(kind="timeseries"))
NATS = Nats(hosts="nats://n", version="2.15.1", api_level=5, bucket=Stream(config=BUCKET), clock_ahead=0.0)
MONGODB = MongoDB(
    hosts="m", database="beta", version=(6, 0, 5), replica_set="rs0", wanted_set="rs0", writable=True, clock_ahead=0.0
)


def nats_troubles(facts: Nats, plan: Plan = PLAN) -> list[tuple[Level, str, str]]:
    return [(one.level, one.about, one.got) for one in judge_nats(facts, plan) if one.level is not Level.OK]


def of_logger(logger: LoggerFacts, plan: Plan = PLAN) -> list[tuple[Level, str, str]]:
    return nats_troubles(replace(NATS, loggers=(logger,)), plan)


def of_mongodb(facts: MongoDB, logger: LoggerFacts = LOGGER) -> list[tuple[Level, str, str]]:
    return [
        (one.level, one.about, one.got) for one in judge_mongodb(facts, [logger], NAMES) if one.level is not Level.OK
    ]


def of_collections(logger: LoggerFacts = LOGGER, **collections: Collection) -> list[tuple[Level, str, str]]:
    return of_mongodb(replace(MONGODB, collections=collections), logger)


def test_nothing_is_wrong_where_nothing_is() -> None:
    assert of_logger(LOGGER) == of_mongodb(MONGODB) == []
    assert of_logger(replace(LOGGER, durable=None)) == []
    assert nats_troubles(replace(NATS, bucket=None)) == []


def test_a_durable_that_is_not_there_is_said_to_be_made_by_a_replica() -> None:
    facts = replace(NATS, loggers=(replace(LOGGER, durable=None),))
    (found,) = [one for one in judge_nats(facts, PLAN) if one.about == "logger a"]
    assert (found.level, "a running replica makes its durable" in found.got) == (Level.OK, True)


def test_streams_that_hold_messages_and_are_declared_nowhere_are_to_be_declared_and_not_removed() -> None:
    facts = replace(NATS, undeclared=(("beta:logs:x", 7), ("beta:logs:y", 1)))
    assert [about for _, about, _ in nats_troubles(facts)] == ["stream beta:logs:x", "stream beta:logs:y"]
    assert nats_troubles(replace(facts, bucket=None))[0][:2] == (Level.WRONG, "bucket beta_logs")
    for found in judge_nats(facts, PLAN):
        if found.about.startswith("stream "):
            assert "transfer set" in found.do
            assert not re.search("remove|delete|rm", found.do)


# a finding


@given(st.text(), st.text(), st.text())
def test_a_finding_is_one_line_that_no_terminal_obeys(about: str, got: str, do: str) -> None:
    line = str(warning(about, expected="x", got=got, do=do))
    assert len(line.splitlines()) == 1
    assert all(letter.isprintable() or letter == "\t" for letter in line)


def test_findings_are_counted_in_json() -> None:
    found = as_json([Finding(Level.OK, "a", "b"), Finding(Level.WRONG, "a", "b", "c", "d")])
    assert (found["ok"], found["warning"], found["wrong"]) == (1, 0, 1)
    assert found["findings"][1] == {"level": "wrong", "about": "a", "got": "b", "expected": "c", "do": "d"}


# clocks


@given(st.floats(-100, 100), st.floats(0, 5), st.floats(0, 1))
def test_a_clock_is_never_said_to_be_further_off_than_it_is(off: float, took: float, when: float) -> None:
    asked, answered = 1000.0, 1000.0 + took
    said = ahead(asked + when * took + off, asked, answered)
    assert abs(said) <= abs(off) + 1e-9
    assert abs(said) >= abs(off) - took - 1e-9


@pytest.mark.parametrize(("seconds", "level"), [(None, "ok"), (TOLERATED, "ok"), (2.0, "warning"), (-2.0, "warning")])
def test_a_clock_may_be_a_second_off(seconds: float | None, level: str) -> None:
    found = judge_clock("NATS", seconds)
    assert found.level == level
    assert seconds is None or level == "ok" or ("ahead of" if seconds > 0 else "behind") in found.got


# NATS


def test_without_a_connection_nothing_else_is_judged() -> None:
    assert nats_troubles(Nats(hosts="nats://n", error="no answer")) == [(Level.WRONG, "NATS", "no answer")]


def test_an_old_jetstream_is_a_warning_and_one_that_may_not_be_asked_is_none() -> None:
    assert nats_troubles(replace(NATS, api_level=0)) == [(Level.WARNING, "JetStream", "level 0")]
    assert nats_troubles(replace(NATS, api_level=None)) == []


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({"max_age": 60_000_000_000}, Level.WRONG),
        ({"max_msgs": 10, "discard": "old"}, Level.WRONG),
        ({"subjects": ("other",)}, Level.WRONG),
        ({"retention": "interest"}, Level.WRONG),
        ({"storage": "memory"}, Level.WARNING),
        ({"allow_msg_ttl": True}, Level.WARNING),
        ({"allow_direct": False}, Level.WARNING),
        ({"sealed": True}, Level.WARNING),
    ],
)
def test_a_bucket_whose_entries_vanish_is_wrong_and_one_that_stops_go_clients_a_warning(
    changes: dict[str, object], level: Level
) -> None:
    ((found, about, got),) = nats_troubles(replace(NATS, bucket=Stream(config=structs.replace(BUCKET, **changes))))
    assert (found, about) == (level, "bucket beta_logs")
    assert got


@pytest.mark.parametrize(("replicas", "levels"), [(16, []), (17, [Level.WRONG])])
def test_what_all_replicas_hold_stays_below_the_durables_limit(replicas: int, levels: list[Level]) -> None:
    assert [level for level, _, _ in of_logger(LOGGER, replace(PLAN, replicas=replicas))] == levels


def replace_config(**changes: object) -> DurableInfo:
    return structs.replace(DURABLE, config=structs.replace(CONFIG, **changes))


def replace_stream(**changes: object) -> Stream:
    return replace(STREAM, config=structs.replace(STREAM.config, **changes))


@pytest.mark.parametrize(
    ("stream", "level"),
    [
        (replace_stream(retention="limits"), Level.WRONG),
        (replace_stream(subjects=("beta.logs.*",)), Level.WRONG),
        (replace_stream(consumer_limits=ConsumerLimits(max_ack_pending=10)), Level.WRONG),
        (replace_stream(consumer_limits=ConsumerLimits(inactive_threshold=10)), Level.WRONG),
        (replace_stream(mirror={"name": "other"}), Level.WRONG),
        (replace_stream(storage="memory"), Level.WARNING),
        (replace_stream(max_age=60_000_000_000), Level.WARNING),
        (replace_stream(max_bytes=1000), Level.WARNING),
        (replace_stream(max_msgs=1000), Level.WARNING),
        (replace_stream(max_msgs_per_subject=1000, discard="new"), Level.WARNING),
        (replace_stream(no_ack=True), Level.WARNING),
        (replace_stream(persist_mode="async"), Level.WARNING),
        (replace_stream(sealed=True), Level.WARNING),
        (replace(STREAM, messages=1), Level.WARNING),  # and its durable knows of none
    ],
)
def test_each_flaw_of_a_stream_is_found(stream: Stream, level: Level) -> None:
    assert [found for found, _, _ in of_logger(replace(LOGGER, stream=stream))] == [level]


def test_what_the_spec_states_is_meant() -> None:
    stated = LoggerSpec("a", stream=StreamSpec(max_age=60.0, max_bytes=1000, storage="memory"))
    stream = replace_stream(max_age=60_000_000_000, max_bytes=1000, storage="memory")
    assert of_logger(replace(LOGGER, stream=stream, spec=stated)) == []
    assert len(of_logger(replace(LOGGER, stream=stream))) == 3
    assert of_logger(replace(LOGGER, stream=replace_stream(max_bytes=1000, discard="new"))) == []


@pytest.mark.parametrize(
    ("durable", "level"),
    [
        (replace_config(ack_policy="none"), Level.WARNING),
        (replace_config(max_deliver=3), Level.WARNING),
        (replace_config(headers_only=True), Level.WARNING),
        (replace_config(mem_storage=False), Level.WARNING),
        (replace_config(ack_wait=60_000_000_000), Level.WARNING),
        (replace_config(ack_wait=1_000_000_000), Level.WARNING),
        (replace_config(max_ack_pending=17_999), Level.WARNING),
        (replace_config(deliver_subject="push"), Level.WARNING),
        (structs.replace(replace_config(deliver_subject="push"), push_bound=True), Level.WRONG),
        (structs.replace(DURABLE, paused=True), Level.WRONG),
    ],
)
def test_each_flaw_of_a_durable_is_found(durable: DurableInfo, level: Level) -> None:
    assert [found for found, _, _ in of_logger(replace(LOGGER, durable=durable))] == [level]


def test_a_logger_that_cannot_be_read_or_seen_is_wrong_and_no_other_is() -> None:
    unreadable = LoggerFacts(key="b", spec=None, unreadable="it is not msgpack")
    unseen = replace(LOGGER, key="c", not_seen="no answer")
    assert nats_troubles(replace(NATS, loggers=(LOGGER, unreadable, unseen))) == [
        (Level.WRONG, "logger b", "it is not msgpack"),
        (Level.WRONG, "logger c", "no answer"),
    ]


# MongoDB


@pytest.mark.parametrize(
    ("facts", "got"),
    [
        (replace(MONGODB, error="no answer"), "no answer"),
        (replace(MONGODB, replica_set=None, wanted_set=None), "a standalone mongod"),
        (replace(MONGODB, error="x", replica_set=None), "a standalone mongod"),
        (replace(MONGODB, error="x", replica_set="rs1"), "the set rs1"),
        (replace(MONGODB, writable=False), "none now"),
    ],
)
def test_a_server_that_takes_no_majority_writes_is_wrong(facts: MongoDB, got: str) -> None:
    assert of_mongodb(facts) == [(Level.WRONG, "MongoDB", got)]


def test_a_sharded_cluster_is_fine_and_an_old_server_a_warning() -> None:
    assert of_mongodb(replace(MONGODB, replica_set=None, sharded=True)) == []
    assert of_mongodb(replace(MONGODB, version=(5, 0, 0))) == [(Level.WARNING, "MongoDB version", "5.0.0")]
    old = of_mongodb(replace(MONGODB, version=(4, 4, 0)), replace(LOGGER, spec=TIMESERIES))
    assert (Level.WRONG, "collection a_logs", "4.4.0") in old


@pytest.mark.parametrize("action", sorted(NEEDED))
def test_each_privilege_that_is_missing_is_named(action: str) -> None:
    facts = replace(MONGODB, user="u", granted=NEEDED - {action})
    assert of_mongodb(facts) == [(Level.WRONG, "MongoDB privileges", f"no {action}")]
    assert of_mongodb(replace(facts, granted=NEEDED | {"dropDatabase"})) == []


@pytest.mark.parametrize(
    ("found", "levels"),
    [
        (Collection(), []),
        (Collection(kind="view"), [Level.WRONG]),
        (Collection(capped=True), [Level.WARNING]),
        (Collection(validated=True), [Level.WARNING]),
        (Collection(indexes=(Index(name="i", fields=("f",), unique=True),)), [Level.WRONG]),
        (Collection(indexes=(Index(name="i", fields=("f",), unique=True, partial=True),)), [Level.WARNING]),
        (Collection(kind="timeseries", time_field="timestamp", meta_field="metadata"), [Level.WARNING]),
    ],
)
def test_each_flaw_of_a_plain_loggers_collection_is_found(found: Collection, levels: list[Level]) -> None:
    assert [level for level, _, _ in of_collections(a_logs=found)] == levels


@pytest.mark.parametrize(
    ("found", "levels"),
    [
        (Collection(kind="timeseries", time_field="timestamp", meta_field="metadata"), []),
        (Collection(kind="timeseries", time_field="at", meta_field="metadata"), [Level.WRONG]),
        (Collection(kind="timeseries", time_field="timestamp"), [Level.WARNING]),
        (Collection(), [Level.WRONG]),
    ],
)
def test_each_flaw_of_a_time_series_loggers_collection_is_found(found: Collection, levels: list[Level]) -> None:
    assert [level for level, _, _ in of_collections(replace(LOGGER, spec=TIMESERIES), a_logs=found)] == levels


@pytest.mark.parametrize("found", [Collection(kind="timeseries"), Collection(capped=True), Collection(validated=True)])
def test_a_collection_of_dead_letters_takes_all_of_them(found: Collection) -> None:
    assert [(level, about) for level, about, _ in of_collections(a_fail=found)] == [(Level.WRONG, "collection a_fail")]
    assert of_collections(a_fail=Collection()) == []


def test_collections_and_indexes_that_may_not_be_looked_at_are_said_once() -> None:
    (unseen,) = of_mongodb(replace(MONGODB, collections_error="Unauthorized", user=""))
    assert unseen == (Level.WRONG, "MongoDB collections", "Unauthorized")
    (unseen,) = of_mongodb(replace(MONGODB, indexes_error="Unauthorized"))
    assert unseen == (Level.WARNING, "MongoDB indexes", "Unauthorized")


# members of a replica set


@pytest.mark.parametrize(
    ("members", "level", "got"),
    [
        (Members(3, 3, 2, confirm=True), None, ""),
        (Members(2, 3, 2, confirm=True), Level.WARNING, "2 of them, which is a majority"),
        (Members(1, 2, 2, confirm=True), Level.WRONG, "no majority: 1 of 2 data-bearing members reachable"),
        (Members(1, 2, 2, confirm=False), Level.WRONG, "no majority: 1 of 2 data-bearing members reachable"),
        (
            Members(3, 3, 2, confirm=False),
            Level.WRONG,
            "no majority: 3 of 3 data-bearing members reachable, but they do not follow the primary",
        ),
    ],
)
def test_a_majority_that_is_missing_or_behind_is_wrong(members: Members, level: Level | None, got: str) -> None:
    found = of_mongodb(replace(MONGODB, members=members))
    assert found == ([(level, "MongoDB majority", got)] if level else [])


def test_a_set_without_a_primary_says_who_is_there() -> None:
    facts = replace(MONGODB, error="nobody", members=Members(1, 3, 2, confirm=False))
    assert of_mongodb(facts) == [(Level.WRONG, "MongoDB majority", "no primary: 1 of 3 data-bearing members reachable")]
