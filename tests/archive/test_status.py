"""An archive that a capture has made: it is proven, and its status knows lag and owner."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from anyio import fail_after, to_thread
from click.testing import CliRunner

from collector.archive.capture import Capture
from collector.archive.keys import by_subject
from collector.cli import main
from tests.archive.test_proof import findings
from tests.support.capturing import captured, until_archived

if TYPE_CHECKING:
    from pathlib import Path

    from collector.local import NatsServer

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("form", ["ndjson", "csv", "parquet", "raw"])
async def test_the_archive_of_a_capture_is_proven_and_its_status_knows_lag_and_owner(
    nats_server: NatsServer, namespace: str, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NATS_HOSTS", nats_server.url)

    async def status() -> dict[str, Any]:
        arguments = ["archive", "status", str(tmp_path), "--stream", namespace, "--json"]
        result = await to_thread.run_sync(CliRunner().invoke, main, arguments)
        found: dict[str, Any] = json.loads(result.output)
        return found

    with fail_after(60):
        async with captured(nats_server, namespace, "limits") as stream:
            capture = Capture(namespace, to=str(tmp_path), format=form, key=by_subject(2), max_messages=50)
            await stream.publish(120)
            async with Capture.connected(capture, nats_server.url) as running:
                await until_archived(running, 100)
                now = await status()
                assert (now["cursor"], now["lag"], now["complete"], now["same_stream"]) == (100, 20, True, True)
                assert now["owner"]
                running.stop()
                await running.until_stopped()
            now = await status()
            assert (now["cursor"], now["lag"], now["owner"]) == (120, 0, "")
    found, tally = await findings(tmp_path)
    assert (found, tally.rows) == ([], 120)
