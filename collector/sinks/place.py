"""Where a logger's entries go: its collection, made as declared, compared with what is needed, and looked at again.

An insert names the UUID of the collection that was looked at. So what was dropped meanwhile is not made anew by the
insert, as a plain one without what is declared, and no entry lands in a collection that nobody has compared.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pymongo.errors import OperationFailure

from collector.errors import CollectionChanged, SinkUnavailable, WrongCollection
from collector.mongodb.calls import compares_uuids, list_indexes, make_collection, make_expiring
from collector.mongodb.errors import describe_failure
from collector.mongodb.needs import (
    Collection,
    Weight,
    differences,
    differences_of_our_own,
    indexes_in,
    lacks_expiry,
)
from collector.sinks.timeseries.claims import CLAIMS, REPLICAS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pymongo.asynchronous.database import AsyncDatabase

    from collector.mongodb.collections import CollectionCatalog
    from transfer.wire import CollectionSpec

_TRIES = 3
"""To build an index within the write timeout; of a large collection it takes longer."""
_SAID = frozenset({Weight.HARMS, Weight.DIFFERS})


@dataclass(frozen=True, slots=True)
class Seen:
    """What was there when it was looked at."""

    collection: Collection | None
    """None: it is not there, nothing is declared, and MongoDB makes a plain one at the first insert."""
    differences: str = ""
    """What is other than declared, and does not keep entries from being moved."""

    @property
    def is_timeseries(self) -> bool:
        """Whether the logger has one writer."""
        return self.collection is not None and self.collection.is_timeseries


class Place:
    """The collections of one logger, and of the claims on it. Each call is shielded and has a deadline of its own."""

    def __init__(
        self,
        database: AsyncDatabase[dict[str, Any]],
        catalog: CollectionCatalog,
        spec: CollectionSpec | None,
        names: tuple[str, str],
        timeout: float,
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._spec = spec
        self._collection, self._dead_letters = names
        self._timeout = timeout
        self._refused: bytes | None = None
        self._tries = _TRIES

    async def prepare(self) -> Seen:
        """Make what is declared and not there; return what is. Raises WrongCollection and SinkUnavailable."""
        if self._spec is not None:
            await make_collection(self._database, self._collection, self._spec, self._timeout)
        seen = await self.inspect()
        if self._spec is not None and seen.collection is None:  # an insert would make another one than is declared
            raise SinkUnavailable(f"{self._collection} was dropped while it was looked at")
        return seen

    async def inspect(self) -> Seen:
        """Compare what is there with what is needed. Raises WrongCollection and SinkUnavailable."""
        found, *own = await self._catalog.read(self._collection, self._dead_letters, CLAIMS, REPLICAS)
        if found is not None and self._spec is not None and lacks_expiry(self._spec, found):
            found = await self._with_expiry(found)
        different = differences(self._collection, self._spec, found)
        needed = (
            (self._dead_letters, CLAIMS, REPLICAS)
            if found is not None and found.is_timeseries
            else (self._dead_letters,)
        )
        for name, one in zip(needed, own, strict=False):
            different += differences_of_our_own(name, one)
        stopping = [str(each) for each in different if each.weight is Weight.STOPS]
        if stopping:
            raise WrongCollection("; ".join(stopping))
        return Seen(found, "; ".join(str(each) for each in different if each.weight in _SAID))

    async def _with_expiry(self, found: Collection) -> Collection:
        """Have documents deleted as declared, unless an index is in the way; return the collection with its indexes.

        An index that the server cannot build in time is not tried for ever: it would build and give up again and again.
        """
        try:
            found = replace(found, indexes=indexes_in(await self._list_indexes()))
            if not self._tries:
                return replace(found, indexes_error="(it takes too long to be built from here)")
            seconds = self._spec.expire_after_seconds if self._spec else None
            if seconds is not None and lacks_expiry(self._spec, found):
                if not await self._make_expiring(seconds):
                    return replace(found, indexes_error="(it was not made in time)")
                found = replace(found, indexes=indexes_in(await self._list_indexes()))
        except OperationFailure as exc:
            return replace(found, indexes=found.indexes or (), indexes_error=f"({describe_failure(exc)})")
        return found

    async def _make_expiring(self, seconds: int) -> bool:
        """Have documents deleted after so many seconds; return whether the index was made in time."""
        try:
            await make_expiring(self._database, self._collection, seconds, self._timeout)
        except SinkUnavailable as exc:
            self._tries -= exc.ambiguous
            return False
        return True

    async def _list_indexes(self) -> Any:
        return await list_indexes(self._database, self._collection, self._timeout)

    def finding(self, seen: Seen) -> Callable[[], Awaitable[bytes | None]]:
        """Return what tells an insert the UUID to name; one that is not there yet is made by the first insert."""
        known = [] if seen.collection is None else [self.uuid(seen.collection)]

        async def find() -> bytes | None:
            if not known:
                (found,) = await self._catalog.read(self._collection)
                if found is None:
                    return None
                if found.kind != "collection":
                    raise CollectionChanged(self._collection)
                known.append(self.uuid(found))
            return known[0]

        return find

    def uuid(self, found: Collection) -> bytes | None:
        """Return what inserts have to name; None where no server compares it."""
        return None if found.uuid in {None, self._refused} or not compares_uuids(self._database) else found.uuid

    def doubt(self, seen: Seen) -> None:
        """Note that an insert was refused for what it named: where that is what is there, no insert names it again."""
        self._refused = None if seen.collection is None else seen.collection.uuid
