"""The heap of a process with very many loggers: what lives as long as they do is not looked at again and again.

CPython looks at all objects that may be in a cycle whenever there are a quarter more of them: 1,000 loggers are half a
million objects, all of them in use, and the event loop stands still for a second. So what was made with the loggers is
frozen (https://docs.python.org/3/library/gc.html#gc.freeze), and looked at once when their number has settled.
"""

from __future__ import annotations

import gc

_THRESHOLDS = (10_000, 10, 10)
"""Most of what a batch is made of is gone before so many more objects were made than freed, and is never looked at."""
_CHANGE = 0.1
"""By this part the number of loggers has to change, so that a look at everything pays."""
_FEW = 10


class Heap:
    """Told the number of loggers again and again, freezes what was made with them."""

    def __init__(self) -> None:
        self._loggers = 0
        self._cleaned_at = 0

    def begin(self) -> None:
        """Freeze what the program itself is made of."""
        gc.set_threshold(*_THRESHOLDS)
        self._clean()

    def look(self, loggers: int) -> None:
        """Freeze what is there while the number changes; garbage that was frozen too is found when it has settled."""
        if loggers != self._loggers:
            self._loggers = loggers
            gc.freeze()
        elif abs(loggers - self._cleaned_at) > max(_FEW, _CHANGE * self._cleaned_at):
            self._cleaned_at = loggers
            self._clean()

    def _clean(self) -> None:
        gc.unfreeze()
        gc.collect()
        gc.freeze()
