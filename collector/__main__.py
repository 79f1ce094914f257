"""`collector` and `python -m collector`: the command, or a sentence on how to install it."""

from __future__ import annotations

import sys

_SERVICE = frozenset(
    {"anyio", "bson", "click", "prometheus_client", "pymongo", "structlog", "tenacity", "zstandard"},
)
"""Modules of the extra `service`, which an installation of the client alone lacks."""


def main() -> None:
    """Run the command. Without the extra `service`: say how to install it, exit status 1."""
    try:
        from collector.cli import main as command  # noqa: PLC0415 - it imports the extra

        command()
    except ModuleNotFoundError as exc:
        missing = (exc.name or "").partition(".")[0]
        if missing not in _SERVICE:
            raise
        sys.stderr.write(
            f"collector: expected the service to be installed, but the Python package {missing} is missing; "
            "install it: pip install 'transfer-collector[service]'\n"
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
