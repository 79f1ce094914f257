"""How to reach NATS and how to log in: environment -> frozen `NatsSettings` -> keywords of `nats.connect`."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from transfer.secret import read_creds, signed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transfer.environment import Environment
    from transfer.secret import Secret

DEFAULT_HOSTS = "nats://127.0.0.1:4222"
LOGINS = ("NATS_NKEY", "NATS_TOKEN", "NATS_USER", "NATS_PASSWORD", "NATS_CREDS")
"""The variables that say who we are."""
RECONNECT_WAIT = 0.5
PING_INTERVAL = 5
"""A connection that is dead without a word is noticed after three of them."""
_SCHEMES = ("nats", "tls", "ws", "wss")
_USERINFO = re.compile(r"[^/@,]*@")


@dataclass(frozen=True, slots=True, repr=False)
class NatsSettings:
    """Where NATS is and one way to log in, or none: secrets and certificates as places that are read at each connect.

    `repr` shows no secret.
    """

    hosts: tuple[str, ...]
    nkey: Secret | None = None
    token: Secret | None = None
    user: str | None = None
    password: Secret | None = None
    creds: str | None = None
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None

    @classmethod
    def read(cls, environment: Environment, default_hosts: str | None = None) -> NatsSettings:
        """Read `NATS_*`; without `default_hosts`, NATS_HOSTS is required. Problems are noted in `environment`."""
        settings = cls(
            hosts=_hosts(environment, default_hosts),
            nkey=_nkey(environment),
            token=environment.secret("NATS_TOKEN"),
            user=environment.text("NATS_USER"),
            password=environment.secret("NATS_PASSWORD"),
            creds=_creds(environment),
            tls_ca=environment.path("NATS_TLS_CA"),
            tls_cert=environment.path("NATS_TLS_CERT"),
            tls_key=environment.path("NATS_TLS_KEY"),
        )
        settings._check_login(environment)
        settings._check_tls(environment)
        return settings

    def keywords(self) -> dict[str, Any]:
        """Return what `Connection.connect` takes: servers, and a reconnect policy that never gives up."""
        return {
            "servers": list(self.hosts),
            "allow_reconnect": True,
            "max_reconnect_attempts": -1,
            "reconnect_time_wait": RECONNECT_WAIT,
            "ping_interval": PING_INTERVAL,
            "max_outstanding_pings": 2,
        }

    def login(self, nonce: str | None) -> dict[str, str]:
        """Return who we are in the terms of CONNECT, as the files say now. Raises `Unreadable`.

        `nonce` is what the server wants to have signed, if it does.
        """
        if self.creds and nonce:
            jwt, seed = read_creds(self.creds)
            return {"jwt": jwt, "sig": signed("NATS_CREDS", seed, nonce)[1]}
        if self.nkey and nonce:
            public, signature = signed(self.nkey.variable, self.nkey.read(), nonce)
            return {"nkey": public, "sig": signature}
        if self.token:
            return {"auth_token": self.token.read()}
        if self.user and self.password:
            return {"user": self.user, "pass": self.password.read()}
        return {}

    @property
    def hosts_shown(self) -> str:
        """Where NATS is, without logins."""
        return ", ".join(without_userinfo(host) for host in self.hosts)

    def __repr__(self) -> str:
        return f"NatsSettings(hosts={self.hosts_shown!r}, logins={self._logins()}, tls={self.wants_tls})"

    def _logins(self) -> list[str]:
        """Name the ways to log in that are there."""
        ways = {
            "NATS_NKEY": self.nkey,
            "NATS_TOKEN": self.token,
            "NATS_USER": self.user or self.password,
            "NATS_CREDS": self.creds,
            "NATS_HOSTS": any(_USERINFO.search(host) for host in self.hosts),
        }
        return [name for name, given in ways.items() if given]

    @property
    def wants_tls(self) -> bool:
        """Whether we speak to no server without TLS."""
        asked = self.tls_ca or self.tls_cert or any(host.startswith(("tls://", "wss://")) for host in self.hosts)
        return bool(asked)

    def tls(self) -> ssl.SSLContext | None:
        """Return what certificates and authorities the files hold now. Raises OSError, `ssl.SSLError` among them."""
        if not self.wants_tls:
            return None
        context = ssl.create_default_context(cafile=self.tls_ca)
        if self.tls_cert:
            context.load_cert_chain(self.tls_cert, self.tls_key)
        return context

    def _check_login(self, environment: Environment) -> None:
        ways = self._logins()
        if len(ways) > 1:
            environment.add_problem(ways[0], "one way to log in", " and ".join(ways))
        if self.user and not self.password:
            environment.add_problem("NATS_PASSWORD", "a value beside NATS_USER", "nothing: it is not set")
        if self.password and not self.user:
            environment.add_problem("NATS_USER", "a value beside NATS_PASSWORD", "nothing: it is not set")

    def _check_tls(self, environment: Environment) -> None:
        pair = {"NATS_TLS_CERT": self.tls_cert, "NATS_TLS_KEY": self.tls_key}
        missing = [name for name in pair if not environment.is_set(name)]
        if len(missing) == 1:
            environment.add_problem(missing[0], "NATS_TLS_CERT and NATS_TLS_KEY together", "nothing: it is not set")
        if bool(self.tls_cert) != bool(self.tls_key):
            return
        try:
            self.tls()
        except (ssl.SSLError, OSError) as error:
            given = ", ".join(
                f"NATS_TLS_{name}" for name in ("CA", "CERT", "KEY") if environment.is_set(f"NATS_TLS_{name}")
            )
            environment.add_problem(given, "PEM files that belong together", str(error))


def without_userinfo(host: str) -> str:
    """Return an address as it may be shown."""
    return _USERINFO.sub("***@", host)


def _hosts(environment: Environment, default: str | None) -> tuple[str, ...]:
    text = environment.text("NATS_HOSTS", default, required=True)
    hosts = tuple(host.strip() for host in text.split(",") if host.strip())
    for host in hosts:
        if not _is_address(host):
            # a login may hold any of the signs by which it would be found and cut out
            shown = "something else (not shown)" if "@" in text else repr(host)
            environment.add_problem("NATS_HOSTS", "a comma list of nats://host:port or tls://host:port", shown)
    environment.effective["NATS_HOSTS"] = ",".join(without_userinfo(host) for host in hosts)
    if len({host.startswith(("ws://", "wss://")) for host in hosts}) > 1:
        environment.add_problem("NATS_HOSTS", "either WebSocket addresses or others", "both")
    return hosts


def _is_address(host: str) -> bool:
    try:
        parts = urlsplit(host if "://" in host else f"nats://{host}")
        return parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0 and not re.search(r"\s", host)
    except ValueError:  # a port that is none
        return False


def _nkey(environment: Environment) -> Secret | None:
    nkey = environment.secret("NATS_NKEY")
    if nkey is not None:
        environment.reads(lambda: signed("NATS_NKEY", nkey.read(), ""))
    return nkey


def _creds(environment: Environment) -> str | None:
    path = environment.path("NATS_CREDS")
    return path if path and environment.reads(lambda: read_creds(path)) else None


def with_keywords(environ: Mapping[str, str], given: Mapping[str, str | None]) -> dict[str, str]:
    """Return the environment with what was given laid over it; one login that is given hides every other there."""
    overlay = {name: value for name, value in given.items() if value}
    hidden = {*overlay, *(f"{name}_FILE" for name in overlay)}
    if hidden.intersection(LOGINS):
        hidden |= {name + suffix for name in LOGINS for suffix in ("", "_FILE")}
    return {name: value for name, value in environ.items() if name not in hidden} | overlay
