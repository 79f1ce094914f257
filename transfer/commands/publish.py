# ruff: noqa: T201 - its output
"""`transfer publish`: one entry of the command line, or one a line of a file or of standard input."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from transfer.commands.connected import connected
from transfer.commands.output import print_json

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from transfer.client import Transfer
    from transfer.entries.line_entry import LineReader, Parts
    from transfer.publishing import Confirmation


def publish(options: argparse.Namespace) -> int:
    """Publish one entry, or the lines of a file or of standard input."""
    from transfer.entries.line_entry import Form, LineReader  # noqa: PLC0415 - see `connected`

    reader = LineReader(Form(options.form), options.timestamp_field, options.metadata_field)
    if reader.form is Form.TEXT and (reader.timestamp_field or reader.metadata_field):
        options.parser.error("expected --timestamp-field and --metadata-field with JSON, got --from text: it has none")
    if options.data not in (None, "-"):
        if options.file is not None or options.bundles:
            options.parser.error("expected --file and --bundles with lines, got them with DATA: leave one out")
        return _publish_entry(options, _entry(options, reader))
    from transfer.bulk.lines import publish_lines  # noqa: PLC0415 - see `connected`

    with _opened(options) as lines:
        return asyncio.run(publish_lines(options.key, lines, reader, bundles=options.bundles, as_json=options.json))


@contextmanager
def _opened(options: argparse.Namespace) -> Iterator[int]:
    """Give the descriptor of the file, or that of standard input."""
    if options.file is None:
        yield sys.stdin.fileno()
        return
    parser: argparse.ArgumentParser = options.parser
    try:
        file = Path(options.file).open("rb", buffering=0)  # noqa: SIM115 - only opening it is wrong use
    except OSError as error:
        parser.error(f"--file: expected a file that can be read, got {options.file!r}: {error.strerror}")
    with file:
        yield file.fileno()


def _entry(options: argparse.Namespace, reader: LineReader) -> Parts:
    from transfer.entries.line_entry import NotALine  # noqa: PLC0415 - see `connected`
    from transfer.errors import InvalidEntry  # noqa: PLC0415 - see `connected`

    try:
        return reader.read(os.fsencode(options.data))
    except InvalidEntry as error:
        parser: argparse.ArgumentParser = options.parser
        hint = f"; {error.hint}" if isinstance(error, NotALine) and error.hint else ""
        parser.error(f"argument DATA: {error}{hint}")


def _publish_entry(options: argparse.Namespace, parts: Parts) -> int:
    @connected
    async def publish_it(transfer: Transfer, options: argparse.Namespace) -> int:
        for note in parts.notes.values():
            print(f"transfer: {note}", file=sys.stderr)
        _show(
            options,
            await transfer.publish(options.key, parts.data, timestamp=parts.moment, metadata=parts.metadata),
        )
        return 0

    return publish_it(options)


def _show(options: argparse.Namespace, confirmation: Confirmation) -> None:
    said = {"stream": confirmation.stream, "sequence": confirmation.sequence, "id": confirmation.id.hex()}
    if options.json:
        print_json(said)
    else:
        print(f"confirmed: {said['stream']} sequence {said['sequence']} id {said['id']}")
