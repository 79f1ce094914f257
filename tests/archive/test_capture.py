"""The capture of streams on a real server: each message in exactly one block, whatever the store does."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from anyio import fail_after

from collector.archive.capture import Capture
from collector.archive.finding import find_logs
from collector.archive.keys import by_subject
from collector.archive.layout import log_folder
from collector.archive.owning.attaching import Attached, Attaching
from collector.archive.record import CutTrigger
from collector.archive.stores.local import LocalStore
from collector.archive.told import CutCompleted, CutStored, Doubted, Owning, StoredBlock, Waiting
from tests.support.capturing import (
    RETENTIONS,
    Barred,
    Troubled,
    blocks_of,
    captured,
    each_once,
    lines,
    paths,
    until_archived,
)
from tests.support.pulling import connected, written
from tests.support.waiting import until
from transfer.errors import JetStreamError, TransferError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from collector.local import NatsServer
    from collector.model import Delivery


@pytest.mark.parametrize("retention", RETENTIONS)
async def test_each_message_is_in_one_block_and_nothing_is_left_to_be_acked(
    nats_server: NatsServer, namespace: str, tmp_path: Path, retention: str
) -> None:
    stored: list[StoredBlock] = []
    with fail_after(60):
        async with captured(nats_server, namespace, retention) as stream:
            capture = Capture(
                namespace,
                to=str(tmp_path),
                durable=stream.durable,
                key=by_subject(2),
                max_messages=100,
                on_stored=stored.append,
            )
            await stream.publish(230)
            async with Capture.connected(capture, nats_server.url) as running:
                await until_archived(running, 200)
                await stream.publish(20)
                await until(lambda: running.facts().fetched == 250, 10)
                running.stop()
                summary = await running.until_stopped()
            await stream.until_empty()
    assert blocks_of(tmp_path) == each_once(250)
    assert {line["_subject"].rpartition(".")[2] for line in lines(tmp_path)} == {"k0", "k1", "k2"}
    assert (summary.fetched, summary.archived, summary.given_back) == (250, 250, 0)
    assert sum(block.rows for block in stored if not block.error) == 250
    assert all(f"key={block.key}/" in block.path for block in stored)
    assert [log.strange for log in await find_logs(LocalStore(tmp_path, patience=30))] == [[]]


TRIGGERS: dict[CutTrigger, dict[str, Any]] = {
    CutTrigger.BYTES: {"max_bytes": 4000, "compression": "none"},
    CutTrigger.MESSAGES: {"max_messages": 30},
    CutTrigger.AGE: {"max_age": timedelta(seconds=0.1)},
    CutTrigger.WINDOW: {"window": timedelta(seconds=0.2)},
}


@pytest.mark.parametrize("retention", ["limits", "workqueue"])
@pytest.mark.parametrize("trigger", TRIGGERS)
async def test_a_cut_is_closed_by_the_first_limit_that_it_reaches_also_when_nothing_comes_any_more(
    nats_server: NatsServer, namespace: str, tmp_path: Path, trigger: CutTrigger, retention: str
) -> None:
    events: list[object] = []
    with fail_after(60):
        async with captured(nats_server, namespace, retention) as stream:
            usual: dict[str, Any] = {"to": str(tmp_path), "durable": stream.durable, "tell": events.append}
            settings = usual | TRIGGERS[trigger]
            await stream.publish(60)
            async with Capture.connected(Capture(namespace, **settings), nats_server.url) as running:
                await until_archived(running, 30)
    assert next(event.trigger for event in events if isinstance(event, CutStored)) is trigger


@pytest.mark.parametrize("retention", RETENTIONS)
@pytest.mark.parametrize("seed", [1, 2])
async def test_a_store_that_fails_answers_late_and_loses_answers_doubles_nothing(
    nats_server: NatsServer, namespace: str, tmp_path: Path, retention: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collector.archive.uploads._FIRST", 0.005)
    monkeypatch.setattr("collector.archive.uploads._CAP", 0.02)
    store = Troubled(LocalStore(tmp_path, patience=30), seed)
    with fail_after(60):
        async with captured(nats_server, namespace, retention) as stream:
            capture = Capture(namespace, to=store, durable=stream.durable, key=by_subject(2), max_messages=20)
            async with Capture.connected(capture, nats_server.url) as running:
                store.share = 0.3
                for _ in range(10):
                    await stream.publish(20)
                await until_archived(running, 180)
                running.stop()
                await running.until_stopped()
            await stream.until_empty()
    assert blocks_of(tmp_path) == each_once(200)
    assert len(store.failures) == 2


@pytest.fixture
async def left_open(nats_server: NatsServer, namespace: str, tmp_path: Path) -> Any:
    """Return a function that leaves a cut of 30 messages open: its record is there, and no block of it."""

    async def leave(durable: str, blocks: int = 3, **settings: Any) -> None:
        store = Barred(LocalStore(tmp_path, patience=30))
        usual: dict[str, Any] = {"key": by_subject(2), "shutdown_timeout": 0.01, "max_messages": 30}
        capture = Capture(namespace, to=store, durable=durable, **usual | settings)
        async with Capture.connected(capture, nats_server.url) as running:
            await until(lambda: store.refused >= blocks, 10)
            running.stop()
            summary = await running.until_stopped()
            assert summary.archived == 0

    return leave


@pytest.mark.parametrize("retention", RETENTIONS)
async def test_a_cut_that_was_left_open_is_completed_as_it_was_planned(
    nats_server: NatsServer, namespace: str, tmp_path: Path, retention: str, left_open: Any
) -> None:
    """The next owner has another key, another format and other limits: the blocks of the record are as planned."""
    events: list[object] = []
    with fail_after(60):
        async with captured(nats_server, namespace, retention) as stream:
            await stream.publish(30)
            await left_open(stream.durable)
            capture = Capture(
                namespace, to=str(tmp_path), durable=stream.durable, format="csv", max_messages=10, tell=events.append
            )
            async with Capture.connected(capture, nats_server.url) as running:
                await until(lambda: any(isinstance(event, Owning) for event in events), 10)
                await stream.publish(10)
                await until_archived(running, 10)
            await stream.until_empty()
    assert blocks_of(tmp_path) == each_once(30)
    assert next(event for event in events if isinstance(event, CutCompleted)) == CutCompleted(1, 3, 30, 0)
    assert len(paths(tmp_path, "*.csv.zst")) == 1


def _refusing(message: Delivery) -> Iterator[Any]:
    raise KeyError(message.sequence)


async def test_a_message_that_the_decoder_refuses_when_its_block_is_made_again_is_a_raw_row(
    nats_server: NatsServer, namespace: str, tmp_path: Path, left_open: Any
) -> None:
    from collector.archive.rows import Row  # noqa: PLC0415 - beside its only use

    def reading(message: Delivery) -> Iterator[Any]:
        yield Row(message, key="a", data={"n": message.sequence})

    events: list[object] = []
    with fail_after(60):
        async with captured(nats_server, namespace, "limits") as stream:
            await stream.publish(30)
            await left_open(stream.durable, 1, decoder=reading, key=None, max_messages=10)
            await stream.jetstream.purge_stream(namespace, seq=3)  # the first two are gone
            settings: dict[str, Any] = {"to": str(tmp_path), "decoder": _refusing, "tell": events.append}
            async with Capture.connected(Capture(namespace, **settings), nats_server.url) as running:
                await until(lambda: running.facts().fetched == 20, 10)
                running.stop()
                assert (await running.until_stopped()).dead_lettered == 20
                assert running.facts().expired_messages == 2
    rows = {line["_seq"]: line["data"] for line in lines(tmp_path)}
    assert sorted(rows) == list(range(3, 11))
    assert all(set(data) == {"_raw", "_error"} and "KeyError" in data["_error"] for data in rows.values())
    assert blocks_of(tmp_path) == each_once(30) - each_once(2)


async def test_another_reader_of_the_durable_is_noticed_and_doubles_nothing(
    nats_server: NatsServer, namespace: str, tmp_path: Path
) -> None:
    events: list[object] = []
    with fail_after(60):
        async with captured(nats_server, namespace, "workqueue") as stream, connected(nats_server) as thief:
            capture = Capture(namespace, to=str(tmp_path), durable=stream.durable, max_messages=10, tell=events.append)
            subject = f"$JS.API.CONSUMER.MSG.NEXT.{namespace}.{stream.durable}"
            await thief.subscribe("of.a.thief")
            await thief.publish(subject, b'{"batch": 2, "expires": 60000000000}', reply="of.a.thief")
            await written(thief)
            async with Capture.connected(capture, nats_server.url) as running:
                await until(lambda: any(isinstance(event, Owning) for event in events), 10)
                await stream.publish(25)
                await until(lambda: running.facts().cursor + running.facts().held_messages == 25, 10)
                running.stop()
                await running.until_stopped()
            await stream.until_empty()
    assert any(isinstance(event, Doubted) for event in events)
    assert blocks_of(tmp_path) == each_once(25)


async def test_a_jetstream_that_does_not_answer_at_the_start_is_waited_for(
    nats_server: NatsServer, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream without a leader, an API that does not answer, and no API at all."""
    silent: list[TransferError] = [
        Unavailable("no answer"),
        JetStreamError("$JS.API.STREAM.INFO", 503, 10008, "JetStream system temporarily unavailable"),
        Unavailable("nobody is there"),
    ]
    attach, told = Attaching.attach, list[object]()

    async def attached(self: Attaching) -> Attached:
        if silent:
            raise silent.pop()
        return await attach(self)

    monkeypatch.setattr(Attaching, "attach", attached)
    async with captured(nats_server, namespace, "workqueue") as stream:
        await stream.publish(10)
        capture = Capture(namespace, to=str(tmp_path), durable=stream.durable, max_messages=10, tell=told.append)
        async with Capture.connected(capture, nats_server.url) as running:
            await until_archived(running, 10)
        waited = [event.why for event in told if isinstance(event, Waiting)]
        assert waited[:3] == ["nobody is there", waited[1], "no answer"]


async def test_a_stream_that_is_made_anew_after_the_look_at_it_is_not_read_for_the_old_one(
    nats_server: NatsServer, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attach, told, looks = Attaching.attach, list[object](), 0
    async with captured(nats_server, namespace, "limits") as stream:
        await stream.publish(10)

        async def attached(self: Attaching) -> Attached:
            nonlocal looks
            looks += 1
            found = await attach(self)
            if looks == 2:  # the first one is that of `connected`
                await stream.jetstream.delete_stream(namespace)
                await stream.jetstream.add_stream(name=namespace, subjects=[f"{namespace}.>"])
                await stream.publish(20)
            return found

        monkeypatch.setattr(Attaching, "attach", attached)
        capture = Capture(namespace, to=str(tmp_path), max_messages=10, tell=told.append)
        async with Capture.connected(capture, nats_server.url) as running:
            await until_archived(running, 20)
        assert [event.why for event in told if isinstance(event, Doubted)] == ["stream"]
        [log] = {path.parent for path in paths(tmp_path, "0*.cut")}
        assert str(log.relative_to(tmp_path)) == log_folder(namespace, await stream.created())
