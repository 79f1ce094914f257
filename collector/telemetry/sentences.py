"""Tells whether two sentences about errors are alike. Pure."""

from __future__ import annotations

import re
from functools import lru_cache

from transfer.names import SUFFIXES

_NUMBERS = re.compile(r"[0-9]+")


def alike(error: str, logger: str = "") -> str:
    """Return an error without its numbers and the names of its logger's things: the same for errors that are alike."""
    return _NUMBERS.sub("#", _things(logger).sub("*", error) if logger and logger in error else error)


@lru_cache(maxsize=4096)
def _things(logger: str) -> re.Pattern[str]:
    """Match a logger's key in quotes and in names of streams, subjects and collections; elsewhere it is a word."""
    key = re.escape(logger)
    return re.compile(rf"(?<=[:.]){key}(?![\w-])|(?<=['\"`]){key}(?=['\"`])|(?<![\w-]){key}(?={'|'.join(SUFFIXES)})")
