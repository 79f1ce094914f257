"""The entries of `transfer tail`, printed as they come; the only module of it that brings the driver along."""

from __future__ import annotations

import io
import os
import sys
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from transfer.errors import TransferError
from transfer.ndjson import json_object
from transfer.tail.follow import follow_plain, follow_series
from transfer.tail.lines import readable_line
from transfer.tail.stored import Selection, kind_of, open_collection, read_stored, until_made

if TYPE_CHECKING:
    import argparse
    from collections.abc import Generator

    from pymongo.collection import Collection

    from transfer.tail.stored import Document

_LINES = 10


class NothingStored(TransferError):
    """There is no collection of that logger: nothing was stored yet, or the name is another."""

    def __init__(self, collection: str) -> None:
        super().__init__(
            f"expected a collection {collection!r}, got none of that name: look at NAMESPACE and KEY, and whether a "
            "collector stores its entries; --follow waits for the first"
        )


def print_entries(uri: str, namespace: str, options: argparse.Namespace) -> None:
    """Print what is asked for; see `tail`."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    with open_collection(uri, namespace, options.key) as collection, closing(_entries(collection, options)) as entries:
        for document in entries:
            line = json_object(document).decode() if options.json else readable_line(document, coloured=coloured)
            print(line, flush=options.follow)  # noqa: T201 - its output
    sys.stdout.flush()  # here, where a broken pipe is caught


def _entries(collection: Collection[dict[str, Any]], options: argparse.Namespace) -> Generator[Document, None, None]:
    lines = _LINES if options.lines is None and options.since is None else options.lines
    selection = Selection(options.where, options.since, lines)
    kind = kind_of(collection)
    if kind is None:
        if not options.follow:
            raise NothingStored(collection.full_name)
        _say(f"no collection {collection.full_name!r} yet, waiting for it")
        selection = Selection(options.where)  # all that will be in it is new
        kind = until_made(collection)
    if not options.follow:
        yield from read_stored(collection, kind, selection)
    elif kind == "timeseries":
        yield from follow_series(collection, selection, timedelta(seconds=options.late), _say)
    else:
        yield from follow_plain(collection, selection, _say)


def _say(text: str) -> None:
    print(f"transfer: {text}", file=sys.stderr, flush=True)  # noqa: T201 - its output
