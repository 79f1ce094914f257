"""The collector on servers that demand a login or TLS, over a restart of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from pymongo import MongoClient

from collector.local import Replica
from tests.support.logins import WAYS, way_of
from tests.support.waiting import until
from transfer import Logger, Transfer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from collector.local import Mongod, NatsServer
    from tests.support.certificates import Authority


@pytest.mark.parametrize("name", WAYS)
async def test_a_replica_logs_in_and_goes_on_after_a_restart_of_the_server(
    name: str, own_nats: Callable[..., NatsServer], mongod: Mongod, namespace: str, pki: Authority, tmp_path: Path
) -> None:
    way = way_of(name, pki, tmp_path)
    server = await anyio.to_thread.run_sync(own_nats, way.config)
    login = {f"NATS_{keyword.upper()}": value for keyword, value in way.right.items()}
    with (
        Replica(tmp_path / "replica", namespace, server, mongod, login) as replica,
        MongoClient[dict[str, Any]](mongod.url) as client,
    ):
        logs = client[namespace].system_logs
        async with Transfer.connect(server.url, namespace=namespace, **way.right) as transfer:  # type: ignore[arg-type]
            await transfer.set(Logger("system"))
            await transfer.publish("system", {"n": 1})
            await until(lambda: logs.count_documents({}) == 1, 5)
            await anyio.to_thread.run_sync(server.kill)
            await anyio.to_thread.run_sync(server.start)
            await transfer.publish("system", {"n": 2}, timeout=20)
        await until(lambda: logs.count_documents({}) == 2, 10)
        assert replica.metric("collector_nats_reconnects_total") == 1
        secrets = [way.right[name] for name in ("nkey", "token", "password") if name in way.right]
        assert not [secret for secret in secrets if secret in replica.log_path.read_text()]


async def test_secrets_may_come_from_files(
    own_nats: Callable[..., NatsServer], mongod: Mongod, namespace: str, tmp_path: Path
) -> None:
    server = await anyio.to_thread.run_sync(own_nats, "authorization { token: from-a-file }")
    (tmp_path / "token").write_text("from-a-file\n")
    (tmp_path / "database").write_text(f"{mongod.url}\n")
    files = {"NATS_TOKEN_FILE": str(tmp_path / "token"), "DATABASE": "", "DATABASE_FILE": str(tmp_path / "database")}
    with Replica(tmp_path / "replica", namespace, server, mongod, files) as replica:
        assert replica.get("/readyz") == (200, "ok\n")
