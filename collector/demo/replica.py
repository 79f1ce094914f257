"""`collector run` as a process of its own, against the embedded servers, and the processes that must not die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Self

from anyio import create_task_group, sleep, to_thread

from collector.errors import CollectorError
from collector.local import Server

if TYPE_CHECKING:
    from collections.abc import Mapping

    from collector.local import LocalServers

_END_TIMEOUT = 20.0
_LOOK = 0.2
_LAST_LINES = 15
_REDELIVERED = "collector_redelivered_messages_total{"


class ProcessEnded(CollectorError):
    """A server or replica ended although nobody asked it to, or not as it should: the message ends with its log."""

    def __init__(self, what: str, log_path: Path) -> None:
        super().__init__(f"{what}; the end of its log:\n{_end(log_path)}")


def _end(log_path: Path) -> str:
    return "\n".join(log_path.read_text(errors="replace").splitlines()[-_LAST_LINES:])


class Replica(Server):
    """One replica of the collector; it has started when it says that it is ready."""

    name = "replica"

    def __init__(
        self, number: int, namespace: str, servers: LocalServers, settings: Mapping[str, str], *, port: int | None
    ) -> None:
        super().__init__(servers.folder / f"replica-{number}", Path(sys.executable), port=port)
        self.title = f"replica {number}"
        self.log_path = self._output_path
        self._settings = {
            "NAMESPACE": namespace,
            "NATS_HOSTS": servers.nats.url,
            "DATABASE": servers.mongod.url,
            **settings,
        }

    @property
    def url(self) -> str:
        """Where it answers HTTP."""
        return f"http://127.0.0.1:{self.port}"

    def end(self) -> None:
        """Ask it with SIGTERM to drain and end; raise ProcessEnded unless it does so in time with exit status 0."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(_END_TIMEOUT)
        except subprocess.TimeoutExpired:
            raise ProcessEnded(f"expected {self.title} to end within {_END_TIMEOUT:.0f} s", self.log_path) from None
        if status:
            raise ProcessEnded(f"expected {self.title} to end with status 0, got {status}", self.log_path)
        self._reap()

    def redelivered(self) -> int:
        """How many messages it was given that had been given to somebody before."""
        lines = (line for line in self._get("/metrics")[1].splitlines() if line.startswith(_REDELIVERED))
        return int(sum(float(line.rpartition(" ")[2]) for line in lines))

    def _command(self) -> list[str]:
        return [str(self.program), "-m", "collector", "run"]

    def _environment(self) -> Mapping[str, str]:
        ours = ("COLLECTOR_", "NATS_", "DATABASE", "NAMESPACE", "MODE")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return {**inherited, "COLLECTOR_HTTP": f"127.0.0.1:{self.port}", **self._settings}

    def _answers(self) -> bool:
        try:
            return self.alive and self._get("/readyz")[0] == 200
        except (OSError, HTTPException):
            return False

    def _get(self, path: str) -> tuple[int, str]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()


class Replicas:
    """All replicas of a run: started together, watched together with the servers, killed when the block is left."""

    def __init__(self, namespace: str, servers: LocalServers, settings: Mapping[str, str]) -> None:
        self._namespace = namespace
        self._servers = servers
        self._settings = settings
        self._started: list[Replica] = []
        self._watched: list[Server] = [servers.nats, servers.mongod]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for replica in self._started:
            replica.kill()

    @property
    def running(self) -> list[Replica]:
        """Those that have to be alive."""
        return [server for server in self._watched if isinstance(server, Replica)]

    async def start(self, count: int, *, port: int | None = None) -> list[Replica]:
        """Start some more at the same time; return when all of them are ready."""
        numbers = range(len(self._started) + 1, len(self._started) + 1 + count)
        new = [Replica(number, self._namespace, self._servers, self._settings, port=port) for number in numbers]
        self._started += new
        async with create_task_group() as group:
            for replica in new:
                group.start_soon(to_thread.run_sync, replica.start, name=replica.title)
        self._watched += new
        return new

    def kill(self, replica: Replica) -> None:
        """End one with SIGKILL."""
        self._watched.remove(replica)
        replica.kill()

    async def end(self) -> None:
        """Have all of them drain and end at the same time; raise ProcessEnded when one does not do it well."""
        ending = self.running
        self._watched = [server for server in self._watched if server not in ending]
        async with create_task_group() as group:
            for replica in ending:
                group.start_soon(to_thread.run_sync, replica.end, name=f"end {replica.title}")

    async def redelivered(self) -> int:
        """How many messages the running ones were given that had been given to somebody before."""
        return sum([await to_thread.run_sync(replica.redelivered) for replica in self.running])

    def said(self) -> str:
        """Return the end of the log of each, also of those that have ended."""
        return "\n".join(f"the end of the log of {one.title}:\n{_end(one.log_path)}" for one in self._started)

    async def watch(self) -> None:
        """Raise ProcessEnded when a server or replica dies that nobody killed."""
        while True:
            for server in self._watched:
                if not server.alive:
                    title = server.title if isinstance(server, Replica) else server.name
                    raise ProcessEnded(f"expected {title} to run, but it ended by itself", server.log_path)
            await sleep(_LOOK)
