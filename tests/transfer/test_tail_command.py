"""`transfer tail` as people and machines read it, and its sentences when it cannot go on."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from bson import ObjectId
from pymongo import MongoClient
from pymongo.errors import ConnectionFailure

from collector.local import Mongod
from tests.support.guarded import AsUser, guarded_mongod
from tests.transfer.tailing import entry, following, numbers, shown, tail
from tests.transfer.terminal import on_terminal

if TYPE_CHECKING:
    from pathlib import Path

    from pymongo.collection import Collection


def test_a_line_is_for_people_and_nothing_in_it_moves_the_cursor(
    collection: Collection[dict[str, Any]], environ: dict[str, str]
) -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
    odd = {"n": 1, "logger": "app.db", "msg": "two\nlines\x1b[31m", "took": 0.5, "user": {"id": 7}, "text": "a b"}
    collection.insert_one({"_id": ObjectId(), "level": "ERROR", **odd, "timestamp": moment, "metadata": {"host": "w"}})
    done = tail(environ, "app")
    assert done.stdout == (
        "2026-01-02T03:04:05.678Z ERROR    app.db two\\nlines\\x1b[31m "
        'n=1 took=0.5 user={"id":7} text="a b" metadata={"host":"w"}\n'
    )


def test_levels_are_coloured_on_a_terminal_alone_and_not_against_the_users_will(
    collection: Collection[dict[str, Any]], environ: dict[str, str]
) -> None:
    collection.insert_one(entry(1, level="ERROR"))
    command = [sys.executable, "-m", "transfer", "tail", "app"]
    status, written = on_terminal(command, environ)
    assert status == 0
    assert "\x1b[31mERROR   \x1b[0m m1" in written
    for without in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert "\x1b" not in on_terminal(command, environ | without)[1]
    assert "\x1b" not in tail(environ, "app").stdout


def test_json_is_stable_for_machines(collection: Collection[dict[str, Any]], environ: dict[str, str]) -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
    identity = ObjectId()
    collection.insert_one({"_id": identity, "msg": "ü", "nan": float("nan"), "raw": b"\0", "timestamp": moment})
    assert json.loads(tail(environ, "app", "--json").stdout) == {
        "_id": str(identity),
        "msg": "ü",
        "nan": "nan",
        "raw": "AA==",
        "timestamp": "2026-01-02T03:04:05.678Z",
    }


def test_a_reader_that_goes_ends_it_in_silence(collection: Collection[dict[str, Any]], environ: dict[str, str]) -> None:
    collection.insert_many([entry(number, text="x" * 1000) for number in range(500)])
    command = [sys.executable, "-m", "transfer", "tail", "app", "--since", "1d"]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(20) == 1


def test_what_is_not_there_is_one_sentence_and_status_1(mongod: Mongod, environ: dict[str, str]) -> None:
    failed = tail(environ, "app")
    assert (failed.returncode, failed.stdout, len(failed.stderr.splitlines())) == (1, "", 1)
    assert "got none of that name" in failed.stderr


class Standalone(Mongod):
    """A mongod that is no replica set."""

    @property
    def url(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}"

    def _command(self) -> list[str]:
        return [one for one in super()._command() if not one.startswith(("--replSet", "--oplogSize"))]

    def _answers(self) -> bool:
        with MongoClient[dict[str, Any]](self.url, serverSelectionTimeoutMS=1000) as client:
            try:
                return bool(client.admin.command("serverStatus")["pid"] == self.pid)
            except ConnectionFailure:
                return False


def test_a_standalone_mongod_is_read_and_what_follow_needs_of_it_is_said(
    environ: dict[str, str], namespace: str, tmp_path: Path
) -> None:
    with Standalone(tmp_path) as server, MongoClient[dict[str, Any]](server.url) as client:
        client[namespace]["app_logs"].insert_one(entry(1))
        own = environ | {"DATABASE": server.url}
        assert shown(own) == [1]
        failed = tail(own, "app", "--follow")
        server.kill()
    assert (failed.returncode, failed.stdout, len(failed.stderr.splitlines())) == (1, "", 1)
    assert "rs.initiate()" in failed.stderr


def test_a_mongodb_that_does_not_answer_is_one_sentence_without_its_password(environ: dict[str, str]) -> None:
    failed = tail(environ | {"DATABASE": "mongodb://user:hidden@127.0.0.1:1/"}, "app")
    assert (failed.returncode, failed.stdout, len(failed.stderr.splitlines())) == (1, "", 1)
    assert "expected MongoDB (DATABASE) to answer" in failed.stderr
    assert "hidden" not in failed.stderr


@pytest.mark.parametrize(
    "arguments",
    [("--where", "level"), ("--where", "$where=1"), ("-n", "-1"), ("--since", "soon"), ("--where", "n=9" + "9" * 20)],
)
def test_wrong_use_is_status_2(environ: dict[str, str], arguments: tuple[str, ...]) -> None:
    wrong = tail(environ, "app", *arguments)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "expected" in wrong.stderr


@pytest.mark.parametrize("uri", ["", "nats://127.0.0.1", "mongodb://a:hidden@"])
def test_wrong_settings_are_status_2(environ: dict[str, str], uri: str) -> None:
    wrong = tail(environ | {"DATABASE": uri, "NAMESPACE": "a b"}, "app")
    assert wrong.returncode == 2
    assert "NAMESPACE: expected" in wrong.stderr
    assert "hidden" not in wrong.stderr


def test_the_uri_may_stand_in_a_file(
    collection: Collection[dict[str, Any]], environ: dict[str, str], mongod: Mongod, tmp_path: Path
) -> None:
    collection.insert_one(entry(1))
    path = tmp_path / "uri"
    path.write_text(f"{mongod.url}\n")
    assert shown(environ | {"DATABASE": "", "DATABASE_FILE": str(path)}) == [1]


def test_a_missing_driver_is_named_with_what_to_install(environ: dict[str, str]) -> None:
    program = "import sys; sys.modules['pymongo'] = None; from transfer.cli import main; sys.exit(main())"
    failed = subprocess.run(
        [sys.executable, "-c", program, "tail", "app"],
        env=environ, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert failed.returncode == 1
    assert "pip install 'transfer-collector[tail]'" in failed.stderr


def test_the_role_read_is_enough_and_whoever_lacks_it_is_told(environ: dict[str, str], namespace: str) -> None:
    with guarded_mongod() as server, MongoClient[dict[str, Any]](AsUser(server, "root", "admin").url) as root:
        database = root[namespace]
        for user, roles in (("reader", ["read"]), ("nobody", [])):
            database.command({"createUser": user, "pwd": "right", "roles": roles})
        database["app_logs"].insert_one(entry(1))
        with following(environ | {"DATABASE": AsUser(server, "reader", namespace).url}) as process:
            assert numbers(process.stdout, 1) == [1]
            database["app_logs"].insert_one(entry(2))
            assert numbers(process.stdout, 1) == [2]
        refused = tail(environ | {"DATABASE": AsUser(server, "nobody", namespace).url}, "app")
    assert (refused.returncode, refused.stdout, len(refused.stderr.splitlines())) == (1, "", 1)
    assert "expected the user of DATABASE to have find, listCollections and changeStream" in refused.stderr
    assert "right" not in refused.stderr
