"""The command `collector`."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict

import click

from collector.check.command import check
from collector.dead_letters.command import dead_letters
from collector.demo.command import demo, local
from collector.errors import CollectorError, safe_description
from collector.telemetry.command import status
from transfer.errors import WrongSettings

_RUN_HELP = """Run one replica until SIGTERM or SIGINT; a second signal cancels at once.

Configured from the environment alone. Required: NAMESPACE, NATS_HOSTS (comma list), DATABASE (MongoDB URI; not
required with COLLECTOR_SINK=file:PATH, stdout or blackhole). To log in to NATS: NATS_NKEY (seed), NATS_TOKEN, NATS_USER
and NATS_PASSWORD, or NATS_CREDS (file); NATS_TLS_CA, NATS_TLS_CERT, NATS_TLS_KEY (files). MODE=release writes JSON.
Every secret also as *_FILE. Tunables are COLLECTOR_*; docs/settings.md lists them.

\b
Example:
  NAMESPACE=beta NATS_HOSTS=nats://127.0.0.1:4222 DATABASE=mongodb://127.0.0.1:27017 collector run
"""


class _Commands(click.Group):
    """The commands. That of the archive is imported when it is asked for: the service does without the archive."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted([*super().list_commands(ctx), "archive"])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command."""
        if cmd_name != "archive":
            return super().get_command(ctx, cmd_name)
        from collector.archive.command import archive  # noqa: PLC0415 - see the class

        return archive


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="transfer-collector", prog_name="collector")
def main() -> None:
    """Move log entries from NATS JetStream into MongoDB.

    \b
    New here?  collector demo    shows all of it in under a minute
               collector local   keeps servers and one replica up to try things out
    """  # noqa: D301 - a backspace keeps click from filling the lines


@main.command(help=_RUN_HELP)
def run() -> None:
    """Run one replica; `_RUN_HELP` is what a user reads."""
    from collector.app import serve, starting  # noqa: PLC0415 - --help need not load the drivers
    from collector.settings import Settings  # noqa: PLC0415
    from collector.telemetry.log import log_last_line, set_up  # noqa: PLC0415
    from transfer.environment import Environment  # noqa: PLC0415

    environment = Environment(os.environ)
    try:
        settings = Settings.read_from(environment)
    except WrongSettings as exc:
        if os.environ.get("MODE") == "release":
            set_up(release=True)
            log_last_line("wrong settings", error=str(exc), action="exit status 2")
        else:
            click.echo(str(exc), err=True)
        sys.exit(2)
    set_up(release=settings.release)
    try:
        tally = serve(settings, starting(environment))
    except (CollectorError, OSError, ExceptionGroup) as exc:
        for error in _errors(exc):
            if settings.release:
                log_last_line("ended", error=error, action="exit status 1")
            else:
                click.echo(f"collector: {error}", err=True)
        sys.exit(1)
    log_last_line("stopped", **asdict(tally))


main.add_command(check)
main.add_command(dead_letters)
main.add_command(demo)
main.add_command(local)
main.add_command(status)


def _errors(exc: Exception) -> list[str]:
    from collector.errors import leaves  # noqa: PLC0415

    return [
        str(leaf) if isinstance(leaf, (CollectorError, OSError)) else safe_description(leaf) for leaf in leaves(exc)
    ]
