"""Programs of the system that some tests need: where one is missing they are skipped with a hint, and fail in CI."""

from __future__ import annotations

import os
import shutil

import pytest

_PACKAGES = {
    "amtool": "prometheus-alertmanager",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "chromedriver": "chromium-driver",
    "chromium": "chromium",
    "prometheus": "prometheus",
    "promtool": "prometheus",
}
"""Debian's package of each program."""


def needs(*programs: str) -> pytest.MarkDecorator:
    """Skip a test where a program is missing; with CI set it runs all the same, and fails for want of it."""
    missing = [program for program in programs if not shutil.which(program)]
    packages = " ".join(dict.fromkeys(_PACKAGES[program] for program in missing))
    reason = f"no {' and no '.join(missing)} here: apt-get install {packages}" if missing else ""
    return pytest.mark.skipif(bool(missing) and not os.environ.get("CI"), reason=reason)
