"""A server process that answers once it has started, keeps port and data over restarts, and ends with its starter.

All functions here block, and may be called from any thread. Linux and macOS.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from http.client import HTTPConnection
from typing import TYPE_CHECKING, ClassVar, Self

from collector.errors import CollectorError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

START_TIMEOUT = 30.0
STOP_TIMEOUT = 10.0

_POLL = 0.01
_PORT_TRIES = 5
_PORTS = range(20_000, 32_000)
"""Ports below those that Linux and macOS give to outgoing connections, so that a stopped server keeps its port."""
_WATCHDOG = 'read -r _; kill -KILL "$1"'
"""A shell that waits for the end of a pipe whose other end only our process holds. Linux's parent-death signal would
come too early: when the *thread* ends that started the server."""


class ServerDidNotStart(CollectorError):
    """A server ended, or did not answer in time, while it was being started: the message ends with its last lines."""


class ServerDidNotEnd(CollectorError):
    """A server still runs although it was asked to end."""


class Server(ABC):
    """One server process. It has started when it answers, ends with our process, and keeps port and data.

    `port` is chosen when none is given, and chosen anew when somebody else takes it before the first start.
    `log_path` is where the server itself writes its log; a restart appends. Leaving the `with` block stops it.
    """

    name: ClassVar[str]

    def __init__(self, folder: Path, program: Path, *, port: int | None) -> None:
        self.folder = folder
        self.program = program
        self.port = port or free_port()
        self.log_path = folder / f"{self.name}.log"
        self.stdout: int | None = None
        """A descriptor for its standard output; None: it goes where its standard error goes."""
        self._output_path = folder / f"{self.name}.out"  # its output before it opens its log
        self._port_tries = 1 if port else _PORT_TRIES
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._logged_before = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    @abstractmethod
    def url(self) -> str:
        """The address for clients."""

    @property
    def pid(self) -> int:
        """The process id; raises ProcessLookupError before a start, and after a stop or kill."""
        if self._process is None:
            raise ProcessLookupError(f"expected {self.name} to be started, got one that is not")
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs or is paused."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Return when the server answers; raise ServerDidNotStart, with nothing left running, when it does not."""
        if self.alive:
            raise RuntimeError(f"expected {self.name} to be stopped before its start, got one that runs: {self.pid}")
        for tries_left in reversed(range(self._port_tries)):
            try:
                self._launch()
                self._wait_until_it_answers()
            except BaseException as failure:
                self.kill()
                if not tries_left or "address already in use" not in str(failure).lower():
                    raise
                self.port = free_port()
            else:
                self._port_tries = 1
                return

    def stop(self) -> None:
        """End the server with SIGTERM, as an administrator would; with SIGKILL when that takes too long."""
        if self._process is None:
            return
        self._process.terminate()
        self._process.send_signal(signal.SIGCONT)
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._reap()

    def kill(self) -> None:
        """End the server with SIGKILL, as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._reap()

    def restart(self) -> None:
        """Stop the server, and start it again on the same port with the same data."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Pause the server: connections stay open without an answer. Return when its last thread has stopped."""
        os.kill(self.pid, signal.SIGSTOP)
        deadline = time.monotonic() + 1
        while os.waitpid(self.pid, os.WUNTRACED | os.WNOHANG) == (0, 0) and time.monotonic() < deadline:
            time.sleep(_POLL / 10)

    def resume(self) -> None:
        """Let a paused server go on."""
        os.kill(self.pid, signal.SIGCONT)

    @abstractmethod
    def _command(self) -> list[str]:
        """Prepare the folder, and return the command that starts the server."""

    def _environment(self) -> Mapping[str, str]:
        return os.environ

    @abstractmethod
    def _answers(self) -> bool:
        """Tell whether this very process serves requests, and not another one on its port."""

    def _tells_why(self, line: str) -> bool:
        """Tell whether a line of the log may explain why the server ended."""
        return bool(line)

    def _launch(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._logged_before = self.log_path.stat().st_size if self.log_path.exists() else 0
        # Each process has a session of its own, so that a Ctrl-C on the terminal reaches only us.
        with self._output_path.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - the program was looked for by name
                self._command(),
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output if self.stdout is None else self.stdout,
                stderr=output,
                start_new_session=True,
            )
        self._watchdog = subprocess.Popen(  # noqa: S603 - a constant and a number
            ["/bin/sh", "-c", _WATCHDOG, f"watchdog-of-{self.name}", str(self.pid)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while not self._answers():
            if not self.alive or time.monotonic() > deadline:
                got = f"it did not within {START_TIMEOUT:.0f} s" if self.alive else "it ended"
                raise ServerDidNotStart(f"expected {self.name} to answer, but {got}:\n{self._last_words()}")
            time.sleep(_POLL)

    def _connected(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 1)

    def _last_words(self) -> str:
        logged = self.log_path.read_bytes() if self.log_path.exists() else b""
        output = self._output_path.read_bytes() + logged[self._logged_before :]
        lines = [line for line in output.decode(errors="replace").splitlines() if self._tells_why(line)]
        return "\n".join(lines[-10:])

    def _reap(self) -> None:
        if self._watchdog is not None:
            self._watchdog.kill()
            self._watchdog.communicate()
            self._watchdog = None
        if self._process is not None:
            self._process.wait()
            self._process = None


def http_get(port: int, path: str, timeout: float = 5.0) -> tuple[int, str]:
    """Return status and text of an answer from a port of 127.0.0.1. Raises OSError or HTTPException without one."""
    connection = HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def free_port() -> int:
    """Return a port of 127.0.0.1 that no process uses now, and that no outgoing connection is given."""
    while True:
        port = secrets.choice(_PORTS)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
