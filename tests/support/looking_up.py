"""Entries with identities of their stream, and what a store finds of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from collector.decoding.identity import Incarnation
from collector.model import Entry
from tests.support.fakes import delivery
from tests.support.owning import NOON

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from tests.support.owning import Owner


LIFE = Incarnation("beta:logs:system", "2024-05-06T07:08:09Z")


async def found(owner: Owner, asked: Sequence[Entry]) -> list[int]:
    """Return the places of what is found to be stored."""
    stored = {id(one) for one in await owner.store.stored(asked)}
    return [place for place, one in enumerate(asked) if id(one) in stored]


def derived(sequence: int, position: int | None = None, at: datetime = NOON) -> Entry:
    of = delivery(sequence)
    document = {"_id": LIFE.identity(sequence, position), "n": sequence, "timestamp": at, "metadata": None}
    return Entry(of, position, document, own_id=False)


def copy_of(one: Entry) -> Entry:
    """Deliver it again: decoded anew, its fields in the order in which they were published."""
    return msgspec.structs.replace(one, delivery=delivery(1, delivered=2), document=dict(one.document))
