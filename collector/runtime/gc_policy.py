"""When the garbage collector traverses the objects of long-lived loggers: seldom, because there are very many of them.

CPython traverses all objects that may be in a cycle whenever their number has grown by a quarter. 1,000 loggers have
half a million objects, all of them in use, and the event loop stands still for a second. So the objects of loggers are
frozen (https://docs.python.org/3/library/gc.html#gc.freeze): the collector passes over them. When many loggers have
gone, all objects are traversed once, or the garbage of those loggers would stay for ever.
"""

from __future__ import annotations

import gc

_THRESHOLDS = (10_000, 10, 10)
"""High enough that a batch's objects are freed before a collection would traverse them."""
_PART = 0.1
"""The share of the loggers that has to be gone before all objects are traversed."""
_FEW = 10
"""Loggers that have to be gone at least before all objects are traversed."""


class GcPolicy:
    """Freezes the objects of loggers; `observe` is called with their number again and again."""

    def __init__(self) -> None:
        self._loggers = 0
        self._gone = 0
        self._changed = False

    def begin(self) -> None:
        """Freeze the objects of the program itself."""
        gc.set_threshold(*_THRESHOLDS)
        self._clean()

    def observe(self, loggers: int) -> None:
        """Freeze all objects while the number changes; traverse them when many loggers are gone and it is stable."""
        before, self._changed = self._changed, loggers != self._loggers
        self._gone += max(0, self._loggers - loggers)
        self._loggers = loggers
        if not self._changed and self._gone > max(_FEW, _PART * loggers):
            self._gone = 0
            self._clean()
        elif self._changed or before:
            gc.freeze()

    def _clean(self) -> None:
        gc.unfreeze()
        gc.collect()
        gc.freeze()
