"""The collection of a logger: made as declared, compared with what is needed, and inspected again.

An insert names the UUID of the collection that was inspected. So an insert never makes a dropped collection anew, plain
and without the declared options, and no entry goes into a collection that was not compared.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pymongo.errors import OperationFailure

from collector.errors import CollectionChanged, SinkUnavailable, WrongCollection
from collector.mongodb.calls import compares_uuids, list_indexes, make_collection, make_expiring
from collector.mongodb.errors import describe_failure
from collector.mongodb.listed import Collection, indexes_in
from collector.mongodb.needs import differences, differences_of_our_own, lacks_expiry
from collector.sinks.timeseries.claims import CLAIMS, REPLICAS
from transfer.difference import Remedy, with_remedy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pymongo.asynchronous.database import AsyncDatabase

    from collector.mongodb.collections import CollectionCatalog
    from transfer.wire import CollectionSpec

_TRIES = 3
"""How often an index is tried to be built within the write timeout; in a large collection it takes longer."""
_SAID = (Remedy.HARM, Remedy.RISK)


@dataclass(frozen=True, slots=True)
class Seen:
    """A logger's collection as it was inspected."""

    collection: Collection | None
    """None when it is not there and nothing is declared: MongoDB makes a plain one at the first insert."""
    differences: str = ""
    """The differences from the declaration that do not keep entries from being stored."""

    @property
    def is_timeseries(self) -> bool:
        """Whether the logger has one writer."""
        return self.collection is not None and self.collection.is_timeseries


class Place:
    """The collections of one logger, its dead letters and its claims. Each call is shielded and has a deadline."""

    __slots__ = ("_catalog", "_collection", "_database", "_dead_letters", "_refused", "_spec", "_timeout", "_tries")

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
        """Make the declared collection if it is not there, and inspect it. Raises WrongCollection, SinkUnavailable."""
        if self._spec is not None:
            await make_collection(self._database, self._collection, self._spec, self._timeout)
        seen = await self.inspect()
        if self._spec is not None and seen.collection is None:  # an insert would make another one than is declared
            raise SinkUnavailable(f"{self._collection} was dropped while it was looked at")
        return seen

    async def inspect(self) -> Seen:
        """Compare the collections with what is needed. Raises WrongCollection and SinkUnavailable."""
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
        stopping = [str(each) for each in with_remedy(different, Remedy.MEND)]
        if stopping:
            raise WrongCollection("; ".join(stopping))
        return Seen(found, "; ".join(map(str, with_remedy(different, *_SAID))))

    async def _with_expiry(self, found: Collection) -> Collection:
        """Make the index that deletes documents as declared, unless another one is in the way; return the collection.

        After some tries the index is given up, or the server would build it and run out of time again and again.
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
        """Make an index that deletes documents after `seconds`; return whether it was made in time."""
        try:
            await make_expiring(self._database, self._collection, seconds, self._timeout)
        except SinkUnavailable as exc:
            self._tries -= exc.ambiguous
            return False
        return True

    async def _list_indexes(self) -> Any:
        return await list_indexes(self._database, self._collection, self._timeout)

    def finding(self, seen: Seen) -> Callable[[], Awaitable[bytes | None]]:
        """Return a function that returns the UUID for an insert; None while the collection is not there yet."""
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
        """Return the UUID that inserts have to name; None where a server does not compare it."""
        return None if found.uuid in {None, self._refused} or not compares_uuids(self._database) else found.uuid

    def doubt(self, seen: Seen) -> None:
        """Note that an insert was refused for the UUID of this collection: no insert names that UUID again."""
        self._refused = None if seen.collection is None else seen.collection.uuid
