"""`collector local`: the embedded servers and one replica, until Ctrl-C, for whoever wants to try things out."""

from __future__ import annotations

import shlex
import socket
import sys
import sysconfig
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import anyio
import click
from anyio import create_task_group, sleep

from collector.demo.feeds import LogFile
from collector.demo.replica import Replicas
from collector.demo.signals import in_threads, until_signal
from collector.errors import CollectorError, leaves
from collector.local import local_servers

if TYPE_CHECKING:
    from collector.local import LocalServers, Replica

_NAMESPACE = "beta"
_NATS_PORT, _MONGODB_PORT, _HTTP_PORT = 4222, 27017, 8080
"""The ports that everybody knows; others when somebody has them."""
_LOOK = 0.1


def stay_up() -> int:
    """Keep everything up until a signal, and return the exit status."""
    failures: list[BaseException] = []
    try:
        anyio.run(until_signal, _stay_up)
    except* (CollectorError, OSError) as group:
        failures += leaves(group)
    for failure in failures:
        click.echo(f"collector: {failure}", err=True)
    if not failures:
        click.echo("\nEnded. Servers, replica and their data are gone.")
    return 1 if failures else 0


async def _stay_up() -> None:
    click.echo("Starting nats-server, mongod and a replica ...")
    async with in_threads(local_servers(nats_port=_free(_NATS_PORT), mongodb_port=_free(_MONGODB_PORT))) as servers:
        with Replicas(_NAMESPACE, servers, {"MODE": "debug"}) as replicas:
            (replica,) = await replicas.start(1, port=_free(_HTTP_PORT))
            click.echo(_introduction(servers, replica))
            async with create_task_group() as group:
                group.start_soon(replicas.watch, name="watch")
                await _show_log(replica)


def _free(port: int) -> int | None:
    with suppress(OSError), socket.create_server(("127.0.0.1", port)):
        return port
    return None


def _introduction(servers: LocalServers, replica: Replica) -> str:
    addresses = (
        ("NATS", servers.nats.url),
        ("MongoDB", servers.mongod.url),
        ("collector", f"{replica.url}/status (also /metrics, /livez, /readyz)"),
        ("data, logs", str(servers.folder)),
    )
    lines = [f"  {name:<11} {address}" for name, address in addresses]
    commands = [f"  {command}" for command in try_these(servers)]
    return "\n".join(["", *lines, "", "Try, in another terminal:", "", *commands, "", "Ctrl-C ends it all.", ""])


def try_these(servers: LocalServers) -> tuple[str, str, str]:
    """Return three commands for a shell: declare a logger, publish an entry to it, look at the documents."""
    transfer = f"NAMESPACE={_NAMESPACE} NATS_HOSTS={servers.nats.url} {_transfer()}"
    look = (
        f"import pymongo; print(*pymongo.MongoClient('{servers.mongod.url}').{_NAMESPACE}.hello_logs.find(), sep='\\n')"
    )
    return (
        f"{transfer} set hello",
        f"""{transfer} publish hello '{{"msg": "hello, world"}}'""",
        f'{shlex.quote(sys.executable)} -c "{look}"',
    )


def _transfer() -> str:
    """Name the command so that it is found in any terminal."""
    script = Path(sysconfig.get_path("scripts"), "transfer")
    return shlex.quote(str(script)) if script.exists() else f"{shlex.quote(sys.executable)} -m transfer"


async def _show_log(replica: Replica) -> NoReturn:
    log = LogFile(replica.log_path)
    while True:
        for line in log.lines():
            click.secho(line, dim=True)
        await sleep(_LOOK)
