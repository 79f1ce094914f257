"""Judges the MongoDB side: facts in, findings out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collector.check.clock import judge_clock
from collector.check.findings import ok, warning, wrong

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from collector.check.facts import Collection, Logger, MongoDB
    from collector.check.findings import Finding
    from transfer.names import Names

NEEDED = frozenset({"insert", "find", "update", "remove", "listCollections", "createIndex"})
"""What docs/security.md's role collector may do, and the service does."""
_TESTED = (6, 0)
_HAS_TIMESERIES = (5, 0)


def judge_mongodb(facts: MongoDB, loggers: Iterable[Logger], names: Names) -> Iterator[Finding]:
    """Yield what is right and wrong; `loggers` are those of which the spec could be read."""
    if facts.error:
        yield from _unreachable(facts)
        return
    yield from _server(facts)
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
            do="grant listIndexes: only `collector check` uses it",
        )
    for logger in loggers:
        yield from _collections(logger, facts, names)


def _unreachable(facts: MongoDB) -> Iterator[Finding]:
    if facts.replica_set != facts.wanted_set and facts.wanted_set is not None:
        yield _not_the_set(facts)
        return
    yield wrong(
        "MongoDB",
        expected=f"{facts.hosts} to let us in",
        got=facts.error,
        do="is it up and can it be reached from here? Are user, password and authSource in DATABASE right?",
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
    said = ".".join(map(str, facts.version))
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
        yield ok("MongoDB", f"connected to {facts.hosts}, {kind}, version {said}")
    if facts.version < _TESTED:
        oldest = ".".join(map(str, _TESTED))
        yield warning(
            "MongoDB version",
            expected=f"{oldest} or newer",
            got=said,
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


def _collections(logger: Logger, facts: MongoDB, names: Names) -> Iterator[Finding]:
    name, letters = names.collection(logger.key), names.dead_letters(logger.key)
    wants_timeseries = bool(logger.spec and logger.spec.collection and logger.spec.collection.kind == "timeseries")
    if wants_timeseries and facts.version < _HAS_TIMESERIES:
        yield wrong(
            f"collection {name}",
            expected="MongoDB 5.0 or newer for time-series",
            got=".".join(map(str, facts.version)),
            do="upgrade",
        )
    trouble = [
        *_entries(name, facts.collections, wants_timeseries=wants_timeseries),
        *_letters(letters, facts.collections),
    ]
    yield from trouble
    if not trouble:
        found = facts.collections.get(name)
        yield ok(f"collection {name}", f"a {_kind(found)}" if found else "not there yet; it is made when it is needed")


def _kind(found: Collection) -> str:
    return {"timeseries": "time-series collection", "collection": "plain collection"}.get(found.kind, found.kind)


def _entries(name: str, collections: Mapping[str, Collection], *, wants_timeseries: bool) -> Iterator[Finding]:
    found, about = collections.get(name), f"collection {name}"
    if found is None:
        return
    if found.kind == "view":
        yield wrong(
            about, expected="a collection", got="a view, which takes no writes", do="drop the view, or rename it"
        )
        return
    if wants_timeseries != (found.kind == "timeseries"):
        yield (wrong if wants_timeseries else warning)(
            about,
            expected=f"a {'time-series' if wants_timeseries else 'plain'} collection, as its logger's spec asks",
            got=f"a {_kind(found)}, which is left as it is",
            do="move the collection away, or state its kind in the spec",
        )
    if found.kind == "timeseries":
        yield from _timeseries(about, found)
    if found.capped:
        yield warning(
            about,
            expected="to keep what is stored",
            got="a capped collection, which drops the oldest",
            do="move it away, if that is not meant",
        )
    if found.validated:
        yield warning(
            about,
            expected="to take every entry",
            got="a validator: what it refuses becomes a dead letter",
            do="nothing, if that is meant",
        )
    yield from _unique(name, found)


def _timeseries(about: str, found: Collection) -> Iterator[Finding]:
    if found.time_field != "timestamp":
        yield wrong(
            about,
            expected="the time field timestamp",
            got=f"{found.time_field}, so that every entry without such a date is refused",
            do="move the collection away: time fields cannot be changed",
        )
    if found.meta_field != "metadata":
        yield warning(
            about,
            expected="the meta field metadata",
            got=found.meta_field or "none",
            do="nothing, if that is meant: entries are stored, in larger buckets and slower to find",
        )


def _unique(name: str, found: Collection) -> Iterator[Finding]:
    for index in found.unique:
        fields = ", ".join(index.fields)
        yield (warning if index.partial else wrong)(
            f"collection {name}",
            expected="no unique index but that of _id",
            got=f"{index.name} on {fields}: a second entry with the same becomes a dead letter"
            + ("" if index.partial else ", and so does a second one without"),
            do=f"drop it, or make it one that is not unique: db.{name}.dropIndex({index.name!r})",
        )


def _letters(name: str, collections: Mapping[str, Collection]) -> Iterator[Finding]:
    found, about = collections.get(name), f"collection {name}"
    if found is None:
        return
    if found.kind != "collection" or found.capped or found.unique or found.validated:
        unique = ", ".join(index.name for index in found.unique)
        flaws = {
            f"a {_kind(found)}": found.kind != "collection",
            "a capped collection": found.capped,
            "a validator": found.validated,
            f"unique indexes ({unique})": bool(unique),
        }
        yield wrong(
            about,
            expected="a plain collection that takes every dead letter",
            got=" and ".join(flaw for flaw, there in flaws.items() if there),
            do="move it away, or drop these: a letter that cannot be stored stops its logger",
        )
