"""Unpacking: the bytes of each entry in a message, inflated and cut apart, before an entry is decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from collector.decoding.bundle import split
from collector.decoding.content import NO_CONTENT, Content, Contents, Origin, lone_form
from collector.decoding.envelope import MSGPACK_FORM, Encoded, Form
from collector.decoding.inflate import inflate
from collector.decoding.weight import ENTRY
from collector.errors import Poison
from collector.model import Delivery, Reason
from transfer.wire import BUNDLE, JSON, MAX_INFLATED, MSGPACK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collector.decoding.identity import Incarnation

_MAX_AT_ONCE = 64 * 1024
"""Bytes of deliveries that are decoded at once."""


class Inflated(msgspec.Struct, frozen=True, gc=False):
    """Inflated deliveries, cut into undecoded entries: one delivery, or several deliveries of one entry each."""

    deliveries: list[Delivery]
    form: Form | Poison
    """The form of the entries, or why the one message cannot be decoded."""
    origin: Origin
    sources: Sequence[Encoded]
    bundled: bool
    size: int
    """The inflated bytes; for a poison message the most that it may have inflated."""
    ceiling: int
    """The most bytes that the decoded entries take in memory; one ceiling for many entries is cheaper than many."""


class Unpacker:
    """Unpacks the deliveries of one stream."""

    __slots__ = ("_contents", "_max_inflated", "incarnation")

    def __init__(self, incarnation: Incarnation, max_inflated: int = MAX_INFLATED) -> None:
        self.incarnation = incarnation
        self._max_inflated = max_inflated
        self._contents = Contents()

    def inflated_from(self, deliveries: Sequence[Delivery]) -> Inflated:
        """Inflate the first delivery and cut it into undecoded entries. Never raises.

        When its body is one uncompressed entry, the next deliveries of the same form are added, up to 64 KiB.
        """
        first = deliveries[0]
        try:
            content = self._contents.read(first.raw_headers)
            form, sources, bundled = sources_of(first.body, content, self._max_inflated)
        except Poison as poison:
            anew = Poison(poison.reason, poison.error)  # the raised one keeps the inflated bytes in its traceback
            return Inflated([first], anew, self.incarnation, (), bundled=False, size=self._max_inflated, ceiling=0)
        taken = [first]
        if form is content.form_as_it_came(first.body):
            taken = self._as_first(deliveries, content, form)
            sources = [delivery.body for delivery in taken]
        size = sum(map(len, sources))
        ceiling = form.ceiling(sources) + ENTRY * len(sources)
        return Inflated(taken, form, content.origin(self.incarnation), sources, bundled, size, ceiling)

    def _as_first(self, deliveries: Sequence[Delivery], content: Content, form: Form) -> list[Delivery]:
        """Return the first delivery and the next ones whose body is one uncompressed entry of the same form."""
        media_type, raw_headers = content.media_type, deliveries[0].raw_headers
        size = 0
        for count, delivery in enumerate(deliveries):
            body = delivery.body
            size += len(body)
            other = content if delivery.raw_headers == raw_headers else self._contents.readable(delivery.raw_headers)
            if other == content:
                found = lone_form(media_type, body) if body else None
            else:
                found = None if other is None else other.form_as_it_came(body)
            if count and (size > _MAX_AT_ONCE or found is not form):
                return list(deliveries[:count])
        return list(deliveries)

    def origin(self, delivery: Delivery) -> Origin:
        """Return where the entries of a message have their identities from; its headers may be poison."""
        return (self._contents.readable(delivery.raw_headers) or NO_CONTENT).origin(self.incarnation)

    def originals(self, delivery: Delivery, positions: Sequence[int | None]) -> list[bytes]:
        """Return the original bytes of entries of a delivery that was decoded.

        An entry in a bundle has its slice of the inflated body, every other one the unchanged body. A bundle is
        inflated and split once.
        """
        if None in positions:
            return [delivery.body]
        content = self._contents.read(delivery.raw_headers)
        sources = sources_of(delivery.body, content, self._max_inflated)[1]
        return [bytes(sources[position or 0]) for position in positions]


def sources_of(body: bytes, content: Content, max_inflated: int) -> tuple[Form, Sequence[Encoded], bool]:
    """Return form and bytes of the entries in a body, and whether they are in a bundle. Raises Poison."""
    inflated = inflate(body, content.encoding, max_inflated)
    if not inflated:
        raise Poison(Reason.MALFORMED, "body: expected an entry, got nothing")
    if content.media_type == BUNDLE:
        return MSGPACK_FORM, split(inflated), True
    form = lone_form(content.media_type, inflated)
    if form is None:
        expected = f"{MSGPACK}, {JSON} or {BUNDLE}"
        raise Poison(Reason.MALFORMED, f"Content-Type: expected {expected}, got {content.media_type[:80]!r}")
    return form, (inflated,), False
