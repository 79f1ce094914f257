"""Text that a terminal may be given: nothing in it moves the cursor, or does worse. Pure."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return the text with everything escaped that is not printable, line breaks and tabs excepted."""
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else letter.encode("unicode_escape").decode()
        for letter in text
    )
