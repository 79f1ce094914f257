"""Names that nobody resolves: an end never waits for them, and many who ask wait in one thread."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import anyio
import pytest

from transfer.system import resolver

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]
HANGS_FOR = 60
"""Seconds that the resolver hangs. An end that waits for it takes longer than half of them, on any machine."""
HANGS = f"""
import os, socket, time
there = socket.getaddrinfo
def getaddrinfo(host, *args, **kwargs):
    if str(host).endswith("hangs"):
        os.write(1, f"asked {{host}}\\n".encode())  # one call: two threads do this at once
        time.sleep({HANGS_FOR})
    return there(host, *args, **kwargs)
socket.getaddrinfo = getaddrinfo
"""
CLIENTS = {
    "blocking": """
import time, transfer
try:
    with transfer.BlockingTransfer.connect(timeout=0.5): pass
except transfer.Unavailable as error: print(error)""",
    "handler": """
import logging, transfer
logging.basicConfig(handlers=[transfer.TransferHandler('a')]); logging.warning('x')
import time; time.sleep(0.5)""",
    "transfer": """
import asyncio, transfer
async def main():
    try:
        async with transfer.Transfer.connect(timeout=0.1): pass
    except transfer.Unavailable as error: print(error)
asyncio.run(main())""",
    "executor": """
import asyncio, transfer, transfer.system.resolver
async def main():
    task = asyncio.ensure_future(transfer.Transfer.connect(timeout=60).__aenter__())
    while not transfer.system.resolver._under_way:
        await asyncio.sleep(0)
    task.cancel()
asyncio.run(main())""",
}


def started(folder: Path, *command: str, **environ: str) -> subprocess.Popen[str]:
    (folder / "sitecustomize.py").write_text(HANGS)
    paths = os.pathsep.join([str(folder), os.getcwd()])  # noqa: PTH109 - of the child
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NATS_", "COLLECTOR_"))}
    return subprocess.Popen(
        [sys.executable, *command], env={**kept, "PYTHONPATH": paths, **environ}, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("client", CLIENTS)
def test_the_end_of_a_client_does_not_wait_for_a_resolver_that_hangs(client: str, tmp_path: Path) -> None:
    ended = "\nimport os, time; os.write(1, f'ends {time.time()}\\n'.encode())"  # one call, as in `HANGS`
    process = started(tmp_path, "-c", CLIENTS[client] + ended, NATS_HOSTS="nats://nats.hangs:4222", NAMESPACE="beta")
    said, _ = process.communicate(timeout=2 * HANGS_FOR)
    now = time.time()
    assert "asked nats.hangs" in said
    assert process.returncode == 0
    (end,) = (float(line.split()[1]) for line in said.splitlines() if line.startswith("ends "))
    print(f"{client}: ended after {now - end:.1f} s")  # noqa: T201 - a figure
    assert now - end < HANGS_FOR / 2


@pytest.mark.parametrize("uvloop", [True, False])
def test_the_end_of_a_replica_does_not_wait_for_a_resolver_that_hangs(tmp_path: Path, *, uvloop: bool) -> None:
    hidden = "" if uvloop else "import sys; sys.modules['uvloop'] = None; "
    script = f"{hidden}from collector.cli import main; main(['run'])"
    with started(
        tmp_path,
        "-c",
        script,
        NATS_HOSTS="nats://nats.hangs:4222",
        NAMESPACE="beta",
        DATABASE="mongodb://mongodb.hangs:27017",
        COLLECTOR_HTTP="127.0.0.1:0",
    ) as process:
        assert process.stdout is not None
        try:
            asked = {process.stdout.readline().strip() for _ in range(2)}
            assert asked == {"asked nats.hangs", "asked mongodb.hangs"}
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=2 * HANGS_FOR)
            print(f"ended after {time.monotonic() - began:.1f} s")  # noqa: T201 - a figure
            assert time.monotonic() - began < HANGS_FOR / 2
        finally:
            process.kill()


async def test_many_who_ask_for_one_name_wait_in_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    answer, asked = threading.Event(), []

    def look_up(*question: object) -> list[tuple[object, ...]]:
        asked.append(question)
        answer.wait(20)
        return [(2, 1, 6, "", ("10.0.0.1", 4222)), (2, 1, 6, "", ("10.0.0.1", 4222))]

    monkeypatch.setattr("socket.getaddrinfo", look_up)
    found = []

    async def ask() -> None:
        found.append(await resolver.addresses("a", 4222))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            for _ in range(20):
                with anyio.move_on_after(0.001):  # those who are cut leave the look-up to the others
                    await resolver.addresses("a", 4222)
            for _ in range(20):
                group.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            answer.set()
    assert found == [[("10.0.0.1", 4222)]] * 20
    assert len(asked) == 1
    assert resolver._under_way == {}


async def test_an_error_of_the_resolver_goes_to_whoever_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("no such name")

    monkeypatch.setattr("socket.getaddrinfo", fail)
    for _ in range(2):
        with pytest.raises(OSError, match="no such name"):
            await resolver.addresses("a", 4222)


def _hang(monkeypatch: pytest.MonkeyPatch) -> tuple[list[object], threading.Event]:
    """Have look-ups hang until the event is set, and return them."""
    asked: list[object] = []
    goes_on = threading.Event()

    def look_up(*question: object) -> list[tuple[object, ...]]:
        asked.append(question)
        if len(asked) <= 2:
            goes_on.wait(60)
            raise OSError("it has hung")
        return [(2, 1, 6, "", ("10.0.0.1", 4222))]

    monkeypatch.setattr("socket.getaddrinfo", look_up)
    return asked, goes_on


async def test_a_look_up_that_hangs_is_joined_no_more_after_a_while_and_harms_no_later_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, goes_on = _hang(monkeypatch)
    now = 1000.0
    monkeypatch.setattr(resolver, "time", SimpleNamespace(monotonic=lambda: now))
    found: list[object] = []

    async def ask() -> None:
        found.append(await resolver.addresses("a", 4222))

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            for seconds, threads in ((0, 1), (29, 1), (2, 2), (59, 2), (2, 3)):  # twice the time after each that hangs
                now += seconds
                group.start_soon(ask)
                await anyio.wait_all_tasks_blocked()
                while len(asked) < threads:  # noqa: ASYNC110 - a thread does it
                    await anyio.sleep(0.001)
                assert len(asked) == threads
    assert found == [[("10.0.0.1", 4222)]] * 5
    goes_on.set()
    while resolver._under_way:  # noqa: ASYNC110 - threads do it
        await anyio.sleep(0.001)


async def test_forks_wait_for_one_look_up_for_half_a_second_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    _, goes_on = _hang(monkeypatch)
    now, waited = 1000.0, 0.0

    def sleep(seconds: float) -> None:
        nonlocal now, waited
        now, waited = now + seconds, waited + seconds

    monkeypatch.setattr(resolver, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(resolver, "original", lambda *_: sleep)
    with anyio.move_on_after(0.01):
        await resolver.addresses("a", 4222)
    for _ in range(20):
        resolver._before_fork()
    assert 0.49 < waited < 0.51
    goes_on.set()
    while resolver._under_way:  # noqa: ASYNC110 - a thread does it
        await anyio.sleep(0.001)
