# ruff: noqa: T201 - its output
"""The output of the commands for machines."""

from __future__ import annotations

import json


def print_json(value: object) -> None:
    """Print one line of JSON."""
    print(json.dumps(value))
