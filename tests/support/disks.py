"""A disk that hangs when the test says so."""

from __future__ import annotations

import os
from threading import Event
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


class Disk:
    """A disk whose syncs wait while it hangs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers = Event()
        self.answers.set()
        self.asked = 0
        fsync = os.fsync

        def waiting(descriptor: int) -> None:
            self.asked += 1
            self.answers.wait()
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", waiting)
