"""What passes: nothing is held against an entry, and nothing is stored twice, when MongoDB is away or unsure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from collector.errors import SinkUnavailable
from collector.sinks.mongodb import MongoSink
from tests.support.sinking import COLLECTION, entry, failing, good, sinking, total

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector.local import Mongod


async def test_without_a_majority_everything_but_the_refused_is_written_again(mongod: Mongod, namespace: str) -> None:
    known, new, bad = entry(), entry(), entry([1])
    error = {"code": 64, "codeName": "WriteConcernFailed", "errmsg": "waiting for replication timed out"}
    async with sinking(mongod, namespace) as scene:
        assert (await scene.write([known])).stored == 1
        writing = scene.sink.begin([known, new, bad])
        async with failing(scene.database, writeConcernError=error):
            with pytest.raises(SinkUnavailable, match="WriteConcernFailed"):
                await writing.attempt()
        assert (writing.written.stored, writing.written.duplicates) == (0, 0)
        assert [refusal.entry for refusal in writing.written.refused] == [bad]
        await writing.attempt()
        assert (writing.written.stored, writing.written.duplicates, len(writing.written.refused)) == (1, 1, 1)


async def test_what_an_attempt_has_written_is_left_out_of_the_next_and_is_no_duplicate(
    mongod: Mongod, namespace: str
) -> None:
    """Of a batch that is too large for one command the halves are written on their own."""
    entries = [entry(text="x" * 6 * 1024 * 1024) for _ in range(4)]
    async with sinking(mongod, namespace) as scene:
        writing = scene.sink.begin(entries)
        async with failing(scene.database, mode={"skip": 1}, errorCode=10107):
            with pytest.raises(SinkUnavailable):
                await writing.attempt()
        assert (writing.written.stored, total(writing.written)) == (2, 2)
        assert await scene.stored() == [one.document["_id"] for one in entries[:2]]
        await writing.attempt()
        assert (writing.written.stored, total(writing.written)) == (4, 4)


async def test_trying_again_after_an_unknown_result_stores_nothing_twice(mongod: Mongod, namespace: str) -> None:
    entries = good(3)
    async with sinking(mongod, namespace) as scene:
        writing = scene.sink.begin(entries)
        await scene.write(entries[:1])  # as a first attempt whose answer was lost
        await writing.attempt()
        assert (writing.written.stored, writing.written.duplicates) == (2, 1)
        await writing.attempt()
        assert total(writing.written) == 3, "nothing is left"
        assert await scene.collection.count_documents({}) == 3


# NotWritablePrimary, PrimarySteppedDown, InterruptedDueToReplStateChange, NotPrimaryNoSecondaryOk, HostUnreachable,
# MaxTimeMSExpired, ExceededTimeLimit
PASSING = [10107, 189, 11602, 13435, 6, 50, 262]


@pytest.mark.parametrize("code", PASSING)
async def test_a_primary_that_steps_down_is_unavailable(mongod: Mongod, namespace: str, code: int) -> None:
    async with sinking(mongod, namespace) as scene:
        async with failing(scene.database, errorCode=code):
            with pytest.raises(SinkUnavailable):
                await scene.write(good(3))
        assert (await scene.write(good(3))).stored == 3


@pytest.mark.parametrize("code", [13, 8000, 59])
async def test_what_is_not_the_documents_fault_is_never_held_against_them(
    mongod: Mongod, namespace: str, code: int
) -> None:
    """Not authorized, above the space quota, a command that this server does not know."""
    async with sinking(mongod, namespace) as scene, failing(scene.database, errorCode=code):
        with pytest.raises(SinkUnavailable, match=str(code)):
            await scene.write(good(3))


async def test_a_connection_lost_in_a_write_leaves_its_outcome_unknown(mongod: Mongod, namespace: str) -> None:
    async with sinking(mongod, namespace) as scene:
        async with failing(scene.database, closeConnection=True):
            with pytest.raises(SinkUnavailable) as raised:
                await scene.write(good(3))
        assert raised.value.ambiguous
        assert (await scene.write(good(3))).stored == 3


async def test_a_comparison_that_mongodb_does_not_answer_is_unavailable(mongod: Mongod, namespace: str) -> None:
    one = entry(7)
    async with sinking(mongod, namespace) as scene:
        assert (await scene.write([one])).stored == 1
        async with failing(scene.database, failCommands=["find"], errorCode=13):
            with pytest.raises(SinkUnavailable):
                await scene.write([one])
        assert (await scene.write([one])).duplicates == 1


async def test_a_mongod_that_hangs_is_unavailable_in_time(own_mongod: Callable[[], Mongod], namespace: str) -> None:
    server = own_mongod()
    async with sinking(server, namespace) as scene:
        scene.sink = MongoSink(scene.database, COLLECTION, 1.0)
        assert (await scene.write(good(1))).stored == 1
        server.pause()
        with anyio.fail_after(60), pytest.raises(SinkUnavailable) as raised:  # without a deadline it has no end
            await scene.write(good(1))
        assert raised.value.ambiguous
        server.resume()
        while True:
            try:
                assert (await scene.write(good(1))).stored == 1
            except SinkUnavailable:
                continue
            break


async def test_a_mongod_that_is_gone_is_unavailable_quickly_and_works_again_after_its_restart(
    own_mongod: Callable[[], Mongod], namespace: str
) -> None:
    server, entries = own_mongod(), good(3)
    async with sinking(server, namespace, 60) as scene:
        assert (await scene.write(entries[:1])).stored == 1
        await anyio.to_thread.run_sync(server.kill)
        started = anyio.current_time()
        with pytest.raises(SinkUnavailable):
            await scene.write(entries)
        assert anyio.current_time() - started < 30, "half of the write timeout"
        await anyio.to_thread.run_sync(server.start)
        written = await scene.write(entries)
        assert (written.stored, written.duplicates) == (2, 1)
