"""The facts of a message that stand beside its rows, as files have them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collector.decoding.headers import headers

if TYPE_CHECKING:
    from collector.model import Delivery


def headers_of(message: Delivery) -> list[tuple[str, str]]:
    """Return the headers as pairs, in order; one that came twice is there twice.

    Bytes that are not UTF-8 are replaced; the raw format has them too.
    """
    return [(_plain(name), _plain(value)) for name, value in headers(message.raw_headers)]


def _plain(value: str) -> str:
    return value.encode("latin-1").decode(errors="replace")
