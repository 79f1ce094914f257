"""Records that no `logging` would make become entries, and raise nothing."""

from __future__ import annotations

import logging
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock, Mock

import numpy as np
import pytest

from transfer.testing import RecordingHandler, RecordingTransfer

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self


class Undecided:
    """Is neither true nor false, and compares so."""

    def __bool__(self) -> bool:
        raise ValueError("undecided")

    def __lt__(self, _: object) -> Self:
        return self

    __ge__ = __lt__


class Refusing(int):
    """A level that cannot be compared."""

    def __lt__(self, _: object) -> bool:
        raise KeyError("no")

    __ge__ = __lt__


class Slots:
    """Has no `__dict__`."""

    __slots__ = ("created", "levelno", "msg")

    def __init__(self) -> None:
        self.created, self.levelno, self.msg = 1.0, 20, "order"


class Hidden(logging.LogRecord):
    """Its thread cannot be read, nor its attributes."""

    def __getattribute__(self, name: str) -> Any:
        if name in {"thread", "__dict__"}:
            raise ValueError(name)
        return super().__getattribute__(name)


def made(**attributes: object) -> logging.LogRecord:
    record = logging.LogRecord("shop", logging.INFO, "x.py", 7, "order", (), None)
    record.__dict__.update(attributes)
    return record


def lacking(*names: str) -> logging.LogRecord:
    record = made()
    for name in names:
        del record.__dict__[name]
    return record


UNDECIDED = Undecided()
VALUES: list[Any] = [
    UNDECIDED,
    np.array([1, 50]),
    np.int64(40),
    None,
    "5",
    b"5",
    [1],
    {"a": 1},
    1j,
    object(),
    float("nan"),
]
VALUES += [Decimal(5), Refusing(3), 10**400, True, np.float64(1.5), (number for number in range(3)), MagicMock()]
NAMES = list(made().__dict__)
RECORDS: dict[str, Callable[[], Any]] = {
    "slots": Slots,
    "mock": MagicMock,
    "mock of a record": lambda: Mock(spec=logging.LogRecord),
    "none": lambda: None,
    "text": lambda: "order",
    "hidden": lambda: Hidden("shop", logging.INFO, "x.py", 7, "order", (), None),
    "nothing": lambda: lacking(*NAMES),
    "made by makeLogRecord": lambda: logging.makeLogRecord({}),
    **{f"without {name}": lambda name=name: lacking(name) for name in NAMES},  # type: ignore[misc]
}


@pytest.mark.parametrize("kind", RECORDS)
def test_a_record_of_any_kind_is_an_entry(kind: str) -> None:
    handler = RecordingHandler("app")
    for _ in range(2):
        handler.handle(RECORDS[kind]())
        handler.emit(RECORDS[kind]())
    assert len(handler.data) == 4


@pytest.mark.parametrize("name", NAMES)
def test_a_record_with_any_attribute_is_an_entry(name: str) -> None:
    handler = RecordingHandler("app")
    for value in VALUES:
        handler.handle(made(**{name: value}))
        handler.handle(made(msg="%s", **{"args": (1,), name: value} if name != "msg" else {}))
    assert len(handler.data) == 2 * len(VALUES)


def test_whatever_says_that_an_entry_is_important_it_is_sent() -> None:
    transfer = RecordingTransfer(loggers=["app"])
    for value in VALUES:
        transfer.send("app", {"msg": "order"}, important=value)
    assert len(transfer.entries("app")) == len(VALUES)
