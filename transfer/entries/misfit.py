"""`Misfit`: the error of a value for which MongoDB has no room."""

from __future__ import annotations


class Misfit(Exception):
    """A value that MongoDB has no room for, on its way out of a nested one, collecting the steps of its path."""

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(expected, got)
        self.path = ""
        self.expected = expected
        self.got = got


def type_name(value: object) -> str:
    """Return the name of a value's type, with its article."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
