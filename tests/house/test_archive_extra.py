"""The packages of the extra `archive` are imported by the archive alone, and the archive by none of the service."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
EXTRAS = tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"]
ARCHIVE = [re.split(r"[>=\[; ]", requirement)[0].replace("arro3-", "arro3.") for requirement in EXTRAS["archive"]]
SERVICE = ["collector.__main__", "collector.app", "collector.cli", "collector.check.command", "collector.demo.command"]


def said_without_the_extra(program: str) -> str:
    """Return what a program prints where no package of the extra is installed."""
    without = f"import sys; sys.modules.update(dict.fromkeys({[*ARCHIVE, 'arro3']!r}));"
    command = [sys.executable, "-c", without + program]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def test_the_service_imports_nothing_of_the_archive() -> None:
    said = said_without_the_extra(
        f"from importlib import import_module; [import_module(name) for name in {SERVICE!r}];"
        "print([name for name in sys.modules if name.startswith('collector.archive')])"
    )
    assert said == "[]\n"


def test_a_folder_with_ndjson_and_zstd_needs_no_package_of_the_extra() -> None:
    """The demo archives so, and installs no more for it."""
    said = said_without_the_extra(
        "import collector.actors.owned_archive; from collector.archive.making import Making;"
        "from collector.archive.spool import Spool; from collector.archive.stores.opening import open_store;"
        "print(Making().opened(Spool()).suffix, open_store('/backup', {}).where)"
    )
    assert said == "ndjson.zst /backup\n"


def test_the_commands_that_read_an_archive_need_no_package_of_the_extra_for_such_a_folder() -> None:
    said = said_without_the_extra(
        "import collector.archive.command, io, pathlib;"
        "from collector.archive.readers.opening import open_block; from collector.archive.record import BlockKind;"
        "print(list(open_block(pathlib.Path(), io.BytesIO(), BlockKind.ROWS, {}).rows()))"
    )
    assert said == "[]\n"
