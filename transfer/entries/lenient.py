"""An entry of whatever was logged -> its bytes. Nothing is raised: what cannot be stored is stored as its `repr`."""

from __future__ import annotations

import operator
import time
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from transfer.entries.entry import OF_THE_ENVELOPE, beside, flat_body, nanoseconds, pack
from transfer.entries.misfit import Misfit
from transfer.entries.moments import END, FIRST
from transfer.entries.plain import IN_ITSELF, SIMPLE, Walk, error_text, is_known
from transfer.system.inside import Making

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST = 10_000
"""Characters of a `repr` that are kept."""
_VALUE = 16
"""Characters of a `repr` that count as one value more: the walk's bound is one of memory too."""
_OWN_ID = frozenset({"_id"})
_MAYBE_RENAMED = OF_THE_ENVELOPE | _OWN_ID
_AGAIN = 3


def encode_anything(data: object, timestamp: object, metadata: object, entry_id: bytes) -> bytes:
    """Return the body of the message that carries one entry: of what `encode_entry` takes, the same bytes.

    Data that is no mapping becomes its field `msg`; a timestamp that is none becomes now. Errors of the
    application's own classes are not raised, except KeyboardInterrupt and its like.
    """
    moment = timestamp if type(timestamp) is int and FIRST <= timestamp < END else _moment(timestamp)
    try:
        body = flat_body(data, moment, metadata, entry_id, _MAYBE_RENAMED)
    except (MemoryError, RecursionError):
        body = None
    if body is not None:
        return body
    with Making():
        return _walked(data, moment, metadata, entry_id)


def _walked(data: object, moment: int, metadata: object, entry_id: bytes) -> bytes:
    try:
        document = _document(data, "msg")
        if "_id" in document:
            document = _with_storable_id(document)
        return pack(document, moment, None if metadata is None else _document(metadata, "metadata"), entry_id)
    except Exception as error:  # noqa: BLE001 - no stack or memory is left: its repr, or that there was an entry
        try:
            return pack({"msg": safe_repr(data)}, moment, {"metadata": safe_repr(metadata)}, entry_id)
        except Exception:  # noqa: BLE001 - as above
            return pack({"msg": f"an entry that could not be encoded: {type(error).__name__}"}, moment, None, entry_id)


def _document(value: object, name: str) -> dict[str, object]:
    plain = _Lenient().anything(value)
    return plain if isinstance(plain, dict) else {name: plain}


def _with_storable_id(document: dict[str, object]) -> dict[str, object]:
    """Return the fields with an `_id` that MongoDB does not take as one, such as a list, under another name."""
    own = document["_id"]
    storable = "$" not in str(own) if isinstance(own, dict) else not isinstance(own, list)
    return document if storable else beside(document, _OWN_ID)


def _moment(timestamp: object) -> int:
    try:
        moment = nanoseconds(timestamp)
        return moment if FIRST <= moment < END else time.time_ns()
    except Exception:  # noqa: BLE001 - InvalidEntry, and what a subclass of datetime raises
        return time.time_ns()


class _Lenient(Walk):
    """A walk that raises nothing but what leaves no stack or memory."""

    __slots__ = ()
    most_values = 1 << 20
    """The walk is in the application's thread."""

    def anything(self, value: object) -> object:
        """Return what is stored of a value."""
        try:
            return self.value(value)
        except Exception as error:  # noqa: BLE001 - the application's own classes
            del self._inside[:]
            return self.failed(value, "", error)

    def unknown(self, value: object) -> object:
        return self._counted(value.said()) if type(value) is Once else self._repr(value)

    def failed(self, value: object, step: str, error: Exception) -> object:  # noqa: ARG002 - nobody is told the path
        if isinstance(error, Misfit):
            return self._misfit(value, error)
        if isinstance(error, RuntimeError) and "during iteration" in str(error):
            return self._snapshot(value)  # another thread has changed it meanwhile
        return self._repr(value)

    def _misfit(self, value: object, misfit: Misfit) -> object:
        if isinstance(value, datetime):
            return self._counted(safe_text(datetime.isoformat(value)))
        if misfit.expected == IN_ITSELF:
            return f"<the {type(value).__name__} that this is in>"
        return self._repr(value)

    def _snapshot(self, value: Any) -> object:
        depth = len(self._inside)
        for _ in range(_AGAIN):
            try:
                return self.value(dict(value) if isinstance(value, dict) else value.copy())
            except Exception:  # noqa: BLE001 - as above
                del self._inside[depth:]
        return self._repr(value)

    def _repr(self, value: object) -> str:
        return self._counted(safe_repr(value))

    def _counted(self, text: str) -> str:
        self.left -= len(text) // _VALUE
        return text

    def text(self, value: str) -> str:
        return value.encode(errors="backslashreplace").decode()

    def integer(self, value: int) -> object:
        try:
            return str(value)
        except ValueError:  # more digits than Python turns into text
            return safe_text(hex(value))

    def name(self, key: object) -> str:
        if isinstance(key, bytes):
            text: object = key.decode(errors="backslashreplace")
        else:
            text = key if type(key) is str else self._name(key)
        name = self.text(text) if isinstance(text, str) else str(text)
        return name.replace("\0", "\\0")

    def _name(self, key: object) -> object:
        depth = len(self._inside)
        try:
            plain = self.value(key)
        except Exception:  # noqa: BLE001 - as above
            del self._inside[depth:]
            return self._repr(key)
        return plain if isinstance(plain, (str, int, float, bool)) or plain is None else self._repr(key)

    def twice(self, name: str, taken: Mapping[str, object]) -> str:
        while name in taken:
            name += "_"
        return name

    def cut(self, items: Any, count: int) -> list[Any]:
        room = max(0, self.left + count)
        self.left = 0
        return list(islice(items, room))


def safe_name(key: object) -> str:
    """Return the name that the field of a key has."""
    return _Lenient().name(key)


class Once:
    """A value of the application in a message that is formatted: its text is asked for once, and stored as it was said.

    That of a query set of Django asks the database.
    """

    __slots__ = ("_repr", "_str", "_value")

    def __init__(self, value: object) -> None:
        self._value = value
        self._str: str | None = None
        self._repr: str | None = None

    def __str__(self) -> str:
        if self._str is None:
            self._str = str(self._value)
        return self._str

    def __repr__(self) -> str:
        if self._repr is None:
            self._repr = repr(self._value)
        return self._repr

    def __int__(self) -> int:
        return int(self._value)  # type: ignore[call-overload, no-any-return] # as with the value itself

    def __index__(self) -> int:
        return operator.index(self._value)  # type: ignore[arg-type]

    def __float__(self) -> float:
        return float(self._value)  # type: ignore[arg-type]

    def said(self) -> str:
        """Return what is stored of it: the text that stands in the message, or its `repr`."""
        said = self._str if self._repr is None else self._repr
        if said is None:
            return safe_repr(self._value)
        return error_text(self._value, said) if isinstance(self._value, BaseException) else safe_text(said)


def once(value: object, levels: int = 4) -> object:
    """Return a value, those in it that have to be asked for their text as `Once`."""
    kind = type(value)
    if kind in SIMPLE:
        return value
    if kind is list or kind is tuple:
        return kind(once(item, levels - 1) for item in value) if levels else value  # type: ignore[attr-defined]
    if kind is dict:
        return {key: once(item, levels - 1) for key, item in value.items()} if levels else value  # type: ignore[attr-defined]
    try:
        return Once(value) if isinstance(value, BaseException) or not is_known(value) else value
    except Exception:  # noqa: BLE001 - `__class__` may be the application's own too
        return Once(value)


def safe_repr(value: object) -> str:
    """Return what `repr` says, cut; when it fails, what kind of thing it is."""
    try:
        return safe_text(str.__str__(value) if issubclass(type(value), str) else repr(value))
    except Exception as error:  # noqa: BLE001 - the application's own `repr`
        return f"<{type(value).__name__} whose repr failed: {type(error).__name__}>"


def safe_text(text: str) -> str:
    """Return text that UTF-8 can encode, cut."""
    cut = str.__str__(text)
    if len(cut) > LONGEST:
        cut = f"{cut[:LONGEST]}… ({len(cut):,} characters)"
    return cut if cut.isascii() else cut.encode(errors="backslashreplace").decode()


def is_true(value: object) -> bool:
    """Return whether a value counts as true, as one does that cannot say so."""
    try:
        return bool(value)
    except Exception:  # noqa: BLE001 - the application's own class
        return True
