"""A mongod that demands a login, and how a user reaches it."""

from __future__ import annotations

import secrets
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from collector.local import Mongod

if TYPE_CHECKING:
    from collections.abc import Iterator


class GuardedMongod(Mongod):
    """One that demands a login. It was a replica set, and had its users, before."""

    def _command(self) -> list[str]:
        key = self.folder / "key"
        if not key.exists():
            key.write_text(secrets.token_hex(32))
            key.chmod(0o400)
        return [*super()._command(), f"--keyFile={key}"]

    def _answers(self) -> bool:
        try:
            with MongoClient[dict[str, Any]](
                "127.0.0.1", self.port, directConnection=True, serverSelectionTimeoutMS=1000
            ) as client:
                return bool(client.admin.command("hello")["isWritablePrimary"])
        except PyMongoError:
            return False


class AsUser:
    """The server as a user reaches it."""

    def __init__(self, mongod: Mongod, user: str, source: str) -> None:
        self.url = mongod.url.replace("//", f"//{user}:right@").replace("/?", f"/{source}?")


@contextmanager
def guarded_mongod() -> Iterator[GuardedMongod]:
    """Start one whose user root, password right, may do everything."""
    with TemporaryDirectory(prefix="mongod-") as folder, ExitStack() as stack:
        with Mongod(Path(folder)) as open_to_all, MongoClient[dict[str, Any]](open_to_all.url) as client:
            client.admin.command({"createUser": "root", "pwd": "right", "roles": ["root"]})
        server = stack.enter_context(GuardedMongod(Path(folder), port=open_to_all.port))
        stack.callback(server.kill)
        yield server
