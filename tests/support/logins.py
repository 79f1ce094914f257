"""Every way into a nats-server that demands it: its configuration, and what a client gives, right and wrong."""

from __future__ import annotations

import base64
import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import nkeys  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.certificates import Authority

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


def jwt(subject: Key, issuer: Key, claims: dict[str, Any], expires: int | None = None) -> str:
    body = {"iat": int(time.time()), "iss": issuer.public, "sub": subject.public, "name": "test"}
    body["nats"] = claims | {"version": 2}
    if expires is not None:
        body["exp"] = expires
    body["jti"] = base64.b32encode(hashlib.sha256(msgspec.json.encode(body)).digest()).rstrip(b"=").decode()
    head = text_of(b'{"typ":"JWT","alg":"ed25519-nkey"}')
    signed = f"{head}.{text_of(msgspec.json.encode(body))}"
    return f"{signed}.{text_of(issuer.sign(signed.encode()))}"


def account(subject: Key, storage: int, revoked: Key | None = None) -> str:
    limits = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
    limits |= {"mem_storage": storage, "disk_storage": storage, "streams": storage, "consumer": storage}
    claims: dict[str, Any] = {"type": "account", "limits": limits | {"wildcards": True}}
    if revoked is not None:
        claims["revocations"] = {revoked.public: int(time.time()) + 1}
    return jwt(subject, OPERATOR, claims)


def operator_config(revoked: Key | None = None) -> str:
    ours = account(ACCOUNT, -1, revoked)
    operator = jwt(OPERATOR, OPERATOR, {"type": "operator", "system_account": SYSTEM.public})
    return f"""
        operator: "{operator}"
        system_account: {SYSTEM.public}
        resolver: MEMORY
        resolver_preload: {{ {ACCOUNT.public}: "{ours}", {SYSTEM.public}: "{account(SYSTEM, 0)}" }}
    """


def creds_of(user: Key, path: Path, expires: int | None = None) -> str:
    token = jwt(user, ACCOUNT, {"type": "user", "subs": -1, "data": -1, "payload": -1}, expires)
    path.write_text(
        f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
    )
    return str(path)


# --- certificates


def tls_config(pki: Authority, *, verify: bool) -> str:
    files = f'cert_file: "{pki.path("server.pem")}", key_file: "{pki.path("server.key")}"'
    return f'tls {{ {files}, ca_file: "{pki.path("ca.pem")}", verify: {str(verify).lower()} }}'


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
