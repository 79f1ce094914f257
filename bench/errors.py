"""What ends the benchmark."""

from __future__ import annotations


class NotAsExpected(Exception):
    """The service did not do what is being measured: there is no figure for it."""
