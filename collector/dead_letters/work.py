"""The work of `collector dead-letters` on the letters of one logger: settings, the four requests, the output."""

from __future__ import annotations

import json
import os
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import click

from collector.dead_letters import table
from collector.dead_letters.files import LetterFileReader, LetterFiles
from collector.dead_letters.letters import DeadLetterReader
from collector.dead_letters.redrive import Redriven, redrive
from collector.dead_letters.requests import List, Purge, Redrive, Show
from collector.errors import CollectorError
from collector.jetstream.publisher import publishing
from collector.mongodb.calls import database_of, open_mongo
from collector.settings import Places, read_namespace
from transfer.environment import Environment
from transfer.errors import TransferError, WrongSettings
from transfer.jetstream.connection import open_connection
from transfer.names import Names
from transfer.nats_settings import NatsSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from click._termui_impl import ProgressBar

    from collector.dead_letters.letters import Letters
    from collector.dead_letters.requests import Request

_MANY = 200
"""Letters from which on a terminal shows a progress bar."""


def run(request: Request) -> int:
    """Do the work of one request and return the exit status."""
    try:
        return anyio.run(_run, request)
    except WrongSettings as error:
        click.echo(str(error), err=True)
        return 2
    except (CollectorError, TransferError) as error:
        return _print_error(str(error))


async def _run(request: Request) -> int:
    settings = _Settings(with_nats=isinstance(request, Redrive) and not request.dry_run)
    async with _letters(settings, request.key) as letters:
        if missing := await letters.missing():
            return _print_error(f"expected a logger that has stored anything, but there is neither {missing}")
        match request:
            case List():
                return await _list(request, letters)
            case Show():
                return await _show(request, letters)
            case Redrive():
                return await _redrive(request, letters, settings)
            case Purge():
                return await _purge(request, letters)


class _Settings:
    """The settings of a command, read from the environment. Raises WrongSettings, which names every wrong variable."""

    def __init__(self, *, with_nats: bool) -> None:
        environment = Environment(os.environ)
        namespace = read_namespace(environment)
        self.nats: NatsSettings | None = NatsSettings.read(environment) if with_nats else None
        self.places = Places.read(environment)
        environment.finish()
        self.names = Names(namespace)


@asynccontextmanager
async def _letters(settings: _Settings, key: str) -> AsyncIterator[Letters]:
    names, places = settings.names, settings.places
    if places.database is None:
        yield LetterFileReader(LetterFiles(places.files, key), places.files / f"{key}.ndjson")
        return
    async with open_mongo(places.database.read()) as client:
        yield DeadLetterReader(database_of(client, names.database), names.dead_letters(key), names.collection(key))


async def _list(request: List, letters: Letters) -> int:
    found = False
    async for group in letters.find(request.wanted):
        if not (found or request.as_json):
            click.echo(table.HEAD)
        for letter in group:
            click.echo(json.dumps(table.values(letter)) if request.as_json else table.row(letter))
        found = True
    if not found:
        click.echo(f"no dead letters of {request.key}", err=True)
    return 0


async def _show(request: Show, letters: Letters) -> int:
    found = await letters.read([request.letter_id])
    if not found or found[0].body is None:
        return _print_error(f"expected a dead letter {request.letter_id} of {request.key!r} with its body, found none")
    if request.raw:
        sys.stdout.buffer.write(found[0].body)
    elif request.as_json:
        click.echo(json.dumps(table.whole(found[0], found[0].body)))
    else:
        click.echo("\n".join(table.lines(found[0], found[0].body)))
    return 0


async def _redrive(request: Redrive, letters: Letters, settings: _Settings) -> int:
    if settings.nats is None:  # a dry run
        return _print_result({"would_redrive": await letters.count(request.wanted)}, as_json=request.as_json)
    result, error = await _publish_again(request, letters, settings.names, settings.nats)
    for letter_id, why in result.left:
        _print_error(f"{letter_id} is left: {why}")
    left = [{"id": str(letter_id), "why": why} for letter_id, why in result.left]
    status = _print_result(
        {"redriven": result.redriven, "left": left if request.as_json else len(left)}, as_json=request.as_json
    )
    if error is not None:
        return _print_error(f"{error}; what was not confirmed is left, run the same again")
    return 1 if left else status


async def _publish_again(
    request: Redrive, letters: Letters, names: Names, nats: NatsSettings
) -> tuple[Redriven, Exception | None]:
    """Return the outcomes of the letters, and the error that ended the redrive early, if any."""
    result, total = Redriven(), await letters.count(request.wanted)
    async with (
        open_connection(nats, name="collector dead-letters redrive") as connection,
        publishing(connection, names.subject(request.key), names.stream(request.key)) as publisher,
    ):
        with _progress(total) as bar:
            try:
                async for group in letters.find(request.wanted):
                    await redrive(letters, group, publisher, result)
                    bar.update(len(group))
            except (TransferError, CollectorError) as error:
                return result, error
    return result, None


async def _purge(request: Purge, letters: Letters) -> int:
    total = await letters.count(request.wanted)
    if request.dry_run or not total:
        return _print_result({"would_purge" if request.dry_run else "purged": total}, as_json=request.as_json)
    if not request.yes:
        click.confirm(f"Remove {total} dead letters of {request.key} for good?", abort=True, err=True)
    purged = 0
    with _progress(total) as bar:
        async for group in letters.find(request.wanted):
            purged += await letters.remove(group)
            bar.update(len(group))
    return _print_result({"purged": purged}, as_json=request.as_json)


def _print_result(result: dict[str, object], *, as_json: bool) -> int:
    click.echo(
        json.dumps(result) if as_json else ", ".join(f"{name.replace('_', ' ')}: {n}" for name, n in result.items())
    )
    return 0


def _print_error(sentence: str) -> int:
    click.echo(f"collector: {sentence}", err=True)
    return 1


def _progress(total: int) -> ProgressBar[int]:
    return click.progressbar(length=total, file=sys.stderr, hidden=total < _MANY or not sys.stderr.isatty())
