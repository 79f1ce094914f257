"""Every way into a server that demands it, over a restart of it; and what is said to whoever may not be there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import nats.errors
import pytest
from anyio import create_task_group
from anyio.abc import SocketAttribute, SocketStream

from tests.support.logins import WAYS, tls_config, way_of
from transfer import Logger, Refused, Transfer, Unavailable
from transfer.jetstream.connection import Connection
from transfer.nats_settings import NatsSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from collector.local import NatsServer
    from tests.support.certificates import Authority

pytestmark = pytest.mark.anyio
KEYWORDS = ("nkey", "token", "user", "password", "creds", "tls_ca", "tls_cert", "tls_key")


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for keyword in KEYWORDS:
        monkeypatch.delenv(f"NATS_{keyword.upper()}", raising=False)


@pytest.mark.parametrize("name", WAYS)
async def test_a_login_that_is_demanded_works_and_survives_a_restart(
    name: str, own_nats: Callable[..., NatsServer], pki: Authority, tmp_path: Path
) -> None:
    way = way_of(name, pki, tmp_path)
    server = await anyio.to_thread.run_sync(own_nats, way.config)
    address = server.url.replace("nats://", "tls://") if "tls" in name else server.url
    async with Transfer.connect(address, namespace="beta", **way.right) as transfer:  # type: ignore[arg-type]
        await transfer.set(Logger("a"))
        await anyio.to_thread.run_sync(server.kill)
        await anyio.to_thread.run_sync(server.start)
        assert (await transfer.publish("a", {"n": 1}, timeout=20)).sequence == 1


@pytest.mark.parametrize("name", WAYS)
async def test_a_wrong_login_is_refused_at_once(
    name: str, own_nats: Callable[..., NatsServer], pki: Authority, tmp_path: Path
) -> None:
    way = way_of(name, pki, tmp_path)
    server = await anyio.to_thread.run_sync(own_nats, way.config)
    with anyio.fail_after(30), pytest.raises(Refused, match=f"127.0.0.1:{server.port} does not let us in"):
        async with Transfer.connect(server.url, namespace="beta", **way.wrong):  # type: ignore[arg-type]
            pass


async def test_plain_text_is_refused_where_tls_was_asked_for(
    own_nats: Callable[..., NatsServer], pki: Authority
) -> None:
    server = await anyio.to_thread.run_sync(own_nats, "authorization { token: secret }")
    for address, tls_ca in ((server.url, pki.path("ca.pem")), (server.url.replace("nats://", "tls://"), None)):
        with pytest.raises(Refused, match="TLS was asked for"):
            async with Transfer.connect(address, namespace="beta", token="secret", tls_ca=tls_ca):
                pass


async def test_plain_text_is_refused_on_a_reconnect_too(own_nats: Callable[..., NatsServer], pki: Authority) -> None:
    server = await anyio.to_thread.run_sync(own_nats, tls_config(pki, verify=False))
    errors: list[Exception] = []
    refused = anyio.Event()

    async def on_error(error: Exception) -> None:
        errors.append(error)
        if isinstance(error, nats.errors.SecureConnWantedError):
            refused.set()

    settings = NatsSettings((server.url,), tls_ca=pki.path("ca.pem"))
    connection = Connection(settings)
    await connection.connect(**settings.keywords(), error_cb=on_error)
    try:
        await anyio.to_thread.run_sync(server.stop)
        server.config = ""
        await anyio.to_thread.run_sync(server.start)
        with anyio.fail_after(60):
            await refused.wait()
        assert not connection.is_connected
    finally:
        await connection.close()


async def test_a_handshake_that_fails_is_tried_again(own_nats: Callable[..., NatsServer], pki: Authority) -> None:
    server = await anyio.to_thread.run_sync(own_nats, tls_config(pki, verify=False))
    failures = 0
    connection = Connection()

    async def on_error(_: Exception) -> None:
        nonlocal failures
        failures += 1
        if failures == 3:
            raise Refused("enough")

    with anyio.fail_after(60), pytest.raises(Refused, match="enough"):
        await connection.connect(**NatsSettings((server.url,)).keywords(), error_cb=on_error)
    await connection.close()


@pytest.mark.parametrize(("verify", "expected", "timeout"), [("true", Refused, 50.0), ("false", Unavailable, 1.0)])
async def test_a_server_that_demands_certificates_and_only_hangs_up_has_refused(
    verify: str, expected: type[Exception], timeout: float
) -> None:
    """A server's alert with the reason is lost when our CONNECT is on its way already."""

    async def hang_up(stream: SocketStream) -> None:
        async with stream:
            await stream.send(b'INFO {"tls_required":true,"tls_verify":%b}\r\n' % verify.encode())
            await stream.receive()

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, create_task_group() as group:
        group.start_soon(listener.serve, hang_up)
        port = listener.extra(SocketAttribute.local_port)  # noqa: S610 - no Django here
        with anyio.fail_after(60), pytest.raises(expected):
            async with Transfer.connect(f"tls://127.0.0.1:{port}", namespace="beta", timeout=timeout):
                pass
        group.cancel_scope.cancel()


async def test_a_subject_that_is_not_permitted_is_said(own_nats: Callable[..., NatsServer]) -> None:
    user = '{ user: u, password: p, permissions: { publish: ["_INBOX.>"], subscribe: ">" } }'
    server = await anyio.to_thread.run_sync(own_nats, f"authorization {{ users: [ {user} ] }}")
    async with Transfer.connect(server.url, namespace="beta", user="u", password="p") as transfer:
        with anyio.fail_after(60), pytest.raises(Refused, match=r"publish to \$JS\.API\.STREAM\.INFO\.KV_beta_logs$"):
            await transfer.set(Logger("a"))


async def test_a_connection_that_is_lost_while_it_closes_is_closed_to_the_end(nats_server: NatsServer) -> None:
    connection = Connection()
    await connection.connect(nats_server.url)
    await connection.subscribe("a")
    transport: Any = connection._transport

    async def lost() -> None:
        raise ConnectionResetError("Connection lost")

    transport.drain = lost
    await connection.publish("a", b"waits to be written")
    await connection.close()
    assert connection.is_closed
    assert transport._io_writer.is_closing()
    assert connection._subs == {}
