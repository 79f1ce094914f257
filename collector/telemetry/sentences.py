"""When two sentences about trouble say the same. Pure."""

from __future__ import annotations

import re
from functools import lru_cache

from transfer.names import SUFFIXES

_NUMBERS = re.compile(r"[0-9]+")


def alike(error: str, logger: str = "") -> str:
    """Return what is the same in errors that are alike: all but the numbers, and the names of their logger's things."""
    return _NUMBERS.sub("#", _things(logger).sub("*", error) if logger else error)


@lru_cache(maxsize=4096)
def _things(logger: str) -> re.Pattern[str]:
    """Match a logger's key where it stands in quotes, in a stream, a subject or a collection; else it is a word."""
    key = re.escape(logger)
    return re.compile(rf"(?<=[:.]){key}(?![\w-])|(?<=['\"`]){key}(?=['\"`])|(?<![\w-]){key}(?={'|'.join(SUFFIXES)})")
