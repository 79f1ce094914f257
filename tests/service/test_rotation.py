"""Every secret and certificate is replaced while collector and client run, without a restart; the reason is said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import anyio
import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from collector.local import Mongod, Replica
from tests.support.certificates import Authority
from tests.support.guarded import AsUser, guarded_mongod
from tests.support.logins import STRANGER, USER, creds_of, operator_config, tls_config
from tests.support.waiting import state, until
from transfer import Logger, Transfer
from transfer.nats_settings import LOGINS
from transfer.wire import CollectionSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from collector.local import NatsServer

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


async def until_refused(replica: Replica, refusal: str) -> None:
    """Wait until the replica is not ready; when there is a refusal, probe, status and log say it."""
    await until(lambda: replica.get("/readyz")[0] == 503, 20)
    await until(lambda: "not connected to nats" in replica.get("/readyz")[1], 20)
    if refusal:
        await until(lambda: refusal in replica.get("/readyz")[1], 20)
        await until(lambda: refusal in replica.status["last_error"], 20)
        assert refusal in replica.log_path.read_text()


async def replace_files(way: Way, replica: Replica) -> None:
    """Replace the files of the login: there is a moment without them, and one in which half of each is there."""
    for path in way.files:
        path.unlink()
    await until(lambda: "No such file" in replica.get("/readyz")[1], 20)
    for path, text in way.files.items():
        path.write_text(text[: len(text) // 2])
    await anyio.sleep(1.5)
    for path, text in way.files.items():
        swapped(path, text)


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
    refusal = "" if name == "certificates" else "Authorization Violation"
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
            await until_refused(replica, refusal)
            transfer.send("system", {"n": 2})
            stats = transfer._sender.stats if transfer._sender else None
            assert stats is not None
            await until(lambda: not stats().connected, 20)
            await replace_files(way, replica)
            await until(lambda: logs.count_documents({}) == 2, 20)
            await transfer.publish("system", {"n": 3}, timeout=20)
            await until(lambda: logs.count_documents({}) == 3, 20)
            assert state(replica, "system") == "running"
            assert replica.get("/readyz") == (200, "ok\n")
            assert replica.metric("collector_nats_reconnects_total") == 1


# --- MongoDB


async def _admin(mongod: Mongod, command: dict[str, Any]) -> None:
    def run() -> None:
        with MongoClient[dict[str, Any]](AsUser(mongod, "root", "admin").url) as client:
            client.admin.command(command)

    await anyio.to_thread.run_sync(run)


async def _refuse_the_password(mongod: Mongod, replica: Replica) -> None:
    """Change the password that the replica has; probe, status and log say that it is refused."""
    await _admin(mongod, {"updateUser": "one", "pwd": "second"})
    await anyio.to_thread.run_sync(mongod.restart)
    await until(lambda: "AuthenticationFailed" in replica.get("/readyz")[1], 40)
    await until(lambda: "AuthenticationFailed" in replica.status["last_error"], 20)
    assert "AuthenticationFailed" in replica.log_path.read_text()


async def _replace_the_password(mongod: Mongod, path: Path) -> None:
    """Replace the file: there is a moment without it, and one in which a part of it is there."""
    path.unlink()  # noqa: ASYNC240 - a small file of this machine
    await anyio.sleep(3)
    path.write_text(_uri(mongod, "one", "second")[:30])  # noqa: ASYNC240 - as above
    await anyio.sleep(5)
    swapped(path, _uri(mongod, "one", "second"))


def _uri(mongod: Mongod, user: str, password: str) -> str:
    return mongod.url.replace("//", f"//{user}:{password}@").replace("/?", "/?authSource=admin&")


@pytest.mark.parametrize("kind", ["plain", "timeseries"])
@pytest.mark.parametrize("how", ["password", "another user", "made anew"])
async def test_a_login_to_mongodb_that_is_replaced_needs_no_restart(
    how: str, kind: Literal["plain", "timeseries"], nats_server: NatsServer, namespace: str, tmp_path: Path
) -> None:
    with guarded_mongod() as mongod:
        roles = [{"role": "readWrite", "db": namespace}, {"role": "dbAdmin", "db": namespace}]
        await _admin(mongod, {"createUser": "one", "pwd": "first", "roles": roles})
        path = tmp_path / "database"
        path.write_text(_uri(mongod, "one", "first"))
        environ = {"DATABASE": "", "DATABASE_FILE": str(path), "COLLECTOR_WRITE_TIMEOUT": "2s"}
        with (
            Replica(tmp_path / "replica", namespace, nats_server, mongod, environ) as replica,
            MongoClient[dict[str, Any]](AsUser(mongod, "root", "admin").url) as client,
        ):
            logs = client[namespace].system_logs
            async with Transfer.connect(nats_server.url, namespace=namespace) as transfer:
                await transfer.set(Logger("system", collection=CollectionSpec(kind=kind)))
                await transfer.publish("system", {"n": 1})
                await until(lambda: logs.count_documents({}) == 1, 30)
                if how == "password":
                    await _refuse_the_password(mongod, replica)
                    await transfer.publish("system", {"n": 2})
                    await _replace_the_password(mongod, path)
                elif how == "another user":
                    await _admin(mongod, {"createUser": "two", "pwd": "second", "roles": roles})
                    swapped(path, _uri(mongod, "two", "second"))
                    await until(lambda: _logged_in(client, "two"), 40)
                    await _admin(mongod, {"dropUser": "one"})
                    await transfer.publish("system", {"n": 2})
                else:
                    await _admin(mongod, {"dropUser": "one"})
                    await transfer.publish("system", {"n": 2})
                    await _admin(mongod, {"createUser": "one", "pwd": "first", "roles": roles})
                await until(lambda: logs.count_documents({}) == 2, 60)
                await transfer.publish("system", {"n": 3})
                await until(lambda: logs.count_documents({}) == 3, 20)
                await until(lambda: replica.get("/readyz") == (200, "ok\n"), 20)
                assert client[namespace].system_fail.count_documents({}) == 0
                assert "first" not in replica.log_path.read_text()


def _logged_in(client: MongoClient[dict[str, Any]], user: str) -> bool:
    running = client.admin.aggregate([{"$currentOp": {"allUsers": True, "idleConnections": True}}])
    return any(one["user"] == user for op in running for one in op.get("effectiveUsers", ()))


class TlsMongod(Mongod):
    """One that speaks TLS alone and demands certificates of an authority."""

    pki: Path

    @classmethod
    def started(cls, folder: Path) -> TlsMongod:
        """Start one whose data was made by another one without TLS; the authority is the first one."""
        with Mongod(folder / "mongod") as plain:
            pass
        server = cls(folder / "mongod", port=plain.port)
        server.pki = folder / "first"
        server.start()
        return server

    def _command(self) -> list[str]:
        both = self.folder / "server.both"
        both.write_text((self.pki / "server.pem").read_text() + (self.pki / "server.key").read_text())
        files = [f"--tlsCertificateKeyFile={both}", f"--tlsCAFile={self.pki / 'ca.pem'}"]
        return [*super()._command(), "--tlsMode=requireTLS", "--tlsDisabledProtocols=TLS1_0", *files]

    def _answers(self) -> bool:
        both = self.pki / "client.both"
        both.write_text((self.pki / "client.pem").read_text() + (self.pki / "client.key").read_text())
        try:
            with MongoClient[dict[str, Any]](self.url_of(self.pki), serverSelectionTimeoutMS=1000) as client:
                return bool(client.admin.command("hello")["isWritablePrimary"])
        except PyMongoError:
            return False

    def url_of(self, folder: Path) -> str:
        return f"{self.url}&tls=true&tlsCAFile={folder / 'ca.pem'}&tlsCertificateKeyFile={folder / 'client.both'}"


async def test_certificates_of_mongodb_that_are_replaced_need_no_restart(
    nats_server: NatsServer, namespace: str, tmp_path: Path
) -> None:
    for name in ("first", "second", "ours"):
        (tmp_path / name).mkdir()
        if name != "ours":
            authority = Authority.make(tmp_path / name, name[:1].encode() * 32)
            authority.issue("server")
            authority.issue("client")
    ours = tmp_path / "ours"

    def rotate(name: str) -> None:
        theirs = tmp_path / name
        swapped(ours / "ca.pem", (theirs / "ca.pem").read_text())
        swapped(ours / "client.both", (theirs / "client.pem").read_text() + (theirs / "client.key").read_text())

    rotate("first")
    mongod = await anyio.to_thread.run_sync(TlsMongod.started, tmp_path)
    try:
        environ = {"DATABASE": mongod.url_of(ours), "COLLECTOR_WRITE_TIMEOUT": "2s"}
        with Replica(tmp_path / "replica", namespace, nats_server, mongod, environ) as replica:
            async with Transfer.connect(nats_server.url, namespace=namespace) as transfer:
                await transfer.set(Logger("system"))
                await transfer.publish("system", {"n": 1})
                await until(lambda: replica.status["entries"]["written"] == 1, 30)
                mongod.pki = tmp_path / "second"
                await anyio.to_thread.run_sync(mongod.restart)
                await until(lambda: "certificate" in replica.get("/readyz")[1].lower(), 30)
                assert "certificate" in replica.status["last_error"].lower()
                rotate("second")
                await transfer.publish("system", {"n": 2})
                await until(lambda: replica.status["entries"]["written"] == 2, 60)
                await until(lambda: replica.get("/readyz") == (200, "ok\n"), 20)
    finally:
        await anyio.to_thread.run_sync(mongod.kill)
