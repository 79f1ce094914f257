"""Claims and numbered sessions on a real mongod: one owner, and nobody else can write."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest
from anyio import create_task_group, fail_after, to_thread
from bson import Int64
from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure
from pymongo.monitoring import CommandListener

from collector.errors import OwnershipLost, SinkUnavailable
from collector.local import Mongod
from collector.sinks.timeseries.claims import CLAIMS, REPLICAS, Claims
from collector.sinks.timeseries.numbered_session import numbered_session, numbered_session_id
from collector.sinks.timeseries.ownership import Board, Claim, Tenure, session_id, write_number
from tests.support.owning import Owner, candidates, entries, ids, inserts_held_up, under_way, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pymongo.monitoring import CommandStartedEvent

    from tests.support.owning import Candidate


# who owns what


async def test_a_claim_is_registered_once_and_what_is_known_of_it_is_kept(mongod: Mongod, namespace: str) -> None:
    async with candidates(mongod, namespace, 2, 3) as (a, b):
        await a.claims.register({a.claim: "system", "other": "other"})
        assert (await b.claims.board([a.claim, "other", "unknown"])).claims == {
            a.claim: Claim(None, 0),
            "other": Claim(None, 0),
        }
        owner = await a.own()
        await a.claims.raise_mark(a.claim, 70)
        await b.claims.register({a.claim: "system"})
        assert await b.seen() == Claim("a", 1)
        assert (await b.own()).tenure == Tenure(a.claim, 2, 3, 70)
        assert owner.tenure == Tenure(a.claim, 1, 2, 0)


async def test_a_claim_that_its_owner_makes_again_is_as_it_was_and_one_that_is_there_is_left_alone(
    mongod: Mongod, namespace: str
) -> None:
    async with candidates(mongod, namespace, 3, 2) as (a, b):
        await a.own()
        owner = await b.own()
        owner.tenure.raised(70)
        await b.database[CLAIMS].delete_one({"_id": b.claim})
        await b.claims.restore("system", owner.fenced)
        assert await a.seen() == Claim("b", 2)
        after = await a.own()
        assert after.tenure == Tenure(a.claim, 3, 3, 70)
        assert len(after.fenced.sessions) == 3, "also what only the first owner wrote through stays fenced off"
        await b.claims.restore("system", owner.fenced)
        assert await b.seen() == Claim("a", 3)


async def test_a_claim_that_another_unique_index_refuses_is_not_taken_for_registered(
    mongod: Mongod, namespace: str
) -> None:
    async with candidates(mongod, namespace, 1) as (a,):
        await a.database[CLAIMS].create_index("logger", unique=True)
        await a.claims.register({a.claim: "system"})
        await a.claims.register({a.claim: "system"})
        with pytest.raises(SinkUnavailable, match="11000"):
            await a.claims.register({"other": "system"})


async def test_of_two_that_race_for_a_claim_exactly_one_wins(mongod: Mongod, namespace: str) -> None:
    async with candidates(mongod, namespace, 2, 2) as both:
        await both[0].claims.register({both[0].claim: "system"})
        for race in range(20):
            seen, won = await both[0].seen(), list[Owner]()

            async def take(candidate: Candidate, seen: Claim = seen, won: list[Owner] = won) -> None:
                owner = await candidate.try_to_own(seen)
                if owner is not None:
                    won.append(owner)

            async with create_task_group() as group:
                for candidate in both:
                    group.start_soon(take, candidate)
            (winner,) = won
            assert winner.tenure.epoch == race + 1
            assert await both[0].seen() == Claim(winner.by.claims.me, race + 1)


async def test_a_claim_that_is_not_as_it_was_seen_is_not_taken(mongod: Mongod, namespace: str) -> None:
    async with candidates(mongod, namespace, 1, 1) as (a, b):
        await a.own()
        for seen in (Claim(None, 0), Claim(None, 1), Claim("a", 0), Claim("c", 1)):
            assert await b.try_to_own(seen) is None
        assert await b.seen() == Claim("a", 1)
        assert await b.try_to_own(Claim("a", 1)) is not None


async def test_a_claim_that_is_given_back_is_free_and_one_that_was_lost_cannot_be_given_back(
    mongod: Mongod, namespace: str
) -> None:
    async with candidates(mongod, namespace, 1, 1) as (a, b):
        lost = await a.own()
        owner = await b.own()
        await a.claims.give_back(lost.tenure)
        assert await a.seen() == Claim("b", 2)
        await b.claims.give_back(owner.tenure)
        assert await a.seen() == Claim(None, 2)
        await b.claims.give_back(owner.tenure)
        assert (await a.own()).tenure.epoch == 3


# who is alive


async def test_who_is_alive_and_since_when_it_is_silent_is_known_by_the_databases_clock(
    mongod: Mongod, namespace: str
) -> None:
    async with candidates(mongod, namespace, 1, 1) as (a, b):
        await a.claims.announce(3)
        await b.claims.announce(5)
        first = await a.claims.board([])
        assert first.willing == {"a": 3, "b": 5}
        await a.claims.announce(4)

        async def later(board: Board) -> bool:
            return board.silent["b"] > first.silent["b"] + 0.05 > board.silent["a"]

        while not await later(await a.claims.board([])):
            await a.claims.announce(4)
        assert (await a.claims.board([])).willing == {"a": 4, "b": 5}


async def test_who_leaves_is_gone_at_once_and_who_was_silent_for_a_day_is_forgotten_with_it(
    mongod: Mongod, namespace: str
) -> None:
    async with candidates(mongod, namespace, 1, 1) as (a, b):
        for one in (a, b):
            await one.claims.announce(1)
        for name, hours in (("yesterday", 25), ("today", 23)):
            ago = [{"$set": {"seen": {"$subtract": ["$$NOW", hours * 3600 * 1000]}, "willing": 1}}]
            await a.database[REPLICAS].update_one({"_id": name}, ago, upsert=True)
        assert (await b.claims.board([])).silent["yesterday"] == pytest.approx(25 * 3600, abs=30)
        await a.claims.leave()
        assert (await b.claims.board([])).silent.keys() == {"b", "today"}


async def test_the_claim_of_a_replica_that_is_silent_can_be_taken_as_it_was_seen(
    mongod: Mongod, namespace: str
) -> None:
    async with candidates(mongod, namespace, 1, 1) as (dead, b):
        owner = await dead.own()
        await owner.insert(entries(1))
        assert await b.try_to_own(await b.seen()) is not None


# the fence


async def test_what_an_old_owner_sends_after_the_fence_is_refused_in_every_session(
    mongod: Mongod, namespace: str
) -> None:
    """Also in those that the new owner, which has fewer, never writes through."""
    async with candidates(mongod, namespace, 3, 1, 1) as (a, b, c):
        old = await a.own()
        for slot in range(3):
            await old.insert(entries(1), slot=slot)
        new = await b.own()
        for used in (1, 2, 2**40 - 1):
            for slot in range(3):
                with pytest.raises(OwnershipLost, match=a.claim):
                    await old.insert(entries(1), used, slot)
        assert len(await new.stored()) == 3
        await new.insert(entries(1))
        newest = await c.own()
        for slot in range(3):
            with pytest.raises(OwnershipLost):
                await old.insert(entries(1), 9, slot)
        with pytest.raises(OwnershipLost):
            await new.insert(entries(1), 2)
        await newest.insert(entries(1))
        assert len(await newest.stored()) == 5


async def test_an_insert_that_is_in_flight_ends_before_the_claim_is_taken_and_the_mark_is_read_after_it(
    mongod: Mongod, namespace: str
) -> None:
    async with candidates(mongod, namespace, 2, 2) as (a, b):
        old, late = await a.own(), entries(5)
        ended: list[str] = []
        owners: list[Owner] = []

        async def insert() -> None:
            assert (await old.insert(late, slot=1))["n"] == 5
            ended.append("insert")

        async def take() -> None:
            owners.append(await b.own())
            ended.append("take")

        async with create_task_group() as group, inserts_held_up(a.database):
            group.start_soon(insert)
            await until(lambda: under_way(a.database, {"insert": "system_logs"}))
            group.start_soon(take)
            await until(lambda: under_way(a.database, {"update": CLAIMS, "txnNumber": {"$exists": True}}))
            assert await b.seen() == Claim("b", 2)
            await a.claims.raise_mark(a.claim, 12_345)
            assert ended == []
        assert sorted(ended) == ["insert", "take"]
        assert owners[0].tenure.mark == 12_345
        assert list(await owners[0].store.stored(late)) == late, "what was in flight is there, and seen"


async def test_who_is_overtaken_while_it_waits_at_the_fence_does_not_become_the_owner(
    mongod: Mongod, namespace: str
) -> None:
    async with candidates(mongod, namespace, 1, 1, 1) as (a, b, c):
        old = await a.own()
        taken: dict[str, Owner | None] = {}

        async def take(candidate: Candidate, seen: Claim) -> None:
            taken[candidate.claims.me] = await candidate.try_to_own(seen)

        async with create_task_group() as group, inserts_held_up(a.database):
            group.start_soon(old.insert, entries(1))
            await until(lambda: under_way(a.database, {"insert": "system_logs"}))
            for number, candidate in enumerate((b, c), 1):
                group.start_soon(take, candidate, await a.seen())
                await until(partial(epoch_is, a, number + 1))
        assert taken["b"] is None
        assert taken["c"] is not None
        await taken["c"].insert(entries(1))


async def epoch_is(candidate: Candidate, epoch: int) -> bool:
    return (await candidate.seen()).epoch == epoch


# the mark


async def test_the_mark_never_falls_whoever_raises_it(mongod: Mongod, namespace: str) -> None:
    async with candidates(mongod, namespace, 1, 1) as (a, b):
        await a.own()
        for mark in (100, 50, 2**50, 7):
            await a.claims.raise_mark(a.claim, mark)
        assert (await b.own()).tenure.mark == 2**50


async def test_a_mark_that_somebody_has_removed_cannot_be_raised(mongod: Mongod, namespace: str) -> None:
    async with candidates(mongod, namespace, 1) as (a,):
        await a.own()
        await a.database[CLAIMS].delete_one({"_id": a.claim})
        with pytest.raises(SinkUnavailable, match="removed"):
            await a.claims.raise_mark(a.claim, 5)


# what MongoDB says


async def test_a_mongodb_that_hangs_is_unavailable_in_time_whatever_is_asked(own_mongod: Callable[[], Mongod]) -> None:
    server = own_mongod()
    async with candidates(server, "beta", 1) as (a,):
        owner, claims = await a.own(), Claims(a.database, "a", 1, 0.2)
        server.pause()
        try:
            for call, arguments in (
                (claims.register, ({a.claim: "system"},)),
                (claims.announce, (1,)),
                (claims.board, ([a.claim],)),
                (claims.take, (a.claim, Claim("a", 1))),
                (claims.raise_mark, (a.claim, 1)),
                (claims.touch, ([owner.fenced],)),
                (claims.give_back, (owner.tenure,)),
                (claims.leave, ()),
            ):
                with fail_after(30), pytest.raises(SinkUnavailable):
                    await call(*arguments)
        finally:
            server.resume()


@pytest.mark.parametrize(
    ("command", "call"), [("update", "announce"), ("findAndModify", "take"), ("find", "board"), ("aggregate", "board")]
)
async def test_what_mongodb_refuses_is_unavailable_with_its_name_and_without_its_text(
    mongod: Mongod, namespace: str, command: str, call: str
) -> None:
    async with candidates(mongod, namespace, 1) as (a,):
        await a.claims.register({a.claim: "system"})
        data = {"failCommands": [command], "errorCode": 96, "appName": "collector"}
        arguments: dict[str, tuple[Any, ...]] = {
            "announce": (1,),
            "take": (a.claim, Claim(None, 0)),
            "board": ([a.claim],),
        }
        await a.database.client.admin.command({"configureFailPoint": "failCommand", "mode": {"times": 1}, "data": data})
        with pytest.raises(SinkUnavailable, match=r"^MongoDB answered OperationFailed \(code 96\)$"):
            await getattr(a.claims, call)(*arguments[call])


class Standalone(Mongod):
    """A `mongod` that is no replica set."""

    @property
    def url(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}/"

    def _command(self) -> list[str]:
        return [argument for argument in super()._command() if not argument.startswith("--replSet")]

    def _answers(self) -> bool:
        try:
            self._connected().close()
        except OSError:
            return False
        return True


@contextmanager
def own(kind: type[Mongod], parameters: Mapping[str, object]) -> Iterator[Mongod]:
    with TemporaryDirectory(prefix="mongod-") as folder, kind(Path(folder), parameters=parameters) as server:
        yield server
        server.kill()


async def test_a_mongodb_that_is_no_replica_set_is_told_to_be_one() -> None:
    with own(Standalone, {}) as server:
        async with candidates(server, "beta", 1) as (a,):
            await a.claims.register({a.claim: "system"})
            await a.claims.announce(1)
            with pytest.raises(SinkUnavailable, match="expected MongoDB to be a replica set"):
                await a.try_to_own(await a.seen())


# what lasts


async def test_numbers_hold_over_a_kill_of_mongod(own_mongod: Callable[[], Mongod], namespace: str) -> None:
    server = own_mongod()
    async with candidates(server, namespace, 2, 2, seconds=60) as (a, b):
        old, first = await a.own(), entries(3)
        assert (await old.insert(first, 5))["n"] == 3
        await to_thread.run_sync(server.kill)
        await to_thread.run_sync(server.start)
        assert (await old.insert(first, 5))["n"] == 3, "the answer to the same number is the same"
        with pytest.raises(OwnershipLost):
            await old.insert(entries(1), 4)
        new = await b.own()
        await to_thread.run_sync(server.kill)
        await to_thread.run_sync(server.start)
        for slot in range(2):
            with pytest.raises(OwnershipLost):
                await old.insert(entries(1), 6, slot)
        assert sorted(await new.stored()) == sorted(ids(first))


FORGETFUL = {
    "enableTestCommands": 1,
    "localLogicalSessionTimeoutMinutes": 1,
    "TransactionRecordMinimumLifetimeMinutes": 0,
    "logicalSessionRefreshMillis": 500,
    "ttlMonitorSleepSecs": 1,
}


async def test_a_session_that_is_touched_is_not_forgotten_and_one_that_is_not_is() -> None:
    """All were last used 55 seconds ago by the server's own book, and it forgets them after 60."""
    with own(Mongod, FORGETFUL) as server:
        async with candidates(server, "beta", 3, 1, seconds=50) as (a, b):
            touched = [numbered_session_id(session_id(a.claim, slot)) for slot in range(3)]
            forgotten = numbered_session_id(session_id("another", 0))
            admin, config = b.database.client["admin"], b.database.client["config"]
            book, numbers = config["system.sessions"], config["transactions"]

            async def known(ids: list[dict[str, Any]]) -> bool:
                return await book.count_documents({"_id.id": {"$in": [one["id"] for one in ids]}}) == len(ids)

            # Known before their first number: with a least lifetime of 0 the server would forget that one at once.
            await admin.command("refreshSessions", [*touched, forgotten])
            await admin.command("refreshLogicalSessionCacheNow")
            assert await known([*touched, forgotten])
            session = numbered_session(a.database.client, session_id("another", 0))
            await insert_alone(a, session, 1000)
            old = await a.own()
            new = await b.own()
            await admin.command("refreshLogicalSessionCacheNow")
            longer_ago = [{"$set": {"lastUse": {"$subtract": ["$$NOW", 55_000]}}}]
            await book.update_many({}, longer_ago)
            await b.claims.touch([new.fenced])
            await admin.command("refreshLogicalSessionCacheNow")
            await until(lambda: none_of(book, forgotten), 30)
            assert await known(touched)
            await until(lambda: none_of(numbers, forgotten))
            await insert_alone(a, session, 999)  # the server knows no better
            for slot in range(3):
                with pytest.raises(OwnershipLost):
                    await old.insert(entries(1), 7, slot)


async def none_of(book: Any, session: dict[str, Any]) -> bool:
    found: int = await book.count_documents({"_id.id": session["id"]})
    return not found


async def insert_alone(candidate: Candidate, session: Any, number: int) -> None:
    command = {"insert": "alone", "documents": [{}], "txnNumber": Int64(number), "writeConcern": {"w": "majority"}}
    await candidate.database.command(command, session=session)


# the session, as pymongo knows it


class Commands(CommandListener):
    """What a client has sent."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def started(self, event: CommandStartedEvent) -> None:
        self.sent.append(dict(event.command))

    def succeeded(self, event: object) -> None:
        """Pass over."""

    def failed(self, event: object) -> None:
        """Pass over."""

    def ids(self, command: str) -> list[Any]:
        return [sent["lsid"] for sent in self.sent if command in sent]


async def test_a_numbered_session_sends_its_own_id_and_number_is_never_pooled_and_never_ended(
    mongod: Mongod, namespace: str
) -> None:
    """The one use of pymongo's private names: what fails here has changed in pymongo."""
    commands, chosen = Commands(), session_id(namespace, 0)
    ours = numbered_session_id(chosen)
    async with AsyncMongoClient[dict[str, Any]](mongod.url, retryWrites=False, event_listeners=[commands]) as client:
        session, database = numbered_session(client, chosen), client[namespace]
        assert session.session_id == ours
        insert = {"insert": "a", "documents": [{"n": 1}], "txnNumber": Int64(write_number(3, 7))}
        await database.command(insert, session=session)
        assert commands.ids("insert") == [ours]
        assert [sent["txnNumber"] for sent in commands.sent if "insert" in sent] == [write_number(3, 7)]
        await session.end_session()
        async with client.start_session() as other:
            assert other.session_id != ours
            await database.command({"ping": 1}, session=other)
        await database.command({"ping": 1})
        assert ours not in commands.ids("ping")
        open_at_the_end = numbered_session(client, chosen)
        await database.command({"ping": 1}, session=open_at_the_end)
        await database.command({"ping": 1})
    ended = [one for sent in commands.sent for one in sent.get("endSessions", ())]
    assert ended, "pymongo ends what is in its pool"
    assert ours not in ended
    await open_at_the_end.end_session()


async def test_the_number_holds_after_the_client_that_used_it_was_closed(mongod: Mongod, namespace: str) -> None:
    async with candidates(mongod, namespace, 1) as (a,):
        await (await a.own()).fenced.close()
    async with candidates(mongod, namespace, 1) as (a,):
        session = numbered_session(a.database.client, session_id(a.claim, 0))
        command = {"insert": "x", "documents": [{}], "txnNumber": Int64(write_number(1, 0) - 1)}
        with pytest.raises(OperationFailure) as raised:
            await a.database.command(command, session=session)
        assert raised.value.code == 225
        await session.end_session()
