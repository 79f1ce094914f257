"""Every secret and certificate is replaced while collector and client run, without a restart; the reason is said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from pymongo import MongoClient

from collector.local import Replica
from tests.certificates import Authority
from tests.integration.waiting import state, until
from tests.logins import STRANGER, USER, creds_of, operator_config, tls_config
from transfer import Logger, Transfer
from transfer.nats_settings import LOGINS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from collector.local import Mongod, NatsServer

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]


def swapped(path: Path, text: str) -> None:
    """Replace a file as Kubernetes does: it is whole, or not there."""
    beside = path.with_suffix(".new")
    beside.write_text(text)
    beside.replace(path)


class Way:
    """A way in: its configuration before and after the rotation, and the files that change."""

    def __init__(self, name: str, folder: Path) -> None:
        self.environ: dict[str, str] = {}
        self.files: dict[Path, str] = {}
        getattr(self, name.replace(" ", "_"))(folder)

    def token(self, folder: Path) -> None:
        self.before, self.after = (f"authorization {{ token: {token} }}" for token in ("first", "second"))
        self._file(folder, "NATS_TOKEN_FILE", "first", "second")

    def password(self, folder: Path) -> None:
        self.before, self.after = (
            f"authorization {{ user: u, password: {password} }}" for password in ("first", "second")
        )
        self.environ["NATS_USER"] = "u"
        self._file(folder, "NATS_PASSWORD_FILE", "first", "second")

    def nkey(self, folder: Path) -> None:
        self.before, self.after = (
            f"authorization {{ users: [ {{ nkey: {key.public} }} ] }}" for key in (USER, STRANGER)
        )
        self._file(folder, "NATS_NKEY_FILE", USER.seed, STRANGER.seed)

    def creds(self, folder: Path) -> None:
        self.before = operator_config()
        self.after = operator_config(revoked=USER)
        creds_of(STRANGER, folder / "second")
        creds_of(USER, folder / "first")
        self._file(folder, "NATS_CREDS", (folder / "first").read_text(), (folder / "second").read_text())

    def certificates(self, folder: Path) -> None:
        """Replace the authority and all that it has signed."""
        for name, seed in (("first", b"a"), ("second", b"b")):
            (folder / name).mkdir()
            authority = Authority.make(folder / name, seed * 32)
            authority.issue("server")
            authority.issue("client")
        self.before, self.after = (
            tls_config(Authority(folder / name, None), verify=True)  # type: ignore[arg-type]
            for name in ("first", "second")
        )
        for variable, file in (("CA", "ca.pem"), ("CERT", "client.pem"), ("KEY", "client.key")):
            texts = [(folder / name / file).read_text() for name in ("first", "second")]
            self._file(folder, f"NATS_TLS_{variable}", *texts)

    def _file(self, folder: Path, variable: str, before: str, after: str) -> None:
        path = folder / variable
        path.write_text(before)
        self.environ[variable] = str(path)
        self.files[path] = after


@pytest.mark.parametrize("name", ["token", "password", "nkey", "creds", "certificates"])
async def test_a_login_to_nats_that_is_replaced_needs_no_restart(
    name: str,
    own_nats: Callable[..., NatsServer],
    mongod: Mongod,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    way = Way(name, tmp_path)
    for variable in (*LOGINS, "NATS_TLS_CA", "NATS_TLS_CERT", "NATS_TLS_KEY"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in way.environ.items():
        monkeypatch.setenv(variable, value)
    server = await anyio.to_thread.run_sync(own_nats, way.before)
    with (
        Replica(tmp_path / "replica", namespace, server, mongod, way.environ) as replica,
        MongoClient[dict[str, Any]](mongod.url) as client,
    ):
        logs = client[namespace].system_logs
        async with Transfer.connect(server.url, namespace=namespace) as transfer:
            await transfer.set(Logger("system"))
            transfer.send("system", {"n": 1})
            await until(lambda: logs.count_documents({}) == 1, 20)
            server.config = way.after
            await anyio.to_thread.run_sync(server.restart)
            await until(lambda: replica.get("/readyz")[0] == 503, 20)
            await until(lambda: "not connected to nats" in replica.get("/readyz")[1], 20)
            if name != "certificates":
                await until(lambda: "Authorization Violation" in replica.get("/readyz")[1], 20)
                await until(lambda: "Authorization Violation" in replica.status["last_error"], 20)
                assert "Authorization Violation" in replica.log_path.read_text()
            transfer.send("system", {"n": 2})
            stats = transfer._sender.stats if transfer._sender else None
            assert stats is not None
            await until(lambda: not stats().connected, 20)
            for (
                path
            ) in way.files:  # there is a moment in which they are not there, and one in which they are half there
                path.unlink()
            await until(lambda: "No such file" in replica.get("/readyz")[1], 20)
            for path, text in way.files.items():
                path.write_text(text[: len(text) // 2])
            await anyio.sleep(1.5)
            for path, text in way.files.items():
                swapped(path, text)
            await until(lambda: logs.count_documents({}) == 2, 20)
            await transfer.publish("system", {"n": 3}, timeout=20)
            await until(lambda: logs.count_documents({}) == 3, 20)
            assert state(replica, "system") == "running"
            assert replica.get("/readyz") == (200, "ok\n")
            assert replica.metric("collector_nats_reconnects_total") == 1
