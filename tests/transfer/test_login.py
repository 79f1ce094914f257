"""Every way into a server that demands it, over a restart of it; and what is said to whoever may not be there."""

from __future__ import annotations

import base64
import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
import nats.errors
import nkeys  # type: ignore[import-untyped]
import pytest

from tests.transfer.certificates import Authority
from transfer import Logger, Refused, Transfer, Unavailable
from transfer.connection import Connection
from transfer.nats_settings import NatsSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from collector.local import NatsServer

pytestmark = pytest.mark.anyio
KEYWORDS = ("nkey", "token", "user", "password", "creds", "tls_ca", "tls_cert", "tls_key")


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for keyword in KEYWORDS:
        monkeypatch.delenv(f"NATS_{keyword.upper()}", raising=False)


# --- nkeys and the JWTs of a server that trusts an operator


@dataclass(frozen=True)
class Key:
    seed: str
    public: str

    @classmethod
    def new(cls, kind: int, number: int) -> Key:
        seed = nkeys.encode_seed(bytes([number]) * 32, kind)
        return cls(seed.decode(), nkeys.from_seed(bytearray(seed)).public_key.decode())

    def sign(self, content: bytes) -> bytes:
        signature: bytes = nkeys.from_seed(bytearray(self.seed.encode())).sign(content)
        return signature


USER = Key.new(nkeys.PREFIX_BYTE_USER, 1)
ACCOUNT = Key.new(nkeys.PREFIX_BYTE_ACCOUNT, 2)
SYSTEM = Key.new(nkeys.PREFIX_BYTE_ACCOUNT, 3)
OPERATOR = Key.new(nkeys.PREFIX_BYTE_OPERATOR, 4)
STRANGER = Key.new(nkeys.PREFIX_BYTE_USER, 5)


def text_of(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def jwt(subject: Key, issuer: Key, claims: dict[str, Any]) -> str:
    body = {"iat": int(time.time()), "iss": issuer.public, "sub": subject.public, "name": "test"}
    body["nats"] = claims | {"version": 2}
    body["jti"] = base64.b32encode(hashlib.sha256(msgspec.json.encode(body)).digest()).rstrip(b"=").decode()
    head = text_of(b'{"typ":"JWT","alg":"ed25519-nkey"}')
    signed = f"{head}.{text_of(msgspec.json.encode(body))}"
    return f"{signed}.{text_of(issuer.sign(signed.encode()))}"


def account(subject: Key, storage: int) -> str:
    limits = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
    limits |= {"mem_storage": storage, "disk_storage": storage, "streams": storage, "consumer": storage}
    return jwt(subject, OPERATOR, {"type": "account", "limits": limits | {"wildcards": True}})


def operator_config() -> str:
    operator = jwt(OPERATOR, OPERATOR, {"type": "operator", "system_account": SYSTEM.public})
    return f"""
        operator: "{operator}"
        system_account: {SYSTEM.public}
        resolver: MEMORY
        resolver_preload: {{ {ACCOUNT.public}: "{account(ACCOUNT, -1)}", {SYSTEM.public}: "{account(SYSTEM, 0)}" }}
    """


def creds_of(user: Key, path: Path) -> str:
    token = jwt(user, ACCOUNT, {"type": "user", "subs": -1, "data": -1, "payload": -1})
    path.write_text(
        f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
    )
    return str(path)


# --- certificates


def tls_config(pki: Authority, *, verify: bool) -> str:
    files = f'cert_file: "{pki.path("server.pem")}", key_file: "{pki.path("server.key")}"'
    return f'tls {{ {files}, ca_file: "{pki.path("ca.pem")}", verify: {str(verify).lower()} }}'


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    authority = Authority.make(tmp_path_factory.mktemp("pki"))
    authority.issue("server")
    authority.issue("client")
    return authority


# --- the ways in


@dataclass(frozen=True)
class Way:
    config: str
    right: dict[str, str]
    wrong: dict[str, str]


def way_of(name: str, pki: Authority, folder: Path) -> Way:
    tls = {"tls_ca": pki.path("ca.pem")}
    pair = {"tls_cert": pki.path("client.pem"), "tls_key": pki.path("client.key")}
    ways = {
        "nkey": lambda: Way(
            f"authorization {{ users: [ {{ nkey: {USER.public} }} ] }}", {"nkey": USER.seed}, {"nkey": STRANGER.seed}
        ),
        "token": lambda: Way("authorization { token: right }", {"token": "right"}, {"token": "wrong"}),
        "user": lambda: Way(
            "authorization { user: u, password: right }",
            {"user": "u", "password": "right"},
            {"user": "u", "password": "wrong"},
        ),
        "creds": lambda: Way(
            operator_config(), {"creds": creds_of(USER, folder / "right")}, {"creds": with_other_seed(folder / "wrong")}
        ),
        "tls": lambda: Way(tls_config(pki, verify=False), tls, {}),
        "mutual tls": lambda: Way(tls_config(pki, verify=True), tls | pair, tls),
    }
    return ways[name]()


def with_other_seed(path: Path) -> str:
    creds_of(USER, path)
    path.write_text(path.read_text().replace(USER.seed, STRANGER.seed))
    return str(path)


WAYS = ["nkey", "token", "user", "creds", "tls", "mutual tls"]


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
    with anyio.fail_after(3), pytest.raises(Refused, match=f"127.0.0.1:{server.port} does not let us in"):
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

    connection = Connection()
    await connection.connect(**NatsSettings((server.url,), tls_ca=pki.path("ca.pem")).keywords(), error_cb=on_error)
    try:
        await anyio.to_thread.run_sync(server.stop)
        server.config = ""
        await anyio.to_thread.run_sync(server.start)
        with anyio.fail_after(10):
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

    with anyio.fail_after(10), pytest.raises(Refused, match="enough"):
        await connection.connect(**NatsSettings((server.url,)).keywords(), error_cb=on_error)
    await connection.close()


async def test_a_subject_that_is_not_permitted_is_said(own_nats: Callable[..., NatsServer]) -> None:
    user = '{ user: u, password: p, permissions: { publish: ["_INBOX.>"], subscribe: ">" } }'
    server = await anyio.to_thread.run_sync(own_nats, f"authorization {{ users: [ {user} ] }}")
    async with Transfer.connect(server.url, namespace="beta", user="u", password="p") as transfer:
        with anyio.fail_after(10), pytest.raises(Unavailable, match=r"(?i)permissions violation"):
            await transfer.set(Logger("a"))
