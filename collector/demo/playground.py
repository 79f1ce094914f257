"""`collector local`: the embedded servers and one replica, until Ctrl-C, to try things out."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

import anyio
import click
from anyio import create_task_group, sleep

from collector.demo.feeds import LogFile
from collector.demo.replica import Replicas
from collector.demo.shell import first_steps
from collector.demo.signals import in_threads, until_signal
from collector.errors import CollectorError, leaves
from collector.local import local_servers

if TYPE_CHECKING:
    from collector.local import LocalServers, Replica

_NAMESPACE = "beta"
_NATS_PORT, _MONGODB_PORT, _HTTP_PORT = 4222, 27017, 8080
"""The well-known ports; other ones are used when these are taken."""
_LOOK = 0.1
BEFORE = "Paste this into another terminal: it declares a logger, logs an entry and shows what is stored."
AFTER = "Ctrl-C, here, ends it all. What follows is the log of the replica."


def stay_up() -> int:
    """Keep servers and replica up until a signal, and return the exit status."""
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
        ("status page", f"{replica.url}/  (for programs: /status, /metrics, /livez, /readyz)"),
        ("data, logs", str(servers.folder)),
    )
    lines = [f"  {name:<12} {address}" for name, address in addresses]
    steps = first_steps(_NAMESPACE, servers.nats.url, servers.mongod.url)
    return "\n".join(["", *lines, "", BEFORE, "", steps, AFTER, ""])


async def _show_log(replica: Replica) -> NoReturn:
    log = LogFile(replica.log_path)
    while True:
        for line in log.lines():
            click.secho(line, dim=True)
        await sleep(_LOOK)
