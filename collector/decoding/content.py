"""The meaning of a message's headers for its body: form, encoding, and where its entries have their identities from."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from bson import ObjectId

from collector.decoding.envelope import (
    BEFORE_JSON,
    JSON_BEHIND_FORM,
    JSON_FORM,
    MSGPACK_FORM,
    Encoded,
    Form,
    form_behind,
    read_identity,
)
from collector.decoding.headers import field, headers
from collector.decoding.inflate import AS_IT_CAME
from collector.errors import Poison
from transfer.wire import CONTENT_ENCODING, CONTENT_TYPE, JSON, MSGPACK, TRANSFER_CONTENT_ID

if TYPE_CHECKING:
    from collections.abc import Iterable

    from collector.decoding.identity import Incarnation
    from collector.model import Delivery

_LONE = frozenset({"", MSGPACK})
"""The media types of an entry that is a message of its own; with either, a body that begins with a brace is JSON.

White space or a byte order mark may stand before it.
"""
_BRACE = ord("{")


class Origin(Protocol):
    """Gives an identity to entries that bring none: the stream's incarnation, or a header of the message."""

    def identity(self, sequence: int, position: int | None = None) -> ObjectId:
        """Return the identity of an entry, by its message's sequence and its position in a bundle."""

    def hexadecimal(self, sequence: int, position: int | None = None) -> str:
        """Return the same as 24 hex digits."""

    def hexadecimals_in(self, sequence: int, count: int) -> list[str]:
        """Return the same for all entries of a bundle."""


class _Named(NamedTuple):
    """The origin of a message that brings its identity in a header, see TRANSFER_CONTENT_ID.

    The entries of a bundle have the identities that follow it, as if they were derived.
    """

    own: ObjectId

    def identity(self, sequence: int, position: int | None = None) -> ObjectId:  # noqa: ARG002 - it is the same in every sequence
        number = int.from_bytes(self.own.binary) + (position or 0)
        return ObjectId((number % (1 << 96)).to_bytes(12))

    def hexadecimal(self, sequence: int, position: int | None = None) -> str:
        """Return the same as 24 hex digits."""
        return str(self.identity(sequence, position))

    def hexadecimals_in(self, sequence: int, count: int) -> list[str]:
        """Return the same for all entries of a bundle."""
        return [self.hexadecimal(sequence, position) for position in range(count)]


class Content(NamedTuple):
    """The meaning of a message's headers for its body."""

    media_type: str = ""
    encoding: str = ""
    own_id: ObjectId | None = None

    def origin(self, incarnation: Incarnation) -> Origin:
        """Return where entries without an identity have one from."""
        return incarnation if self.own_id is None else _Named(self.own_id)

    def form_as_it_came(self, body: Encoded) -> Form | None:
        """Return the form of a body that is one entry as it was received; None for every other message."""
        as_it_came = body and self.encoding in AS_IT_CAME and self.own_id is None
        return lone_form(self.media_type, body) if as_it_came else None


def lone_form(media_type: str, body: Encoded) -> Form | None:
    """Return the form of a body that is one entry, uncompressed; None when it cannot be one."""
    if media_type in _LONE:
        first = body[0]
        if first == _BRACE:
            return JSON_FORM
        return form_behind(body) if first in BEFORE_JSON else MSGPACK_FORM
    if media_type != JSON:
        return None
    return JSON_FORM if body[0] == _BRACE else JSON_BEHIND_FORM


NO_CONTENT = Content()
"""That of a message without headers of ours."""


class Contents:
    """Reads headers, and remembers the last ones: most messages of a stream have the same."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last = (b"", NO_CONTENT)

    def read(self, raw_headers: bytes) -> Content:
        """Return the meaning of the headers for the body. Raises Poison."""
        if not raw_headers or b"content-" not in raw_headers.lower():
            return NO_CONTENT
        if raw_headers != self._last[0]:
            fields = headers(raw_headers)
            named = field(fields, TRANSFER_CONTENT_ID)
            own_id = read_identity(named, TRANSFER_CONTENT_ID) if named else None
            media_type = field(fields, CONTENT_TYPE).partition(";")[0].strip()
            self._last = raw_headers, Content(media_type, field(fields, CONTENT_ENCODING), own_id)
        return self._last[1]

    def common(self, deliveries: Iterable[Delivery]) -> Content | None:
        """Return the meaning that the headers of all deliveries have; None when it may differ, or they are poison."""
        found = {delivery.raw_headers for delivery in deliveries}
        if len(found) == 1:
            return self.readable(found.pop())
        return None if b"content-" in b"".join(found).lower() else NO_CONTENT

    def readable(self, raw_headers: bytes) -> Content | None:
        """Return the meaning of the headers for the body; None when they are poison."""
        try:
            return self.read(raw_headers)
        except Poison:
            return None
