"""`collector demo` and `collector local`, as a newcomer runs them: what they say is true, and nothing is left."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest
from bson import ObjectId

from collector.demo.ledger import Ledger, Letter, Verdict
from collector.demo.playground import AFTER, BEFORE
from collector.demo.shell import FIRST_EXAMPLE
from collector.model import Reason
from tests.support.process import pasted

if TYPE_CHECKING:
    from collections.abc import Iterator

RUN = [sys.executable, "-X", "utf8", "-m", "collector"]


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Give an environment that marks every process started in it, and end those that a failed test leaves."""
    yield {**os.environ, "TMPDIR": str(tmp_path)}
    for pid in _left(tmp_path):
        os.kill(pid, signal.SIGKILL)


def test_the_demo_keeps_its_promise_and_leaves_nothing(tmp_path: Path, environment: dict[str, str]) -> None:
    command = [*RUN, "demo", "--json"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=100)
    assert ended.returncode == 0, ended.stderr
    said = json.loads(ended.stdout)
    rows = {row["logger"]: row for row in said["loggers"]}
    assert set(rows) == {"mongod", "nats", "collector", "shop", "trial", "payments"}
    for row in (*rows.values(), said["total"]):
        assert row["confirmed"] == row["stored"] + row["dead_lettered"] > 0
        assert (row["missing"], row["duplicated"], row["misplaced"]) == (0, 0, 0)
    assert rows["shop"]["confirmed"] == 6014
    assert {key: row["archived"] for key, row in rows.items() if row["archived"] is not None} == {"shop": 6010}
    assert [letter["reason"] for letter in said["dead_letters"]] == [*["malformed"] * 3, "too_large_inflated"]
    assert said["good"]
    assert re.search(r"^Next: .*collector.* local ", ended.stderr, re.MULTILINE)
    assert "kill replica 1 with SIGKILL" in ended.stderr
    assert _left(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("received", "when", "status"),
    [
        (signal.SIGINT, "send 4 bad messages", 130),
        (signal.SIGTERM, "Transfer & Collector", 143),
    ],
)
def test_nothing_is_left_of_a_demo_that_a_signal_ends(
    tmp_path: Path, environment: dict[str, str], received: signal.Signals, when: str, status: int
) -> None:
    with subprocess.Popen([*RUN, "demo"], env=environment, stdout=subprocess.PIPE, text=True) as demo:
        _read_until(demo, when)
        demo.send_signal(received)
        demo.send_signal(received)
        assert demo.stdout
        assert f"Ended by {received.name}. All that was started is gone." in demo.stdout.read()
        assert demo.wait(30) == status
    assert _left(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_no_process_survives_a_demo_that_is_killed(tmp_path: Path, environment: dict[str, str]) -> None:
    with subprocess.Popen([*RUN, "demo"], env=environment, stdout=subprocess.PIPE, text=True) as demo:
        _read_until(demo, "declare the loggers")
        assert len(_left(tmp_path)) > 5
        demo.kill()
    deadline = time.monotonic() + 10
    while _left(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_a_replica_that_dies_by_itself_fails_the_demo_with_its_log(tmp_path: Path, environment: dict[str, str]) -> None:
    with subprocess.Popen([*RUN, "demo"], env=environment, stdout=subprocess.PIPE, text=True) as demo:
        _read_until(demo, "send 4 bad messages")
        os.kill(next(pid for pid in _left(tmp_path) if _command(pid)[-1:] == ["run"]), signal.SIGKILL)
        assert demo.stdout
        said = demo.stdout.read()
        assert demo.wait(30) == 1
    assert "to run, but it ended by itself; the end of its log:\n{" in said
    assert '"event": "ready"' in said
    assert _left(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_what_local_prints_works_when_it_is_pasted_and_ctrl_c_ends_it_well(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    with subprocess.Popen([*RUN, "local"], env=environment, stdout=subprocess.PIPE, text=True) as local:
        introduction = "".join(_read_until(local, AFTER))
        steps = introduction.partition(BEFORE)[2].removesuffix(f"{AFTER}\n")
        shell = {**environment, "PYTHONPATH": str(Path.cwd())}
        with pasted(steps, shell, tmp_path) as shell_output:
            seen = _read_until(shell_output, " amount=")
        address = re.findall(r"status page +(http://\S+)", introduction)[0]
        with urlopen(address, timeout=10) as page:  # noqa: S310 - ours
            assert b"<title>" in page.read()
        local.send_signal(signal.SIGINT)
        assert local.stdout
        assert "Servers, replica and their data are gone." in local.stdout.read()
        assert local.wait(30) == 0
    assert FIRST_EXAMPLE in steps
    assert seen[0] == "hello: set\n"
    assert seen[1] == "INFO:root:order A-17 accepted\n"
    assert re.fullmatch(r"\S+ +INFO +root +order A-17 accepted .*amount=42.5.*\n", seen[2])
    assert _left(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_run_imports_neither_the_embedded_servers_nor_the_demo() -> None:
    look = "import sys, collector.cli, collector.app; print(*(name for name in sys.modules if 'collector' in name))"
    modules = subprocess.check_output([sys.executable, "-c", look], text=True).split()
    assert "collector.app" in modules
    theirs = [name for name in modules if name.startswith(("collector.local", "collector.demo"))]
    assert theirs == ["collector.demo", "collector.demo.command"]  # the options of the command alone


def test_the_comparison_sees_what_is_missing_twice_or_misplaced() -> None:
    ledger, good, bad, elsewhere = Ledger(), ObjectId(), ObjectId(), ObjectId()
    ledger.confirm("shop", good.binary)
    ledger.confirm_bad("shop", bad, "no msgpack", Reason.MALFORMED)
    letter = Letter(bad, "malformed", "")

    def facts(stored: list[ObjectId], letters: list[Letter], rows: list[ObjectId] | None = None) -> tuple[int, ...]:
        (row,) = ledger.compare({"shop": Verdict(stored, letters, rows)})
        return row.stored, row.dead_lettered, row.missing, row.duplicated, row.misplaced

    assert facts([good], [letter]) == (1, 1, 0, 0, 0)
    assert facts([], [letter]) == (0, 1, 1, 0, 0)
    assert facts([good, elsewhere], [letter]) == (1, 1, 0, 1, 0)
    assert facts([good, bad], [letter]) == (2, 1, 0, 1, 0)
    assert facts([good, bad], []) == (2, 0, 0, 0, 1)
    assert facts([good], [Letter(bad, "other", "")]) == (1, 1, 0, 0, 1)
    assert facts([good], [letter], [good]) == (1, 1, 0, 0, 0)
    assert facts([good], [letter], []) == (1, 1, 1, 0, 0)
    assert facts([good], [letter], [good, good]) == (1, 1, 0, 1, 0)
    assert facts([good], [letter], [good, bad]) == (1, 1, 0, 1, 0)


def _read_until(process: subprocess.Popen[str], text: str) -> list[str]:
    assert process.stdout
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return lines
    raise AssertionError(f"expected a line with {text!r}, got {lines}")


def _left(folder: Path) -> list[int]:
    """Return the processes that were started with `folder` as their TMPDIR."""
    mark, found = f"TMPDIR={folder}\0".encode(), []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            environ = path.read_bytes()
        except OSError:  # somebody else's, or gone
            continue
        if mark in environ + b"\0":
            found.append(int(path.parent.name))
    return found


def _command(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")
