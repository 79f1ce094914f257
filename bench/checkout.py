"""Another checkout of this project: its collector is measured beside ours, on the same Python and the same servers."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.errors import NotAsExpected
from bench.machine import commit_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_WHERE = "import collector, transfer; print(collector.__file__, transfer.__file__, sep='\\n')"
_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class Checkout:
    """A work tree, whose packages a replica imports when it gets the settings of this."""

    root: Path
    commit: str

    @classmethod
    def at(cls, root: Path) -> Checkout:
        """Name the checkout in a folder. Raises NotAsExpected when Python would import other packages than its own."""
        checkout = cls(root.resolve(), commit_of(root))
        environ = {**os.environ, **checkout.settings}
        done = subprocess.run(
            [sys.executable, "-c", _WHERE], env=environ, capture_output=True, text=True, check=False, timeout=_TIMEOUT
        )
        wanted = [str(checkout.root / package / "__init__.py") for package in ("collector", "transfer")]
        if done.stdout.splitlines() != wanted:
            raise NotAsExpected(f"expected to import {' and '.join(wanted)}, got {done.stdout or done.stderr}")
        return checkout

    @property
    def settings(self) -> Mapping[str, str]:
        """Return the variables with which Python finds these packages first, and not those of its own folder."""
        return {"PYTHONPATH": str(self.root), "PYTHONSAFEPATH": "1"}
