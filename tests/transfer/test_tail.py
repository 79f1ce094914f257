"""`transfer tail` as a process, on a real mongod: what it shows, in which order, once; what it says when it cannot."""

from __future__ import annotations

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from pymongo import MongoClient

from tests.transfer.tailing import KINDS, WRITERS, began, entry, following, make, numbers, shown
from transfer.tail import follow as tail_follow
from transfer.tail.follow import follow_plain, follow_series
from transfer.tail.stored import Selection, read_stored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pymongo.collection import Collection

    from collector.local import Mongod
    from transfer.tail.stored import Document


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
    many = [
        entry(number) | {"timestamp": began() - timedelta(seconds=number % 120)} for number in range(WRITERS * 1000)
    ]
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
