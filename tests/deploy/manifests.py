"""The manifests of deploy/kubernetes, as they stand and as kustomize makes them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

from collector.telemetry.metrics import Metrics

KUBERNETES = Path(__file__).parents[2] / "deploy" / "kubernetes"
BASE = KUBERNETES / "base"
SCALERS = sorted(KUBERNETES.glob("*/scaler.yaml"))
VARIANTS = [BASE, *(scaler.parent for scaler in SCALERS)]
INSTALL = ".venv/bin/pip install --require-hashes -r requirements/manifests.txt"


def document(path: Path) -> dict[str, Any]:
    """Return the one document of a file."""
    read: dict[str, Any] = yaml.safe_load(path.read_text())
    return read


@cache
def built(folder: Path) -> list[dict[str, Any]]:
    """Return what kustomize makes of a folder."""
    made = subprocess.run([*_kustomize(), folder], capture_output=True, text=True, timeout=30, check=False)
    assert made.returncode == 0, made.stderr
    return list(yaml.safe_load_all(made.stdout))


def _kustomize() -> list[str]:
    path = f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"
    commands = {"kustomize": "build", "kubectl": "kustomize"}
    found = [[program, command] for name, command in commands.items() if (program := shutil.which(name, path=path))]
    if not found:
        missing("kustomize or kubectl", INSTALL)
    return found[0]


def missing(what: str, command: str) -> NoReturn:
    """Skip a test for want of what is no part of .venv; with CI set, which .ci/run does, fail it."""
    words = f"no {what} here: {command}"
    if os.environ.get("CI"):
        pytest.fail(words)
    pytest.skip(words)


def metric_names() -> set[str]:
    """Return the names that a replica exports."""
    text = Metrics("logs", "0", 1).text(0.0).decode()
    return {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")}
