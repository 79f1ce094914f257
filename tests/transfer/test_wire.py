"""Wire formats: bytes written by hand from the msgpack specification, and nothing but typed errors for the rest."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import OrderedDict
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transfer.entries.entry import encode_entry, moment_of, new_id
from transfer.errors import InvalidEntry, InvalidKey, UnreadableSpec
from transfer.wire import ArchiveSpec, CollectionSpec, ColumnKind, LoggerSpec, StreamSpec, decode_spec, encode_spec

HEAD = bytes.fromhex("83 a8") + b"metadata" + bytes.fromhex("c0 a4") + b"data" + bytes.fromhex("80 a9") + b"timestamp"
SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("moment", "extension"),
    [
        (0, "d6 ff 00000000"),
        (1_700_000_000 * SECOND, "d6 ff 6553f100"),
        ((2**32 - 1) * SECOND, "d6 ff ffffffff"),
        (1_700_000_000 * SECOND + 123_456_789, "d7 ff 1d6f3454 6553f100"),
        (2**32 * SECOND, "d7 ff 00000001 00000000"),  # 2106
        ((2**34 - 1) * SECOND + 999_999_999, "d7 ff ee6b27ff ffffffff"),
        (2**34 * SECOND, "c7 0c ff 00000000 0000000400000000"),  # 2514
        (-1, "c7 0c ff 3b9ac9ff ffffffffffffffff"),
        (-SECOND, "c7 0c ff 00000000 ffffffffffffffff"),
        (datetime(1, 1, 1, tzinfo=UTC), "c7 0c ff 00000000 fffffff1886e0900"),  # Go's zero time
        (datetime(2023, 11, 14, 22, 13, 20, 5, UTC), "d7 ff 00004e20 6553f100"),
        (datetime(2023, 11, 15, 0, 13, 20, tzinfo=timezone(timedelta(hours=2))), "d6 ff 6553f100"),
    ],
)
def test_a_timestamp_has_the_form_that_the_go_client_gives_it(moment: datetime | int, extension: str) -> None:
    assert encode_entry({}, moment) == HEAD + bytes.fromhex(extension)


@given(st.integers(min_value=-(2**63) * SECOND, max_value=(2**63) * SECOND - 1))
def test_no_nanosecond_is_lost(moment: int) -> None:
    extension = encode_entry({}, moment)[len(HEAD) :]
    data = extension[2 if extension[0] != 0xC7 else 3 :]
    if len(data) == 12:
        seconds, rest = int.from_bytes(data[4:], "big", signed=True), int.from_bytes(data[:4], "big")
    else:
        rest, seconds = divmod(int.from_bytes(data, "big"), 2**34)
    assert seconds * SECOND + rest == moment


def test_a_datetime_without_a_zone_is_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Etc/GMT-2")
    time.tzset()
    try:
        naive = datetime(2023, 11, 15, 0, 13, 20)  # noqa: DTZ001 - that is the point
        assert encode_entry({}, naive) == HEAD + bytes.fromhex("d6 ff 6553f100")
        assert encode_entry({"at": naive}, 0) == encode_entry({"at": datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)}, 0)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_id_comes_behind_what_the_go_client_sends() -> None:
    body = encode_entry({"msg": "x"}, 0, {"id": 1}, b"0123456789ab")
    assert list(msgspec.msgpack.decode(body)) == ["metadata", "data", "timestamp", "id"]
    assert body.endswith(b"\xa2id\xc4\x0c0123456789ab")


class Level(StrEnum):
    INFO = "info"


def test_what_msgpack_has_no_word_for_and_python_has_is_taken() -> None:
    data = {
        "level": Level.INFO,
        "map": OrderedDict(a=(1, 2)),
        "raw": bytearray(b"\xff"),
        "no": None,
        "yes": True,
        "f": 1.5,
    }
    assert msgspec.msgpack.decode(encode_entry(data, 0))["data"] == {
        "level": "info",
        "map": {"a": [1, 2]},
        "raw": b"\xff",
        "no": None,
        "yes": True,
        "f": 1.5,
    }


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"user": {"tags": [1, 2, 3, range(9)]}}, r"data\.user\.tags\[3\]: expected None, .*, got a range"),
        ({"a": object()}, r"data\.a: .* got an object"),
        ({"a": {1: 2}}, r"data\.a: expected keys to be text, got the key 1"),
        ({"a": 2**63}, r"data\.a: expected an integer of 64 bits, signed, .* got 9223372036854775808"),
        ({"a": 2**9999}, r"data\.a: .* got a larger one"),
        ({"a": ["\ud800"]}, r"data\.a\[0\]: expected text that UTF-8 can encode, got a lone surrogate at position 0"),
        ({"\ud800": 1}, r"data: expected text that UTF-8 can encode"),
        (["a"], r"data: expected a mapping, got a list"),
        (None, r"data: expected a mapping, got a NoneType"),
    ],
)
def test_a_value_that_cannot_be_stored_is_named_by_its_path(data: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidEntry, match=message) as caught:
        encode_entry(data, 0)
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, ValueError)


def test_a_value_in_itself_and_one_too_deep_are_refused() -> None:
    loop: dict[str, object] = {}
    loop["self"] = loop
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    for data in (loop, {"deep": deep}):
        with pytest.raises(InvalidEntry, match="too many levels"):
            encode_entry(data, 0)


def test_fields_named_as_those_of_the_document_keep_their_place_under_another_name() -> None:
    data = {"a": 1, "timestamp": 2, "metadata": {"host": "web-1"}, "timestamp_": 3}
    found = msgspec.msgpack.decode(encode_entry(data, 0))["data"]
    assert list(found.items()) == [("a", 1), ("timestamp__", 2), ("metadata_", {"host": "web-1"}), ("timestamp_", 3)]


@pytest.mark.parametrize(
    ("timestamp", "metadata", "entry_id", "path"),
    [
        ("now", None, None, "timestamp"),
        (True, None, None, "timestamp"),
        (0, [], None, "metadata"),
        (0, None, b"5", "id"),
    ],
)
def test_the_rest_of_an_entry_is_checked_too(timestamp: int, metadata: None, entry_id: bytes, path: str) -> None:
    with pytest.raises(InvalidEntry, match=f"^{path}: expected"):
        encode_entry({}, timestamp, metadata, entry_id)


@pytest.mark.parametrize("timestamp", [10**30, -(10**20), 253_402_300_800 * SECOND, "now", True])
def test_a_timestamp_that_would_be_a_dead_letter_is_refused(timestamp: object) -> None:
    with pytest.raises(InvalidEntry, match=r"^timestamp: expected"):
        moment_of(timestamp)


def test_a_plain_spec_is_the_map_of_the_go_client() -> None:
    expected = bytes.fromhex("82 a3") + b"key" + b"\xa6system" + b"\xabdescription"
    assert encode_spec(LoggerSpec("system", "beta")) == expected + b"\xa4beta"
    assert encode_spec(LoggerSpec("system")) == expected + b"\xa0"
    assert decode_spec("system", expected + b"\xa4beta") == LoggerSpec("system", "beta")


def test_a_full_spec_makes_the_round_trip_and_unknown_fields_are_ignored() -> None:
    collection = CollectionSpec(kind="timeseries", expire_after_seconds=3600, granularity="minutes")
    spec = LoggerSpec("a", "b", collection, StreamSpec(replicas=3, max_age=1.5, max_bytes=5, storage="memory"))
    assert decode_spec("a", encode_spec(spec)) == spec
    later = msgspec.msgpack.decode(encode_spec(spec)) | {"schema": {"x": 1}}
    assert decode_spec("a", msgspec.msgpack.encode(later)) == spec


def test_an_archive_makes_the_round_trip_and_an_empty_one_is_no_missing_one() -> None:
    columns: dict[str, ColumnKind] = {"user.id": "int64"}
    archive = ArchiveSpec(to="s3://bucket/logs", format="parquet", window=60, key="metadata.host", columns=columns)
    for spec in (LoggerSpec("a", archive=archive), LoggerSpec("a", archive=ArchiveSpec(), destination="archive")):
        assert decode_spec("a", encode_spec(spec)) == spec
    assert msgspec.msgpack.decode(encode_spec(LoggerSpec("a", archive=ArchiveSpec())))["archive"] == {}
    later = msgspec.msgpack.encode({"key": "a", "archive": {"to": "/backup", "later": 1}})
    assert decode_spec("a", later).archive == ArchiveSpec(to="/backup")


@pytest.mark.parametrize(
    ("archive", "named"),
    [
        (5, "archive"),
        ({"to": "backup"}, "archive.to"),
        ({"to": "hunter2"}, "archive.to"),
        ({"format": "avro"}, "format"),
        ({"compression": "lz4"}, "compression"),
        ({"window": 0}, "window"),
        ({"window": "15m"}, "window"),
        ({"window": float("nan")}, "window"),
        ({"max_bytes": 1}, "max_bytes"),
        ({"max_messages": 0}, "max_messages"),
        ({"key": "metadata..host"}, "archive.key"),
        ({"path": "{capture}/{date}"}, "archive.path"),
        ({"format": "csv", "columns": {"a": "text"}}, "columns"),
        ({"columns": {"a": "string"}}, "archive.columns"),
        ({"metadata": ["_seq"]}, "metadata"),
        ({"format": "raw", "metadata": ["_headers"]}, "archive.metadata"),
    ],
)
def test_an_archive_that_is_wrong_is_named_in_the_one_error_there_is(archive: object, named: str) -> None:
    with pytest.raises(UnreadableSpec) as caught:
        decode_spec("a", msgspec.msgpack.encode({"key": "a", "archive": archive}))
    assert named in caught.value.why
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\xc1",
        b"{}",
        b"\x80",
        b"\x82\xa3key\xa1a",
        b"\x81\xa3key\xa1b",
        b"\x81\xa3key\xa3a b",
        b"\x81\xa3key\xa1\xff",
        b"\x81\xa3key\xa1a\x00",
        b"\x82\xa3key\xa1a\xa1x" + b"\x91" * 100_000 + b"\xc0",
        msgspec.msgpack.encode({"key": "a", "collection": {"kind": "odd"}}),
        msgspec.msgpack.encode({"key": "a", "collection": {"granularity": "hours"}}),
        msgspec.msgpack.encode({"key": "a", "stream": {"replicas": 0}}),
        msgspec.msgpack.encode({"key": "a", "description": 5}),
        msgspec.msgpack.encode({"key": "a", "destination": "archive"}),
    ],
)
def test_a_value_that_is_no_spec_is_unreadable(value: bytes) -> None:
    with pytest.raises(UnreadableSpec) as caught:
        decode_spec("a", value)
    assert caught.value.key == "a"
    assert caught.value.why


@given(st.binary() | st.builds(lambda junk: b"\x82\xa3key\xa1a\xaacollection" + junk, st.binary()))
def test_garbage_is_never_anything_but_unreadable(value: bytes) -> None:
    with suppress(UnreadableSpec):
        assert decode_spec("a", value).key == "a"


def test_a_spec_that_no_reader_could_read_is_not_written() -> None:
    with pytest.raises(InvalidKey):
        LoggerSpec("a b")
    with pytest.raises(UnreadableSpec, match="description"):
        encode_spec(LoggerSpec("a", 5))  # type: ignore[arg-type]


def test_ids_are_object_ids_of_now_that_never_repeat() -> None:
    before = int(time.time())
    ids = [new_id() for _ in range(1000)]
    assert {len(one) for one in ids} == {12}
    assert len(set(ids)) == 1000
    assert {one[4:9] for one in ids} == {ids[0][4:9]}
    assert before <= int.from_bytes(ids[0][:4], "big") <= time.time()


@pytest.mark.parametrize("fork", ["os.fork", "ctypes.PyDLL(None).fork"])
@pytest.mark.parametrize("told_by", ["page", "number"])
def test_a_fork_makes_ids_of_its_own(fork: str, told_by: str) -> None:
    """Python is told of the fork or not, and the system has a page of memory that children find empty, or has none."""
    program = f"""
import ctypes, os
from transfer.system import forks
if {told_by!r} == "number":
    forks._page, forks._mark = None, bytearray([1])
from transfer.entries.entry import new_id
mine, (reader, writer) = new_id(), os.pipe()
if {fork}():
    assert os.read(reader, 12)[4:9] != mine[4:9] == new_id()[4:9]
else:
    os.write(writer, new_id())
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=20)
