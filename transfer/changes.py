"""The changes from one declaration of a logger to another, field by field. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from transfer.errors import UnreadableSpec
    from transfer.wire import LoggerSpec

_UNSET = "not set"


@dataclass(frozen=True, slots=True)
class Change:
    """One field of a declaration, as it is and as it would be."""

    field: str
    before: object
    after: object

    def __str__(self) -> str:
        return f"{self.field}: {_shown(self.before)} -> {_shown(self.after)}"


def changes(before: LoggerSpec, after: LoggerSpec) -> list[Change]:
    """Return every field in which they differ, with dots where a field has fields."""
    old, new = (dict(_flat(msgspec.to_builtins(spec))) for spec in (before, after))
    return [Change(name, old.get(name), new.get(name)) for name in old | new if old.get(name) != new.get(name)]


def unreadable(error: UnreadableSpec) -> Change:
    """Return the one change from a declaration that nobody can read."""
    return Change("declaration", f"unreadable: {error.why}", "a readable one")


def _flat(fields: Mapping[str, object], above: str = "") -> Iterator[tuple[str, object]]:
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{name}.")
        elif value not in (None, ""):
            yield f"{above}{name}", value


def _shown(value: object) -> str:
    return _UNSET if value is None else repr(value)
