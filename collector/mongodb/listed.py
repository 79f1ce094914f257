"""Collections and indexes as MongoDB lists them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

BUCKETS = "system.buckets."
"""Prefix of the collection in which MongoDB keeps the data of a time-series collection; that one has the UUID."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """One index beside that of `_id`."""

    name: str
    fields: tuple[str, ...]
    unique: bool = False
    partial: bool = False
    """Whether the index is sparse or partial, so that it does not cover all documents."""
    expires: int | None = None
    """Seconds after which the index deletes documents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """One collection or view on the server."""

    kind: str = "collection"
    """The type in `listCollections`: collection, timeseries or view."""
    time_field: str = ""
    meta_field: str = ""
    granularity: str = ""
    """Empty where the size of buckets is set by numbers."""
    expires: int | None = None
    """Seconds after which MongoDB deletes documents of a time-series collection."""
    capped: bool = False
    validated: bool = False
    uuid: bytes | None = None
    indexes: tuple[Index, ...] | None = None
    """None where the indexes were not read."""
    indexes_error: str = ""
    """Why the indexes were not read, or a needed one not made."""

    @property
    def is_timeseries(self) -> bool:
        """Whether the collection stores an `_id` twice, so that its logger has one writer."""
        return self.kind == "timeseries"

    @property
    def names_meta(self) -> str:
        """The meta field, for a sentence."""
        return self.meta_field or "none"

    @property
    def names_buckets(self) -> str:
        """The granularity, for a sentence."""
        return self.granularity or "buckets of a size of their own"

    @property
    def names_expiry(self) -> str:
        """When documents are deleted, for a sentence."""
        return "never" if self.expires is None else f"after {self.expires} s"


def collections_in(listed: Iterable[Mapping[str, Any]]) -> dict[str, Collection]:
    """Return the collections of a `listCollections` reply by name, with the UUIDs that inserts are compared with."""
    by_name = {one["name"]: one for one in listed}
    return {
        name: _collection(one, by_name.get(BUCKETS + name, one))
        for name, one in by_name.items()
        if not name.startswith(BUCKETS)
    }


def _collection(listed: Mapping[str, Any], kept_in: Mapping[str, Any]) -> Collection:
    options = listed["options"]
    timeseries = options.get("timeseries", {})
    return Collection(
        kind=listed["type"],
        time_field=timeseries.get("timeField", ""),
        meta_field=timeseries.get("metaField", ""),
        granularity=timeseries.get("granularity", ""),
        expires=options.get("expireAfterSeconds"),
        capped=bool(options.get("capped")),
        validated=bool(options.get("validator")) and _refuses(options),
        uuid=kept_in.get("info", {}).get("uuid"),
    )


def _refuses(options: Mapping[str, Any]) -> bool:
    return options.get("validationAction") != "warn" and options.get("validationLevel") != "off"


def indexes_in(listed: Iterable[Mapping[str, Any]]) -> tuple[Index, ...]:
    """Return the indexes of a `listIndexes` reply, without the one of `_id`."""
    return tuple(
        Index(
            name=one["name"],
            fields=tuple(one["key"]),
            unique=bool(one.get("unique")),
            partial=bool(one.get("sparse") or one.get("partialFilterExpression")),
            expires=one.get("expireAfterSeconds"),
        )
        for one in listed
        if list(one["key"]) != ["_id"]
    )
