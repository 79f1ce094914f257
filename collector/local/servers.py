"""Embedded nats-server and mongod, the two servers that the collector connects."""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from collector.local.programs import find_mongod, find_nats_server, loadable
from collector.local.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class NatsServer(Server):
    """A `nats-server` with JetStream. `config` is appended to the configuration and read again at every start."""

    name = "nats-server"

    def __init__(self, folder: Path, *, port: int | None = None, config: str = "") -> None:
        super().__init__(folder, find_nats_server(), port=port)
        self.config = config
        self._server_name = secrets.token_hex(8)

    @property
    def url(self) -> str:
        """The address for clients, without the login and TLS that `config` may demand."""
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
        """Read the first line, which the server sends before TLS and without a login."""
        try:
            with self._connected() as connection, connection.makefile("rb") as stream:
                return f'"server_name":"{self._server_name}"'.encode() in stream.readline()
        except OSError:
            return False


class Mongod(Server):
    """A `mongod` that is a whole replica set, as majority writes and change streams need, with `parameters`."""

    name = "mongod"

    def __init__(
        self, folder: Path, *, port: int | None = None, parameters: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(folder, find_mongod(), port=port)
        # There is no other member to hand over to at the end, and diagnostic data is not read.
        quiet = {"shutdownTimeoutMillisForSignaledShutdown": 100, "diagnosticDataCollectionEnabled": "false"}
        self.parameters = {**quiet, **(parameters or {})}
        self._loadable: Mapping[str, str] | None = None

    @property
    def url(self) -> str:
        """The address for clients, without a database."""
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
            # Journal files are kept only as long as needed: 17 MB instead of 300 MB, and a restart in half the time.
            "--wiredTigerEngineConfigString=log=(file_max=32MB,prealloc=false)",
            *(f"--setParameter={name}={value}" for name, value in self.parameters.items()),
        ]

    def _environment(self) -> Mapping[str, str]:
        if self._loadable is None:
            self._loadable = loadable(self.program, self.folder / "libraries")
        return self._loadable

    def _tells_why(self, line: str) -> bool:
        return not line.startswith("{") or '"s":"E"' in line or '"s":"F"' in line

    def _answers(self) -> bool:
        """Tell whether the server is the primary; at its first start make it a replica set."""
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


@dataclass(frozen=True, slots=True)
class LocalServers:
    """Both servers, running, in one folder."""

    folder: Path
    nats: NatsServer
    mongod: Mongod


@contextmanager
def local_servers(
    *, nats_port: int | None = None, mongodb_port: int | None = None, nats_config: str = ""
) -> Iterator[LocalServers]:
    """Start both servers in a temporary folder; leaving the block ends them at once and removes the folder."""
    with TemporaryDirectory(prefix="collector-") as name:
        folder = Path(name)
        with (
            NatsServer(folder, port=nats_port, config=nats_config) as nats,
            Mongod(folder, port=mongodb_port) as mongod,
        ):
            try:
                yield LocalServers(folder, nats, mongod)
            finally:  # the data is not needed any more, so mongod's slow shutdown is skipped
                nats.kill()
                mongod.kill()
