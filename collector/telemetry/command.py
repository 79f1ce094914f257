"""The command `collector status`: asks a replica over HTTP, so it needs no settings and no login."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.error import URLError
from urllib.request import urlopen

import click

from collector.telemetry.table import table

if TYPE_CHECKING:
    from collections.abc import Mapping

_PERIOD = 2.0
_TIMEOUT = 5.0
_IN_A_PIPE = 1_000
"""Characters of a line that does not go to a terminal."""
_HOME, _CLEAR = "\x1b[H", "\x1b[J"

_HELP = """Show what a replica is doing: its loggers with lag and rates, connections, restarts and buffer.

On a terminal the table refreshes until Ctrl-C; in a pipe it is printed once.

\b
Exit status: 0 shown
             1 the replica does not answer
\b
Example:
  collector status --url http://10.1.2.3:8080
  collector status --json | jq '.loggers[].lag_messages'
"""


@click.command(help=_HELP)
@click.option("--url", help="Where it answers HTTP.  [default: this machine, the port of COLLECTOR_HTTP or 8080]")
@click.option("--json", "as_json", is_flag=True, help="Print what /status says, once.")
@click.option("--watch/--no-watch", default=None, help="Refresh, or not, whatever the output is.")
def status(*, url: str | None, as_json: bool, watch: bool | None) -> None:
    """Show the status; `_HELP` is what a user reads."""
    address = (url or _here(os.environ)).rstrip("/")
    if not address.startswith(("http://", "https://")):
        raise click.BadParameter(f"expected http://host:port, got {url!r}", param_hint="--url")
    if as_json:
        click.echo(json.dumps(_ask(address), indent=2))
        return
    on_terminal = sys.stdout.isatty()
    again = on_terminal if watch is None else watch
    try:
        while True:
            _show(_ask(address), refresh=again and on_terminal)
            if not again:
                return
            time.sleep(_PERIOD)
    except KeyboardInterrupt:
        return


def _here(environ: Mapping[str, str]) -> str:
    port = environ.get("COLLECTOR_HTTP", "").rpartition(":")[2]
    return f"http://127.0.0.1:{port or 8080}"


def _ask(address: str) -> dict[str, Any]:
    try:
        with urlopen(f"{address}/status", timeout=_TIMEOUT) as answer:  # noqa: S310 - it begins with http
            answered: object = json.load(answer)
    except (OSError, ValueError, HTTPException) as exc:
        _fail(address, exc)
    if not isinstance(answered, dict) or not isinstance(answered.get("loggers"), dict):
        _fail(address, ValueError("JSON that is no status of a replica"))
    return answered


def _fail(address: str, exc: Exception) -> NoReturn:
    text = " ".join(str(exc).split())
    why: object = exc.reason if isinstance(exc, URLError) else exc
    if isinstance(exc, (HTTPException, ValueError)):
        why = f"an answer that is no replica's: {text or type(exc).__name__}"
    click.echo(
        f"collector: expected a replica's status from {address}, got {why}; is that the address of its COLLECTOR_HTTP?",
        err=True,
    )
    sys.exit(1)


def _show(answered: Mapping[str, Any], *, refresh: bool) -> None:
    """Print the table; on a terminal over the last one, cut where the screen ends."""
    columns, rows = shutil.get_terminal_size() if sys.stdout.isatty() else (_IN_A_PIPE, 0)
    text = table(answered, columns)
    if refresh:
        lines = text.splitlines()
        shown = lines if len(lines) < rows else [*lines[: rows - 2], f"… {len(lines) - rows + 2} lines more"]
        text = f"{_HOME}{_CLEAR}" + "\n".join(shown)
    click.echo(text)
