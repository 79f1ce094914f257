"""Contexts of the `nats` command: a name in, our variables out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_FILE = "_FILE"
_VARIABLES = {
    "url": "NATS_HOSTS",
    "creds": "NATS_CREDS",
    "nkey": f"NATS_NKEY{_FILE}",
    "token": "NATS_TOKEN",
    "user": "NATS_USER",
    "password": "NATS_PASSWORD",
    "ca": "NATS_TLS_CA",
    "cert": "NATS_TLS_CERT",
    "key": "NATS_TLS_KEY",
}


def read_context(name: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a context, or of the file of one. Raises ValueError, which shows no value."""
    home = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME", "~")).expanduser() / ".config")
    path = Path(name) if name.endswith(".json") else Path(home) / "nats" / "context" / f"{name}.json"
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as exc:
        raise ValueError(
            f"--context: expected {path} to be a context of the nats command, got {type(exc).__name__}:"
            " nats context ls lists them"
        ) from None
    if not isinstance(found, dict):
        raise ValueError(f"--context: expected {path} to be a map, got {type(found).__name__}")  # noqa: TRY004
    return {variable: found[field] for field, variable in _VARIABLES.items() if isinstance(found.get(field), str)}
