"""From `transfer publish` through a replica to `transfer tail`, each as a process, as on a shell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from collector.local import Mongod, NatsServer, Replica

COMMAND = [sys.executable, "-m", "transfer"]
COUNT = 2000


@pytest.mark.parametrize("kind", ["plain", "timeseries"])
@pytest.mark.parametrize("bundles", [False, True])
def test_every_line_published_is_shown_once_by_tail(
    start_replica: Callable[..., Replica],
    nats_server: NatsServer,
    mongod: Mongod,
    namespace: str,
    tmp_path: Path,
    kind: str,
    *,
    bundles: bool,
) -> None:
    environ = os.environ | {"NATS_HOSTS": nats_server.url, "DATABASE": mongod.url, "NAMESPACE": namespace}
    path = tmp_path / "lines"
    path.write_text("".join(json.dumps({"n": number}) + "\n" for number in range(COUNT)))
    start_replica()
    subprocess.run([*COMMAND, "set", "app", "--collection", kind], env=environ, check=True, timeout=30)
    tail = [*COMMAND, "tail", "app", "--follow", "--json", "-n", str(COUNT)]  # it may start late
    with subprocess.Popen(tail, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as following:
        try:
            assert following.stdout is not None
            how = ["--bundles"] if bundles else []
            publish = [*COMMAND, "publish", "app", "--file", str(path), *how]
            subprocess.run(publish, env=environ, check=True, timeout=40)
            shown = [json.loads(following.stdout.readline())["n"] for _ in range(COUNT)]
        finally:
            following.kill()
    assert sorted(shown) == list(range(COUNT))
