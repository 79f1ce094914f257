"""The commands `collector demo` and `collector local`."""

from __future__ import annotations

import sys

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON; progress goes to standard error.")
def demo(*, as_json: bool) -> None:
    """Show all of it in under a minute, on servers of its own.

    Starts nats-server, mongod and two replicas in a temporary folder, feeds them live logs and orders, adds and removes
    loggers, sends bad messages and kills a replica meanwhile, and compares what was confirmed with what arrived. Exit
    status 0: each entry arrived once. Everything it started is gone afterwards.
    """
    from collector.demo.main import run_demo  # noqa: PLC0415 - embedded servers are no part of `run`

    sys.exit(run_demo(as_json=as_json))


@click.command()
def local() -> None:
    """Keep servers and one replica up until Ctrl-C, and print what to paste into another terminal.

    On ports 4222, 27017 and 8080 of 127.0.0.1, or others when these are taken. Everything is gone afterwards.
    """
    from collector.demo.playground import stay_up  # noqa: PLC0415 - embedded servers are no part of `run`

    sys.exit(stay_up())
