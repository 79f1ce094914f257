"""Each value of a row comes back out of a block, in each format and each compression, and always as the same bytes."""

from __future__ import annotations

import csv
import io
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.archive.compression import CONTEXTS, Compression, Packing
from collector.archive.decoders import AsItCame, Entries, PlainJson
from collector.archive.formats.columns import DATA, FACTS, REST, declared
from collector.archive.formats.csv import Csv
from collector.archive.formats.dead import write_letters
from collector.archive.formats.ndjson import Ndjson
from collector.archive.formats.parquet import Parquet
from collector.archive.formats.raw import Raw
from collector.archive.rows import Reading, Row, raw_row
from tests.support.archiving import block, inflated, lines_in, message, messages, parquet_in, rows_of
from tests.support.wire_bytes import INCARNATION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collector.archive.formats import Format

EACH = list(Compression)
PLAIN = Packing(Compression.NONE)
KINDS = {
    "text": "string",
    "n": "int64",
    "x": "double",
    "yes": "boolean",
    "at": "timestamp",
    "any": "json",
    "in.ner.a": "string",
    "in.b": "int64",
}
COLUMNS = declared(KINDS)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 70), 1 << 70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["", "nan", "inf", "\0", "\r", "a\nb", 'q"q', "x,y", "2024-05-06T07:08:09.123Z", "2024-05-06"]),
    st.text(),
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)
maps = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("text", "n", "x", "yes", "at", "any", "in.ner.a"), values)
    | {"in": st.fixed_dictionaries({}, optional={"ner": st.dictionaries(st.just("a"), values), "b": values}) | values}
    | {"more": values},
)
anything = st.lists(st.one_of(maps, values), max_size=5)


def rows_with(given_values: Sequence[Any]) -> list[Row]:
    return rows_of(PlainJson(INCARNATION), messages(map(msgspec.json.encode, given_values)))


def merged(columns: dict[str, Any], rest: str | None) -> Any:
    """Put the columns of a row back into what is left."""
    whole = None if rest is None else msgspec.json.decode(rest)
    for name, value in columns.items():
        if value is not None:
            whole = {} if whole is None else whole
            inner = whole
            *parents, last = name.split(".")
            for parent in parents:
                inner = inner.setdefault(parent, {})
            inner[last] = value
    return whole


def without_nulls(value: Any, names: Sequence[str] = tuple(KINDS)) -> Any:
    """Return data without nulls in declared columns, and without maps that are empty: both come back as nothing."""
    if not isinstance(value, dict):
        return value
    kept = {name: item for name, item in value.items() if item is not None or name not in {*names, "a", "b"}}
    cleaned = {name: without_nulls(item, names) for name, item in kept.items()}
    return {name: item for name, item in cleaned.items() if item != {}} or None


def same(left: Any, right: Any) -> bool:
    """Tell whether two values are the same JSON, whole doubles included."""
    return bool(without_nulls(left) == without_nulls(right))


# --- round trips


@settings(max_examples=40)
@given(anything)
def test_ndjson_holds_every_value(given_values: list[Any]) -> None:
    rows = rows_with(given_values)
    lines = lines_in(form := Ndjson(PLAIN), block(form, rows))
    assert [line["data"] for line in lines] == [msgspec.json.decode(row.data) for row in rows]


@settings(max_examples=40)
@given(anything)
def test_parquet_holds_every_value_as_json_text(given_values: list[Any]) -> None:
    rows = rows_with(given_values)
    found = [row["data"] for row in parquet_in(block(Parquet(), rows))]
    assert found == [None if bytes(row.data) == b"null" else bytes(row.data).decode() for row in rows]


@settings(max_examples=40)
@given(anything)
def test_parquet_holds_every_value_in_its_column_or_in_the_rest(given_values: list[Any]) -> None:
    rows = rows_with(given_values)
    for found, row in zip(parquet_in(block(Parquet(columns=COLUMNS), rows)), rows, strict=True):
        columns = {name: found[name] for name in KINDS}
        whole = msgspec.json.decode(row.data)
        if columns["any"] is not None:
            columns["any"] = msgspec.json.decode(columns["any"])
        if columns["at"] is not None:
            assert columns.pop("at") == datetime.fromisoformat(whole.pop("at")).astimezone(UTC)
        if columns["x"] is not None and not math.isfinite(columns["x"]):
            columns["x"] = str(columns["x"])
        assert same(merged(columns, found[REST]), whole)


@settings(max_examples=40)
@given(anything)
def test_csv_holds_every_value_in_its_column_or_in_the_rest(given_values: list[Any]) -> None:
    rows = rows_with(given_values)
    text = block(Csv(PLAIN, COLUMNS), rows).decode()
    read = list(csv.DictReader(io.StringIO(text, newline="")))
    back: dict[str, Any] = {"n": int, "x": float, "yes": "true".__eq__, "any": msgspec.json.decode, "in.b": int}
    for found, row in zip(read, rows, strict=True):
        whole = msgspec.json.decode(row.data)
        columns = {name: back.get(name, str)(found[name]) for name in KINDS if found[name]}
        if "at" in columns:
            moment = datetime.fromisoformat(columns.pop("at"))
            assert moment == datetime.fromisoformat(whole.pop("at")).astimezone(UTC)
        if "x" in columns and not math.isfinite(columns["x"]):
            columns["x"] = str(columns["x"])
        assert same(merged(columns, found[REST] or None), whole)


@settings(max_examples=40)
@given(st.lists(st.binary(max_size=30), max_size=5), st.booleans())
def test_raw_holds_every_body(bodies: list[bytes], text: bool) -> None:
    lines = lines_in(form := Raw(PLAIN, text=text), block(form, rows_of(AsItCame(), messages(bodies))))
    found = []
    for line in lines:
        held = line.get("data_base64", None if text else line["data"])
        found.append(line["data"].encode() if held is None else msgspec.json.decode(f'"{held}"', type=bytes))
    assert found == bodies


def test_a_raw_record_has_everything_that_came_with_a_message() -> None:
    raw_headers = b"NATS/1.0\r\nA: 1\r\nB:  two \r\na: 3\r\nNothing\r\n\r\n"
    rows = rows_of(AsItCame(), [message(b"{}", 5, raw_headers=raw_headers)])
    (line,) = lines_in(form := Raw(PLAIN), block(form, rows))
    assert line == {
        "stream": "ORDERS",
        "consumer": "cap",
        "subject": "shop.orders",
        "reply": "$JS.ACK.ORDERS.cap.1.5.5.1714979289123456794.0",
        "stream_sequence": 5,
        "consumer_sequence": 5,
        "deliveries": 1,
        "time": "2024-05-06T07:08:09.123456794Z",
        "headers": [["A", "1"], ["B", "two"], ["a", "3"], ["Nothing", ""]],
        "data": "e30=",
    }
    (line,) = lines_in(form, block(form, [Row(message(b"", raw_headers=b"NATS/1.0\r\nA: \xff\r\n\r\n"))]))
    assert line["headers_base64"] == "TkFUUy8xLjANCkE6IP8NCg0K"


def test_the_consumer_sequence_is_read_with_a_domain_and_is_null_without_a_consumer() -> None:
    with_domain = msgspec.structs.replace(message(b""), reply="$JS.ACK.hub.acc.ORDERS.cap.1.7.8.9.0.x")
    direct = msgspec.structs.replace(message(b""), reply="")
    lines = lines_in(form := Raw(PLAIN), block(form, [Row(with_domain), Row(direct)]))
    assert [(line["consumer"], line["consumer_sequence"]) for line in lines] == [("cap", 8), (None, None)]


# --- every compression, every way to fill a block, the same bytes


FORMS: dict[str, Any] = {
    "ndjson": lambda packing, _: Ndjson(packing, headers=True, deliveries=True),
    "csv": lambda packing, _: Csv(packing, COLUMNS, headers=True, deliveries=True),
    "raw": lambda packing, _: Raw(packing),
    "parquet": lambda _, compression: Parquet(compression, COLUMNS, headers=True, deliveries=True),
}
ENTRIES = [b'{"data":{"n":%d,"text":"%b"},"timestamp":%d}' % (n, b"x" * (n % 500), n) for n in range(3000)]


@pytest.mark.parametrize("compression", EACH)
@pytest.mark.parametrize("name", FORMS)
def test_the_same_rows_always_make_the_same_bytes(name: str, compression: Compression) -> None:
    rows = rows_of(Entries(INCARNATION), messages(ENTRIES))
    packing = Packing(compression)
    form: Format = FORMS[name](packing, compression)
    contents = [block(form, rows, chunk) for chunk in (1, 250, len(rows))]
    contents.append(block(FORMS[name](Packing(compression), compression), rows))
    writers = [form.open(io.BytesIO()) for _ in range(CONTEXTS)]  # no context is left: the next block is held
    contents.append(block(form, rows))
    for writer in writers:
        writer.drop()
    assert len(set(contents)) == 1
    plain = block(FORMS[name](PLAIN, Compression.NONE), rows)
    if name == "parquet":
        assert parquet_in(contents[0]) == parquet_in(plain)
    else:
        assert inflated(form, contents[0]) == plain


@pytest.mark.parametrize("compression", EACH)
@pytest.mark.parametrize("name", FORMS)
def test_a_block_without_rows_can_be_read(name: str, compression: Compression) -> None:
    form: Format = FORMS[name](Packing(compression), compression)
    content = block(form, [])
    found = parquet_in(content) if name == "parquet" else inflated(form, content).splitlines()
    assert len(found) == (name == "csv")


def test_a_block_that_is_dropped_gives_its_context_back() -> None:
    packing = Packing(Compression.ZSTD)
    for _ in range(3 * CONTEXTS):
        packing.open(io.BytesIO()).drop()
    form = Ndjson(packing)
    out = io.BytesIO()
    writer = form.open(out)
    writer.write(rows_of(Entries(INCARNATION), messages(ENTRIES * 10)))
    assert out.tell() > 0  # it was compressed while it was filled


class _Full(io.BytesIO):
    def write(self, _data: object, /) -> int:
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("name", FORMS)
def test_a_full_disk_is_an_error_of_the_file(name: str) -> None:
    form: Format = FORMS[name](Packing(Compression.ZSTD), Compression.ZSTD)
    rows = rows_of(Entries(INCARNATION), messages(ENTRIES))
    with pytest.raises(OSError, match="No space left"):
        block(form, rows, out=_Full())


def test_a_full_spool_is_an_error_of_the_file() -> None:
    writer = Parquet(spool=_Full).open(io.BytesIO())
    with pytest.raises(OSError, match="No space left"):
        writer.write(rows_of(Entries(INCARNATION), messages(ENTRIES)))


# --- what stands where


def test_the_schema_of_parquet_is_always_the_same() -> None:
    fixed = {name: str(kind) for name, kind in Parquet().kinds.items()}
    assert list(fixed) == [*FACTS, DATA]
    assert set(fixed.values()) == {"int64", "string", "timestamp", "json"}


def test_a_row_that_cannot_be_decoded_any_more_stands_in_each_format() -> None:
    rows = [raw_row(message(b"\xff"), "why")]
    expected = {"_raw": "/w==", "_error": "why"}
    (line,) = lines_in(form := Ndjson(PLAIN), block(form, rows))
    assert line["data"] == expected
    assert msgspec.json.decode(parquet_in(block(Parquet(columns=COLUMNS), rows))[0][REST]) == expected


def test_dead_letters_are_lines_with_their_original_bytes() -> None:
    bundle = msgspec.msgpack.encode([{"data": {}}, 5])
    raw_headers = b"NATS/1.0\r\nContent-Type: application/vnd.transfer.bundle+msgpack\r\n\r\n"
    read = Reading(Entries(INCARNATION), INCARNATION).read([message(bundle, 9, raw_headers=raw_headers)])
    out = io.BytesIO()
    write_letters(Packing(Compression.NONE).open(out), read.rejects)
    letter = msgspec.json.decode(out.getvalue())
    assert (letter["sequence"], letter["entry"], letter["body"], letter["reason"]) == (9, 1, "BQ==", "malformed")
    assert letter["_id"] == str(INCARNATION.identity(9, 1))
    assert letter["headers"] == [["Content-Type", "application/vnd.transfer.bundle+msgpack"]]


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        ({"_seq": "int64"}, "a name of its own"),
        ({"data": "json"}, "a name of its own"),
        ({"region": "string"}, "a name of its own"),
        ({"a": "uint64"}, "expected a type of string, int64"),
        ({"a..b": "string"}, "expected a path"),
        ({"a": "json", "a.b": "string"}, "no part of each other"),
    ],
)
def test_a_column_that_readers_would_confuse_is_refused(columns: dict[str, str], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        declared(columns, keys=["region", "date"])
