"""What becomes of an entry: the document, the dead letter, the collection. MongoDB is the judge."""

from __future__ import annotations

import gzip
import struct
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.ancestor import MESSAGE, Ancestor, entry, text
from tests.support.waiting import count, until, until_empty

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymongo.database import Database

    from collector.local import Replica


pytestmark = pytest.mark.timeout(300)


async def test_an_entry_of_the_go_client_becomes_the_documented_document(
    start_replica: Callable[..., Replica], go: Ancestor, database: Database[dict[str, Any]]
) -> None:
    start_replica()
    await go.declare("system")
    await go.publish("system", [entry(7)])
    await until(lambda: count(database, "system") == 1, 5)
    found = database.system_logs.find_one()
    assert found is not None
    assert found.pop("_id") is not None
    assert found == {
        "msg": MESSAGE,
        "number": 7,
        "timestamp": datetime(2023, 11, 14, 22, 13, 20, 123_000, tzinfo=UTC),
        "metadata": {"number": 7},
    }


async def test_a_dead_letter_has_the_original_bytes_and_headers_and_says_why(
    start_replica: Callable[..., Replica], go: Ancestor, database: Database[dict[str, Any]], namespace: str
) -> None:
    start_replica()
    await go.declare("system")
    await go.publish("system", [entry(1)])
    await go.publish("system", [b"\xc1 is no msgpack"], {"X-Origin": "here", "Content-Type": "application/msgpack"})
    await until(lambda: database.system_fail.count_documents({}) == 1, 5)
    letter = database.system_fail.find_one()
    assert letter is not None
    assert letter["body"] == b"\xc1 is no msgpack"
    assert letter["headers"] == [["X-Origin", "here"], ["Content-Type", "application/msgpack"]]
    assert letter["reason"] == "malformed"
    assert (letter["subject"], letter["stream"]) == (f"{namespace}.logs.system", f"{namespace}:logs:system")
    assert (letter["sequence"], letter["entry"], letter["deliveries"]) == (2, None, 1)
    assert letter["published_at"] <= letter["failed_at"]
    assert letter["error"]
    await until(lambda: count(database, "system") == 1, 5)
    await until_empty(go.jetstream, f"{namespace}:logs:system")


def in_map(data: bytes) -> bytes:
    return b"\x81" + text("data") + data


def nested(levels: int) -> bytes:
    return in_map((b"\x81" + text("a")) * levels + b"\xc0")


def timed(timestamp: bytes) -> bytes:
    return b"\x82" + text("data") + b"\x81" + text("a") + b"\x01" + text("timestamp") + timestamp


BUNDLE = {"Content-Type": "application/vnd.transfer.bundle+msgpack"}
TOO_DEEP = "malformed or document_invalid"  # Python or MongoDB finds it so, by the version of Python
GO_ZERO_TIME = b"\xc7\x0c\xff" + struct.pack(">Iq", 0, -62_135_596_800)
BAD: dict[str, tuple[bytes, dict[str, str] | None, str]] = {
    "undecodable bytes": (b"\xc1\xff\x00", None, "malformed"),
    "no data": (b"\x81" + text("metadata") + b"\xc0", None, "malformed"),
    "data null": (in_map(b"\xc0"), None, "malformed"),
    "a key that is no text": (in_map(b"\x81\x01\x02"), None, "malformed"),
    "a nested key that is no text": (in_map(b"\x81" + text("a") + b"\x81\x01\x02"), None, "document_invalid"),
    "a NaN timestamp": (timed(b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00"), None, "malformed"),
    "uint64 above int64": (in_map(b"\x81" + text("a") + b"\xcf" + b"\xff" * 8), None, "document_invalid"),
    "2,000 nested maps": (nested(2000), None, TOO_DEEP),
    "300 nested maps": (nested(300), None, "document_invalid"),
    "invalid UTF-8": (in_map(b"\x81" + text("a") + b"\xa2\xff\xfe"), None, "malformed"),
    "a zip bomb": (gzip.compress(bytes(200_000_000)), {"Content-Encoding": "gzip"}, "too_large_inflated"),
    "an unknown content type": (entry(1), {"Content-Type": "text/html"}, "malformed"),
    "an empty message": (b"", None, "malformed"),
}
GOOD: dict[str, tuple[bytes, int]] = {
    "year 1": (timed(GO_ZERO_TIME), datetime.now(UTC).year),
    "year 9999": (timed(b"\xc7\x0c\xff" + struct.pack(">Iq", 0, 253_402_300_799)), 9999),
    "5 MiB": (in_map(b"\x81" + text("a") + b"\xdb" + struct.pack(">I", 5 << 20) + b"x" * (5 << 20)), 0),
}


async def test_bad_input_becomes_dead_letters_and_harms_nothing_else(
    start_replica: Callable[..., Replica], go: Ancestor, database: Database[dict[str, Any]], namespace: str
) -> None:
    replica = start_replica()
    await go.declare("mixed")
    for number, (body, headers, _) in enumerate(BAD.values()):
        await go.publish("mixed", [body], headers)
        await go.publish("mixed", [entry(number)])
    for body, _ in GOOD.values():
        await go.publish("mixed", [body])
    bundle = b"\xdc\x00\x65" + b"".join(entry(1000 + n) for n in range(50)) + in_map(b"\xc0")
    bundle += b"".join(entry(1050 + n) for n in range(50))
    await go.publish("mixed", [bundle], BUNDLE)
    stored = len(BAD) + len(GOOD) + 100
    await until(lambda: count(database, "mixed") == stored, 20)
    await until(lambda: database.mixed_fail.count_documents({}) == len(BAD) + 1, 20)

    letters = list(database.mixed_fail.find())
    by_body = {letter["body"]: letter for letter in letters}
    for name, (body, _, reason) in BAD.items():
        assert by_body[body]["reason"] in reason.split(" or "), f"{name}: {by_body[body]['error']}"
    assert by_body[in_map(b"\xc0")]["reason"] == "malformed"
    assert sorted(letter["entry"] for letter in letters if letter["entry"] is not None) == [50]
    years = Counter(found["timestamp"].year for found in database.mixed_logs.find({"number": {"$exists": False}}))
    assert years[9999] == 1
    assert 1 not in years
    await until_empty(go.jetstream, f"{namespace}:logs:mixed")
    assert replica.metric("collector_actor_restarts_total") == 0
    assert replica.metric("collector_dead_lettered_entries_total") == len(BAD) + 1


async def test_users_own_ids_count_as_written_only_for_the_same_document(
    start_replica: Callable[..., Replica], go: Ancestor, database: Database[dict[str, Any]]
) -> None:
    start_replica()
    await go.declare("own")

    def with_id(value: int) -> bytes:
        data = b"\x82" + text("_id") + text("mine") + text("v") + bytes([value])
        return timed(b"\x01").replace(b"\x81" + text("a") + b"\x01", data)

    await go.publish("own", [with_id(1), with_id(1), with_id(2)])
    await until(lambda: database.own_fail.count_documents({}) == 1, 5)
    assert [found["v"] for found in database.own_logs.find()] == [1]
    letter = database.own_fail.find_one()
    assert letter is not None
    assert letter["reason"] == "duplicate_key"
    assert letter["body"] == with_id(2)


async def test_a_time_series_collection_is_made_when_the_spec_asks_and_never_altered(
    start_replica: Callable[..., Replica], go: Ancestor, database: Database[dict[str, Any]]
) -> None:
    start_replica()
    kind = b"\x81" + text("kind") + text("timeseries")
    spec = b"\x83" + text("key") + text("metered") + text("description") + text("") + text("collection") + kind
    await go.make_stream("metered")
    await go.put("metered", spec)
    await go.publish("metered", [entry(number) for number in range(10)])
    await until(lambda: database.metered_logs.count_documents({}) == 10, 5)
    options = database.metered_logs.options()
    assert options["timeseries"]["timeField"] == "timestamp"
    assert options["timeseries"]["metaField"] == "metadata"
