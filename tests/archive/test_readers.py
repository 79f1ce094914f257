"""DuckDB, Polars and pyarrow read the files by a glob over a Hive tree, whatever is in them."""

# ruff: noqa: S608 - the paths in the queries are those of the test
from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import duckdb
import msgspec
import polars as pl
import pyarrow.csv
import pyarrow.dataset
import pytest

from collector.archive.compression import Compression, Packing
from collector.archive.decoders import PlainJson
from collector.archive.formats.columns import declared
from collector.archive.formats.csv import Csv
from collector.archive.formats.ndjson import Ndjson
from collector.archive.formats.parquet import Parquet
from collector.archive.rows import Row
from tests.support.archiving import block, message, messages, rows_of
from tests.support.wire_bytes import INCARNATION

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from collector.archive.formats import Format

ODD: list[Any] = [
    {"n": 1, "text": "plain"},
    {"n": (1 << 64) - 1, "text": None},
    {"n": 0.5, "text": ""},
    {"n": None, "text": 'a\r\nb,"c"\t\'\0 \u2028'},
    {},
    {"empty": {}, "list": [], "lists": [1, "a", {"b": None}]},
    {"n": -(1 << 63), "text": "ä 🙂"},
    [1, 2],
    "text",
    None,
]
DAYS = ("2026-01-01", "2026-01-02")


def tree(folder: Path, form: Format, contents: Sequence[Sequence[Any]]) -> str:
    """Write blocks of values into a Hive tree, beside empty blocks and the log, and return the glob for all blocks."""
    for number, values in enumerate(contents):
        rows = [Row(message(b"", number * 10_000 + place), data=value) for place, value in enumerate(values, 1)]
        path = folder / f"host=web%20{number}" / f"date={DAYS[number % 2]}"
        path.mkdir(parents=True)
        checked = rows_of(
            lambda received, rows=rows: [rows[received.sequence % 10_000 - 1]], [row.message for row in rows]
        )
        (path / f"{number}.{form.suffix}").write_bytes(block(form, checked))
        (path / f"{number}-empty.{form.suffix}").write_bytes(block(form, []))
    (folder / "_archive").mkdir()
    (folder / "_archive" / "000000000001.cut").write_bytes(b"no block")
    return f"{folder}/**/*.{form.suffix}"


def texts(contents: Sequence[Sequence[Any]]) -> list[str | None]:
    return [None if value is None else msgspec.json.encode(value).decode() for values in contents for value in values]


CONTENTS = [ODD, [{"n": number} for number in range(300)], []]
QUERY = "select data from {source} order by _seq"


def test_all_readers_find_each_row_of_parquet_once(tmp_path: Path) -> None:
    where = tree(tmp_path, Parquet(), CONTENTS)
    expected = texts(CONTENTS)
    with duckdb.connect() as db:
        source = f"read_parquet('{where}', hive_partitioning=true)"
        assert [row[0] for row in db.sql(QUERY.format(source=source)).fetchall()] == expected
        assert db.sql(f"select distinct host, date from {source} order by all").fetchall() == [
            ("web 0", dt.date(2026, 1, 1)),
            ("web 1", dt.date(2026, 1, 2)),
        ]
        found = db.sql(f"select data->>'$.text' from {source} where _seq = 1").fetchall()
        assert found == [("plain",)]
        types = {name: kind for name, kind, *_ in db.sql(f"describe select * from {source}").fetchall()}
        assert types["_time"] == types["timestamp"] == "TIMESTAMP WITH TIME ZONE"
    frame = pl.read_parquet(where, hive_partitioning=True).sort("_seq")
    assert frame["data"].to_list() == expected
    assert frame["_time"].dtype == pl.Datetime("us", "UTC")
    dataset = pyarrow.dataset.dataset(tmp_path, partitioning="hive")  # names that begin with "_" are passed over
    assert dataset.to_table().sort_by("_seq")["data"].to_pylist() == expected


@pytest.mark.parametrize("compression", [one for one in Compression if one is not Compression.SNAPPY])
def test_all_readers_find_each_row_of_ndjson_once(tmp_path: Path, compression: Compression) -> None:
    contents = [[{"n": number, "text": "x" * (number % 9)} for number in range(2000)], ODD[:1], []]
    where = tree(tmp_path, Ndjson(Packing(compression)), contents)
    with duckdb.connect() as db:
        source = f"read_json('{where}', hive_partitioning=true)"
        assert db.sql(f"select count(*), count(distinct _seq), sum(data.n) from {source}").fetchall() == [
            (2001, 2001, 1999 * 1000 + 1)
        ]
    files = [path for path in tmp_path.rglob("*.ndjson*") if "empty" not in path.name and path.stat().st_size > 20]
    frames = [pl.read_ndjson(path.read_bytes() if compression is Compression.NONE else path) for path in files]
    assert sum(frame.height for frame in frames) == 2001


def test_duckdb_reads_odd_values_from_ndjson(tmp_path: Path) -> None:
    where = tree(tmp_path, Ndjson(Packing(Compression.ZSTD)), CONTENTS)
    with duckdb.connect() as db:
        columns = "{_seq: 'BIGINT', _time: 'TIMESTAMPTZ', data: 'JSON'}"
        source = f"read_json('{where}', columns={columns})"
        found = [row[0] for row in db.sql(QUERY.format(source=source)).fetchall()]
    expected = [None if text is None else msgspec.json.decode(text) for text in texts(CONTENTS)]
    assert [None if text is None else msgspec.json.decode(text) for text in found] == expected


def test_blocks_with_more_declared_columns_are_read_with_those_before(tmp_path: Path) -> None:
    earlier = declared({"text": "string"})
    later = declared({"text": "string", "n": "int64", "x.y": "double"})
    one = [{"text": "a", "n": 1}, {"n": 2}]
    other = [{"text": "b", "n": 3, "x": {"y": 1, "z": 2}}, {"n": 1 << 63, "text": 5}]
    tree(tmp_path / "a", Parquet(columns=earlier), [one])
    tree(tmp_path / "b", Parquet(columns=later), [[], other])
    expected = [
        ("a", None, None, '{"n":1}'),
        (None, None, None, '{"n":2}'),
        ("b", 3, 1.0, '{"x":{"z":2}}'),
        (None, None, None, '{"n":9223372036854775808,"text":5}'),
    ]
    where = f"{tmp_path}/**/*.parquet"
    with duckdb.connect() as db:
        source = f"read_parquet('{where}', union_by_name=true, hive_partitioning=false)"
        assert db.sql(f'select text, n, "x.y", _rest from {source} order by _seq').fetchall() == expected
    scan = pl.scan_parquet(where, hive_partitioning=False, missing_columns="insert", extra_columns="ignore")
    assert scan.collect().height == 4
    schema = Parquet(columns=later).schema
    frame = pl.scan_parquet(
        where, schema=pl.DataFrame(pyarrow.table(schema.empty_table())).schema, missing_columns="insert"
    )
    assert frame.sort("_seq").select("text", "n", "x.y", "_rest").collect().rows() == expected
    files = list(tmp_path.rglob("*.parquet"))
    unified = pyarrow.unify_schemas([pyarrow.parquet.read_schema(path) for path in files])
    table = pyarrow.dataset.dataset(files, schema=unified).to_table().sort_by("_seq")
    assert list(zip(*(table[name].to_pylist() for name in ("text", "n", "x.y", "_rest")), strict=True)) == expected


@pytest.mark.parametrize("compression", [Compression.NONE, Compression.GZIP, Compression.ZSTD])
def test_all_readers_read_csv(tmp_path: Path, compression: Compression) -> None:
    columns = declared({"n": "int64", "text": "string", "yes": "boolean", "x": "double"})
    values = [
        {"n": 1, "text": "plain", "yes": True, "x": 0.1},
        {"n": -5, "text": 'a\r\nb\rc\nd,"e"', "yes": False, "x": 1e300},
        {"n": "five", "text": "", "other": {"more": [1]}},
        {},
    ]
    form = Csv(Packing(compression), columns)
    where = tree(tmp_path, form, [values, []])
    expected = [
        (1, "plain", True, 0.1, None),
        (-5, 'a\r\nb\rc\nd,"e"', False, 1e300, None),
        (None, None, None, None, '{"n":"five","text":"","other":{"more":[1]}}'),
        (None, None, None, None, None),
    ]
    with duckdb.connect() as db:
        types = (
            "{'n': 'BIGINT', 'text': 'VARCHAR', 'yes': 'BOOLEAN', 'x': 'DOUBLE', '_rest': 'VARCHAR', '_seq': 'BIGINT'}"
        )
        source = f"read_csv('{where}', header=true, types={types}, quote='\"', escape='\"', new_line='\\n')"
        assert db.sql(f"select n, text, yes, x, _rest from {source} order by _seq").fetchall() == expected
    (path,) = tmp_path.rglob(f"*0.{form.suffix}")
    frame = pl.read_csv(path, schema_overrides={"_rest": pl.String})
    assert frame.select("n", "text", "yes", "x", "_rest").rows() == expected
    if compression is not Compression.ZSTD:
        options = pyarrow.csv.ParseOptions(newlines_in_values=True)
        convert = pyarrow.csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False)
        table = pyarrow.csv.read_csv(path, parse_options=options, convert_options=convert)
        assert table.select(["n", "text", "yes", "x", "_rest"]).to_pylist() == [
            dict(zip(("n", "text", "yes", "x", "_rest"), row, strict=True)) for row in expected
        ]


def test_the_cut_of_a_block_is_in_its_metadata(tmp_path: Path) -> None:
    tree(tmp_path, Parquet(), [ODD])
    (path,) = tmp_path.rglob("0.parquet")
    metadata = pyarrow.parquet.ParquetFile(path).metadata
    assert metadata.metadata == {b"capture": b"orders", b"n": b"3", b"from": b"1", b"to": b"99"}
    column = metadata.row_group(0).column(0)
    assert (column.statistics.min, column.statistics.max, column.compression) == (1, len(ODD), "ZSTD")


def test_a_block_has_row_groups_of_65536_rows(tmp_path: Path) -> None:
    rows = rows_of(PlainJson(INCARNATION), messages([b"1"] * 70_000))
    path = tmp_path / "a.parquet"
    path.write_bytes(block(Parquet(), rows))
    metadata = pyarrow.parquet.ParquetFile(path).metadata
    assert [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)] == [65_536, 4_464]
    assert "_seq" in metadata.schema.names
