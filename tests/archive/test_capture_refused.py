"""What a capture refuses to begin with: each in a sentence that says what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from anyio import fail_after
from msgspec.structs import replace

from collector.archive.capture import Capture
from collector.archive.log import Log
from collector.archive.stores.local import LocalStore
from collector.errors import CaptureRefused, RecordDamaged, StoreRefused, StreamWentBack, WrongTemplate
from tests.support.capturing import add_durable, captured, paths, until_archived

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from collector.local import NatsServer

SECOND = 1_000_000_000
DURABLES: dict[str, tuple[Mapping[str, Any], str]] = {
    "push": ({"deliver_subject": "somewhere"}, "expected a pull consumer, got a push consumer: make another"),
    "counted": ({"max_deliver": 5}, "expected max_deliver -1, got 5, .* nats consumer edit .* --max-deliver=-1"),
    "hasty": ({"ack_wait": 2 * SECOND}, "expected an ack wait of at least 10s, got 2s: nats consumer edit .* --wait"),
    "bare": ({"headers_only": True}, "expected whole messages, got headers only: nats consumer edit"),
    "all": ({"ack_policy": "all"}, "expected the ack policy explicit, got all: make another durable"),
    "grouped": (
        {"priority_groups": ["a"], "priority_policy": "overflow"},
        "expected no priority groups, got a: make another durable",
    ),
}


async def begin(server: NatsServer, capture: Capture) -> None:
    with fail_after(30):
        async with Capture.connected(capture, server.url) as running:
            await running.until_stopped()


@pytest.mark.parametrize("kind", DURABLES)
async def test_a_durable_by_which_messages_would_get_lost_or_doubled_is_refused(
    nats_server: NatsServer, namespace: str, tmp_path: Path, kind: str
) -> None:
    config, sentence = DURABLES[kind]
    async with captured(nats_server, namespace, "interest") as stream:
        await add_durable(stream.jetstream, namespace, kind, **config)
        with pytest.raises(CaptureRefused, match=sentence):
            await begin(nats_server, Capture(namespace, to=str(tmp_path), durable=kind))


async def test_a_stream_or_a_durable_that_is_missing_is_named_with_those_that_are_there(
    nats_server: NatsServer, namespace: str, tmp_path: Path
) -> None:
    to = str(tmp_path)
    async with captured(nats_server, namespace, "workqueue"):
        with pytest.raises(CaptureRefused, match="expected a stream NOWHERE, but there is none: correct its name"):
            await begin(nats_server, Capture("NOWHERE", to=to))
        with pytest.raises(CaptureRefused, match=r"expected a durable cup of stream .*: it has cap; take one"):
            await begin(nats_server, Capture(namespace, to=to, durable="cup"))
        with pytest.raises(CaptureRefused, match=r"expected --durable, because stream .* has the retention workqueue"):
            await begin(nats_server, Capture(namespace, to=to))


async def test_settings_that_could_not_work_are_refused_before_anything_is_read(
    nats_server: NatsServer, namespace: str, tmp_path: Path
) -> None:
    to = str(tmp_path)
    with pytest.raises(WrongTemplate, match=r"neither \{n\} nor \{ulid\}"):
        await begin(nats_server, Capture(namespace, to=to, path="{capture}/{date}.{ext}"))
    with pytest.raises(StoreRefused, match=r"expected the folder .* to be there, but it is not: mount it, or make it"):
        await begin(nats_server, Capture(namespace, to=f"{to}/missing"))
    for settings in ({"format": "xml"}, {"decoder": "go"}, {"columns": {"a": "string"}}, {"compression": "zip"}):
        wrong: dict[str, Any] = settings
        with pytest.raises(ValueError, match=r"expected|not a valid"):
            await begin(nats_server, Capture(namespace, to=to, **wrong))


async def test_a_capture_of_the_same_name_and_another_stream_is_refused(
    nats_server: NatsServer, namespace: str, tmp_path: Path
) -> None:
    async with captured(nats_server, namespace, "limits"), captured(nats_server, f"{namespace}-b", "limits"):
        async with Capture.connected(Capture(namespace, to=str(tmp_path), name="orders"), nats_server.url):
            pass
        with pytest.raises(CaptureRefused, match=f"expected the capture orders .* but it is of stream {namespace}:"):
            await begin(nats_server, Capture(f"{namespace}-b", to=str(tmp_path), name="orders"))


@pytest.mark.parametrize("how", ["shorter", "another time"])
async def test_a_stream_that_went_back_ends_the_capture(
    nats_server: NatsServer, namespace: str, tmp_path: Path, how: str
) -> None:
    capture = Capture(namespace, to=str(tmp_path), max_messages=10)
    async with captured(nats_server, namespace, "limits") as stream:
        await stream.publish(10)
        async with Capture.connected(capture, nats_server.url) as running:
            await until_archived(running, 10)
        log = Log(LocalStore(tmp_path, patience=30), namespace, await stream.created())
        last = await log.last()
        assert last is not None
        wrong = {"to": last.to + 1} if how == "shorter" else {"to_time_ns": last.to_time_ns + 1}
        await log.create(replace(last, number=2, id="other", **wrong))
        with pytest.raises(StreamWentBack, match=r"expected stream .* to go on where the archive's log ends, but"):
            await begin(nats_server, capture)


async def test_a_damaged_record_ends_the_capture(nats_server: NatsServer, namespace: str, tmp_path: Path) -> None:
    capture = Capture(namespace, to=str(tmp_path), max_messages=10)
    async with captured(nats_server, namespace, "limits") as stream:
        await stream.publish(10)
        async with Capture.connected(capture, nats_server.url) as running:
            await until_archived(running, 10)
        (record,) = paths(tmp_path, "000000000001.cut")
        record.write_bytes(record.read_bytes()[:-1])
        with pytest.raises(RecordDamaged, match="bring its bytes back"):
            await begin(nats_server, capture)
