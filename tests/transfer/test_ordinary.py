"""Ordinary records take few calls, and their entries are those that all records have."""

from __future__ import annotations

import gc
import logging
import logging.handlers
import queue
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any, cast
from weakref import ReferenceType, ref

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transfer.anything import ANYTHING, KEYS, ODD, unhurried
from transfer.background.lane import Queued
from transfer.entries import ordinary
from transfer.entries.lenient import encode_anything
from transfer.entries.ordinary import ordinary_entry
from transfer.entries.record import record_data
from transfer.handler import TransferHandler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType

NOON = 1_795_867_200_000_000_000
MOMENTS = [NOON + 123_456_789, NOON, NOON + 500_000_000, 0, 1, -5, 1 << 62, 10_413_792_000 * 10**9 + 1]
OWN = ["levelname", "name", "module", "funcName", "lineno", "process", "threadName", "exc_info", "exc_text"]
OWN += ["stack_info", "created", "thread", "pathname", "message", "asctime", "taskName", "args", "msg"]
EXTRA = {"status": 200, "seconds": 0.0123, "request": "4f1c9a"}


def made(msg: object = "order", *args: object, extra: Mapping[Any, object] | None = None) -> logging.LogRecord:
    record = logging.LogRecord("shop.orders", logging.INFO, "/app/orders.py", 7, cast("str", msg), args, None, "place")
    for name, value in (extra or {}).items():
        record.__dict__[name] = value
    return record


def entry(make: Callable[[], logging.LogRecord], context: dict[str, object] | None, moment: int = NOON + 1) -> bool:
    """Return whether a record is an ordinary one; then it is as all are. At first sight its shape is not known."""
    ordinary_entry(make(), moment, context)
    record = make()
    found = ordinary_entry(record, moment, context)
    if found is None:
        return False
    data = record_data(record, None if context is None else lambda: context)
    assert found[1] == encode_anything(data, moment, None, found[0])
    return True


ORDINARY: dict[str, Callable[[], logging.LogRecord]] = {
    "plain": made,
    "args": lambda: made("order %s of %d %.1f %s", "A-17", 3, 0.5, None),
    "no text": lambda: made("größe %s", "日本"),
    "extra": lambda: made(extra=EXTRA),
    "both": lambda: made("GET %s", "/users", extra=EXTRA),
    "many": lambda: made("GET %s", "/users", extra={f"field{number}": number for number in range(40)}),
    "formatted": lambda: made("GET", extra=EXTRA | {"message": "GET", "asctime": "noon"}),
    "odd names": lambda: made(extra={"a b": 1, "http.status": 2, "class": 3, "": 4, "more0": 5, "__init__": 6}),
    "bytes that look like a large integer": lambda: made(extra={"lineno": 0xCF, "process": 0xCFA6, "b": b"\xcf\xff"}),
    "limits": lambda: made("%s", -(1 << 63), extra={"most": (1 << 63) - 1, "large": 1 << 40}),
}
CONTEXTS: list[dict[str, object] | None] = [None, {}, {"request": "r-1"}, {"tenant": 3, "status": None, "b": b"b"}]


@pytest.mark.parametrize("kind", ORDINARY)
@pytest.mark.parametrize("context", CONTEXTS, ids=str)
def test_ordinary_records_are_taken_as_such(kind: str, context: dict[str, object] | None) -> None:
    assert all(entry(ORDINARY[kind], context, moment) for moment in MOMENTS)


def test_a_moment_beyond_the_calendar_is_not_ordinary() -> None:
    assert not entry(made, None, 1 << 70)


@unhurried
@given(
    msg=ANYTHING | st.text() | st.sampled_from(["%s", "%d", "%(a)s", "%"]),
    args=st.lists(ANYTHING | st.integers() | st.text(), max_size=3),
    extra=st.dictionaries(st.text(max_size=8) | st.sampled_from(OWN), ANYTHING | st.integers() | st.text(), max_size=4),
    context=st.none() | st.dictionaries(st.text(max_size=8), ANYTHING | st.integers(), max_size=4),
    moment=st.integers(-(1 << 70), 1 << 70),
)
def test_whatever_is_logged_has_the_bytes_that_all_have(
    msg: object, args: list[object], extra: dict[str, object], context: dict[str, object] | None, moment: int
) -> None:
    entry(lambda: made(msg, *args, extra=extra), context, moment)


@pytest.mark.parametrize("place", ["argument", "field", "context", *OWN])
def test_an_odd_value_is_nowhere_stored_otherwise(place: str) -> None:
    for make in ODD:
        value = make()
        extra = {} if place in {"argument", "context"} else {place: value}
        args = ("%s of %s", 7, value) if place == "argument" else ("order",)
        entry(lambda args=args, extra=extra: made(*args, extra=extra), {place: value} if place == "context" else None)  # type: ignore[misc]


def test_an_odd_name_is_stored_as_ever() -> None:
    for make in KEYS:
        key: Any = make()
        entry(lambda key=key: made(extra={key: 1, "b": 2}), None)  # type: ignore[misc]
        entry(lambda: made(extra={"b": 2}), {key: 1})


def test_a_record_that_lacks_an_attribute_is_stored_as_ever() -> None:
    def lacking(name: str) -> logging.LogRecord:
        record = made(extra=EXTRA)
        del record.__dict__[name]
        return record

    ordinary_ones = [name for name in made().__dict__ if entry(lambda name=name: lacking(name), None)]  # type: ignore[misc]
    assert "msecs" in ordinary_ones
    assert not {"msg", "args", "levelname", "lineno"}.intersection(ordinary_ones)


def test_what_equals_a_number_is_not_stored_as_that_number() -> None:
    assert entry(made, None)
    for value in (True, 7.0):
        entry(lambda value=value: made(extra={"lineno": value}), None)  # type: ignore[misc]


def test_names_without_an_end_take_a_bounded_memory() -> None:
    for number in range(3000):
        for _ in range(2 if number % 3 else 1):
            ordinary_entry(made(extra={f"name{number}": 1}), NOON, {f"tenant{number}": 1} if number % 2 else None)
    assert len(ordinary._shapes) <= 256
    assert len(ordinary._seen) <= 1024
    assert entry(ORDINARY["both"], None)


@pytest.mark.parametrize("name", ["level", "timestamp", "a\0b", "ünï", 'a"b', "a\\b", "a\nb", "x" * 5000, "\ud800"])
def test_a_name_that_is_not_ordinary_is_stored_as_ever(name: str) -> None:
    assert not entry(lambda: made(extra={name: 1, "b": 2}), None)
    assert not entry(made, {name: 1})


def test_no_object_of_the_application_is_kept() -> None:
    class Key:
        """Whatever it is."""

    def log() -> ReferenceType[Key]:
        key: Any = Key()
        for _ in range(3):
            ordinary_entry(made(extra={key: 1}), NOON, None)
            ordinary_entry(made(), NOON, {key: 1})
        return ref(key)

    found = log()
    gc.collect()
    assert found() is None


def test_what_a_record_factory_adds_is_a_field() -> None:
    """A factory that is there before this package is imported, too."""
    program = """
import logging
logging.setLogRecordFactory(lambda *given, **more: Own(*given, **more))
class Own(logging.LogRecord):
    def __init__(self, *given, **more):
        super().__init__(*given, **more)
        self.tenant = "t-1"
from transfer.entries.record import record_data
print(record_data(logging.getLogger("shop").makeRecord("shop", 20, "x.py", 7, "order", (), None))["tenant"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("t-1\n", "")


@pytest.fixture(params=["drop_newest"])
def handler(request: pytest.FixtureRequest) -> Iterator[TransferHandler]:
    url, overflow = "nats://127.0.0.1:1", request.param
    handler = TransferHandler("a", url=url, namespace="beta", overflow=overflow, context=lambda: {"request": "r-1"})
    logger = logging.getLogger("shop.ordinary")
    logger.propagate, logger.level = False, logging.INFO
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)
    logger.propagate, logger.level = True, logging.NOTSET
    handler._sender.close(0)


def queued(handler: TransferHandler) -> list[dict[str, Any]]:
    lane = handler._sender._outbox._lanes["a"]
    entries = [one for one in lane.ordinary if isinstance(one, Queued)]
    return [msgspec.msgpack.decode(one.body)["data"] for one in entries]


def test_what_changes_after_the_call_changes_no_entry(handler: TransferHandler) -> None:
    """Of ordinary records and others: list, dict, an object of the application's, an exception, the context."""
    logger, things, error = logging.getLogger("shop.ordinary"), [1], ValueError("first")
    fields = {"plain": 1, "deep": {"a": [1]}}
    handler._context = lambda: fields

    class Order:
        name = "first"

        def __repr__(self) -> str:
            return self.name

    logger.handlers[:] = [handler]  # pytest has added its own
    for _ in range(2):
        logger.info("got %s, %s and %s", things, Order(), 7, extra={"things": things}, exc_info=error)
        logger.info("got %s", 7, extra={"number": 7})
        logger.info("got")
    before = queued(handler)
    things.append(2)
    Order.name = "second"
    error.args = ("second",)
    fields["plain"] = 2
    cast("dict[str, Any]", fields["deep"])["a"].append(2)
    assert queued(handler) == before
    assert len(before) == 6
    assert before[0]["msg"] == "got [1], first and 7"
    assert (before[0]["things"], before[0]["exception"]["message"]) == ([1], "first")
    assert all((one["plain"], one["deep"]) == (1, {"a": [1]}) for one in before)


CALLS = 0.95
"""Times the calls that `QueueHandler` makes: 0.86 of them were counted, with Python 3.11."""
LOGGED: dict[str, Callable[[logging.Logger], None]] = {
    "plain": lambda logger: logger.info("order"),
    "args": lambda logger: logger.info("order %s of %d", "A-17", 3),
    "extra": lambda logger: logger.info("order", extra=EXTRA),
    "both": lambda logger: logger.info("GET %s", "/users", extra=EXTRA),
    "a number of 40 bits": lambda logger: logger.info("GET %s", "/users", extra={"number": 1 << 40}),
}


def calls(log: Callable[[], None]) -> int:
    """Return how many functions are called, of Python and of C, once everything is warm and no thread is woken."""
    return min(_calls(log) for _ in range(10))


def _calls(log: Callable[[], None]) -> int:
    found: Counter[str] = Counter()

    def count(_: FrameType, event: str, __: object) -> None:
        found[event] += 1

    gc.disable()
    sys.setprofile(count)
    try:
        log()
    finally:
        sys.setprofile(None)
        gc.enable()
    return found["call"] + found["c_call"]


@pytest.mark.parametrize("handler", ["drop_newest", "block"], indirect=True)
@pytest.mark.parametrize("kind", LOGGED)
def test_a_record_takes_fewer_calls_than_it_takes_to_put_it_into_a_queue(handler: TransferHandler, kind: str) -> None:
    """The same on every machine, however busy it is: what is done for nothing, or twice, comes back unnoticed else."""
    handler._context = None
    logger = logging.getLogger("shop.ordinary")
    logger.handlers[:] = [handler]  # pytest has added its own
    ours = calls(lambda: LOGGED[kind](logger))
    logger.handlers[:] = [logging.handlers.QueueHandler(queue.SimpleQueue())]
    theirs = calls(lambda: LOGGED[kind](logger))
    logger.handlers[:] = [handler]
    print(kind, ours, theirs)  # noqa: T201 - figures
    assert ours <= CALLS * theirs
