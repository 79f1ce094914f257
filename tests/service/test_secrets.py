"""No secret and no payload in a log, an error or `/status`: planted values, and a search through all that is said."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from pymongo import MongoClient

from collector.local import Mongod, NatsServer, Replica
from tests.service.test_entries import BAD, BUNDLE, in_map
from tests.support.ancestor import Ancestor, entry, text
from tests.support.logins import USER
from tests.support.planted import leaks as found_in
from tests.support.planted import planted
from tests.support.waiting import count, state, until, until_empty

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pymongo.database import Database

pytestmark = pytest.mark.timeout(300)
OURS = ("COLLECTOR_", "NATS_", "DATABASE", "NAMESPACE", "MODE")
VALUE = planted("payload")
PASSWORD = planted("password")


async def run(settings: Mapping[str, str], *command: str, given: bytes = b"") -> tuple[int, bytes]:
    """Run a command with these settings alone; return its exit status and all that it said."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}

    def to_its_end() -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", *command],
            env={**inherited, **settings},
            input=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=60,
        )

    ended = await anyio.to_thread.run_sync(to_its_end)
    return ended.returncode, ended.stdout


def look_everywhere(replica: Replica) -> None:
    """Fetch what it says over HTTP, which is searched like its log; see `tests.support.planted`."""
    for path in ("/status", "/metrics", "/readyz", "/livez"):
        assert replica.get(path)[0] in {200, 503}


# --- the search itself


class Blabber(Replica):
    """Says and answers what it must not."""

    def _command(self) -> list[str]:
        said = "import sys, time; print('some text ' + sys.argv[1], flush=True); time.sleep(60)"
        return [str(self.program), "-c", said, VALUE]

    def _answers(self) -> bool:
        return VALUE in self.log_path.read_text()


def test_a_replica_that_says_a_payload_is_found_out(
    tmp_path: Path, nats_server: NatsServer, mongod: Mongod, leaks: list[str]
) -> None:
    with Blabber(tmp_path, "beta", nats_server, mongod, {}) as replica:
        replica.restart()
        replica.kill()
    assert leaks == [f"some text {VALUE}"] * 2
    leaks.clear()


@pytest.mark.parametrize("said", [VALUE, f"b'..{VALUE}..'", VALUE.encode().hex(), "...cGxhbnRlZC1wYXlsb2Fk"])
def test_a_payload_is_found_in_any_form(said: str) -> None:
    assert found_in(f"fine\n{said}\nfine") == [said]


# --- the service


@pytest.mark.parametrize("mode", ["debug", "release"])
async def test_good_bad_and_refused_entries_are_never_quoted(
    mode: str,
    start_replica: Callable[..., Replica],
    go: Ancestor,
    database: Database[dict[str, Any]],
    namespace: str,
    nats_server: NatsServer,
    mongod: Mongod,
) -> None:
    database.create_collection("strict_logs", validator={"never": True})
    database.unique_logs.create_index("msg", unique=True)
    replica = start_replica(MODE=mode)
    await go.declare("plain", "strict", "unique")
    await go.put("unreadable", VALUE.encode())
    headers = {"X-Secret": VALUE}
    bad = [body for body, _, _ in BAD.values()]
    large = in_map(b"\x81" + text(VALUE) + b"\xdb" + (7 << 20).to_bytes(4, "big") + VALUE.encode().ljust(7 << 20))
    for body in [entry(1), VALUE.encode(), in_map(text(VALUE)), in_map(b"\x81" + text(VALUE) + b"\xcf" + b"\xff" * 8)]:
        await go.publish("plain", [body], headers)
    for body, others, _ in BAD.values():
        await go.publish("plain", [body], {**headers, **(others or {})})
    await go.publish("plain", [b"\x93" + entry(2) + in_map(text(VALUE)) + entry(3)], BUNDLE)
    await go.publish("strict", [entry(1)], headers)
    await go.publish("unique", [entry(1), entry(2), large], headers)
    letters = {"plain": 3 + len(bad) + 1, "strict": 1, "unique": 1}
    for key, expected in letters.items():
        fail = database[f"{key}_fail"]
        await until(lambda fail=fail, expected=expected: fail.count_documents({}) == expected, 20)  # type: ignore[misc]
        await until_empty(go.jetstream, f"{namespace}:logs:{key}")
    assert count(database, "plain") == 3
    look_everywhere(replica)
    settings = {"NAMESPACE": namespace, "NATS_HOSTS": nats_server.url, "DATABASE": mongod.url}
    for command in ("list", "redrive", "purge"):
        options = ["--yes"] if command == "purge" else []
        status, said = await run(settings, "collector", "dead-letters", command, "strict", *options)
        assert (status, found_in(said)) == (0, [])


@pytest.mark.parametrize("mode", ["debug", "release"])
async def test_outages_and_a_wrong_login_show_no_password(
    mode: str, own_nats: Callable[..., NatsServer], own_mongod: Callable[[], Mongod], namespace: str, tmp_path: Path
) -> None:
    config = f'authorization {{ users: [ {{ user: u, password: "{PASSWORD}" }} ] }}'
    nats, mongod = await anyio.to_thread.run_sync(own_nats, config), await anyio.to_thread.run_sync(own_mongod)
    with MongoClient[dict[str, Any]](mongod.url) as client:
        client.admin.command({"createUser": "u", "pwd": PASSWORD, "roles": ["root"]})
    settings = {
        "NATS_HOSTS": nats.url.replace("//", f"//u:{PASSWORD}@"),
        "DATABASE": mongod.url.replace("//", f"//u:{PASSWORD}@").replace("/?", "/?authSource=admin&"),
        "MODE": mode,
        "COLLECTOR_WRITE_TIMEOUT": "1s",
    }
    with Replica(tmp_path, namespace, nats, mongod, settings) as replica:
        login = {**settings, "NAMESPACE": namespace}
        assert (await run(login, "transfer", "set", "system"))[0] == 0
        await until(lambda: state(replica, "system") == "running", 10)
        await anyio.to_thread.run_sync(mongod.stop)
        assert (await run(login, "transfer", "publish", "system", f'{{"a": "{VALUE}"}}'))[0] == 0
        await until(lambda: replica.metric("collector_retries_total") > 1, 20)
        await anyio.to_thread.run_sync(nats.stop)
        await until(lambda: replica.metric("collector_nats_connected") == 0, 10)
        look_everywhere(replica)
        nats.config = config.replace(PASSWORD, "other")
        await anyio.to_thread.run_sync(nats.start)
        await until(lambda: "uthorization" in replica.log_path.read_text(), 20)
        look_everywhere(replica)
        status, said = await run(login, "transfer", "list")
        assert (status, found_in(said)) == (1, [])


WRONG = [
    {"NATS_HOSTS": f"foo://u:{PASSWORD}@127.0.0.1"},
    {"NATS_HOSTS": f"nats://u:{PASSWORD},x@127.0.0.1:port"},
    {"NATS_HOSTS": f"nats://u:x/{PASSWORD}@127.0.0.1"},
    {"NATS_HOSTS": f"nats://u:{PASSWORD}/x@127.0.0.1:1"},
    {"NATS_NKEY": PASSWORD},
    {"NATS_NKEY": USER.seed.replace("SU", "SA")},
    {"NATS_NKEY": PASSWORD, "NATS_NKEY_FILE": "/nowhere"},
    {"NATS_TOKEN_FILE": PASSWORD},
    {"NATS_CREDS": PASSWORD},
    {"NATS_TOKEN": PASSWORD, "NATS_USER": "u", "NATS_PASSWORD": PASSWORD},
    {"NATS_PASSWORD": PASSWORD},
    {"DATABASE": f"postgres://u:{PASSWORD}@127.0.0.1"},
    {"DATABASE": f"mongodb://u:{PASSWORD}/x@127.0.0.1"},
    {"DATABASE": f"mongodb://u:{PASSWORD}@127.0.0.1/?nonsense={PASSWORD}&w=-1"},
    {"DATABASE": "", "DATABASE_FILE": f"mongodb://u:{PASSWORD}@127.0.0.1"},
]


@pytest.mark.parametrize("wrong", WRONG, ids=" ".join)
async def test_wrong_settings_are_reported_without_a_secret(wrong: dict[str, str]) -> None:
    right = {"NAMESPACE": "beta", "NATS_HOSTS": "nats://127.0.0.1:1", "DATABASE": "mongodb://127.0.0.1:1"}
    status, said = await run({**right, **wrong}, "collector", "run")
    assert (status, found_in(said)) == (2, [])
    assert USER.seed[3:] not in said.decode()
    assert any(name.removesuffix("_FILE").encode() in said for name in wrong)


LONG = "x" * 100
"""More than is shown of what cannot be published."""


@pytest.mark.parametrize("arguments", [["{" + LONG + VALUE], [f'["{LONG}{VALUE}"]'], []])
async def test_of_what_cannot_be_published_only_the_start_is_shown_to_who_published_it(
    arguments: list[str], go: Ancestor, namespace: str, nats_server: NatsServer
) -> None:
    await go.make_stream("system")
    lines = f'{{"a": {LONG}{VALUE}\n["{LONG}{VALUE}"]\n"{LONG}{VALUE}"\n'.encode()
    settings = {"NAMESPACE": namespace, "NATS_HOSTS": nats_server.url}
    status, said = await run(settings, "transfer", "publish", "system", *arguments, given=lines)
    assert status
    assert b"x" * 10 in said
    assert found_in(said) == []
