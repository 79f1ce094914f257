"""Which collections are time-series ones: asked by one pipeline after another, answered for all that wait together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from anyio import Lock
from pymongo.errors import OperationFailure

from collector.errors import SinkUnavailable
from collector.mongo import calling
from collector.mongo_errors import said

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymongo.asynchronous.database import AsyncDatabase

_MOST = 1000
"""Collections in one question, so that one batch holds the answer."""


@dataclass(slots=True)
class _Question:
    collections: list[str] = field(default_factory=list)
    timeseries: frozenset[str] | None = None
    failure: SinkUnavailable | None = None


class Kinds:
    """Asks about many collections with one command: 1,000 pipelines that start together make one question or two."""

    def __init__(self, database: AsyncDatabase[dict[str, Any]], timeout: float) -> None:
        self._database = database
        self._timeout = timeout
        self._next = _Question()
        self._asking = Lock()

    async def is_timeseries(self, collection: str) -> bool:
        """Tell whether the collection is there and a time-series collection, looked at after this was called.

        Raises SinkUnavailable; what one question met, all that had joined in it are told.
        """
        if len(self._next.collections) == _MOST:
            self._next = _Question()
        question = self._next
        question.collections.append(collection)
        async with self._asking:
            if question.timeseries is None and question.failure is None:
                await self._ask(question)
        if question.timeseries is None:
            failure = question.failure
            raise SinkUnavailable(str(failure), ambiguous=False) from failure
        return collection in question.timeseries

    async def _ask(self, question: _Question) -> None:
        if self._next is question:
            self._next = _Question()
        try:
            question.timeseries = frozenset(await self._list(question.collections))
        except SinkUnavailable as exc:
            question.failure = exc

    async def _list(self, collections: Sequence[str]) -> list[str]:
        command = {
            "listCollections": 1,
            "filter": {"name": {"$in": list(set(collections))}},  # no more than that, or mongod looks at all there are
            "nameOnly": True,
            "cursor": {"batchSize": _MOST},
        }
        async with calling(self._timeout):
            try:
                found = await self._database.command(command)
            except OperationFailure as exc:
                raise SinkUnavailable(f"the kinds of collections were not looked at: {said(exc)}") from exc
        return [one["name"] for one in found["cursor"]["firstBatch"] if one["type"] == "timeseries"]
