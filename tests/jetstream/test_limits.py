"""What a real nats-server says and does to us: limits, expiry, revocation, its end. Nobody is restarted for it."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

import anyio
import nats.errors
import pytest
from pymongo import MongoClient

from collector.local import Replica
from tests.support.logins import STRANGER, USER, creds_of, operator_config
from tests.support.waiting import state, until
from transfer import Logger, Transfer
from transfer.jetstream.connection import Connection
from transfer.jetstream.server_words import ServerSaid
from transfer.nats_settings import NatsSettings
from transfer.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pymongo.database import Database

    from collector.local import Mongod, NatsServer

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]
LOGGERS = [f"logger{number}" for number in range(8)]


def reload(server: NatsServer, config: str) -> None:
    server.config = config
    server._command()
    os.kill(server.pid, signal.SIGHUP)


async def test_loggers_beyond_the_limit_of_subscriptions_back_off_and_say_why_and_the_others_move(
    own_nats: Callable[..., NatsServer], mongod: Mongod, namespace: str, tmp_path: Path
) -> None:
    server = await anyio.to_thread.run_sync(own_nats, "max_subscriptions: 6")
    with (
        Replica(tmp_path / "replica", namespace, server, mongod, {}) as replica,
        MongoClient[dict[str, Any]](mongod.url) as client,
    ):
        database = client[namespace]
        async with Transfer.connect(server.url, namespace=namespace) as transfer:
            for key in LOGGERS:
                await transfer.set(Logger(key))
                await transfer.publish(key, {"n": 1})

            def states() -> list[str]:
                return [state(replica, key) or "" for key in LOGGERS]

            await until(lambda: {"running", "backing_off"} == set(states()), 40)
            await until(lambda: have_moved(replica, database), 20)
            await until(lambda: "backing_off" in states(), 20)
            loggers = replica.status["loggers"].values()
            why = next(logger["why"] for logger in loggers if logger["state"] == "backing_off")
            assert "maximum subscriptions exceeded" in why
            assert "raise max_subscriptions" in why
            assert replica.alive
            server.config = ""
            await anyio.to_thread.run_sync(server.restart)
            await until(lambda: set(states()) == {"running"}, 60)
            await until(lambda: all(database[f"{key}_logs"].count_documents({}) == 1 for key in LOGGERS), 20)
            server.config = "max_subscriptions: 6"  # and a limit that comes while all of them listen
            await anyio.to_thread.run_sync(server.restart)
            await until(lambda: "backing_off" in states(), 60)
            server.config = ""
            await anyio.to_thread.run_sync(server.restart)
            await until(lambda: set(states()) == {"running"}, 60)


def have_moved(replica: Replica, database: Database[dict[str, Any]]) -> bool:
    """Whether all loggers that run now have their entry: which of them has a subscription may change for a while."""
    running = [key for key in LOGGERS if state(replica, key) == "running"]
    return bool(running) and all(database[f"{key}_logs"].count_documents({}) == 1 for key in running)


class Heard:
    """A connection of the client, and what a server did to it."""

    def __init__(self, settings: NatsSettings) -> None:
        self.connection = Connection(settings)
        self.settings = settings
        self.said: list[str] = []
        self.lost: list[str] = []
        self.back = 0

    async def __aenter__(self) -> Heard:
        async def on_error(error: Exception) -> None:
            self.said.append(str(error))

        async def on_lost() -> None:
            self.lost.append(str(self.connection.why_lost))

        async def on_back() -> None:
            self.back += 1

        callbacks: dict[str, Any] = {"error_cb": on_error, "disconnected_cb": on_lost, "reconnected_cb": on_back}
        await self.connection.connect(**self.settings.keywords(), **callbacks)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.connection.close()

    async def works(self) -> None:
        await until(lambda: self.connection.is_connected, 30)
        await self.connection.flush()
        assert (await self.connection.request("$JS.API.INFO", timeout=10)).data


async def test_too_many_connections(own_nats: Callable[..., NatsServer]) -> None:
    server = await anyio.to_thread.run_sync(own_nats, "max_connections: 1")
    async with Heard(NatsSettings((server.url,))) as first:
        await first.works()
        second = Heard(NatsSettings((server.url,)))
        async with anyio.create_task_group() as group:
            group.start_soon(second.__aenter__)
            await until(lambda: any("maximum connections exceeded" in said for said in second.said), 20)
            reload(server, "max_connections: 10")
        await second.works()
        await second.connection.close()


async def test_a_payload_limit_that_is_lowered_and_raised(own_nats: Callable[..., NatsServer]) -> None:
    server = await anyio.to_thread.run_sync(own_nats, "")
    async with Heard(NatsSettings((server.url,))) as heard:
        path = server.folder / "nats-server.conf"
        path.write_text(path.read_text().replace("max_payload: 8MB", "max_payload: 1000"))
        os.kill(server.pid, signal.SIGHUP)
        await until(lambda: "max_payload = 1000" in server.log_path.read_text(), 10)
        await heard.connection.publish("a", b"x" * 2000)
        await until(lambda: heard.back == 1, 20)
        assert "Maximum Payload Violation" in heard.lost[0]
        assert heard.connection.max_payload == 1000
        with pytest.raises(nats.errors.MaxPayloadError):
            await heard.connection.publish("a", b"x" * 2000)
        await heard.works()


async def test_a_login_that_expires_and_is_replaced_in_time(
    own_nats: Callable[..., NatsServer], tmp_path: Path
) -> None:
    server = await anyio.to_thread.run_sync(own_nats, operator_config())
    path = creds_of(USER, tmp_path / "creds", expires=int(time.time()) + 3)
    async with Heard(NatsSettings((server.url,), creds=path)) as heard:
        await heard.works()
        await until(lambda: bool(heard.lost), 20)
        assert "User Authentication Expired" in heard.lost[0]
        await until(lambda: any("Authorization Violation" in said for said in heard.said), 20)
        assert isinstance(heard.connection.last_error, ServerSaid)
        creds_of(USER, tmp_path / "creds", expires=int(time.time()) + 3600)
        await heard.works()


async def test_a_key_that_is_no_longer_let_in_and_another_one(
    own_nats: Callable[..., NatsServer], tmp_path: Path
) -> None:
    def config(*keys: Any) -> str:
        users = ", ".join(f"{{ nkey: {key.public} }}" for key in keys)
        return f"authorization {{ users: [ {users} ] }}"

    server = await anyio.to_thread.run_sync(own_nats, config(USER, STRANGER))
    (tmp_path / "seed").write_text(USER.seed)
    async with Heard(NatsSettings((server.url,), nkey=Secret("NATS_NKEY", path=str(tmp_path / "seed")))) as heard:
        await heard.works()
        reload(server, config(STRANGER))
        await until(lambda: any("Authorization Violation" in said for said in heard.said + heard.lost), 20)
        (tmp_path / "seed").write_text(STRANGER.seed)
        await heard.works()


async def test_a_subscription_that_is_no_longer_permitted_costs_nobody_the_connection(
    own_nats: Callable[..., NatsServer],
) -> None:
    def config(allowed: str) -> str:
        return f"authorization {{ users: [ {{ user: u, password: p, permissions: {{ subscribe: [{allowed}] }} }} ] }}"

    server = await anyio.to_thread.run_sync(own_nats, config('">"'))
    settings = NatsSettings((server.url,), user="u", password=Secret("NATS_PASSWORD", "p"))
    async with Heard(settings) as heard:
        await heard.connection.subscribe("a.b")
        await heard.connection.flush()
        reload(server, config('"_INBOX.>"'))
        await until(lambda: any("a.b" in said for said in heard.said + heard.lost), 20)
        await heard.works()


async def test_lame_duck_mode_and_a_successor(own_nats: Callable[..., NatsServer]) -> None:
    server = await anyio.to_thread.run_sync(own_nats, "lame_duck_grace_period: 1s, lame_duck_duration: 30s")
    async with Heard(NatsSettings((server.url,))) as heard:
        await heard.works()
        os.kill(server.pid, signal.SIGUSR2)
        await until(lambda: bool(heard.lost), 60)
        await until(lambda: not server.alive, 40)
        await anyio.to_thread.run_sync(server.stop)
        await anyio.to_thread.run_sync(server.start)
        await heard.works()


async def test_a_port_that_is_not_for_clients_is_said(own_nats: Callable[..., NatsServer]) -> None:
    from collector.local.server import free_port  # noqa: PLC0415 - only here

    port = free_port()
    await anyio.to_thread.run_sync(own_nats, f"leafnodes {{ listen: 127.0.0.1:{port} }}")
    heard = Heard(NatsSettings((f"nats://127.0.0.1:{port}",)))
    async with anyio.create_task_group() as group:
        group.start_soon(heard.__aenter__)
        await until(lambda: any("leaf node port" in said for said in heard.said), 20)
        assert "correct NATS_HOSTS" in str(heard.said)
        group.cancel_scope.cancel()
    await heard.connection.close()


async def test_a_clean_stop_is_no_loss_of_the_connection(
    own_nats: Callable[..., NatsServer], mongod: Mongod, namespace: str, tmp_path: Path
) -> None:
    server = await anyio.to_thread.run_sync(own_nats, "")
    with Replica(tmp_path / "replica", namespace, server, mongod, {}) as replica:
        await until(lambda: replica.get("/readyz")[0] == 200, 20)
        await anyio.to_thread.run_sync(replica.stop)
        said = replica.log_path.read_text()
    assert '"stopping"' in said
    assert "lost" not in said
    assert '"level": "warning"' not in said
