"""The heap of a process with very many loggers: what lives as long as they do is not looked at again and again.

CPython looks at all objects that may be in a cycle whenever there are a quarter more of them: 1,000 loggers are half a
million objects, all of them in use, and the event loop stands still for a second. So what was made with the loggers is
frozen (https://docs.python.org/3/library/gc.html#gc.freeze), and looked at when a good part of them has gone: what is
left of a logger that is gone would stay for ever.
"""

from __future__ import annotations

import gc

_THRESHOLDS = (10_000, 10, 10)
"""Most of what a batch is made of is gone before so many more objects were made than freed, and is never looked at."""
_PART = 0.1
"""Of the loggers, as many as this have to be gone so that a look at everything pays,"""
_FEW = 10
"""or where there are not many, more than these."""


class GcPolicy:
    """Told the number of loggers again and again, freezes what was made with them."""

    def __init__(self) -> None:
        self._loggers = 0
        self._gone = 0
        self._changed = False

    def begin(self) -> None:
        """Freeze what the program itself is made of."""
        gc.set_threshold(*_THRESHOLDS)
        self._clean()

    def observe(self, loggers: int) -> None:
        """Freeze what is there while the number changes; look at everything when many have gone and it has settled."""
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
