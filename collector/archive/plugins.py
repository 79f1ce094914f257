"""Decoders, keys and formats of the user's own, by a name: `module:attribute`, or that of an entry point."""

from __future__ import annotations

import sys
from enum import Enum
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any


class Group(Enum):
    """The groups of entry points."""

    DECODERS = "transfer.archive.decoders"
    KEYS = "transfer.archive.keys"
    FORMATS = "transfer.archive.formats"


def load(name: str, group: Group) -> Any:
    """Return a thing by its name; a module may be in the working directory. Raises ValueError."""
    module, colon, attribute = name.partition(":")
    if not colon:
        found = entry_points(group=group.value, name=name)
        if not found:
            raise ValueError(f"expected module:attribute, or an entry point of {group.value}, got {name!r}")
        return next(iter(found)).load()
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        loaded: Any = import_module(module)
        for step in attribute.split("."):
            loaded = getattr(loaded, step)
    except (ImportError, AttributeError) as exc:
        raise ValueError(f"expected {name} to be a module with that attribute, but {exc}") from exc
    return loaded
