"""Values that nobody may say: planted in entries and secrets, and searched for in all that the service says."""

from __future__ import annotations

import base64
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from collector.local import Replica

if TYPE_CHECKING:
    from collections.abc import Iterator

_MARK = b"planted-"
_FORMS = (_MARK, _MARK.hex().encode(), *(base64.b64encode(_MARK[skipped:][:6]) for skipped in range(3)))
"""As it is, and as bytes are often shown: base64 has three forms, by how many bytes stand before."""


def planted(what: str) -> str:
    """Return a value that must never be said."""
    return _MARK.decode() + what


def leaks(said: bytes | str) -> list[str]:
    """Return the lines with a planted value in them."""
    raw = said.encode() if isinstance(said, str) else said
    return [line.decode(errors="replace") for line in raw.splitlines() if any(form in line for form in _FORMS)]


@contextmanager
def searched_replicas() -> Iterator[list[str]]:
    """Search what every replica writes until its end, and what it answers over HTTP; give the leaks so far."""
    found: list[str] = []
    reap, get = Replica._reap, Replica.get

    def reap_and_search(replica: Replica) -> None:
        reap(replica)
        found.extend(leaks(replica.log_path.read_bytes()))

    def get_and_search(replica: Replica, path: str) -> tuple[int, str]:
        status, text = get(replica, path)
        found.extend(leaks(text))
        return status, text

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Replica, "_reap", reap_and_search)
        patch.setattr(Replica, "get", get_and_search)
        yield found
