"""Embedded servers on loopback, for `collector demo`, `collector local` and the tests; not for `collector run`.

In: a folder to live in. Out: `nats-server` and `mongod` processes that answer, keep port and data over restarts, and
never outlive the process that started them. Everything here blocks, and may be called from any thread. Linux and macOS.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from abc import ABC, abstractmethod
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from collector.errors import CollectorError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

START_TIMEOUT = 30.0
STOP_TIMEOUT = 10.0

_POLL = 0.01
_PORT_TRIES = 5
_PORTS = range(20_000, 32_000)
"""Below those that Linux and macOS give to outgoing connections: while a server is down, nobody is given its port."""
_WATCHDOG = 'read -r _; kill -KILL "$1"'
"""Waits for the end of a pipe whose other end only our process holds. Linux's parent-death signal would be sent when
the *thread* that started the server ends, which is too early."""
_LOADER_ERROR = re.compile(r"error while loading shared libraries: ([^:\s]+): cannot open shared object file")
_DEBIAN_PACKAGES = {"libcurl": "libcurl4", "liblzma": "liblzma5", "libssl": "libssl3", "libcrypto": "libssl3"}


class MissingServer(CollectorError):
    """A server's program is not here or cannot run here: the message has the command that mends it."""


class ServerDidNotStart(CollectorError):
    """A server ended, or did not answer in time, while it was being started: the message ends with its last words."""


def find_nats_server() -> Path:
    """Find nats-server: as COLLECTOR_NATS_SERVER names it, on the PATH, or in this environment; raise MissingServer."""
    return _find("nats-server", "COLLECTOR_NATS_SERVER", Path(sysconfig.get_path("scripts")))


def find_mongod() -> Path:
    """Find mongod: as COLLECTOR_MONGOD names it, on the PATH, or in this environment; raise MissingServer."""
    return _find("mongod", "COLLECTOR_MONGOD", Path(sysconfig.get_path("purelib"), "fiftyone", "db", "bin"))


def _find(program: str, variable: str, embedded: Path) -> Path:
    if named := os.environ.get(variable):
        if found := shutil.which(named):
            return Path(found)
        raise MissingServer(f"expected {variable} to name a program, got {named!r}: correct it, or unset it")
    if found := shutil.which(program) or shutil.which(program, path=embedded):
        return Path(found)
    raise MissingServer(
        f"expected {program} on the PATH or in {embedded}, found none; install it with"
        f" {sys.executable} -m pip install 'transfer-collector[service,local]', or name one in {variable}"
    )


class Server(ABC):
    """One server process: started when it answers, ended with us; the same port and data over restarts.

    `port` is chosen when none is given, and chosen anew when somebody else takes it before the first start.
    `log_path` is where the server itself writes its log; a restart appends. Leaving the `with` block stops it.
    """

    name: ClassVar[str]

    def __init__(self, folder: Path, program: Path, *, port: int | None) -> None:
        self.folder = folder
        self.program = program
        self.port = port or _free_port()
        self.log_path = folder / f"{self.name}.log"
        self._output_path = folder / f"{self.name}.out"  # what it says before it has its log
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
        """What a client connects to."""

    @property
    def pid(self) -> int:
        """The process id; raises ProcessLookupError before a start, and after a stop or kill."""
        if self._process is None:
            raise ProcessLookupError(f"expected {self.name} to be started, got one that is not")
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process is there; a paused one is."""
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
                self.port = _free_port()
            else:
                self._port_tries = 1
                return

    def stop(self) -> None:
        """End it with SIGTERM, as an administrator would; with SIGKILL when that takes too long."""
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
        """End it with SIGKILL, as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._reap()

    def restart(self) -> None:
        """Stop it, and start it again on the same port with the same data."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Make it hang: connections stay open and nothing answers. Return when its last thread has stopped."""
        os.kill(self.pid, signal.SIGSTOP)
        deadline = time.monotonic() + 1
        while os.waitpid(self.pid, os.WUNTRACED | os.WNOHANG) == (0, 0) and time.monotonic() < deadline:
            time.sleep(_POLL / 10)

    def resume(self) -> None:
        """Let a paused one go on."""
        os.kill(self.pid, signal.SIGCONT)

    @abstractmethod
    def _command(self) -> list[str]:
        """Prepare the folder, and return the command that starts it."""

    def _environment(self) -> Mapping[str, str]:
        return os.environ

    @abstractmethod
    def _answers(self) -> bool:
        """Tell whether this very process serves requests, and not somebody else on its port."""

    def _tells_why(self, line: str) -> bool:
        """Tell whether a line of the log belongs to the last words."""
        return bool(line)

    def _launch(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._logged_before = self.log_path.stat().st_size if self.log_path.exists() else 0
        # Sessions of their own: a Ctrl-C on the terminal is for us, and we stop the servers when nobody needs them.
        with self._output_path.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - the program was looked for by name
                self._command(),
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
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
        said = self._output_path.read_bytes() + logged[self._logged_before :]
        lines = [line for line in said.decode(errors="replace").splitlines() if self._tells_why(line)]
        return "\n".join(lines[-10:])

    def _reap(self) -> None:
        if self._watchdog is not None:
            self._watchdog.kill()
            self._watchdog.communicate()
            self._watchdog = None
        if self._process is not None:
            self._process.wait()
            self._process = None


class NatsServer(Server):
    """A `nats-server` with JetStream. `config` is appended to its configuration and read again at every start."""

    name = "nats-server"

    def __init__(self, folder: Path, *, port: int | None = None, config: str = "") -> None:
        super().__init__(folder, find_nats_server(), port=port)
        self.config = config
        self._server_name = secrets.token_hex(8)

    @property
    def url(self) -> str:
        """What a client connects to; user, password and scheme are the configuration's."""
        return f"nats://127.0.0.1:{self.port}"

    def _command(self) -> list[str]:
        path = self.folder / "nats-server.conf"
        path.write_text(
            f'server_name: "{self._server_name}"\n'
            f'listen: "127.0.0.1:{self.port}"\n'
            f'log_file: "{self.log_path}"\n'
            "max_payload: 8MB\n"
            f'jetstream {{ store_dir: "{self.folder}" }}\n'
            f"{self.config}\n"
        )
        return [str(self.program), "--config", str(path)]

    def _answers(self) -> bool:
        """Read what a server says first, also before TLS and without credentials."""
        try:
            with self._connected() as connection, connection.makefile("rb") as stream:
                return f'"server_name":"{self._server_name}"'.encode() in stream.readline()
        except OSError:
            return False


class Mongod(Server):
    """A `mongod` that is a whole replica set, as majority writes and change streams need; `parameters` are its own."""

    name = "mongod"

    def __init__(
        self, folder: Path, *, port: int | None = None, parameters: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(folder, find_mongod(), port=port)
        # No other member to hand over to at the end, and nobody who reads diagnostic data.
        quiet = {"shutdownTimeoutMillisForSignaledShutdown": 100, "diagnosticDataCollectionEnabled": "false"}
        self.parameters = {**quiet, **(parameters or {})}
        self._loadable: Mapping[str, str] | None = None

    @property
    def url(self) -> str:
        """What a client connects to; without a database."""
        return f"mongodb://127.0.0.1:{self.port}/?replicaSet=rs0"

    def _command(self) -> list[str]:
        data = self.folder / "mongod"
        data.mkdir(exist_ok=True)
        return [
            str(self.program),
            f"--port={self.port}",
            "--bind_ip=127.0.0.1",
            "--nounixsocket",
            "--replSet=rs0",
            "--oplogSize=256",
            f"--dbpath={data}",
            f"--logpath={self.log_path}",
            "--logappend",
            "--wiredTigerCacheSizeGB=0.25",
            # Journal files as long as they are needed: 17 MB instead of 300 MB, and a restart in half the time.
            "--wiredTigerEngineConfigString=log=(file_max=32MB,prealloc=false)",
            *(f"--setParameter={name}={value}" for name, value in self.parameters.items()),
        ]

    def _environment(self) -> Mapping[str, str]:
        if self._loadable is None:
            self._loadable = _loadable(self.program, self.folder / "libraries")
        return self._loadable

    def _tells_why(self, line: str) -> bool:
        return not line.startswith("{") or '"s":"E"' in line or '"s":"F"' in line

    def _answers(self) -> bool:
        """Tell whether it is the primary, after making it a replica set at its first start."""
        try:
            self._connected().close()
            with MongoClient[dict[str, Any]](
                "127.0.0.1", self.port, directConnection=True, serverSelectionTimeoutMS=1000, socketTimeoutMS=5000
            ) as client:
                if client.admin.command("serverStatus")["pid"] != self.pid:
                    return False
                state = client.admin.command("hello")
                if "setName" not in state:
                    members = [{"_id": 0, "host": f"127.0.0.1:{self.port}"}]
                    client.admin.command("replSetInitiate", {"_id": "rs0", "members": members})
                return bool(state["isWritablePrimary"])
        except (OSError, PyMongoError):
            return False


def _loadable(program: Path, folder: Path) -> Mapping[str, str]:
    """Make the environment in which `program` finds its libraries; raise MissingServer when there is none.

    The embedded mongod needs a libcurl. Where the system has none, the one inside the pycurl wheel is given to it, and
    only to it, under the name that it looks for (a link in `folder`).
    """
    environment = dict(os.environ)
    missing = _missing_library(program, environment)
    if missing and missing.startswith("libcurl.so") and (bundled := _bundled_libcurl()):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / missing).unlink(missing_ok=True)
        (folder / missing).symlink_to(bundled)
        searched = (str(folder), str(bundled.parent), environment.get("LD_LIBRARY_PATH", ""))
        environment["LD_LIBRARY_PATH"] = ":".join(filter(None, searched))
        missing = _missing_library(program, environment)
    if missing:
        package = _DEBIAN_PACKAGES.get(missing.partition(".so")[0], f"the package that holds {missing}")
        raise MissingServer(f"expected {program} to run, but this system has no {missing}: apt-get install {package}")
    return environment


def _missing_library(program: Path, environment: Mapping[str, str]) -> str | None:
    """Try it, which is surer than asking: the loader says what it does not find."""
    english = {**environment, "LC_ALL": "C"}
    tried = subprocess.run([program, "--version"], env=english, capture_output=True, text=True, check=False)  # noqa: S603
    if tried.returncode == 0:
        return None
    if found := _LOADER_ERROR.search(tried.stderr):
        return found[1]
    raise MissingServer(f"expected {program} --version to succeed, got exit status {tried.returncode}: {tried.stderr}")


def _bundled_libcurl() -> Path | None:
    with suppress(PackageNotFoundError):
        return next(Path(str(distribution("pycurl").locate_file("pycurl.libs"))).glob("libcurl-*.so*"), None)
    return None


@dataclass(frozen=True, slots=True)
class LocalServers:
    """Both servers, running, in one folder."""

    folder: Path
    nats: NatsServer
    mongod: Mongod


@contextmanager
def local_servers() -> Iterator[LocalServers]:
    """Start both in a temporary folder; leaving ends both at once and removes the folder with everything in it."""
    with TemporaryDirectory(prefix="collector-") as name:
        folder = Path(name)
        with NatsServer(folder) as nats, Mongod(folder) as mongod:
            try:
                yield LocalServers(folder, nats, mongod)
            finally:  # nobody will read their data: no need for mongod's second of thought
                nats.kill()
                mongod.kill()


def _free_port() -> int:
    while True:
        port = secrets.choice(_PORTS)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
