"""The facts of a message that stand beside its rows, as files have them. Pure."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import TYPE_CHECKING

from collector.decoding.headers import headers

if TYPE_CHECKING:
    from collector.model import Delivery

_SECOND = 1_000_000_000


def time_text(published_ns: int) -> str:
    """Return a time in nanoseconds since 1970 as RFC 3339 in UTC."""
    second, rest = divmod(published_ns, _SECOND)
    return f"{_second_text(second)}.{rest:09d}Z"


@lru_cache(maxsize=64)
def _second_text(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def headers_of(message: Delivery) -> list[tuple[str, str]]:
    """Return the headers as pairs, in order; one that came twice is there twice.

    Bytes that are not UTF-8 are replaced; the raw format has them too.
    """
    return [(_plain(name), _plain(value)) for name, value in headers(message.raw_headers)]


def _plain(value: str) -> str:
    return value.encode("latin-1").decode(errors="replace")
