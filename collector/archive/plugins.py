"""Decoders, keys, formats and stores of the user's own, by a name: that of an entry point, or `module:attribute`."""

from __future__ import annotations

import sys
from enum import Enum
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any


class Group(Enum):
    """The groups of entry points."""

    DECODERS = "transfer.archive.decoders"
    KEYS = "transfer.archive.keys"
    FORMATS = "transfer.archive.formats"
    STORES = "transfer.archive.stores"
    """Functions that take an address and the environment; the name of the entry point is the scheme of the address."""


def load(name: str, group: Group) -> Any:
    """Return a thing by its name. Raises ValueError, whatever the thing raises while it is imported.

    A module may be in the working directory. A class is called without arguments, unless it is a store.
    """
    point = EntryPoint(name, name, group.value) if ":" in name else _installed(name, group)
    if not all(point.value.partition(":")[::2]):
        raise ValueError(f"expected module:attribute, got {name!r}")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        thing = _attribute(point.value)
        if isinstance(thing, type) and group is not Group.STORES:
            thing = thing()
    except Exception as exc:
        raise ValueError(f"expected {point.value} to be there, but {type(exc).__name__}: {exc}") from exc
    if fault := _fault(thing, group):
        raise ValueError(f"expected {point.value} to be one of {group.value}, but it {fault}")
    return thing


def is_installed(name: str, group: Group) -> bool:
    """Tell whether there is an entry point of this name."""
    return bool(entry_points(group=group.value, name=name))


def _installed(name: str, group: Group) -> EntryPoint:
    found = {point.value: point for point in entry_points(group=group.value, name=name)}
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        values = " and ".join(sorted(found))
        raise ValueError(f"expected one entry point {name} of {group.value}, got {values}: take one of these names")
    names = sorted({point.name for point in entry_points(group=group.value)})
    there = f"one of {', '.join(names)}" if names else "an entry point"
    raise ValueError(f"expected module:attribute, or {there} of {group.value}, got {name!r}")


def _attribute(value: str) -> Any:
    module, _, path = value.partition(":")
    found: Any = import_module(module.strip())
    for step in path.partition("[")[0].strip().split("."):
        found = getattr(found, step)
    return found


def _fault(thing: object, group: Group) -> str:
    if group is Group.FORMATS:
        missing = [name for name in ("suffix", "open") if not hasattr(thing, name)]
        return f"has no {' and no '.join(missing)}" if missing else ""
    return "" if callable(thing) else "cannot be called"
