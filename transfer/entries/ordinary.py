"""An ordinary record of `logging` -> the bytes of its entry, with few calls.

An ordinary record has a text for its template, values that are flat, and no exception: most records are such. Its bytes
are those that `record_data` and `encode_anything` make, which take all records.

A shape is the way from the attributes of a record to the fields of its entry. Records that have attributes of the same
names have the same shapes, which are made when such a record comes for the second time.
"""

from __future__ import annotations

from logging import LogRecord
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from transfer.entries.entry import framed_with_new_id
from transfer.entries.fields import OF_THE_DOCUMENT
from transfer.entries.flat import KINDS, are_in_range, are_names, encode, may_be_beyond
from transfer.entries.moments import END, FIRST
from transfer.entries.record import ATTRIBUTES, STANDARD

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_OWN = {
    "msg": "msg",
    "level": "levelname",
    "logger": "name",
    "module": "module",
    "function": "funcName",
    "line": "lineno",
    "process": "process",
    "thread": "threadName",
}
"""The fields that every entry has, and the attributes that they come from."""
_WITH_ARGS = _OWN | {"template": "msg", "args": "msg"}
"""Those of an entry with args, which get their value later."""
_TAKEN = OF_THE_DOCUMENT.union(_WITH_ARGS, {"exception", "stack"})
_MOST_SHAPES, _MOST_SEEN, _MOST_VALUES, _MOST_TEXT = 256, 1024, 64, 4096
_TEXTS = frozenset({str, type(None)})
_Names = tuple[str | None, ...]
"""Of the attributes of a record. Behind those of one with a context come a None and the names in the context."""


class _Shape(NamedTuple):
    values: Callable[[Mapping[str, Any]], tuple[Any, ...]]
    behind: tuple[str, ...]
    """The attributes whose values come behind those of the context."""
    fields: type[msgspec.Struct]


_shapes: dict[_Names, tuple[_Shape, _Shape] | None] = {}
"""Of entries without args and with args; None of those that are never ordinary."""
_UNKNOWN: Any = object()
_seen: set[_Names] = set()


def ordinary_entry(record: LogRecord, moment: int, context: Mapping[str, object] | None) -> tuple[bytes, bytes] | None:
    """Return the identity and the body of the entry of a record, None when the record is no ordinary one.

    `context` has further fields, as that of `record_data`. Nothing of the application is called.
    """
    try:
        attributes, args = record.__dict__, record.args
        names = (*attributes, None, *context) if context else tuple(attributes)
        shapes = _shapes.get(names, _UNKNOWN)
        if shapes is _UNKNOWN:
            shapes = _new_shapes(names)
        if (
            shapes is None
            or type(record) is not LogRecord
            or not FIRST <= moment < END
            or record.exc_info is not None
            or record.exc_text
            or record.stack_info
        ):
            return None
        values_of, behind, fields_of = shapes[1] if args else shapes[0]
        values = values_of(attributes)
        if context:
            more = {**context, **{name: attributes[name] for name in behind}} if behind else context
            values += tuple(more.values())
        fields: Any = fields_of(*values)
        if args:
            if type(args) is not tuple or len(args) > _MOST_VALUES:
                return None
            values += args
        if type(fields.msg) is not str or not KINDS.issuperset(map(type, values)):
            return None
        if args:
            fields.msg, fields.args = fields.msg % args, args
        data = encode(fields)
        if 0xCF in data and may_be_beyond(data) and not are_in_range(values):
            return None
        return framed_with_new_id(data, moment)
    except Exception:  # noqa: BLE001 - args that do not go with the template, a lone surrogate, no memory, and so on
        return None


def _new_shapes(names: _Names) -> tuple[_Shape, _Shape] | None:
    """Return the shapes for these names; None when they have none, and at the first sight of them."""
    if not _TEXTS.issuperset(map(type, names)) or len("".join(filter(None, names))) > _MOST_TEXT:
        return None
    if names != ATTRIBUTES and names not in _seen:
        if len(_seen) >= _MOST_SEEN:
            _seen.clear()
        _seen.add(names)
        return None
    if len(_shapes) >= _MOST_SHAPES:
        _shapes.clear()
    shapes = _shapes[names] = _both_shapes(names)
    return shapes


def _both_shapes(names: _Names) -> tuple[_Shape, _Shape] | None:
    middle = names.index(None) if None in names else len(names)
    attributes, context = names[:middle], names[middle + 1 :]
    extra: tuple[Any, ...] = tuple(name for name in attributes if name not in STANDARD)
    more: tuple[Any, ...] = tuple(dict.fromkeys(context + extra))
    if len(more) > _MOST_VALUES or not are_names(more) or not _TAKEN.isdisjoint(more):
        return None
    at_once, behind = ((), extra) if context else (extra, ())
    try:
        return _shape(_OWN, at_once, behind, more), _shape(_WITH_ARGS, at_once, behind, more)
    except ValueError:  # msgspec has no fields with quotes in their names
        return None


def _shape(own: Mapping[str, str], at_once: tuple[str, ...], behind: tuple[str, ...], more: tuple[str, ...]) -> _Shape:
    renamed = {f"more{number}": name for number, name in enumerate(more)}
    fields = msgspec.defstruct("Fields", [*own, *renamed], rename=renamed, gc=False)
    return _Shape(itemgetter(*own.values(), *at_once), behind, fields)
