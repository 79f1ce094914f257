"""`collector dead-letters` on real servers: what it lists, shows and removes, and what it says of wrong use."""

from __future__ import annotations

import base64
import gzip
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from bson import ObjectId

from collector.model import Reason, Rejected
from tests.support.letters import FAILED_AT, MIB, POISON, SECRET, Command, keep, reject
from transfer.wire import BUNDLE

if TYPE_CHECKING:
    from pymongo.database import Database

    from collector.local import Mongod


# --- list, show, purge


async def test_list_shows_every_letter_and_nothing_that_was_in_it(
    mongod: Mongod, namespace: str, offline: Command
) -> None:
    headers = f"NATS/1.0\r\nX-{SECRET}: {SECRET}\r\n\r\n".encode()
    first, second = reject(raw_headers=headers), reject(b"x" * 9 * MIB, position=7, reason=Reason.RULE, sequence=43)
    await keep(mongod, namespace, second, failed_at=FAILED_AT + 1)
    await keep(mongod, namespace, first)
    status, out, err = await offline.run("list", "system")
    assert (status, err) == (0, "")
    assert [line.split() for line in out.splitlines()[1:]] == [
        [str(first.identity), "2027-01-15T08:00:00.250Z", "malformed", str(len(POISON)), "1", "42"],
        [str(second.identity), "2027-01-15T08:00:01.250Z", "rule", "in", "a", "file", "1", "43", "7"],
    ]
    status, machine, err = await offline.run("list", "system", "--json")
    assert [json.loads(line)["id"] for line in machine.splitlines()] == [str(first.identity), str(second.identity)]
    assert json.loads(machine.splitlines()[0]) == {
        "id": str(first.identity),
        "failed_at": "2027-01-15T08:00:00.250000+00:00",
        "published_at": "2023-11-14T22:13:20+00:00",
        "reason": "malformed",
        "subject": "beta.logs.system",
        "stream": "beta:logs:system",
        "sequence": 42,
        "entry": None,
        "deliveries": 3,
        "attempt": 1,
        "size": len(POISON),
    }
    assert SECRET not in out + machine + err


async def test_every_filter_means_the_same_letters_for_every_command(
    mongod: Mongod, namespace: str, offline: Command, database: Database[dict[str, Any]]
) -> None:
    now = datetime.now(UTC).timestamp()
    old, recent, rule = reject(), reject(), reject(reason=Reason.RULE)
    for one, failed_at in ((old, FAILED_AT - 10**9), (recent, now - 600), (rule, now - 1200)):
        await keep(mongod, namespace, one, failed_at=failed_at)
    cases: dict[tuple[str, ...], list[Rejected]] = {
        (): [old, rule, recent],
        ("--reason", "rule"): [rule],
        ("--reason", "rule", "--reason", "malformed", "--since", "15m"): [recent],
        ("--since", "1h", "--until", "15m"): [rule],
        ("--until", "2020-01-31T12:00:00Z"): [old],
        ("--limit", "2"): [old, rule],
        ("--id", str(recent.identity), "--id", str(old.identity)): [old, recent],
        ("--reason", "exhausted"): [],
    }
    for options, expected in cases.items():
        status, out, _ = await offline.run("list", "system", "--json", *options)
        assert [json.loads(line)["id"] for line in out.splitlines()] == [str(one.identity) for one in expected], options
        assert status == 0
    assert await offline.done("redrive", "system", "--dry-run", "--since", "1h") == {"would_redrive": 2}
    assert await offline.done("purge", "system", "--dry-run", "--limit", "2") == {"would_purge": 2}
    assert database.system_fail.count_documents({}) == 3
    assert await offline.done("purge", "system", "--yes", "--reason", "rule") == {"purged": 1}
    assert {found["_id"] for found in database.system_fail.find()} == {old.identity, recent.identity}


ENTRY = {"data": {"msg": "hello\x1b[2J", "n": 5}, "metadata": None}
PACKED = msgspec.msgpack.encode(ENTRY)
JSON = msgspec.json.encode(ENTRY)


@pytest.mark.parametrize(
    ("body", "header", "kind", "content"),
    [
        (PACKED, "", "msgpack", "{'data': {'msg': 'hello\\x1b[2J', 'n': 5}, 'metadata': None}"),
        (JSON, "", "JSON", "{'data': {'msg': 'hello\\x1b[2J', 'n': 5}, 'metadata': None}"),
        (gzip.compress(PACKED), "Content-Encoding: gzip", f"msgpack, {len(PACKED)} bytes inflated", "'n': 5"),
        (b"\x91" + PACKED, f"Content-Type: {BUNDLE}", "bundle", "[{'data': {'msg'"),
        ("plain tëxt\x1b[2J".encode(), "", "text", "plain tëxt\\x1b[2J"),
        (b"\xc1\xff\x00", "", "bytes", "c1 ff 00"),
        (b"\xc1" + b"x" * 9 * MIB, "", "bytes", "c1 78 78"),
    ],
    ids=["msgpack", "json", "gzip", "bundle", "text", "bytes", "file"],
)
async def test_show_prints_one_letter_readably_and_raw_its_very_bytes(
    body: bytes, header: str, kind: str, content: str, mongod: Mongod, namespace: str, offline: Command
) -> None:
    one = reject(body, f"NATS/1.0\r\n{header}\r\nX: \x1b[2J\r\n\r\n".encode(), error="expected\x1b[2J this")
    await keep(mongod, namespace, one)
    status, out, err = await offline.run("show", "system", str(one.identity))
    assert (status, err) == (0, "")
    about, _, shown = out.partition("\n\n")
    assert about.splitlines()[-1] == f"body:         {kind}"
    for line in (f"size:         {len(body)}", "reason:       malformed", "error:        expected\\x1b[2J this"):
        assert line in about.splitlines()
    assert content in shown
    assert "\x1b" not in out
    assert await offline.raw("show", "system", str(one.identity), "--raw") == (0, body, b"")
    status, out, err = await offline.run("show", "system", str(one.identity), "--json")
    said = json.loads(out)
    assert (status, err, said["kind"], said["size"], said["reason"]) == (0, "", kind, len(body), "malformed")
    assert base64.b64decode(said["body"]) == body
    assert content in said["text"]
    assert said["headers"][-1] == ["X", "\x1b[2J"]


async def test_show_is_asked_for_one_form(offline: Command) -> None:
    status, _, err = await offline.run("show", "system", "0" * 24, "--json", "--raw")
    assert status == 2
    assert "--raw or --json" in err


async def test_purge_removes_a_letter_with_its_file_and_asks_first(
    mongod: Mongod, namespace: str, offline: Command, database: Database[dict[str, Any]]
) -> None:
    await keep(mongod, namespace, *(reject() for _ in range(250)), reject(b"x" * 9 * MIB))
    status, out, err = await offline.run("purge", "system")
    assert (status, out) == (2, "")
    assert "--yes" in err
    assert database.system_fail.count_documents({}) == 251
    assert await offline.done("purge", "system", "--yes") == {"purged": 251}
    for collection in ("system_fail", "system_fail.files", "system_fail.chunks"):
        assert database[collection].count_documents({}) == 0
    assert await offline.run("list", "system") == (0, "", "no dead letters of system\n")


async def test_a_logger_that_stored_nothing_is_said_and_one_without_letters_is_not_wrong(
    offline: Command, database: Database[dict[str, Any]]
) -> None:
    for arguments in (("list",), ("redrive", "--dry-run"), ("purge", "--yes")):
        status, out, err = await offline.run(arguments[0], "system", *arguments[1:])
        assert (status, out) == (1, "")
        assert "neither system_fail nor system_logs" in err
    database.create_collection("system_logs")
    assert await offline.run("list", "system", "--json") == (0, "", "no dead letters of system\n")
    assert await offline.done("purge", "system", "--yes") == {"purged": 0}
    assert (await offline.run("show", "system", str(ObjectId())))[0] == 1


async def test_wrong_settings_and_wrong_use_are_said_with_exit_status_2(offline: Command) -> None:
    offline.environment |= {"NAMESPACE": "", "NATS_HOSTS": "", "DATABASE": f"postgres://user:{SECRET}@db"}
    status, _, err = await offline.run("redrive", "system")
    assert status == 2
    assert [line.partition(":")[0] for line in err.splitlines()] == ["NAMESPACE", "NATS_HOSTS", "DATABASE"]
    status, _, listed = await offline.run("list", "system")
    assert status == 2
    assert [line.partition(":")[0] for line in listed.splitlines()] == ["NAMESPACE", "DATABASE"]
    assert SECRET not in err + listed
    for wrong in (
        ("no key!",),
        ("system", "--reason", "bad"),
        ("system", "--since", "2020-01-01"),
        ("system", "--id", "1"),
    ):
        assert (await offline.run("list", *wrong))[0] == 2


async def test_nats_that_does_not_answer_leaves_every_letter(
    mongod: Mongod, namespace: str, offline: Command, database: Database[dict[str, Any]]
) -> None:
    await keep(mongod, namespace, reject())
    status, _, err = await offline.run("redrive", "system")
    assert status == 1
    assert "does not answer" in err
    assert database.system_fail.count_documents({}) == 1
