"""The table of docs/client.md says what becomes of which type: each row is tried, with `publish` and with `send`."""

from __future__ import annotations

import dataclasses
import enum
import logging
from collections import OrderedDict, deque
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
import numpy as np
import pytest
from bson import ObjectId

from tests.transfer.odd_values import Order
from transfer.entries.entry import encode_entry, new_id
from transfer.entries.lenient import encode_anything
from transfer.entries.record import record_data
from transfer.errors import InvalidEntry

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = Path(__file__).parents[2] / "docs" / "client.md"


class Text(str):
    """A text."""

    __slots__ = ()


class Colour(enum.Enum):
    RED = "red"


class Other:
    def __repr__(self) -> str:
        return "<other>"


itself: list[object] = []
itself.append(itself)
NAMES = {
    "Colour": Colour,
    "Decimal": Decimal,
    "Fraction": Fraction,
    "ObjectId": ObjectId,
    "OrderedDict": OrderedDict,
    "Order": Order,
    "Other": Other,
    "Path": Path,
    "Text": Text,
    "UTC": UTC,
    "UUID": UUID,
    "date": date,
    "datetime": datetime,
    "deque": deque,
    "ip_address": ip_address,
    "ip_network": ip_network,
    "itself": itself,
    "np": np,
    "time": time,
    "timedelta": timedelta,
}


@dataclasses.dataclass(frozen=True)
class Row:
    """What the documentation says of a type."""

    kind: str
    example: str
    stored: str
    note: str

    @property
    def is_refused(self) -> bool:
        """Whether `publish` raises."""
        return self.note.endswith("`publish` raises")

    def value(self) -> Any:
        """Return the example."""
        return eval(self.example, NAMES)  # noqa: S307 - of our own documentation

    def expected(self) -> Any:
        """Return what it becomes."""
        return eval(self.stored, NAMES)  # noqa: S307 - as above


def rows() -> list[Row]:
    section = PAGE.read_text().split("## What becomes of which type")[1].split("\n## ")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if "| `" in line]
    return [Row(kind, example.strip("`"), stored.strip("`"), note) for kind, example, stored, note in cells]


def decoded(body: bytes) -> Any:
    return msgspec.msgpack.decode(body)["data"]["value"]


def test_the_page_has_the_table() -> None:
    assert len(rows()) == 21


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.kind)
@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: {"deep": [value, 0]}], ids=["flat", "nested"])
def test_a_row_is_what_send_does(row: Row, wrap: Any) -> None:
    found = decoded(encode_anything({"value": wrap(row.value())}, 0, None, new_id()))
    assert found == wrap(row.expected())
    assert type(found) is type(wrap(row.expected()))


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.kind)
def test_a_row_is_what_publish_does(row: Row) -> None:
    if row.is_refused:
        with pytest.raises(InvalidEntry, match=r"^data\.value"):
            encode_entry({"value": row.value()}, 0)
    else:
        assert decoded(encode_entry({"value": row.value()}, 0)) == row.expected()


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (Decimal("-0.10"), -0.1),
        (Decimal("1E+400"), "1E+400"),
        (Decimal("Infinity"), float("inf")),
        (Decimal(12345678901234567890), "12345678901234567890"),
        (Fraction(1, 2), 0.5),
        (np.datetime64("2026-11-27T22:20"), datetime(2026, 11, 27, 22, 20, tzinfo=UTC)),
        (np.timedelta64(5, "s"), 5.0),
        (np.longdouble(1.5), 1.5),
        (np.array([[True], [False]]), [[True], [False]]),
        (np.float64(0.1), 0.1),
        ({1: "a"}.values(), ["a"]),
        (IndexError(), "IndexError"),
    ],
    ids=repr,
)
def test_a_number_stays_one_where_it_says_the_same(value: object, stored: object) -> None:
    assert decoded(encode_entry({"value": value}, 0)) == stored


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"a": [{"b": object()}]}, r"^data\.a\[0\]\.b: expected None, .* or a list or mapping of them, got an object$"),
        ({"a": [[]] * 3 + [{"b": [1, 2**63]}]}, r"^data\.a\[3\]\.b\[1\]: expected an integer of 64 bits"),
        ({"a": {"b\0": 1}}, r"^data\.a: expected names without NUL"),
        (
            {"a": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1)))},
            r"^data\.a: expected a (local )?time between the years 1 and 9999",
        ),
    ],
)
def test_the_path_of_a_value_that_cannot_be_stored_is_named(data: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidEntry, match=message):
        encode_entry(data, 0)


NUMPY = (
    lambda: np.int64(7),
    lambda: np.uint64(2**64 - 1),
    lambda: np.float32(0.5),
    lambda: np.longdouble(1.5),
    lambda: np.bool_(True),
    lambda: np.str_("text"),
    lambda: np.complex128(1j),
    lambda: np.datetime64("2026-11-27T22:20:59.123456789"),
    lambda: np.datetime64("NaT"),
    lambda: np.timedelta64(5, "s"),
    lambda: np.array([[1, 2], [3, 4]]),
    lambda: np.array(["2026-11-27"], dtype="datetime64[D]"),
    lambda: np.array([object()], dtype=object),
    lambda: np.zeros(3, dtype=[("a", "i4")]),
)


@pytest.mark.parametrize("make", NUMPY, ids=range(len(NUMPY)))
def test_each_value_of_numpy_is_stored_beside_any_other(make: Callable[[], object]) -> None:
    moment = datetime(2026, 11, 27, tzinfo=UTC)
    record = logging.LogRecord("shop", logging.INFO, "x.py", 7, "%s", (make(),), None)
    record.__dict__["value"] = {"deep": [make()]}
    body = encode_anything({"value": [make(), moment], **record_data(record)}, 0, None, new_id())
    assert msgspec.msgpack.decode(body)["data"]["value"]["deep"] is not None
