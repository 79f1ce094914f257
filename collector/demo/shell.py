"""The commands as a shell finds them, and the first lines to paste into it. Pure, but for reading the PATH."""

from __future__ import annotations

import shlex
import shutil
import sys
import sysconfig
from pathlib import Path

FIRST_EXAMPLE = """\
import logging

from transfer import TransferHandler

logging.basicConfig(level=logging.INFO, handlers=[logging.StreamHandler(), TransferHandler("hello")])
logging.info("order %s accepted", "A-17", extra={"amount": 42.5})
"""
"""The first program of the README."""


def called(command: str) -> str:
    """Return `collector` or `transfer` as a shell in the current folder finds it."""
    script = _script(command)
    if script is None:
        return f"{shlex.quote(sys.executable)} -m {command}"
    if shutil.which(command) == str(script):
        return command
    here = Path.cwd()
    return shlex.quote(str(script.relative_to(here) if script.is_relative_to(here) else script))


def first_steps(namespace: str, nats_url: str, mongodb_url: str) -> str:
    """Return lines for a shell in any folder: settings, a declared logger, a logged entry, and `transfer tail`."""
    transfer = "transfer" if _script("transfer") else "python -m transfer"
    return f"""\
export NAMESPACE={namespace} NATS_HOSTS={nats_url}
export DATABASE={shlex.quote(mongodb_url)}
export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"
{transfer} set hello
python - <<'END'
{FIRST_EXAMPLE}END
{transfer} tail hello --follow
"""


def _script(command: str) -> Path | None:
    script = Path(sysconfig.get_path("scripts"), command)
    return script if script.exists() else None
