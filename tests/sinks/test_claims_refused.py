"""Claims in a MongoDB that hangs, refuses, or is no replica set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from anyio import fail_after

from collector.errors import SinkUnavailable
from collector.sinks.timeseries.claims import Claims
from collector.sinks.timeseries.ownership import Claim
from tests.support.owning import candidates
from tests.support.standalone import Standalone, own

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector.local import Mongod


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


async def test_a_mongodb_that_is_no_replica_set_is_told_to_be_one() -> None:
    with own(Standalone, {}) as server:
        async with candidates(server, "beta", 1) as (a,):
            await a.claims.register({a.claim: "system"})
            await a.claims.announce(1)
            with pytest.raises(SinkUnavailable, match="expected MongoDB to be a replica set"):
                await a.try_to_own(await a.seen())
