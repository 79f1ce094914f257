"""The replicas of a run, and the processes that must not end by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from anyio import create_task_group, sleep, to_thread

from collector.errors import CollectorError
from collector.local import Replica, Server, ServerDidNotEnd

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from collector.local import LocalServers

_LOOK = 0.2
_LAST_LINES = 15


class ProcessEnded(CollectorError):
    """A server or replica ended by itself, or with a failure: the message ends with its log."""

    def __init__(self, what: str, log_path: Path) -> None:
        super().__init__(f"{what}; the end of its log:\n{_end(log_path)}")


def _end(log_path: Path) -> str:
    return "\n".join(log_path.read_text(errors="replace").splitlines()[-_LAST_LINES:])


class Numbered(Replica):
    """A replica that is named by a number."""

    def __init__(
        self, number: int, namespace: str, servers: LocalServers, settings: Mapping[str, str], *, port: int | None
    ) -> None:
        folder = servers.folder / f"replica-{number}"
        super().__init__(folder, namespace, servers.nats, servers.mongod, settings, port=port)
        self.title = f"replica {number}"

    def end(self) -> None:
        """Let the replica drain and end; raise ProcessEnded unless it ends in time with exit status 0."""
        if not self.alive:
            return
        try:
            self.terminate()
            status = self.wait()
        except ServerDidNotEnd as exc:
            raise ProcessEnded(str(exc), self.log_path) from exc
        if status:
            raise ProcessEnded(f"expected {self.title} to end with status 0, got {status}", self.log_path)

    def redelivered(self) -> int:
        """Return the number of messages that the replica received as a further delivery."""
        return int(self.metric("collector_redelivered_messages_total"))


class Replicas:
    """All replicas of a run: started together, watched together with the servers, killed when the block is left."""

    def __init__(self, namespace: str, servers: LocalServers, settings: Mapping[str, str]) -> None:
        self._namespace = namespace
        self._servers = servers
        self._settings = settings
        self._started: list[Numbered] = []
        self._watched: list[Server] = [servers.nats, servers.mongod]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for replica in self._started:
            replica.kill()

    @property
    def running(self) -> list[Numbered]:
        """The replicas that have to be alive."""
        return [server for server in self._watched if isinstance(server, Numbered)]

    async def start(self, count: int, *, port: int | None = None) -> list[Numbered]:
        """Start `count` more replicas at the same time; return when all of them are ready."""
        numbers = range(len(self._started) + 1, len(self._started) + 1 + count)
        new = [Numbered(number, self._namespace, self._servers, self._settings, port=port) for number in numbers]
        self._started += new
        async with create_task_group() as group:
            for replica in new:
                group.start_soon(to_thread.run_sync, replica.start, name=replica.title)
        self._watched += new
        return new

    def kill(self, replica: Numbered) -> None:
        """End a replica with SIGKILL."""
        self._watched.remove(replica)
        replica.kill()

    async def end(self) -> None:
        """Let all replicas drain and end at the same time; raise ProcessEnded when one fails to."""
        ending = self.running
        self._watched = [server for server in self._watched if server not in ending]
        async with create_task_group() as group:
            for replica in ending:
                group.start_soon(to_thread.run_sync, replica.end, name=f"end {replica.title}")

    async def redelivered(self) -> int:
        """Return the number of messages that the running replicas received as a further delivery."""
        return sum([await to_thread.run_sync(replica.redelivered) for replica in self.running])

    def log_ends(self) -> str:
        """Return the end of the log of each replica, also of those that have ended."""
        return "\n".join(f"the end of the log of {one.title}:\n{_end(one.log_path)}" for one in self._started)

    async def watch(self) -> None:
        """Raise ProcessEnded when a server or replica ends by itself."""
        while True:
            for server in self._watched:
                if not server.alive:
                    title = server.title if isinstance(server, Numbered) else server.name
                    raise ProcessEnded(f"expected {title} to run, but it ended by itself", server.log_path)
            await sleep(_LOOK)
