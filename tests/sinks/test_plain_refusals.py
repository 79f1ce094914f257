"""What MongoDB never takes: only the guilty entry of a batch is refused, and its field is named."""

from __future__ import annotations

import time
import timeit
from typing import TYPE_CHECKING, Any

import bson
import pytest

from collector.model import Reason
from tests.support.sinking import COLLECTION, entry, good, nested, sinking, total

if TYPE_CHECKING:
    from collector.local import Mongod


# refusals


async def test_a_validator_refuses_what_does_not_pass_it(mongod: Mongod, namespace: str) -> None:
    async with sinking(mongod, namespace) as scene:
        await scene.database.create_collection(COLLECTION, validator={"level": {"$exists": True}})
        fine, bad = entry(level="info"), entry(secret="hunter2")
        written = await scene.write([bad, fine])
        assert written.stored == 1
        (refusal,) = written.refused
        assert (refusal.entry, refusal.reason) == (bad, Reason.DOCUMENT_INVALID)
        assert "validator" in refusal.error
        assert "hunter2" not in refusal.error


class Unknown:
    """Nothing that BSON has."""


UNENCODABLE = {
    "uint64": 2**63,
    "deep uint64": {"a": [1, {"b": 2**64 - 1}]},
    "lone surrogate": "a\ud800b",
    "lone surrogate as a key": {"\ud800": 1},
    "NUL in a key": {"a\0b": 1},
    "number as a key": {1: 1},
    "nothing of BSON": Unknown(),
    "2,000 nested": nested(2000),
    "200 nested": nested(200),
    "180 nested": nested(180, leaf=2**63),
}


@pytest.mark.parametrize("value", UNENCODABLE.values(), ids=UNENCODABLE.keys())
async def test_of_a_batch_only_what_cannot_be_stored_is_refused(mongod: Mongod, namespace: str, value: Any) -> None:
    bad, neighbours = [entry(v=value), entry(v=value)], good(30)
    batch = [*neighbours[:10], bad[0], *neighbours[10:20], bad[1], *neighbours[20:]]
    async with sinking(mongod, namespace) as scene:
        written = await scene.write(batch)
        assert sorted(await scene.stored()) == sorted(one.document["_id"] for one in neighbours)
        assert {id(refusal.entry) for refusal in written.refused} == {id(one) for one in bad}
        assert {refusal.reason for refusal in written.refused} == {Reason.DOCUMENT_INVALID}
        assert total(written) == len(batch)
        for refusal in written.refused:
            refusal.error.encode()
            assert len(refusal.error) < 2000


async def test_no_depth_of_nesting_is_ever_raised(mongod: Mongod, namespace: str) -> None:
    """Encoding alone and encoding within a command meet Python's limits at different depths."""
    neighbour = entry()
    deep = [entry(v=nested(depth)) for depth in range(900, 1000)]
    async with sinking(mongod, namespace) as scene:
        for one in deep:
            written = await scene.write([neighbour, one])
            assert written.refused[0].entry is one
        assert await scene.collection.count_documents({}) == 1


async def test_the_guilty_field_is_named(mongod: Mongod, namespace: str) -> None:
    async with sinking(mongod, namespace) as scene:
        written = await scene.write([entry(ok=1, request={"headers": [0, {"size": 2**63}]})])
        assert written.refused[0].error == (
            "expected integers of at most 64 bits with a sign, at request.headers.1.size"
        )


async def test_a_large_document_with_a_guilty_field_far_down_is_judged_quickly(mongod: Mongod, namespace: str) -> None:
    value = {"a": "x" * 8_000_000, "b": nested(150, leaf=2**63)}
    for _ in range(150):
        value = {"a": value}
    alone = min(timeit.repeat(lambda: bson.encode({"x": "x" * 8_000_000}), timer=time.process_time, number=1))
    async with sinking(mongod, namespace) as scene:
        started = time.process_time()
        assert len((await scene.write([entry(v=value)])).refused) == 1
        took = time.process_time() - started
    assert took < 60 * (alone + 0.01), "each of 300 levels is not encoded with all below it"


# sizes


async def test_an_entry_of_5_mebibytes_is_stored(mongod: Mongod, namespace: str) -> None:
    async with sinking(mongod, namespace) as scene:
        assert (await scene.write([entry(text="x" * 5 * 1024 * 1024)])).stored == 1


async def test_a_batch_larger_than_a_command_may_be_is_stored_in_parts(mongod: Mongod, namespace: str) -> None:
    async with sinking(mongod, namespace) as scene:
        written = await scene.write([entry(text="x" * 6 * 1024 * 1024) for _ in range(10)])
        assert (written.stored, total(written)) == (10, 10)


async def test_only_the_entry_that_is_larger_than_a_document_may_be_is_refused(mongod: Mongod, namespace: str) -> None:
    too_large, neighbours = entry(text="x" * 16 * 1024 * 1024), good(20)
    async with sinking(mongod, namespace) as scene:
        written = await scene.write([*neighbours[:7], too_large, *neighbours[7:]])
        assert written.stored == 20
        (refusal,) = written.refused
        assert (refusal.entry, refusal.reason) == (too_large, Reason.DOCUMENT_TOO_LARGE)


@pytest.mark.parametrize("below", range(0, 200, 40))
async def test_an_entry_at_the_very_limit_is_stored_or_refused_and_never_tried_for_ever(
    mongod: Mongod, namespace: str, below: int
) -> None:
    async with sinking(mongod, namespace) as scene:
        written = await scene.write([entry(text="x" * (16 * 1024 * 1024 - below)), entry()])
        assert total(written) == 2
