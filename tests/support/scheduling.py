"""Which tests xdist gives to one process together: those of a file that makes something once for all of its tests."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    from pathlib import Path

    from xdist.workermanage import WorkerController


class FilesThatShare(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
    """Gives out these files first, that with the most tests before the others; then all other tests, one by one."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return path if _shares(self.config.rootpath / path) else nodeid

    def remove_node(self, node: WorkerController) -> str | None:
        """Return the test in which a process died, and have others run what it had left.

        xdist's own would run that test again, and give out what is done once more: then nobody goes on.
        """
        units: dict[str, dict[str, bool]] = self.assigned_work.pop(node)
        left = [(scope, test) for scope, unit in units.items() for test, is_over in unit.items() if not is_over]
        if not left:
            return None
        scope, fatal = left[0]
        units[scope][fatal] = True
        self.workqueue.update((scope, unit) for scope, unit in units.items() if not all(unit.values()))
        for other in self.assigned_work:
            self._reschedule(other)
        return fatal


@cache
def _shares(path: Path) -> bool:
    return 'scope="module"' in path.read_text(encoding="utf-8")
