"""The manifests of deploy/kubernetes, as they stand and as kustomize makes them."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

from collector.metrics import Metrics

KUBERNETES = Path(__file__).parents[2] / "deploy" / "kubernetes"
BASE = KUBERNETES / "base"
SCALERS = sorted(KUBERNETES.glob("*/scaler.yaml"))
VARIANTS = [BASE, *(scaler.parent for scaler in SCALERS)]
_KUSTOMIZES = (("kustomize", "build"), ("kubectl", "kustomize"))


def document(path: Path) -> dict[str, Any]:
    """Return the one document of a file."""
    read: dict[str, Any] = yaml.safe_load(path.read_text())
    return read


@cache
def built(folder: Path) -> list[dict[str, Any]]:
    """Return what kustomize makes of a folder."""
    for program, command in _KUSTOMIZES:
        if found := shutil.which(program):
            made = subprocess.run([found, command, folder], capture_output=True, text=True, timeout=30, check=False)
            assert made.returncode == 0, made.stderr
            return list(yaml.safe_load_all(made.stdout))
    missing("kustomize or kubectl", "go install sigs.k8s.io/kustomize/kustomize/v5@v5.5.0")


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
