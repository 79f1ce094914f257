"""The command `collector archive`: its group. Each command of it is in a `command.py` of the folder of its subject."""

from __future__ import annotations

import click

from collector.archive.capturing.command import run
from collector.archive.listing.command import list_, status
from collector.archive.proof.command import verify
from collector.archive.replaying.command import replay

_HELP = """Keep streams as files, each message in exactly one.

The files are in a folder or an object store. Needs no MongoDB and no namespace. NATS comes from the environment, as for
`collector run`: NATS_HOSTS, and NATS_NKEY, NATS_TOKEN, NATS_USER and NATS_PASSWORD, or NATS_CREDS. So does the login
to an object store, by the variables of its cloud such as AWS_ACCESS_KEY_ID. Each secret may be in a file, which *_FILE
names.
"""


@click.group(help=_HELP)
def archive() -> None:
    """Look after archives; `_HELP` is what a user reads."""


archive.add_command(list_)
archive.add_command(replay)
archive.add_command(status)
archive.add_command(verify)
archive.add_command(run)
