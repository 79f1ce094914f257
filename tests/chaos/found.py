"""What MongoDB holds in the end: every document and every dead letter, as a sighting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from gridfs import GridFSBucket
from pymongo import MongoClient

from tests.chaos.content import fingerprint, is_faithful
from tests.chaos.verdict import Sighting
from tests.chaos.world import OCCUPIED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pymongo.database import Database

    from tests.chaos.ledger import Ledger
    from transfer.names import Names

ENTRY_HEADER = "Chaos-Entry"
"""Says which entry a message is whose bytes do not: `source number`."""
_NOBODY = ("", -1)


def sightings(uri: str, names: Names, keys: Iterable[str], ledger: Ledger) -> Iterator[Sighting]:
    """Read all that these loggers have."""
    with MongoClient[dict[str, Any]](uri, tz_aware=True) as client:
        database = client[names.database]
        for key in keys:
            for document in database[names.collection(key)].find({"_id": {"$ne": OCCUPIED}}):
                yield _stored(key, document, ledger)
            for letter in database[names.dead_letters(key)].find():
                yield _letter(key, letter, database, names)


def _stored(key: str, document: Mapping[str, Any], ledger: Ledger) -> Sighting:
    name, number = _who(document)
    where = f"_id {document['_id']}"
    source = ledger.sources.get(name)
    if source is None:
        return Sighting(key, name, number, None, where=where)
    special = source.special.get(number)
    faithful = is_faithful(document, special.fingerprint if special else None)
    return Sighting(key, name, number, None, faithful=faithful, where=where)


def _letter(key: str, letter: Mapping[str, Any], database: Database[dict[str, Any]], names: Names) -> Sighting:
    body: bytes = letter["body"]
    if letter["body_file"] is not None:
        bucket = GridFSBucket(database, bucket_name=names.dead_letters(key))
        body = bucket.open_download_stream(letter["body_file"]).read()
    where = f"dead letter {letter['_id']}, sequence {letter['sequence']}, {letter['deliveries']} deliveries"
    name, number = _who_was(letter, body)
    return Sighting(key, name, number, fingerprint(body), reason=letter["reason"], where=f"{where}: {letter['error']}")


def _who_was(letter: Mapping[str, Any], body: bytes) -> tuple[str, int]:
    """Tell from the header which entry a letter was, else from its bytes."""
    for name, value in letter["headers"]:
        if name == ENTRY_HEADER and letter["entry"] is None:
            source, _, number = value.partition(" ")
            return source, int(number)
    try:
        return _who(msgspec.msgpack.decode(body, ext_hook=lambda _, raw: bytes(raw))["data"])
    except (msgspec.DecodeError, ValueError, KeyError, TypeError):
        return _NOBODY


def _who(data: Mapping[str, Any]) -> tuple[str, int]:
    source, number = data.get("source"), data.get("number")
    return (source, number) if isinstance(source, str) and isinstance(number, int) else _NOBODY
