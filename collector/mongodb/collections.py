"""The collections that are there: one question to MongoDB answers all pipelines that wait at the same time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from anyio import Lock
from pymongo.errors import OperationFailure

from collector.errors import SinkUnavailable
from collector.mongodb.calls import calling
from collector.mongodb.errors import describe_failure
from collector.mongodb.listed import BUCKETS, collections_in

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pymongo.asynchronous.database import AsyncDatabase

    from collector.mongodb.listed import Collection

_MOST = 1000
"""Collections in one question at most."""


@dataclass(slots=True)
class _Question:
    collections: list[str] = field(default_factory=list)
    answer: Mapping[str, Collection] | None = None
    failure: SinkUnavailable | None = None


class CollectionCatalog:
    """Asks about many collections with one command: 1,000 pipelines that start together need a few commands."""

    def __init__(self, database: AsyncDatabase[dict[str, Any]], timeout: float) -> None:
        self._database = database
        self._timeout = timeout
        self._next = _Question()
        self._asking = Lock()

    async def read(self, *collections: str) -> list[Collection | None]:
        """Return these collections as they are after the call; None for one that is not there.

        Raises SinkUnavailable, for all callers that share a failed question.
        """
        if len(self._next.collections) + len(collections) > _MOST:
            self._next = _Question()
        question = self._next
        question.collections += collections
        async with self._asking:
            if question.answer is None and question.failure is None:
                await self._ask(question)
        if question.answer is None:
            failure = question.failure
            raise SinkUnavailable(str(failure), ambiguous=False) from failure
        return [question.answer.get(collection) for collection in collections]

    async def _ask(self, question: _Question) -> None:
        if self._next is question:
            self._next = _Question()
        try:
            question.answer = await self._list(question.collections)
        except SinkUnavailable as exc:
            question.failure = exc

    async def _list(self, collections: Sequence[str]) -> Mapping[str, Collection]:
        names = set(collections)
        wanted = [*names, *(BUCKETS + name for name in names)]  # without a filter by name, mongod reads all collections
        async with calling(self._timeout):
            try:
                command = {"listCollections": 1, "filter": {"name": {"$in": wanted}}}
                found = await self._database.cursor_command(command)
                return collections_in([one async for one in found])
            except OperationFailure as exc:
                raise SinkUnavailable(f"the kinds of collections were not looked at: {describe_failure(exc)}") from exc
