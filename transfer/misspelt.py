"""Variables of the environment that nobody reads, and which known one each of them probably means. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_OURS = ("COLLECTOR_", "TRANSFER_")
_ELSEWHERE = re.compile(r"COLLECTOR_(TEST_.*|MONGOD|NATS_SERVER)")
"""Read by `collector local`, `collector demo` and the tests."""
_SERVICE_LINK = re.compile(r".*_(SERVICE_(HOST|PORT(_.*)?)|PORT(_[0-9]+_(TCP|UDP|SCTP)(_.*)?)?)")
"""Kubernetes sets such variables for each Service: https://kubernetes.io/docs/concepts/services-networking/service/"""
_ALSO_CALLED = {
    "NATS_HOSTS": ("NATS_URL", "NATS_URLS", "NATS_SERVER", "NATS_SERVERS", "NATS_ADDRESS"),
    "NATS_NKEY": ("NATS_SEED", "NATS_NKEY_SEED"),
    "NATS_USER": ("NATS_USERNAME",),
    "NATS_PASSWORD": ("NATS_PASS", "NATS_PWD"),
    "NATS_CREDS": ("NATS_CREDENTIALS",),
    "NATS_TLS_CA": ("NATS_CA", "NATS_CACERT"),
    "NATS_TLS_CERT": ("NATS_CERT",),
    "NATS_TLS_KEY": ("NATS_KEY",),
    "DATABASE": ("DATABASE_URI", "MONGO_URI", "MONGO_URL", "MONGODB_URI", "MONGODB_URL"),
}
_LONG = 6
"""Letters that a name has at least when others can be taken for it: MODEL is not MODE."""
_CLOSE = 0.84
"""How alike two names are that are taken for one, by `difflib`: one letter of six may differ."""


@dataclass(frozen=True, slots=True)
class Misspelt:
    """A variable that is set and not read."""

    variable: str
    meant: str | None
    """The variable that it probably means; None when there is none like it."""

    def __str__(self) -> str:
        meant = f": did you mean {self.meant}?" if self.meant else ", and is ignored"
        return f"{self.variable} is not a known variable{meant}"


def misspelt(names: Iterable[str], known: Collection[str], ours: Collection[str] = _OURS) -> list[Misspelt]:
    """Return which of these names nobody reads, in order.

    A name that begins with one of `ours` has to be known. Another one is named only when it is like a known one.
    """
    found = [_judge(name, known, tuple(ours)) for name in sorted(names) if not _is_known(name, known)]
    return [one for one in found if one is not None]


def _is_known(name: str, known: Collection[str]) -> bool:
    return name in known or bool(_ELSEWHERE.fullmatch(name) or _SERVICE_LINK.fullmatch(name))


def _judge(name: str, known: Collection[str], ours: tuple[str, ...]) -> Misspelt | None:
    meant = _meant(name, known)
    return Misspelt(name, meant) if meant or name.startswith(ours) else None


def _meant(name: str, known: Collection[str]) -> str | None:
    stem, file = (name.removesuffix("_FILE"), "_FILE") if name.endswith("_FILE") else (name, "")
    for variable, others in _ALSO_CALLED.items():
        if stem.upper() in others and variable + file in known:
            return variable + file
    if name.upper() != name and name.upper() in known:
        return name.upper()
    close = get_close_matches(name, [one for one in known if len(one) >= _LONG], n=1, cutoff=_CLOSE)
    return close[0] if close else None
