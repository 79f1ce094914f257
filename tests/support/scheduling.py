"""Which tests xdist gives to one process together: those of a file that makes something once for all of its tests."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    from pathlib import Path


class FilesThatShare(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
    """Gives out these files first, that with the most tests before the others; then all other tests, one by one."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return path if _shares(self.config.rootpath / path) else nodeid


@cache
def _shares(path: Path) -> bool:
    return 'scope="module"' in path.read_text(encoding="utf-8")
