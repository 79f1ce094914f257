"""Dead letters on a real mongod: the original bytes, why, and once."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
import pytest
from anyio import create_task_group, fail_after, lowlevel
from bson import ObjectId
from gridfs.asynchronous import AsyncGridFSBucket

from collector.dead_letters.store import DeadLetterStore
from collector.errors import SinkUnavailable
from collector.model import Reason, Rejected
from collector.mongodb.calls import open_mongo
from tests.support.fakes import STREAM, delivery

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from pymongo.asynchronous.database import AsyncDatabase

    from collector.local import Mongod

COLLECTION = "system_fail"
FAILED_AT = 1_800_000_000.25
MIB = 1024 * 1024


class Scene:
    """Dead letters and the database that they are in."""

    def __init__(self, database: AsyncDatabase[dict[str, Any]]) -> None:
        self.database, self.collection = database, database[COLLECTION]
        self.letters = DeadLetterStore(database, COLLECTION, 5.0, lambda: FAILED_AT)
        self.files = AsyncGridFSBucket(database, bucket_name=COLLECTION)

    async def found(self) -> list[dict[str, Any]]:
        return [letter async for letter in self.collection.find().sort("_id")]

    async def file(self, identity: ObjectId) -> bytes:
        return await (await self.files.open_download_stream(identity)).read()


@asynccontextmanager
async def keeping(mongod: Mongod, namespace: str) -> AsyncIterator[Scene]:
    with fail_after(30):
        async with open_mongo(mongod.url) as client:
            yield Scene(client[namespace])


def reject(body: bytes = b"\xc1bytes", raw_headers: bytes = b"", **changes: Any) -> Rejected:
    of = msgspec.structs.replace(delivery(42, body, delivered=3), raw_headers=raw_headers)
    values = {
        "position": None,
        "identity": ObjectId(),
        "reason": Reason.MALFORMED,
        "error": "expected msgpack",
        "body": body,
    }
    return Rejected(of, **values | changes)


async def test_a_letter_holds_exactly_what_the_contract_says(mongod: Mongod, namespace: str) -> None:
    headers = b"NATS/1.0\r\nContent-Type: application/msgpack\r\nX: 1\r\nX: 2\r\n\r\n"
    one = reject(raw_headers=headers, position=7, reason=Reason.RULE)
    async with keeping(mongod, namespace) as scene:
        await scene.letters.store([one])
        assert await scene.found() == [
            {
                "_id": one.identity,
                "body": b"\xc1bytes",
                "body_file": None,
                "headers": [["Content-Type", "application/msgpack"], ["X", "1"], ["X", "2"]],
                "reason": "rule",
                "error": "expected msgpack",
                "subject": "beta.logs.system",
                "stream": STREAM,
                "sequence": 42,
                "entry": 7,
                "deliveries": 3,
                "published_at": datetime(2024, 5, 6, 7, 8, 9, 123000, tzinfo=UTC),
                "failed_at": datetime.fromtimestamp(FAILED_AT, UTC),
            }
        ]


async def test_a_letter_that_is_stored_again_is_there_once_and_as_it_was(mongod: Mongod, namespace: str) -> None:
    one, other = reject(), reject(b"other")
    async with keeping(mongod, namespace) as scene:
        await scene.letters.store([one])
        again = msgspec.structs.replace(one, error="another sentence")
        await scene.letters.store([again, other])
        assert [letter["error"] for letter in await scene.found()] == ["expected msgpack"] * 2


async def test_headers_that_are_no_text_are_kept_as_their_bytes(mongod: Mongod, namespace: str) -> None:
    raw = b"NATS/1.0\r\nA: \xff\xfe\r\n" + "Ü: ü\r\n".encode() + b"\xff: b\r\nalone\r\nB: a\0b\r\n\r\n"
    async with keeping(mongod, namespace) as scene:
        await scene.letters.store([reject(raw_headers=raw)])
        (letter,) = await scene.found()
        assert letter["headers"] == [["A", b"\xff\xfe"], ["Ü", "ü"], [b"\xff", "b"], ["alone", ""], ["B", "a\0b"]]


@pytest.mark.parametrize("error", ["\ud800 lone", "NUL \0", "x" * 100_000])
async def test_no_sentence_is_too_strange_to_be_kept(mongod: Mongod, namespace: str, error: str) -> None:
    async with keeping(mongod, namespace) as scene:
        await scene.letters.store([reject(error=error)])
        assert len(await scene.found()) == 1


@pytest.mark.parametrize("size", [8 * MIB, 8 * MIB + 1, 20 * MIB])
async def test_a_body_too_large_for_a_letter_is_kept_in_a_file_and_readable_back(
    mongod: Mongod, namespace: str, size: int
) -> None:
    one = reject(b"x" * (size - 3) + b"end")
    async with keeping(mongod, namespace) as scene:
        for _ in range(2):
            await scene.letters.store([reject(), one, reject()])
        letter = await scene.collection.find_one({"_id": one.identity})
        assert letter is not None
        if size == 8 * MIB:
            assert (letter["body"], letter["body_file"]) == (one.body, None)
        else:
            assert letter["body"] is None
            assert await scene.file(letter["body_file"]) == one.body
            assert await scene.database[f"{COLLECTION}.files"].count_documents({}) == 1


async def test_a_file_that_is_whole_is_never_taken_away_again(mongod: Mongod, namespace: str) -> None:
    """A second replica that has the same message in hand may end in the middle of storing it again."""
    one = reject(b"x" * 9 * MIB)
    async with keeping(mongod, namespace) as scene:
        await scene.letters.store([one])
        (before,) = [found async for found in scene.database[f"{COLLECTION}.files"].find()]
        await scene.letters.store([one])
        (after,) = [found async for found in scene.database[f"{COLLECTION}.files"].find()]
        assert after == before


async def test_what_an_interrupted_try_left_of_a_file_is_in_nobodys_way(mongod: Mongod, namespace: str) -> None:
    one = reject(b"x" * 9 * MIB)
    async with keeping(mongod, namespace) as scene:
        await scene.files.upload_from_stream("another", b"x")
        files = scene.database[f"{COLLECTION}.files"]
        await scene.letters.store([one])
        await scene.collection.delete_many({})  # a file was stored whole, and its letter was not
        await scene.letters.store([one])
        (letter,) = await scene.found()
        assert await scene.file(letter["body_file"]) == one.body
        assert await files.count_documents({}) == 2


async def test_two_replicas_may_keep_the_same_letter_at_the_same_time(mongod: Mongod, namespace: str) -> None:
    one = reject(b"x" * 9 * MIB)
    async with keeping(mongod, namespace) as scene, keeping(mongod, namespace) as other:

        async def store(letters: DeadLetterStore) -> None:
            while True:
                try:
                    await letters.store([one])
                except SinkUnavailable:
                    continue
                return

        async with anyio.create_task_group() as group:
            group.start_soon(store, scene.letters)
            group.start_soon(store, other.letters)
        (letter,) = await scene.found()
        assert await scene.file(letter["body_file"]) == one.body


async def test_many_letters_of_several_mebibytes_are_all_kept(mongod: Mongod, namespace: str) -> None:
    many = [reject(b"x" * 3 * MIB) for _ in range(10)]
    async with keeping(mongod, namespace) as scene:
        await scene.letters.store(many)
        assert await scene.collection.count_documents({}) == 10


async def test_of_many_small_letters_few_are_made_before_others_get_a_turn(mongod: Mongod, namespace: str) -> None:
    made_in_turn = [0]

    def clock() -> float:
        made_in_turn[-1] += 1
        return FAILED_AT

    async def take_turns() -> None:
        while True:
            made_in_turn.append(0)
            await lowlevel.checkpoint()

    async with keeping(mongod, namespace) as scene:
        letters = DeadLetterStore(scene.database, COLLECTION, 5.0, clock)
        async with create_task_group() as others:
            others.start_soon(take_turns)
            await letters.store([reject(b"") for _ in range(5000)])
            others.cancel_scope.cancel()
        assert await scene.collection.count_documents({}) == 5000
    assert sum(made_in_turn) == 5000
    assert max(made_in_turn) <= 500


@pytest.mark.parametrize("body", [1, 7 * MIB])
async def test_a_large_block_of_headers_is_kept_too(mongod: Mongod, namespace: str, body: int) -> None:
    """A server may allow messages of 64 MiB, and every one of their headers costs ten times its size as a pair."""
    raw = b"NATS/1.0\r\n" + b"a:\r\n" * 1_000_000 + b"\r\n"
    async with keeping(mongod, namespace) as scene:
        await scene.letters.store([reject(b"x" * body, raw_headers=raw), reject(raw_headers=raw)])
        for letter in await scene.found():
            assert letter["headers"] == raw


@pytest.mark.parametrize("failure", [{"errorCode": 10107}, {"errorCode": 13}, {"closeConnection": True}])
@pytest.mark.parametrize("size", [10, 9 * MIB])
async def test_a_letter_that_may_not_be_stored_is_unavailable_and_may_be_stored_again(
    mongod: Mongod, namespace: str, failure: dict[str, Any], size: int
) -> None:
    one = reject(b"x" * size)
    async with keeping(mongod, namespace) as scene:
        admin, commands = scene.database.client.admin, {"failCommands": ["insert"], "appName": "collector"}
        await admin.command({"configureFailPoint": "failCommand", "mode": {"times": 1}, "data": commands | failure})
        try:
            with pytest.raises(SinkUnavailable):
                await scene.letters.store([one])
        finally:
            await admin.command({"configureFailPoint": "failCommand", "mode": "off"})
        await scene.letters.store([one])
        (letter,) = await scene.found()
        assert letter["body_file"] is None or await scene.file(letter["body_file"]) == one.body


async def test_a_letter_that_another_unique_index_refuses_is_not_there_and_not_taken_for_it(
    mongod: Mongod, namespace: str
) -> None:
    """Somebody has made the index; until it is gone the message has to wait."""
    first, second = reject(), reject()
    async with keeping(mongod, namespace) as scene:
        await scene.collection.create_index("reason", unique=True)
        await scene.letters.store([first])
        await scene.letters.store([first])
        with pytest.raises(SinkUnavailable, match="11000"):
            await scene.letters.store([second])
        await scene.collection.drop_index("reason_1")
        await scene.letters.store([first, second])
        assert {letter["_id"] for letter in await scene.found()} == {first.identity, second.identity}


async def test_without_a_majority_a_letter_is_not_stored_yet(mongod: Mongod, namespace: str) -> None:
    async with keeping(mongod, namespace) as scene:
        admin = scene.database.client.admin
        error = {"code": 64, "errmsg": "waiting for replication timed out"}
        data = {"failCommands": ["insert"], "writeConcernError": error}
        await admin.command({"configureFailPoint": "failCommand", "mode": {"times": 1}, "data": data})
        with pytest.raises(SinkUnavailable, match="write concern"):
            await scene.letters.store([reject()])


async def test_a_mongod_that_is_gone_is_unavailable_until_its_restart(
    own_mongod: Callable[[], Mongod], namespace: str
) -> None:
    server = own_mongod()
    async with keeping(server, namespace) as scene:
        await scene.letters.store([reject()])
        await anyio.to_thread.run_sync(server.kill)
        with pytest.raises(SinkUnavailable):
            await scene.letters.store([reject(b"x" * 9 * MIB)])
        await anyio.to_thread.run_sync(server.start)  # pymongo leaves a socket open when it is closed while it connects
        await scene.letters.store([reject()])
        assert len(await scene.found()) == 2
