"""Where, with what and how a run was measured."""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.processes import cores

_PACKAGES = ("transfer-collector", "nats-py", "pymongo", "msgspec", "anyio", "uvloop")
ROOT = Path(__file__).parent.parent


def described(servers: dict[str, str]) -> dict[str, Any]:
    """Return machine, versions, date and command as JSON values."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "-m", "bench", *sys.argv[1:]]),
        "commit": commit_of(ROOT),
        "machine": {
            "cpu": _after_colon("/proc/cpuinfo", "model name"),
            "cores": cores(),
            "memory": _after_colon("/proc/meminfo", "MemTotal"),
            "system": platform.platform(),
        },
        "versions": {
            "python": platform.python_version(),
            **servers,
            **{package: found for package in _PACKAGES if (found := _version(package))},
        },
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def commit_of(root: Path) -> str:
    """Return the commit of a work tree, marked when the work tree differs from it; empty without git."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return described.stdout.strip()


def _after_colon(path: str, field: str) -> str:
    lines = Path(path).read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")
