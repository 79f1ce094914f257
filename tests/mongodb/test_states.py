"""Whose fault an error is: every way to be refused that a real mongod has, for documents, collections and servers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from bson import Code, Regex, encode
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

from collector.errors import CollectionChanged, SinkUnavailable
from collector.mongodb.codes import OF_A_DOCUMENT_IN_A_COMMAND
from collector.sinks.mongodb import MongoSink
from tests.support.guarded import AsUser, guarded_mongod
from tests.support.sinking import COLLECTION, TIMEOUT, entry, failing, good, nested, sinking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pymongo.asynchronous.database import AsyncDatabase

    from collector.local import Mongod
    from collector.model import Entry
    from tests.support.guarded import GuardedMongod
    from tests.support.sinking import Scene


@dataclass(frozen=True)
class Made:
    """How the collection is made: with options of `create`, with an index, with a first document."""

    options: dict[str, Any] = field(default_factory=dict)
    keys: dict[str, Any] | None = None
    index: dict[str, Any] = field(default_factory=dict)
    first: dict[str, Any] | None = None

    async def make(self, database: AsyncDatabase[dict[str, Any]]) -> None:
        await database.command({"create": COLLECTION, **self.options})
        if self.keys is not None:
            indexes = [{"key": self.keys, "name": "it", **self.index}]
            await database.command({"createIndexes": COLLECTION, "indexes": indexes})
        if self.first is not None:
            await database[COLLECTION].insert_one(dict(self.first))


PLAIN, CLUSTERED = Made(), Made({"clusteredIndex": {"key": {"_id": 1}, "unique": True}})
SERIES = {"timeseries": {"timeField": "timestamp", "metaField": "metadata"}}
SPHERE, FLAT, TEXT = Made(keys={"g": "2dsphere"}), Made(keys={"g": "2d"}), Made(keys={"t": "text"})
TEXT_BESIDE = Made(keys={"a": 1, "t": "text"})
VALIDATED = {"validator": {"level": {"$exists": True}}}
EXPRESSION = {"validator": {"$expr": {"$eq": [{"$toInt": "$n"}, 1]}}}
ENCRYPTED = {"validator": {"$jsonSchema": {"properties": {"ssn": {"encrypt": {"bsonType": "string"}}}}}}

POLYGON = {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [0, 1], [1, 0], [0, 0]]]}
REFUSED: dict[str, tuple[Made, dict[str, Any]]] = {
    "an array for an _id": (PLAIN, {"own_id": [1]}),
    "a regex for an _id": (PLAIN, {"own_id": Regex("a")}),
    "an operator in an _id": (PLAIN, {"own_id": {"a": {"$b": 1}}}),
    "nested too deep": (PLAIN, {"v": nested(182)}),
    "larger than 16 MiB": (PLAIN, {"v": "x" * 16 * 1024 * 1024}),
    "an array for an _id, clustered": (CLUSTERED, {"own_id": [1]}),
    "an _id of 9 MB, clustered": (CLUSTERED, {"own_id": "x" * 9_000_000}),
    "text, 2dsphere": (SPHERE, {"g": "x"}),
    "a number, 2dsphere": (SPHERE, {"g": 5}),
    "no such type, 2dsphere": (SPHERE, {"g": {"type": "Foo", "coordinates": [1, 2]}}),
    "no such place, 2dsphere": (SPHERE, {"g": {"type": "Point", "coordinates": [500, 1]}}),
    "crossing itself, 2dsphere": (SPHERE, {"g": POLYGON}),
    "text, 2dsphere of old": (Made(keys={"g": "2dsphere"}, index={"2dsphereIndexVersion": 1}), {"g": "x"}),
    "far away, 2d": (FLAT, {"g": [500, 500]}),
    "not a number, 2d": (FLAT, {"g": [float("nan"), 1]}),
    "one number, 2d": (FLAT, {"g": [1]}),
    "one name, 2d": (FLAT, {"g": {"a": 1}}),
    "texts, 2d": (FLAT, {"g": ["a", "b"]}),
    "a text among points, 2d": (FLAT, {"g": [[1, 2], [3, "x"]]}),
    "no such language, text": (TEXT, {"t": "x", "language": "klingon"}),
    "a number for a language, text": (TEXT, {"t": "x", "language": 5}),
    "an array before it, text": (TEXT_BESIDE, {"a": [1, 2], "t": "x"}),
    "an array on the way, text": (Made(keys={"a.b": 1, "t": "text"}), {"a": [{"b": 1}], "t": "x"}),
    "an array, hashed": (Made(keys={"h": "hashed"}), {"h": [1, 2]}),
    "an array on the way, hashed": (Made(keys={"h.a": "hashed"}), {"h": [{"a": 1}]}),
    "an array, hashed beside": (Made(keys={"a": 1, "h": "hashed"}), {"a": 1, "h": [1]}),
    "two arrays in one index": (Made(keys={"a": 1, "b": 1}), {"a": [1, 2], "b": [1, 2]}),
    "two arrays further down": (Made(keys={"a.b": 1, "a.c": 1}), {"a": [{"b": [1], "c": [2]}]}),
    "a position for a name": (Made(keys={"a.0": 1}), {"a": [{"0": 1}]}),
    "more keys than the cache takes": (Made(keys={"a": 1}), {"a": list(range(300_000))}),
    "there already, unique": (Made(keys={"u": 1}, index={"unique": True}, first={"u": 1}), {"u": 1}),
    "missing twice, unique": (Made(keys={"u": 1, "v": 1}, index={"unique": True}, first={"u": 2}), {"u": 2}),
    "there already, sparse": (Made(keys={"u": 1}, index={"unique": True, "sparse": True}, first={"u": 1}), {"u": 1}),
    "there already, partial": (
        Made(keys={"u": 1}, index={"unique": True, "partialFilterExpression": {"u": {"$gt": 5}}}, first={"u": 6}),
        {"u": 6},
    ),
    "there already but for case": (
        Made(keys={"u": 1}, index={"unique": True, "collation": {"locale": "en", "strength": 1}}, first={"u": "a"}),
        {"u": "A"},
    ),
    "there already, wildcard beside": (Made(keys={"u": 1}, index={"unique": True}, first={"u": None}), {"u": None}),
    "a symbol, collated": (
        Made(keys={"s": 1}, index={"collation": {"locale": "de"}}),
        {"s": Code("x", {"a": 1}), "u": 1},
    ),
}
"""What one document can be refused for, and its neighbours not. The last is taken: no refusal for its own sake."""
TAKEN = {"a symbol, collated"}


@pytest.mark.parametrize(("made", "bad"), REFUSED.values(), ids=REFUSED.keys())
async def test_a_document_that_mongodb_never_takes_is_refused_and_its_neighbours_are_stored(
    mongod: Mongod, namespace: str, made: Made, bad: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    guilty = entry(**bad)
    neighbours = [entry(u=100 + number, level="info") for number in range(4)]
    async with sinking(mongod, namespace) as scene:
        await made.make(scene.database)
        written = await scene.write([*neighbours[:2], guilty, *neighbours[2:]])
        expected = [] if request.node.callspec.id in TAKEN else [guilty]
        assert [refusal.entry for refusal in written.refused] == expected
        assert written.stored == 5 - len(expected)
        assert all(len(refusal.error) < 2000 for refusal in written.refused)


RULES: dict[str, tuple[Made, dict[str, Any]]] = {
    "strict": (Made({**VALIDATED, "validationLevel": "strict"}), {"n": 1}),
    "moderate": (Made({**VALIDATED, "validationLevel": "moderate"}), {"n": 1}),
    "an expression that fails": (Made(EXPRESSION), {"n": "x"}),
    "an encryption schema": (Made(ENCRYPTED), {"ssn": "in clear text"}),
    "a schema": (Made({"validator": {"$jsonSchema": {"required": ["level"]}}}), {}),
}


@pytest.mark.parametrize(("made", "fields"), RULES.values(), ids=RULES.keys())
async def test_a_rule_that_refuses_all_makes_refusals_of_all(
    mongod: Mongod, namespace: str, made: Made, fields: dict[str, Any]
) -> None:
    """A validator speaks of documents, also where it likes none: somebody has written it down so."""
    async with sinking(mongod, namespace) as scene:
        await made.make(scene.database)
        written = await scene.write([entry(**fields) for _ in range(3)])
        assert (written.stored, len(written.refused)) == (0, 3)
        assert {refusal.error for refusal in written.refused} == {
            "expected a document that passes the collection's validator, and it does not"
        }


OF_SERIES: dict[str, tuple[dict[str, Any] | None, dict[str, Any]]] = {
    "no time": (None, {"timestamp": None}),
    "a text for a time": (None, {"timestamp": "yesterday"}),
    "times in an array": (None, {"timestamp": []}),
    "of almost 16 MiB": (None, {"v": "x" * (16 * 1024 * 1024 - 200)}),
    "an array, hashed": ({"metadata.k": "hashed"}, {"metadata": {"k": [1]}}),
    "two arrays in one index": ({"metadata.a": 1, "metadata.b": 1}, {"metadata": {"a": [1], "b": [1]}}),
    "text, 2dsphere": ({"metadata.g": "2dsphere"}, {"metadata": {"g": "x"}}),
}


@pytest.mark.parametrize(("keys", "bad"), OF_SERIES.values(), ids=OF_SERIES.keys())
async def test_a_time_series_collection_refuses_a_document_in_its_own_ways(
    mongod: Mongod, namespace: str, keys: dict[str, Any] | None, bad: dict[str, Any]
) -> None:
    guilty = entry(**{name: value for name, value in bad.items() if name == "v"})
    guilty.document.update(bad)
    async with sinking(mongod, namespace) as scene:
        await Made(SERIES, keys).make(scene.database)
        written = await scene.write([*good(2), guilty])
        assert [refusal.entry for refusal in written.refused] == [guilty]
        assert written.stored == 2


async def test_bytes_that_are_no_bson_are_refused_alone(mongod: Mongod, namespace: str) -> None:
    raw = RawBSONDocument(encode({"a": 1}).replace(b"\x10a\0", b"\x55a\0"))
    guilty, neighbours = entry(v=raw), good(4)
    async with sinking(mongod, namespace) as scene:
        written = await scene.write([*neighbours[:2], guilty, *neighbours[2:]])
        assert [refusal.entry for refusal in written.refused] == [guilty]
        assert written.stored == 4


# what is nobody's fault


async def waits(scene: Scene, sentence: str | None = None) -> list[Entry]:
    """Write a batch that has to wait; return it when it is not refused, and only counted once it is stored."""
    entries = [*good(3), entry(7)]
    writing = scene.sink.begin(entries)
    for _ in range(2):
        with pytest.raises((SinkUnavailable, CollectionChanged), match=sentence):
            await writing.attempt()
    assert writing.written.refused == []
    assert writing.written.stored == 0
    return entries


async def lands(scene: Scene, entries: list[Entry]) -> None:
    written = await scene.write(entries)
    assert (written.stored, written.refused) == (len(entries), [])


async def test_a_view_in_the_collections_place_refuses_nobody(mongod: Mongod, namespace: str) -> None:
    async with sinking(mongod, namespace) as scene:
        await scene.database.command({"create": COLLECTION, "viewOn": "another", "pipeline": []})
        entries = await waits(scene, "is another one")
        await scene.collection.drop()
        await lands(scene, entries)


async def test_writes_of_users_that_are_blocked_refuse_nobody(own_mongod: Callable[[], Mongod], namespace: str) -> None:
    async with sinking(own_mongod(), namespace) as scene:
        await scene.client.admin.command({"setUserWriteBlockMode": 1, "global": True})
        entries = await waits(scene, "UserWritesBlocked")
        await scene.client.admin.command({"setUserWriteBlockMode": 1, "global": False})
        await lands(scene, entries)


@pytest.mark.parametrize("point", ["failAllInserts", "hangDuringBatchInsert"])
async def test_an_insert_that_fails_inside_the_server_refuses_nobody(
    own_mongod: Callable[[], Mongod], namespace: str, point: str
) -> None:
    async with sinking(own_mongod(), namespace) as scene:
        scene.sink = MongoSink(scene.database, COLLECTION, 1.0)
        await scene.client.admin.command({"configureFailPoint": point, "mode": "alwaysOn"})
        entries = await waits(scene)
        await scene.client.admin.command({"configureFailPoint": point, "mode": "off"})
        scene.sink = MongoSink(scene.database, COLLECTION, TIMEOUT)
        written = await scene.write(entries)
        assert (written.stored + written.duplicates, written.refused) == (len(entries), [])


async def test_a_member_that_is_no_primary_any_more_refuses_nobody(
    own_mongod: Callable[[], Mongod], namespace: str
) -> None:
    server = own_mongod()
    async with sinking(server, namespace, 60) as scene:
        scene.sink = MongoSink(scene.database, COLLECTION, 1.0)
        assert (await scene.write(good(1))).stored == 1
        await scene.client.admin.command({"replSetStepDown": 600, "force": True})
        entries = await waits(scene)
        with MongoClient[dict[str, Any]](server.url, directConnection=True) as member:
            member.admin.command({"replSetFreeze": 0})
        while True:
            try:
                await lands(scene, entries)
            except SinkUnavailable:
                continue
            break


@pytest.fixture(scope="module")
def guarded() -> Iterator[GuardedMongod]:
    with guarded_mongod() as server:
        yield server


@pytest.mark.parametrize(("role", "sentence"), [("read", "may not insert"), (None, "may not insert")])
async def test_a_user_who_may_not_write_refuses_nobody(
    guarded: GuardedMongod, namespace: str, role: str | None, sentence: str
) -> None:
    roles = [role] if role else []
    with MongoClient[dict[str, Any]](AsUser(guarded, "root", "admin").url) as root:
        root[namespace].command({"createUser": "collector", "pwd": "right", "roles": roles})
        user: Any = AsUser(guarded, "collector", namespace)
        async with sinking(user, namespace) as scene:
            entries = await waits(scene, sentence)
            root[namespace].command({"updateUser": "collector", "roles": ["readWrite"]})
            await lands(scene, entries)
        root[namespace].command("dropAllUsersFromDatabase")
        root.drop_database(namespace)


EVERY = [*range(1, 480), 8000, 9001, 10003, 10058, 10107, 10334, 11600, 11601, 11602, 12586, 12587, 13113, 13297, 13388]
EVERY += [13435, 13436, 14031, 16500, 16755, 17280, 17419, 28769, 31082, 40413, 40414, 40415, 46841, 50768, 50915]
EVERY += [51003, 56846, 57986, 640570, 4662500, 5894900, 10045600]


NO_PRIMARY = {91, 189, 10058, 10107, 11600, 11602, 13435, 13436}
"""After these the driver looks for another primary, which takes it up to ten seconds: see `PASSING`."""


NO_ANSWER = {121, 303, 330, 354, 372}
"""With these the server ends the connection, or itself; 121 the fail point cannot make."""


async def test_of_all_codes_that_a_whole_insert_can_be_answered_with_only_those_of_the_list_accuse_an_entry(
    mongod: Mongod, namespace: str
) -> None:
    async with sinking(mongod, namespace, 120) as scene:
        accusing = set()
        for code in set(EVERY) - NO_PRIMARY - NO_ANSWER:
            writing = scene.sink.begin(good(1))
            async with failing(scene.database, errorCode=code):
                try:
                    await writing.attempt()
                except (SinkUnavailable, CollectionChanged):
                    assert writing.written.refused == []
            if writing.written.refused:
                accusing.add(code)
        assert accusing == (OF_A_DOCUMENT_IN_A_COMMAND & set(EVERY)) - NO_ANSWER
