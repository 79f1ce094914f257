"""`transfer tail` as a process, on a real mongod: what it shows, in which order, once; what it says when it cannot."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random
from typing import IO, TYPE_CHECKING, Any

import pytest
from bson import ObjectId
from pymongo import MongoClient
from pymongo.errors import ConnectionFailure

from collector.local import Mongod
from tests.support.guarded import AsUser, guarded_mongod
from tests.transfer.terminal import on_terminal
from transfer.errors import Refused
from transfer.tail import follow as tail_follow
from transfer.tail.follow import _Series, follow_plain, follow_series
from transfer.tail.stored import Selection, open_collection, read_stored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pymongo.collection import Collection

    from transfer.tail.stored import Document

NOW = datetime.now(UTC).replace(microsecond=0)
WRITERS = 3
KINDS = pytest.mark.parametrize("kind", ["plain", "timeseries"])


def entry(number: int, **data: object) -> dict[str, Any]:
    """Return a document as the collector stores it; numbers are seconds."""
    moment = NOW - timedelta(seconds=60 - number)
    fields = {"level": "INFO", "msg": f"m{number}", "n": number, **data}
    return {"_id": ObjectId(), **fields, "timestamp": moment, "metadata": None}


@pytest.fixture
def collection(mongod: Mongod, namespace: str) -> Iterator[Collection[dict[str, Any]]]:
    with MongoClient[dict[str, Any]](mongod.url, tz_aware=True) as client:
        yield client[namespace]["app_logs"]


def make(collection: Collection[dict[str, Any]], kind: str) -> None:
    command: dict[str, Any] = {"create": collection.name}
    if kind == "timeseries":
        command["timeseries"] = {"timeField": "timestamp", "metaField": "metadata"}
    collection.database.command(command)


@pytest.fixture
def environ(mongod: Mongod, namespace: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DATABASE", "NO_COLOR"))}
    return kept | {"DATABASE": mongod.url, "NAMESPACE": namespace, "TERM": "xterm"}


def tail(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "transfer", "tail", *arguments]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=30)


def shown(environ: dict[str, str], *arguments: str) -> list[int]:
    """Return the numbers of the entries shown."""
    done = tail(environ, "app", "--json", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line)["n"] for line in done.stdout.splitlines()]


@contextmanager
def following(environ: dict[str, str], *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "transfer", "tail", "app", "--follow", "--json", *arguments]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def numbers(stream: IO[str] | None, count: int) -> list[int]:
    assert stream is not None
    return [json.loads(stream.readline())["n"] for _ in range(count)]


@KINDS
def test_the_newest_are_shown_oldest_first(
    collection: Collection[dict[str, Any]], environ: dict[str, str], kind: str
) -> None:
    make(collection, kind)
    collection.insert_many([entry(number) for number in range(30)])
    assert shown(environ) == list(range(20, 30))
    assert shown(environ, "-n", "3") == [27, 28, 29]
    assert shown(environ, "-n", "0") == []
    assert shown(environ, "--since", "1d") == list(range(30))
    assert shown(environ, "--since", "1d", "--lines", "2") == [28, 29]


def test_where_is_typed_nested_and_all_of_them_hold(
    collection: Collection[dict[str, Any]], environ: dict[str, str]
) -> None:
    named = entry(5, level="ERROR", user={"id": 7}, ok=True, code="7")
    collection.insert_many([entry(1), entry(2, user={"id": "7"}), entry(3, ok="true"), entry(4, code=7), named])
    assert shown(environ, "--where", "user.id=7") == [5]
    assert shown(environ, "--where", 'user.id="7"') == [2]
    assert shown(environ, "--where", "ok=true") == [5]
    assert shown(environ, "--where", "ok=null") == [1, 2, 4]
    assert shown(environ, "--where", "code=7") == [4]
    assert shown(environ, "--where", "level=ERROR", "--where", "n=5.0") == [5]
    assert shown(environ, "--where", "level=ERROR", "--where", "n=1") == []
    assert shown(environ, "--where", f"_id={named['_id']}") == [5]


@KINDS
def test_what_is_stored_while_it_follows_comes_once_also_out_of_order(
    collection: Collection[dict[str, Any]], environ: dict[str, str], kind: str
) -> None:
    make(collection, kind)
    collection.insert_many([entry(number, wanted=True) for number in range(20)])
    with following(environ, "-n", "2", "--where", "wanted=true") as process:
        assert numbers(process.stdout, 2) == [18, 19]
        for batch in ([40, 30], [25], [-100, 50]):  # -100 is older than all that is stored
            collection.insert_many([entry(number, wanted=True) for number in batch] + [entry(99, wanted=False)])
            expected = batch if kind == "plain" else sorted(batch)
            assert numbers(process.stdout, len(batch)) == expected
        process.send_signal(signal.SIGINT)
        rest, said = process.communicate(timeout=20)
    assert (rest, said, process.returncode) == ("", "", 130)


@KINDS
def test_what_is_stored_while_it_starts_and_by_several_at_once_comes_once(
    collection: Collection[dict[str, Any]], environ: dict[str, str], kind: str
) -> None:
    make(collection, kind)
    many = [entry(number) | {"timestamp": NOW - timedelta(seconds=number % 120)} for number in range(WRITERS * 1000)]
    Random(1).shuffle(many)  # noqa: S311 - no secret
    half = threading.Event()

    def write(mine: list[dict[str, Any]]) -> None:
        for position in range(0, len(mine), 5):
            if position == len(mine) // 2:
                half.wait(30)
            collection.insert_many(mine[position : position + 5])

    with ThreadPoolExecutor(WRITERS) as pool, following(environ, "-n", "1000000") as process:
        written = [pool.submit(write, many[writer::WRITERS]) for writer in range(WRITERS)]
        found = numbers(process.stdout, len(many) // 10)
        half.set()
        found += numbers(process.stdout, len(many) - len(found))
        for one in written:
            one.result()
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=20)
    assert rest == ""
    assert sorted(found) == list(range(len(many)))


@KINDS
@pytest.mark.parametrize("lines", [0, 10])
def test_what_is_stored_just_before_it_reads_what_is_stored_comes_once(
    collection: Collection[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, kind: str, lines: int
) -> None:
    make(collection, kind)
    collection.insert_one(entry(0))

    def read(*arguments: Any) -> Iterator[Document]:
        collection.insert_one(entry(1))
        yield from read_stored(*arguments)

    monkeypatch.setattr(tail_follow, "read_stored", read)
    selection = Selection(lines=lines)
    follow = partial(follow_series, late=timedelta(minutes=5)) if kind == "timeseries" else follow_plain
    entries = follow(collection, selection, say=pytest.fail)
    before = [next(entries)["n"] for _ in range(2 if lines else 1)]
    assert before == ([0, 1] if lines else [1])
    collection.insert_one(entry(2))
    assert next(entries)["n"] == 2


@KINDS
def test_a_collection_that_is_not_there_yet_is_waited_for(
    collection: Collection[dict[str, Any]], environ: dict[str, str], kind: str
) -> None:
    with following(environ, "-n", "1") as process:
        assert process.stderr is not None
        assert "yet, waiting for it" in process.stderr.readline()
        make(collection, kind)
        collection.insert_many([entry(number) for number in range(3)])
        assert numbers(process.stdout, 3) == [0, 1, 2]


@KINDS
def test_an_outage_of_mongodb_is_waited_for_and_nothing_is_missing(
    own_mongod: Callable[[], Mongod], environ: dict[str, str], namespace: str, kind: str
) -> None:
    server = own_mongod()
    with MongoClient[dict[str, Any]](server.url) as client:
        collection = client[namespace]["app_logs"]
        make(collection, kind)
        collection.insert_one(entry(0))
        with following(environ | {"DATABASE": server.url}) as process:
            assert numbers(process.stdout, 1) == [0]
            collection.insert_one(entry(1))
            assert numbers(process.stdout, 1) == [1]
            server.kill()
            assert process.stderr is not None
            assert "MongoDB does not answer, waiting for it" in process.stderr.readline()
            server.start()
            collection.insert_many([entry(2), entry(3)])
            assert numbers(process.stdout, 2) == [2, 3]


LOST = [136, 260, 280, 286]
PASSING = [6, 7, 24, 43, 46, 50, 63, 89, 91, 133, 134, 150, 175, 189, 202, 222, 234, 237, 262, 9001]
PASSING += [10107, 11600, 11601, 11602, 13435, 13436]
OTHERS = [2, 13, 20, 26, 40573]


@contextmanager
def refusing(client: MongoClient[dict[str, Any]], command: str, code: int) -> Iterator[None]:
    """Have the server refuse one command of the tail, with this code."""
    data = {"failCommands": [command], "errorCode": code, "appName": "transfer tail", "errorLabels": []}
    client.admin.command("configureFailPoint", "failCommand", mode={"times": 1}, data=data)
    try:
        yield
    finally:
        client.admin.command("configureFailPoint", "failCommand", mode="off")


@pytest.mark.parametrize("code", [*LOST, *PASSING, *OTHERS])
def test_each_code_that_ends_a_change_stream_is_waited_out_or_said(
    collection: Collection[dict[str, Any]], mongod: Mongod, namespace: str, code: int
) -> None:
    make(collection, "plain")
    collection.insert_one(entry(0))

    def follow() -> None:
        with open_collection(mongod.url, namespace, "app") as followed:
            found = follow_plain(followed, Selection(), lambda _: None)
            assert next(found)["n"] == 0
            collection.insert_one(entry(1))
            assert next(found)["n"] == 1
            with refusing(collection.database.client, "getMore", code):
                collection.insert_many([entry(2), entry(3)])
                assert [next(found)["n"] for _ in range(2)] == [2, 3]

    if code in PASSING:
        follow()
        return
    with pytest.raises(Refused) as caught:
        follow()
    assert ("an oplog that is too short: start again, with --since" in str(caught.value)) == (code in LOST)


@pytest.mark.parametrize("code", [*PASSING, 2, 13])
def test_each_code_that_ends_a_read_of_a_time_series_is_waited_out_or_said(
    collection: Collection[dict[str, Any]], mongod: Mongod, namespace: str, code: int
) -> None:
    make(collection, "timeseries")
    collection.insert_one(entry(0))

    def follow() -> None:
        with open_collection(mongod.url, namespace, "app") as followed:
            found = follow_series(followed, Selection(), timedelta(minutes=5), lambda _: None)
            assert next(found)["n"] == 0
            with refusing(collection.database.client, "find", code):
                collection.insert_one(entry(1))
                assert next(found)["n"] == 1

    if code in PASSING:
        follow()
        return
    with pytest.raises(Refused):
        follow()


def test_a_plain_collection_that_is_dropped_and_made_again_is_followed(
    collection: Collection[dict[str, Any]], environ: dict[str, str]
) -> None:
    collection.insert_one(entry(0))
    with following(environ) as process:
        assert numbers(process.stdout, 1) == [0]
        collection.drop()
        collection.insert_one(entry(1))
        assert numbers(process.stdout, 1) == [1]


def test_what_was_seen_is_forgotten_when_it_can_come_no_more(collection: Collection[dict[str, Any]]) -> None:
    make(collection, "timeseries")
    series = _Series(collection, Selection(), timedelta(seconds=30))
    old, recent = entry(10), entry(59) | {"timestamp": datetime.now(UTC)}
    collection.insert_many([old, recent])
    assert [one["n"] for one in series.new()] == [59]  # the other is stored more than 30 seconds after its timestamp
    assert len(series._seen) == 1
    assert series.new() == []
    series._late = -1  # as if time had passed
    series.new()
    assert series._seen == {}


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
