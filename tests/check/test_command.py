"""`collector check` as a command: lines and JSON, exit status, and that nothing is changed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from collector.check.findings import Level
from tests.support.planted import planted
from transfer.jetstream.durables import ensure_durable
from transfer.names import Names

if TYPE_CHECKING:
    from pymongo.database import Database

    from tests.support.ancestor import Ancestor
    from tests.support.checking import Check

pytestmark = pytest.mark.timeout(180)


async def test_where_nothing_is_yet_all_is_well_and_nothing_is_made(
    check: Check, go: Ancestor, database: Database[dict[str, Any]]
) -> None:
    assert await check.troubles() == []
    streams = {info.config.name for info in await go.jetstream.streams_info()}
    assert not {name for name in streams if name and go.namespace in name}
    assert database.name not in database.client.list_database_names()


async def test_with_a_logger_that_works_all_is_well_and_nothing_is_changed(
    check: Check, declared: Ancestor, database: Database[dict[str, Any]]
) -> None:
    names = Names(declared.namespace)
    made = await ensure_durable(declared.jetstream, names, "system", homes=True)
    database.create_collection("system_logs")
    await declared.publish("system", [b"{}"] * 5)
    found = await check.findings(replicas=4)
    assert {finding.level for finding in found} == {Level.OK}
    assert "logger system: stream and durable are in order, 5 messages wait" in "\n".join(map(str, found))
    after = await declared.jetstream.consumer_info(names.stream("system"), names.durable("system"))
    assert (after.num_pending, after.num_ack_pending, str(made.config.max_ack_pending)) == (5, 0, "100000")


async def test_the_command_says_a_line_for_each_finding_and_ends_with_0(check: Check, declared: Ancestor) -> None:
    status, said = await anyio.to_thread.run_sync(check.run, "--replicas", "3")
    assert status == 0, said
    *lines, last = said.splitlines()
    assert all(line.startswith("ok       ") for line in lines)
    assert last == f"{len(lines)} ok, 0 warning, 0 wrong"
    assert "replicas hold up to 18000 messages of a logger" in lines[0]


async def test_the_command_ends_with_1_when_something_is_wrong_and_says_it_in_json(
    check: Check, declared: Ancestor
) -> None:
    await declared.put("lost")
    status, said = await anyio.to_thread.run_sync(check.run, "--json")
    found = json.loads(said)
    (wrong,) = [finding for finding in found["findings"] if finding["level"] == "wrong"]
    assert (status, found["wrong"], found["warning"]) == (1, 1, 0)
    assert wrong == {
        "level": "wrong",
        "about": f"stream {declared.namespace}:logs:lost",
        "expected": "to be there",
        "got": "none, so that publishing fails",
        "do": "make it: transfer update lost",
    }


def test_wrong_settings_are_all_said_and_the_status_is_2(check: Check) -> None:
    check.environ |= {"NAMESPACE": "", "DATABASE": planted("database"), "COLLECTOR_WRITES": "0"}
    status, said = check.run()
    assert status == 2
    assert [line.split(":")[0] for line in said.splitlines()[:-1]] == [
        "wrong    NAMESPACE",
        "wrong    DATABASE",
        "wrong    COLLECTOR_WRITES",
    ]
    assert planted("") not in said
