"""Judges the MongoDB side: facts in, findings out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collector.check.clock import judge_clock
from collector.check.findings import ok, warning, wrong
from collector.mongodb.needs import differences, differences_of_our_own
from collector.sinks.timeseries.claims import CLAIMS, REPLICAS
from transfer.difference import Remedy

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from collector.check.facts import LoggerFacts, Members, MongoDB
    from collector.check.findings import Finding
    from collector.mongodb.listed import Collection
    from transfer.difference import Difference
    from transfer.names import Names

NEEDED = frozenset({"insert", "find", "update", "remove", "listCollections", "createIndex"})
"""The actions of the role `collector` in docs/security.md."""
_TESTED = (6, 0)
_MAJORITY = "MongoDB majority"
_HAS_TIMESERIES = (5, 0)


def judge_mongodb(facts: MongoDB, loggers: Iterable[LoggerFacts], names: Names) -> Iterator[Finding]:
    """Yield all findings; `loggers` are those whose spec could be read."""
    if facts.error:
        yield from _unreachable(facts)
        return
    yield from _server(facts)
    if facts.members is not None:
        yield from _majority(facts.members)
    yield judge_clock("MongoDB", facts.clock_ahead)
    yield from _user(facts)
    if facts.collections_error:
        yield wrong(
            "MongoDB collections",
            expected="to list them",
            got=facts.collections_error,
            do="grant the role of docs/security.md",
        )
        return
    if facts.indexes_error:
        yield warning(
            "MongoDB indexes",
            expected="to look for unique ones, which refuse entries",
            got=facts.indexes_error,
            do="grant listIndexes, which a declared expiry of plain collections needs too",
        )
    for name in (CLAIMS, REPLICAS):
        yield from map(_finding, differences_of_our_own(name, facts.collections.get(name)))
    for logger in loggers:
        yield from _collections(logger, facts, names)


def _unreachable(facts: MongoDB) -> Iterator[Finding]:
    if facts.replica_set != facts.wanted_set and facts.wanted_set is not None:
        yield _not_the_set(facts)
        return
    if facts.members is not None:
        yield _no_majority(facts.members, "no primary")
        return
    yield wrong(
        "MongoDB",
        expected=f"{facts.hosts} to let us in",
        got=facts.error,
        do="is it up and can it be reached from here? Are user, password and authSource in DATABASE right?",
    )


def _majority(members: Members) -> Iterator[Finding]:
    if members.reachable < members.needed or not members.confirm:
        yield _no_majority(members, "no majority")
    elif members.reachable < members.bearing_data:
        yield warning(
            _MAJORITY,
            expected=f"all {members.bearing_data} data-bearing members to be reachable",
            got=f"{members.reachable} of them, which is a majority",
            do="start those that are missing: see rs.status()",
        )


def _no_majority(members: Members, what: str) -> Finding:
    count = f"{what}: {members.reachable} of {members.bearing_data} data-bearing members reachable"
    late = "" if members.reachable < members.needed or what == "no primary" else ", but they do not follow the primary"
    return wrong(
        _MAJORITY,
        expected=f"{members.needed} data-bearing members that follow a primary: every write waits for them",
        got=count + late,
        do="start the missing ones, or see in rs.status() why they are behind; entries wait in JetStream until then",
    )


def _not_the_set(facts: MongoDB) -> Finding:
    return wrong(
        "MongoDB",
        expected=f"{facts.hosts} to be of the replica set {facts.wanted_set or '(any)'}",
        got=f"the set {facts.replica_set}" if facts.replica_set else "a standalone mongod",
        do="correct replicaSet in DATABASE"
        if facts.replica_set
        else "start it with --replSet and run rs.initiate(): writes wait for a majority of a set",
    )


def _server(facts: MongoDB) -> Iterator[Finding]:
    version = ".".join(map(str, facts.version))
    if facts.replica_set is None and not facts.sharded:
        yield _not_the_set(facts)
    elif not facts.writable:
        yield wrong(
            "MongoDB",
            expected="a primary that takes writes",
            got="none now",
            do="is a majority of its members up? See rs.status()",
        )
    else:
        kind = "a sharded cluster" if facts.sharded else f"replica set {facts.replica_set}"
        yield ok("MongoDB", f"connected to {facts.hosts}, {kind}, version {version}")
    if facts.version < _TESTED:
        oldest = ".".join(map(str, _TESTED))
        yield warning(
            "MongoDB version",
            expected=f"{oldest} or newer",
            got=version,
            do="upgrade: the collector is not tested with older ones",
        )


def _user(facts: MongoDB) -> Iterator[Finding]:
    about = "MongoDB privileges"
    if not facts.user:
        if not facts.collections_error:
            yield ok(about, "all: it demands no login")
        return
    missing = sorted(NEEDED - facts.granted)
    if missing:
        yield wrong(
            about,
            expected=f"user {facts.user} to have those of docs/security.md on database {facts.database}",
            got=f"no {', '.join(missing)}",
            do="grant them on all collections of the database",
        )
    else:
        yield ok(about, f"user {facts.user} has all that are needed on database {facts.database}")


def _collections(logger: LoggerFacts, facts: MongoDB, names: Names) -> Iterator[Finding]:
    name, dead_letters = names.collection(logger.key), names.dead_letters(logger.key)
    wants_timeseries = bool(logger.spec and logger.spec.collection and logger.spec.collection.kind == "timeseries")
    if wants_timeseries and facts.version < _HAS_TIMESERIES:
        yield wrong(
            f"collection {name}",
            expected="MongoDB 5.0 or newer for time-series",
            got=".".join(map(str, facts.version)),
            do="upgrade",
        )
    spec = logger.spec.collection if logger.spec else None
    different = differences(name, spec, facts.collections.get(name))
    different += differences_of_our_own(dead_letters, facts.collections.get(dead_letters))
    trouble = [_finding(each) for each in different]
    yield from trouble
    if not trouble:
        found = facts.collections.get(name)
        yield ok(f"collection {name}", f"a {_kind(found)}" if found else "not there yet; it is made when it is needed")


def _kind(found: Collection) -> str:
    return {"timeseries": "time-series collection", "collection": "plain collection"}.get(found.kind, found.kind)


def _finding(difference: Difference) -> Finding:
    level = wrong if difference.remedy in {Remedy.MEND, Remedy.HARM} else warning
    return level(difference.about, expected=difference.expected, got=difference.got, do=difference.command)
