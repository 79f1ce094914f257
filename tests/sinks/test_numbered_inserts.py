"""Numbered inserts: a command that is sent again is applied once, whatever it was answered."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from pymongo.errors import OperationFailure

from collector.errors import SinkUnavailable
from collector.sinks.outcomes import UNENCODABLE
from tests.support.owning import COLLECTION, NOON, candidates, entries, entry, ids

if TYPE_CHECKING:
    from collector.local import Mongod


async def test_the_same_number_again_is_applied_once_and_answered_the_same(mongod: Mongod, namespace: str) -> None:
    async with candidates(mongod, namespace, 2) as (a,):
        owner, several = await a.own(), entries(2500)
        first = await owner.insert(several)
        again = await owner.insert(several)
        assert first["n"] == again["n"] == 2500
        assert len(await owner.stored()) == 2500


async def test_a_command_of_which_a_part_was_refused_is_applied_once_too(mongod: Mongod, namespace: str) -> None:
    async with candidates(mongod, namespace, 2) as (a,):
        owner, several = await a.own(), entries(5)
        several[2].document["timestamp"] = "yesterday"
        for _ in range(2):
            reply = await owner.insert(several)
            assert [error["index"] for error in reply["writeErrors"]] == [2]
        assert sorted(await owner.stored()) == sorted(ids(several[:2] + several[3:]))


async def test_entries_over_many_times_and_sources_are_applied_once_too(mongod: Mongod, namespace: str) -> None:
    """Of which each makes a bucket of its own, and so a write of its own in the server."""
    several = [entry(metadata={"host": number % 7}, at=NOON + timedelta(hours=9 * number)) for number in range(60)]
    async with candidates(mongod, namespace, 2) as (a,):
        owner = await a.own()
        for _ in range(3):
            assert (await owner.insert(several))["n"] == 60
        assert len(await owner.stored()) == 60


async def test_what_cannot_be_encoded_is_raised_and_its_number_is_as_good_as_new(
    mongod: Mongod, namespace: str
) -> None:
    async with candidates(mongod, namespace, 2) as (a,):
        owner, good = await a.own(), entry()
        with pytest.raises(UNENCODABLE):
            await owner.insert([good, entry(v=2**64)])
        assert await owner.stored() == []
        assert (await owner.insert([good]))["n"] == 1


@pytest.mark.parametrize(("failure", "raised"), [({"errorCode": 10107}, True), ({"errorCode": 14}, False)])
async def test_what_a_failed_command_raises_says_whether_a_document_can_be_why(
    mongod: Mongod, namespace: str, failure: dict[str, Any], raised: bool
) -> None:
    async with candidates(mongod, namespace, 1) as (a,):
        owner, admin = await a.own(), a.database.client.admin
        data = {"failCommands": ["insert"], "namespace": f"{namespace}.{COLLECTION}", **failure}
        await admin.command({"configureFailPoint": "failCommand", "mode": {"times": 1}, "data": data})
        with pytest.raises(SinkUnavailable if raised else OperationFailure):
            await owner.insert(entries(1))


@pytest.mark.parametrize("code", [217, 2])
async def test_what_is_looked_up_after_a_failed_command_is_read_as_it_is_after_that(
    mongod: Mongod, namespace: str, code: int
) -> None:
    """The command may have written what the majority does not have yet; an earlier read would miss it."""
    async with candidates(mongod, namespace, 1) as (a,):
        owner, admin = await a.own(), a.database.client.admin
        written = await a.database.command({"insert": "others", "documents": [{}]})
        data = {"failCommands": ["insert"], "namespace": f"{namespace}.{COLLECTION}", "errorCode": code}
        await admin.command({"configureFailPoint": "failCommand", "mode": {"times": 1}, "data": data})
        with pytest.raises(OperationFailure):
            await owner.insert(entries(1))
        assert owner.store._since >= written["operationTime"]
