"""`collector check`, called and as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import anyio

from collector.check.command import inspect
from collector.check.findings import Level
from collector.settings import Settings

if TYPE_CHECKING:
    from collector.check.findings import Finding
    from collector.local import Mongod, NatsServer


class Check:
    """The settings of one check, which a test changes; what it found."""

    def __init__(self, namespace: str, nats: NatsServer, mongod: Mongod) -> None:
        self.environ = {"NAMESPACE": namespace, "NATS_HOSTS": nats.url, "DATABASE": mongod.url}

    async def findings(self, replicas: int = 1) -> list[Finding]:
        with anyio.fail_after(40):
            return await inspect(Settings.read(self.environ), replicas)

    async def troubles(self, replicas: int = 1) -> list[str]:
        return [str(finding) for finding in await self.findings(replicas) if finding.level is not Level.OK]

    def run(self, *arguments: str) -> tuple[int, str]:
        """Run the command; return its exit status and what it printed."""
        ours = ("COLLECTOR_", "NATS_", "DATABASE", "NAMESPACE", "MODE")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        command = [sys.executable, "-m", "collector", "check", *arguments]
        environ = inherited | self.environ
        ended = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=50)
        assert ended.stderr == ""
        return ended.returncode, ended.stdout


def matches(line: str, level: str, about: str, *words: str) -> bool:
    return line.startswith(f"{level:<8} {about}: ") and all(word in line for word in words)
