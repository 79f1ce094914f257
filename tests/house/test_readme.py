"""The programs and commands of the README, run as they are printed."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from collector.demo.shell import FIRST_EXAMPLE, called
from tests.support.process import pasted

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector.local import Mongod, NatsServer, Replica

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
(STEPS,) = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
CHECK, PRINTED = re.search(  # type: ignore[union-attr]
    r"```python\n(.*?)```\n\n```\n(.*?)```", (ROOT / "docs" / "faq.md").read_text(), re.DOTALL
).groups()


@pytest.fixture
def newcomer(nats_server: NatsServer, mongod: Mongod, namespace: str, tmp_path: Path) -> tuple[str, dict[str, str]]:
    """Give the printed steps with the addresses and the namespace of the test, in a folder with its `.venv`."""
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parent.parent)
    steps = STEPS
    for printed, ours in (
        ("NAMESPACE=beta", f"NAMESPACE={namespace}"),
        ("nats://127.0.0.1:4222", nats_server.url),
        ("mongodb://127.0.0.1:27017/?replicaSet=rs0", mongod.url),
    ):
        assert steps.count(printed) == 1
        steps = steps.replace(printed, ours)
    return steps, {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TRANSFER_BUNDLE_ENTRIES": "1"}


def test_the_first_program_of_the_readme_is_shown_by_tail(
    newcomer: tuple[str, dict[str, str]], start_replica: Callable[..., Replica], tmp_path: Path
) -> None:
    steps, environment = newcomer
    start_replica()
    (tmp_path / "hello.py").write_text(PROGRAMS[0])
    with pasted(steps, environment, tmp_path) as shell:
        assert shell.stdout
        seen = [shell.stdout.readline() for _ in range(3)]
    assert seen[:2] == ["hello: set\n", "INFO:root:order A-17 accepted\n"]
    assert re.fullmatch(r"\S+ +INFO +root order A-17 accepted module=hello .*amount=42\.5\n", seen[2])


def test_the_second_program_of_the_readme_publishes(
    newcomer: tuple[str, dict[str, str]], start_replica: Callable[..., Replica], tmp_path: Path
) -> None:
    steps, environment = newcomer
    start_replica()
    (tmp_path / "hello.py").write_text(PROGRAMS[1])
    with pasted(steps, environment, tmp_path) as shell:
        assert shell.stdout
        seen = [shell.stdout.readline() for _ in range(2)]
    assert seen[0] == "hello: set\n"
    assert re.fullmatch(r"\S+ .*order paid.*amount=42\.5.*web-1.*\n", seen[1])


def test_the_first_check_of_the_questions_prints_what_it_says(
    newcomer: tuple[str, dict[str, str]], tmp_path: Path
) -> None:
    steps, environment = newcomer
    (tmp_path / "hello.py").write_text(CHECK)
    with pasted(steps, environment, tmp_path) as shell:
        assert shell.stdout
        seen = [shell.stdout.readline() for _ in range(3)]
    assert "".join(seen[1:]) == PRINTED


def test_collector_local_prints_the_program_of_the_readme() -> None:
    assert PROGRAMS[0] == FIRST_EXAMPLE


def test_a_command_is_named_as_the_shell_finds_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / ".venv" / "bin"
    folder.mkdir(parents=True)
    monkeypatch.setattr("collector.demo.shell.sysconfig.get_path", lambda _: str(folder))
    monkeypatch.setenv("PATH", "/nowhere")
    assert called("collector") == f"{sys.executable} -m collector"
    (folder / "collector").write_text("#!/bin/sh\n")
    (folder / "collector").chmod(0o755)
    assert called("collector") == str(folder / "collector")
    monkeypatch.chdir(tmp_path)
    assert called("collector") == ".venv/bin/collector"
    monkeypatch.setenv("PATH", str(folder))
    assert called("collector") == "collector"
