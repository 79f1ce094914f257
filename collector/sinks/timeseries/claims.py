"""Claims on time-series loggers, in MongoDB: their owners, the replicas that are alive, and the fence of a new owner.

`collector_claims` has a document for each incarnation: `owner`, `epoch`, `slots` (the sessions that any owner ever
wrote through), `mark` (nobody has ever inserted a sequence above it). The document is kept for ever: without it nobody
knows which entries may have been written. `collector_replicas` has one document for each replica: `seen`, by the
database's clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bson import Int64
from pymongo.errors import OperationFailure
from pymongo.read_concern import ReadConcern

from collector.errors import OwnershipLost, SinkUnavailable
from collector.mongodb.calls import calling
from collector.mongodb.codes import failures
from collector.mongodb.errors import describe_failure
from collector.sinks.timeseries.numbered_session import numbered_session, numbered_session_id
from collector.sinks.timeseries.ownership import Board, Claim, Tenure, session_id, write_number

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from pymongo.asynchronous.client_session import AsyncClientSession
    from pymongo.asynchronous.database import AsyncDatabase

CLAIMS = "collector_claims"
REPLICAS = "collector_replicas"
TOO_OLD = 225
"""TransactionTooOld: the session has seen a higher number."""
_NO_NUMBERS = 20
"""IllegalOperation: the answer of a MongoDB that is no replica set to a numbered write."""
_FORGOTTEN_AFTER = 24 * 3600 * 1000
"""Milliseconds of silence after which a replica's document is removed."""
_PARTING = 1.0
"""Timeout of the clean-up at the end of a tenure or of the process: if it fails, other replicas only wait longer."""
_SILENCE = {"$subtract": ["$$NOW", "$seen"]}


@dataclass(frozen=True, slots=True)
class Fenced:
    """A tenure whose fence is written, and the sessions that its owner writes through."""

    tenure: Tenure
    sessions: Sequence[AsyncClientSession]
    since: Any
    """The operation time of the fence: reads after it see all writes of all earlier owners."""
    election: Any
    """The election of the primary on which the fence was written."""

    async def close(self) -> None:
        """End the sessions here; the server keeps their numbers."""
        for session in self.sessions:
            await session.end_session()


class Claims:
    """Reads and changes the claims of a namespace for one replica. Every method raises SinkUnavailable."""

    def __init__(self, database: AsyncDatabase[dict[str, Any]], me: str, slots: int, timeout: float) -> None:
        self.me = me
        self._database = database
        self._slots = slots
        self._timeout = timeout

    async def register(self, claims: Mapping[str, str]) -> None:
        """Make the documents of these claims (`_id` to logger) that are not there yet."""
        new = {"owner": None, "epoch": Int64(0), "slots": 0, "mark": Int64(0)}
        await self._insert_missing({claim: {"logger": logger, **new} for claim, logger in claims.items()})

    async def restore(self, logger: str, fenced: Fenced) -> None:
        """Make the document of an owned claim again, as it was, because somebody has removed it."""
        tenure = fenced.tenure
        slots = max(len(fenced.sessions), tenure.slots)
        known = {"owner": self.me, "epoch": Int64(tenure.epoch), "slots": slots, "mark": Int64(tenure.mark)}
        await self._insert_missing({tenure.claim: {"logger": logger, **known}})

    async def _insert_missing(self, documents: Mapping[str, Mapping[str, Any]]) -> None:
        updates = [
            {"q": {"_id": claim}, "u": {"$setOnInsert": document}, "upsert": True}
            for claim, document in documents.items()
        ]
        await self._command({"update": CLAIMS, "updates": updates, "ordered": False})

    async def announce(self, willing: int) -> None:
        """Write this replica's sign of life, and for how many loggers it is a candidate."""
        alive = [{"$set": {"seen": "$$NOW", "willing": willing}}]
        await self._command({"update": REPLICAS, "updates": [{"q": {"_id": self.me}, "u": alive, "upsert": True}]})

    async def leave(self) -> None:
        """Remove this replica's sign of life, and those of replicas that were silent for a day."""
        old = {"$expr": {"$gt": [_SILENCE, _FORGOTTEN_AFTER]}}
        deletes = [{"q": {"_id": self.me}, "limit": 1}, {"q": old, "limit": 0}]
        await self._command({"delete": REPLICAS, "deletes": deletes}, timeout=_PARTING)

    async def board(self, claims: Collection[str]) -> Board:
        """Read these claims and the signs of life of all replicas."""
        local = self._database.with_options(read_concern=ReadConcern("local"))  # it decides about liveness only
        async with calling(self._timeout):
            try:
                silence = {"willing": 1, "silence": _SILENCE}
                replicas = [one async for one in await local[REPLICAS].aggregate([{"$project": silence}])]
                found = local[CLAIMS].find({"_id": {"$in": list(claims)}}, {"owner": 1, "epoch": 1})
                owned = {one["_id"]: Claim(one["owner"], one["epoch"]) async for one in found}
            except OperationFailure as exc:
                raise SinkUnavailable(describe_failure(exc)) from exc
        return Board(
            claims=owned,
            silent={one["_id"]: one["silence"] / 1000 for one in replicas},
            willing={one["_id"]: one["willing"] for one in replicas},
        )

    async def take(self, claim: str, seen: Claim) -> Fenced | None:
        """Take a claim that is still as it was seen, and fence off its earlier owners; None when it has changed.

        When this returns, every write that an earlier owner had under way has ended, and its later ones are refused.
        """
        reply = await self._command(
            {
                "findAndModify": CLAIMS,
                "query": {"_id": claim, "owner": seen.owner, "epoch": seen.epoch},
                "update": {"$set": {"owner": self.me}, "$inc": {"epoch": 1}, "$max": {"slots": self._slots}},
                "new": True,
            }
        )
        if reply["value"] is None:
            return None
        epoch, slots = int(reply["value"]["epoch"]), int(reply["value"]["slots"])
        sessions = [numbered_session(self._database.client, session_id(claim, slot)) for slot in range(slots)]
        try:
            for slot, session in enumerate(sessions):
                reply = await self._fence(claim, epoch, slot, session)
            if "operationTime" not in reply:  # of a server with logins that has just started
                raise SinkUnavailable("expected MongoDB to name the time of the fence, but it does not know it yet")
            mark = await self._mark(claim, epoch, reply["operationTime"])
        except OwnershipLost:
            return None
        return Fenced(
            Tenure(claim, epoch, self._slots, mark), sessions, reply["operationTime"], reply.get("electionId")
        )

    async def give_back(self, tenure: Tenure) -> None:
        """Make the claim free, unless another replica has taken it."""
        mine = {"_id": tenure.claim, "owner": self.me, "epoch": tenure.epoch}
        free = {"q": mine, "u": {"$set": {"owner": None}}}
        await self._command({"update": CLAIMS, "updates": [free]}, timeout=_PARTING)

    async def raise_mark(self, claim: str, mark: int) -> None:
        """Make the mark at least this, durably."""
        raised = {"q": {"_id": claim}, "u": {"$max": {"mark": Int64(mark)}}}
        await self._change(claim, raised)

    async def barrier(self, claim: str) -> Any:
        """Return the election of the primary; the majority has everything that this primary wrote before the call.

        The barrier changes the claim's document, because only the reply to a change surely waits for the majority.
        """
        passed = {"q": {"_id": claim}, "u": {"$inc": {"barriers": Int64(1)}}}
        return (await self._change(claim, passed)).get("electionId")

    async def touch(self, owned: Iterable[Fenced]) -> None:
        """Refresh the sessions of these claims, which the server would forget 30 minutes after their last use.

        Sessions that only an earlier owner wrote through are refreshed too: that owner may be frozen, and has to stay
        fenced off.
        """
        claims = [(fenced.tenure.claim, len(fenced.sessions)) for fenced in owned]
        ids = [numbered_session_id(session_id(claim, slot)) for claim, slots in claims for slot in range(slots)]
        for start in range(0, len(ids), 1000):
            await self._command({"refreshSessions": ids[start : start + 1000]}, writes=False)

    async def _fence(self, claim: str, epoch: int, slot: int, session: AsyncClientSession) -> dict[str, Any]:
        """Write the fence in a session, under the first number of the epoch; only a change is surely durable."""
        fence = {"q": {"_id": claim, "epoch": epoch}, "u": {"$set": {f"fence.{slot}": epoch}}}
        command = {"update": CLAIMS, "updates": [fence], "txnNumber": Int64(write_number(epoch, 0))}
        reply = await self._command(command, session=session)
        if reply["n"] != 1:
            raise OwnershipLost(claim)
        return reply

    async def _mark(self, claim: str, epoch: int, since: Any) -> int:
        reply = await self._command(
            {
                "find": CLAIMS,
                "filter": {"_id": claim, "epoch": epoch},
                "limit": 1,
                "singleBatch": True,
                "readConcern": {"level": "majority", "afterClusterTime": since},
            },
            writes=False,
        )
        found = reply["cursor"]["firstBatch"]
        if not found:
            raise OwnershipLost(claim)
        return int(found[0]["mark"])

    async def _change(self, claim: str, update: Mapping[str, Any]) -> dict[str, Any]:
        reply = await self._command({"update": CLAIMS, "updates": [update]})
        if reply["n"] != 1:
            raise SinkUnavailable(f"expected the document of {claim} in {CLAIMS}, but somebody has removed it")
        return reply

    async def _command(
        self,
        command: dict[str, Any],
        *,
        session: AsyncClientSession | None = None,
        writes: bool = True,
        timeout: float | None = None,
    ) -> dict[str, Any]:
        """Run a command; a write waits for the majority. Raises SinkUnavailable, and OwnershipLost when fenced off."""
        timeout = timeout or self._timeout
        if writes:
            command["writeConcern"] = {"w": "majority", "wtimeout": int(timeout * 1000)}
        async with calling(timeout):
            try:
                reply = await self._database.command(command, session=session)
            except OperationFailure as exc:
                if exc.code == TOO_OLD:
                    raise OwnershipLost("a claim") from exc
                if exc.code == _NO_NUMBERS and session is not None:
                    raise SinkUnavailable("expected MongoDB to be a replica set: time-series loggers need one") from exc
                raise SinkUnavailable(describe_failure(exc)) from exc
        if failed := failures(reply):  # an `_id` that is taken counts as made: another replica made it
            raise SinkUnavailable(f"MongoDB did not make a change to {CLAIMS} durable: {', '.join(failed)}")
        return reply
