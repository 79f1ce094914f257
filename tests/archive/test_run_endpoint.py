"""`collector archive run --listen`: metrics, probes and status of its captures, from a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from http.client import HTTPConnection
from typing import TYPE_CHECKING

import pytest
from anyio import fail_after, to_thread
from click.testing import CliRunner

from collector.cli import main
from collector.local.server import free_port
from tests.support.capturing import captured
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from collector.local import NatsServer


def get(port: int, path: str) -> str:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    except ConnectionRefusedError:
        return ""
    finally:
        connection.close()


def value(text: str, name: str) -> float | None:
    found = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(f"collector_{name}{{")]
    return sum(map(float, found)) if found else None


def begun(*words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "collector", *words], stderr=subprocess.PIPE)


async def test_a_capture_is_seen_at_its_endpoint(nats_server: NatsServer, namespace: str, tmp_path: Path) -> None:
    port = free_port()
    words = ["archive", "run", "--stream", namespace, "--to", str(tmp_path), "--window", "1s"]
    words += ["--nats-server", nats_server.url, "--listen", f"127.0.0.1:{port}"]
    with fail_after(60):
        async with captured(nats_server, namespace, "limits") as stream:
            await stream.publish(40)
            with begun(*words) as process:
                try:
                    await until(lambda: value(get(port, "/metrics"), "archive_rows_total") == 40, 30)
                    await until(lambda: value(get(port, "/metrics"), "archive_cursor") == 40, 30)
                    text = get(port, "/metrics")
                    assert f'collector_archive_owner{{log_namespace="archive",logger="{namespace}"}} 1.0' in text
                    assert value(text, "archive_tenures_total") == value(text, "nats_connected") == 1
                    assert value(text, "archive_lag_messages") == value(text, "archive_unacked_messages") == 0
                    assert value(text, "received_messages_total") is None, "of a logger that has a pipeline"
                    assert (get(port, "/livez"), get(port, "/readyz")) == ("ok\n", "ok\n")
                    assert json.loads(get(port, "/status"))["loggers"][namespace]["state"] == "running"
                finally:
                    process.send_signal(signal.SIGTERM)
                    _, said = await to_thread.run_sync(process.communicate)
    assert process.returncode == 0, said


@pytest.mark.parametrize("address", ["8080", "host:port", "host:70000"])
def test_an_address_that_is_none_is_refused(address: str, tmp_path: Path) -> None:
    words = ["archive", "run", "--stream", "S", "--to", str(tmp_path), "--listen", address]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert "expected HOST:PORT such as" in result.output
