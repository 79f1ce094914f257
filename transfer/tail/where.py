"""`--where field=value` -> what MongoDB is asked for. Pure."""

from __future__ import annotations

import json
import re

_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_CONSTANTS = {"true": True, "false": False, "null": None}
_EXPECTED = 'field=value such as level=ERROR, user.id=7, ok=true, code="7"'

Where = tuple[str, object]
"""A field, dotted when it is nested, and the value that it must have, or hold if it is a list."""


def parse_where(text: str) -> Where:
    """Return field and value; raise ValueError for anything else.

    Numbers, true, false and null are what they look like, a text in double quotes is a JSON text, all else is a text.
    """
    if not text.isascii():
        text.encode()  # an argument that was no UTF-8 holds surrogates: UnicodeEncodeError is a ValueError
    field, equals, value = text.partition("=")
    if not equals or not all(field.split(".")) or field.startswith("$") or ".$" in field or "\0" in field:
        raise ValueError(f"expected {_EXPECTED}, got {text!r}")
    return field, _value(value)


def _value(text: str) -> object:
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _NUMBER.fullmatch(text):
        number = json.loads(text)
        if isinstance(number, int) and not -(1 << 63) <= number < 1 << 63:
            raise ValueError(f"expected a number of 64 bits, or a text in double quotes, got {text}")
        return number
    if text.startswith('"'):
        try:
            return json.loads(text)
        except ValueError as error:
            raise ValueError(f"expected a JSON text in double quotes, got {text}: {error}") from error
    return text
