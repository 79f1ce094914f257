"""The needs of a logger's collections, as one list: pipelines and `collector check` compare collections with it.

An existing collection is never altered. Each difference is reported with the command that mends it. Only where entries
would be lost, refused or stored twice, the logger's entries wait until somebody has mended it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from transfer.difference import Difference, Remedy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from collector.mongodb.listed import Collection, Index
    from transfer.wire import CollectionSpec


@dataclass(frozen=True, slots=True)
class _Need:
    """One need. In its texts `{db}` stands for the collection in mongosh."""

    remedy: Remedy
    is_broken: Callable[[CollectionSpec | None, Collection], bool]
    expected: str
    got: str
    do: str


def _declared(kind: str) -> Callable[[CollectionSpec | None, Collection], bool]:
    other = {"plain": "timeseries", "timeseries": "collection"}[kind]
    return lambda spec, found: spec is not None and spec.kind == kind and found.kind == other


def _granularity(spec: CollectionSpec | None, found: Collection) -> bool:
    wanted = spec.granularity if spec else None
    return found.is_timeseries and wanted is not None and wanted != found.granularity


def _expiry_of_series(spec: CollectionSpec | None, found: Collection) -> bool:
    wanted = spec.expire_after_seconds if spec else None
    return found.is_timeseries and wanted is not None and wanted != found.expires


def _on_timestamp(found: Collection) -> list[Index]:
    return [index for index in found.indexes or () if index.fields == ("timestamp",)]


def lacks_expiry(spec: CollectionSpec | None, found: Collection) -> bool:
    """Tell whether a declared index that deletes documents is missing, and no index on `timestamp` is in its way."""
    declared = spec is not None and spec.kind == "plain" and spec.expire_after_seconds is not None
    return declared and found.kind == "collection" and not _on_timestamp(found)


def _expiry_in_the_way(spec: CollectionSpec | None, found: Collection) -> bool:
    if spec is None or spec.expire_after_seconds is None or found.kind != "collection" or spec.kind != "plain":
        return False
    there, wanted = _on_timestamp(found), spec.expire_after_seconds
    right = any(index.expires == wanted and not index.partial for index in there)
    return bool(there) and (not right or any(index.expires not in {None, wanted} for index in there))


_EXPIRY = "documents to be deleted after {spec.expire_after_seconds} s, as its logger's spec asks"
_MOVE = 'move it away: {db}.renameCollection("{name}_old")'
_NEEDS = (
    _Need(
        Remedy.MEND,
        lambda _, found: found.kind == "view",
        "a collection",
        "a view, which takes no writes",
        "drop the view: {db}.drop()",
    ),
    _Need(
        Remedy.MEND,
        _declared("timeseries"),
        "a time-series collection, as its logger's spec asks",
        "a plain collection",
        f"{_MOVE}, and it is made as declared; or declare that it is plain",
    ),
    _Need(
        Remedy.RISK,
        _declared("plain"),
        "a plain collection, as its logger's spec asks",
        "a time-series collection, which is left as it is",
        "declare that it is a time-series collection; or drop it, and it is made as declared",
    ),
    _Need(
        Remedy.NOTE,
        lambda spec, found: spec is None and found.is_timeseries,
        "a plain collection, as nothing else is declared",
        "a time-series collection, which is left as it is",
        "declare its kind: transfer set with --collection timeseries",
    ),
    _Need(
        Remedy.MEND,
        lambda _, found: found.is_timeseries and found.time_field != "timestamp",
        "the time field timestamp",
        "{found.time_field}, so that every entry without such a date is refused",
        "drop the collection, and it is made as declared: time fields cannot be changed",
    ),
    _Need(
        Remedy.RISK,
        lambda _, found: found.is_timeseries and found.meta_field != "metadata",
        "the meta field metadata",
        "{found.names_meta}",
        "nothing, if that is meant: entries are stored, in larger buckets and slower to find",
    ),
    _Need(
        Remedy.RISK,
        _granularity,
        "granularity {spec.granularity}, as its logger's spec asks",
        "{found.names_buckets}",
        'make it coarser: db.runCommand({{collMod: "{name}", timeseries: {{granularity: "{spec.granularity}"}}}}); '
        "or declare the one that it has",
    ),
    _Need(
        Remedy.RISK,
        _expiry_of_series,
        _EXPIRY,
        "{found.names_expiry}",
        'db.runCommand({{collMod: "{name}", expireAfterSeconds: {spec.expire_after_seconds}}})',
    ),
    _Need(
        Remedy.RISK,
        lambda spec, found: found.indexes is not None and lacks_expiry(spec, found),
        _EXPIRY,
        "no index that does it {found.indexes_error}",
        "where no replica can make it: {db}.createIndex({{timestamp: 1}}, "
        "{{expireAfterSeconds: {spec.expire_after_seconds}}})",
    ),
    _Need(
        Remedy.RISK,
        _expiry_in_the_way,
        _EXPIRY,
        "an index on timestamp that does not do it so",
        'db.runCommand({{collMod: "{name}", index: {{keyPattern: {{timestamp: 1}}, '
        "expireAfterSeconds: {spec.expire_after_seconds}}}}}), or drop that index, and it is made as declared",
    ),
    _Need(
        Remedy.NOTE,
        lambda _, found: found.capped,
        "to keep what is stored",
        "a capped collection, which drops the oldest",
        f"nothing, if that is meant; else {_MOVE}",
    ),
    _Need(
        Remedy.NOTE,
        lambda _, found: found.validated,
        "to take every entry",
        "a validator: what it refuses becomes a dead letter",
        "nothing, if that is meant",
    ),
)
_NEEDS_OF_OUR_OWN = (
    _Need(
        Remedy.MEND,
        lambda _, found: found.kind != "collection",
        "a plain collection, which holds each document once",
        "a {found.kind}",
        "drop it: {db}.drop()",
    ),
    _Need(
        Remedy.HARM,
        lambda _, found: found.capped,
        "to keep every document",
        "a capped collection, which drops the oldest",
        _MOVE,
    ),
    _Need(
        Remedy.HARM,
        lambda _, found: found.validated,
        "to take every document",
        "a validator: a document that it refuses stops the logger",
        'db.runCommand({{collMod: "{name}", validator: {{}}}})',
    ),
)


def differences(name: str, spec: CollectionSpec | None, found: Collection | None) -> list[Difference]:
    """Compare a collection of entries with needs and declaration; a missing one has no difference."""
    return [] if found is None else [*_compare(name, spec, found, _NEEDS), *_unique(name, found)]


def differences_of_our_own(name: str, found: Collection | None) -> list[Difference]:
    """Compare a collection of dead letters or of claims with its needs."""
    if found is None:
        return []
    unique = [
        _difference(name, Remedy.HARM, "to take every document", f"the unique index {index.name}", _drop(name, index))
        for index in found.indexes or ()
        if index.unique
    ]
    return [*_compare(name, None, found, _NEEDS_OF_OUR_OWN), *unique]


def _compare(name: str, spec: CollectionSpec | None, found: Collection, needs: Iterable[_Need]) -> Iterator[Difference]:
    for need in needs:
        if need.is_broken(spec, found):
            texts = (
                text.format(name=name, db=_db(name), spec=spec, found=found)
                for text in (need.expected, need.got, need.do)
            )
            yield _difference(name, need.remedy, *texts)
            if need.remedy is Remedy.MEND:
                return


def _unique(name: str, found: Collection) -> Iterator[Difference]:
    for index in found.indexes or ():
        if index.unique:
            missing = "" if index.partial else ", and so does a second one without"
            fields = ", ".join(index.fields)
            yield _difference(
                name,
                Remedy.NOTE if index.partial else Remedy.HARM,
                "no unique index but that of _id",
                f"{index.name} on {fields}: a second entry with the same becomes a dead letter{missing}",
                f"drop it, or make it one that is not unique: {_drop(name, index)}",
            )


def _db(name: str) -> str:
    return f"db.{name}" if name.isidentifier() else f'db.getCollection("{name}")'


def _drop(name: str, index: Index) -> str:
    return f"{_db(name)}.dropIndex({index.name!r})"


def _difference(name: str, remedy: Remedy, expected: str, got: str, do: str) -> Difference:
    return Difference(f"collection {name}", "", expected, " ".join(got.split()), remedy, "", do)
