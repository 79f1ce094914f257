"""A record of the standard library becomes the data of an entry, whatever was logged."""

from __future__ import annotations

import logging
from decimal import Decimal
from typing import TYPE_CHECKING, NoReturn
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transfer.anything import ANYTHING, ODD, unhurried
from tests.transfer.odd_values import UnspeakableError
from transfer.entries.entry import new_id
from transfer.entries.lenient import encode_anything
from transfer.entries.record import record_data

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def made(msg: object, *args: object, **more: object) -> logging.LogRecord:
    record = logging.LogRecord("shop.orders", logging.INFO, "/app/orders.py", 7, msg, args, None, "place")
    record.__dict__.update(more)
    return record


def raised(error: Exception) -> logging.LogRecord:
    with pytest.raises(type(error)) as caught:
        _raise(error)
    return made("failed", exc_info=(caught.type, caught.value, caught.tb))


def _raise(error: Exception) -> NoReturn:
    raise error


def test_a_record_has_the_documented_fields() -> None:
    record = made("order %s", 17, amount=9.5)
    assert record_data(record) == {
        "msg": "order 17",
        "template": "order %s",
        "args": [17],
        "level": "INFO",
        "logger": "shop.orders",
        "module": "orders",
        "function": "place",
        "line": 7,
        "process": record.process,
        "thread": record.threadName,
        "amount": 9.5,
    }


def test_args_that_are_a_mapping_stay_one() -> None:
    data = record_data(made("order %(number)s", {"number": 17}))
    assert (data["msg"], data["args"]) == ("order 17", {"number": 17})


def test_an_exception_has_type_message_and_stack() -> None:
    data = record_data(raised(KeyError("price")))
    exception = data["exception"]
    assert isinstance(exception, dict)
    assert (exception["type"], exception["message"]) == ("KeyError", "'price'")
    assert exception["stack"].startswith("Traceback")
    assert exception["stack"].endswith("KeyError: 'price'\n")


def test_an_exception_that_cannot_say_what_it_is_still_has_its_type_and_stack() -> None:
    exception = record_data(raised(UnspeakableError()))["exception"]
    assert isinstance(exception, dict)
    assert exception["type"].endswith("UnspeakableError")
    assert exception["message"] == "<UnspeakableError whose str failed: RuntimeError>"
    assert "Traceback" in exception["stack"]


def test_the_stack_that_another_process_has_formatted_is_kept() -> None:
    assert record_data(made("failed", exc_text="Traceback ..."))["exception"] == {"stack": "Traceback ..."}


@pytest.mark.parametrize("name", ["level", "function", "timestamp", "metadata", "_id"])
def test_extra_takes_the_place_of_no_field_of_ours_or_of_the_document(name: str) -> None:
    ours = record_data(made("order")).get(name)
    data = record_data(made("order", **{f"{name}_": "first", name: "second"}))
    assert (data.get(name), data[f"{name}_"], data[f"{name}__"]) == (ours, "first", "second")


def test_extra_comes_before_context() -> None:
    data = record_data(made("order", request="r-2"), lambda: {"request": "r-1", "tenant": 3})
    assert (data["request"], data["tenant"]) == ("r-2", 3)


def test_a_context_that_fails_costs_nothing_but_itself() -> None:
    def broken() -> NoReturn:
        raise LookupError("no request")

    data = record_data(made("order"), broken)
    assert (data["msg"], data["context_error"]) == ("order", "LookupError('no request')")


def test_a_template_that_does_not_go_with_its_args_is_the_message() -> None:
    data = record_data(made("%d orders", "many"))
    assert (data["msg"], data["args"]) == ("%d orders", ["many"])


class Query:
    """A query set: each time that it is asked what it is, it asks the database."""

    def __init__(self, *, text: bool = False) -> None:
        self.asked = 0
        self._text = text

    def __repr__(self) -> str:
        self.asked += 1
        return "<Query>"

    def __str__(self) -> str:
        if not self._text:
            return repr(self)
        self.asked += 1
        return "the query"


class CountedError(Exception):
    """An exception that counts."""

    asked = 0

    def __str__(self) -> str:
        self.asked += 1
        return "no"


@pytest.mark.parametrize(
    ("template", "wrap", "msg", "stored"),
    [
        ("%s", lambda query: (query,), "<Query>", ["<Query>"]),
        ("%r", lambda query: (query,), "<Query>", ["<Query>"]),
        ("%s and %s", lambda query: (query, [query, {"a": (query,)}]), None, None),
        ("%(a)s", lambda query: ({"a": query},), "<Query>", {"a": "<Query>"}),
        ("%s", lambda query: ({"a": query},), "{'a': <Query>}", {"a": "<Query>"}),
        ("nothing", lambda query: (query,), "nothing", ["<Query>"]),
        ("%d", lambda query: (query,), "%d", ["<Query>"]),
    ],
)
def test_an_argument_is_asked_for_its_text_once(
    template: str, wrap: Callable[[Query], tuple[object, ...]], msg: str | None, stored: object
) -> None:
    query = Query()
    body = encode_anything(record_data(made(template, *wrap(query))), 0, None, new_id())
    data = msgspec.msgpack.decode(body)["data"]
    assert query.asked == (1 if stored is not None else 3)
    assert msg is None or (data["msg"], data["args"]) == (msg, stored)


def test_an_argument_is_stored_as_it_stands_in_the_message() -> None:
    query, error = Query(text=True), CountedError()
    body = encode_anything(record_data(made("%s of %s", query, error)), 0, None, new_id())
    data = msgspec.msgpack.decode(body)["data"]
    assert (data["msg"], data["args"][0]) == ("the query of no", "the query")
    assert data["args"][1].endswith("CountedError: no")
    assert (query.asked, error.asked) == (1, 1)


@pytest.mark.parametrize(
    ("template", "argument", "msg"),
    [("%d", 7.9, "7"), ("%05.1f", Decimal("2.25"), "002.2"), ("%s", UUID(int=7), None)],
)
def test_a_message_is_what_logging_makes_of_it(template: str, argument: object, msg: str | None) -> None:
    record = made(template, argument)
    assert record_data(record)["msg"] == record.getMessage() == (msg or record.getMessage())


class Braces(logging.LogRecord):
    """A record whose template is another's, as applications may have them."""

    def getMessage(self) -> str:  # noqa: N802 - the name it has
        return str(self.msg).format(*self.args or ())


def test_a_record_of_another_class_says_its_message_itself() -> None:
    record = Braces("shop", logging.INFO, "x.py", 7, "{0.asked} {1}", (Query(), 2), None)
    data = record_data(record)
    assert (data["msg"], data["template"]) == ("0 2", "{0.asked} {1}")


def test_a_message_that_is_a_mapping_is_its_fields() -> None:
    data = record_data(made({"event": "paid", "msg": "order paid", "level": 3, "timestamp": 7}, amount=9.5))
    assert list(data)[:2] == ["msg", "level"]
    assert (data["msg"], data["level"], data["event"], data["level_"]) == ("order paid", "INFO", "paid", 3)
    assert (data["timestamp_"], data["amount"]) == (7, 9.5)
    assert "msg" not in record_data(made({"event": "paid"}))
    assert record_data(made({}))["msg"] == "{}"


@unhurried
@given(
    msg=ANYTHING | st.sampled_from(["%s", "%d", "%(a)s", "%"]),
    args=st.lists(ANYTHING, max_size=3),
    extra=st.dictionaries(st.text(max_size=8), ANYTHING),
    context=st.dictionaries(st.text() | st.integers(), ANYTHING),
    exc_info=ANYTHING,
)
def test_whatever_is_logged_becomes_an_entry(
    msg: object, args: list[object], extra: dict[str, object], context: Mapping[str, object], exc_info: object
) -> None:
    record = made(msg, *args, **(extra | {"exc_info": exc_info}))
    body = encode_anything(record_data(record, lambda: context), 0, None, new_id())
    assert msgspec.msgpack.decode(body)["data"]["logger"] == "shop.orders"


@pytest.mark.parametrize("make", ODD, ids=range(len(ODD)))
@pytest.mark.parametrize("role", ["msg", "args", "extra", "exc_info", "context"])
def test_each_odd_value_may_be_logged_in_every_place(make: Callable[[], object], role: str) -> None:
    record = made(make()) if role == "msg" else made("%s", (make(), [make()])) if role == "args" else made("order")
    if role in {"extra", "exc_info"}:
        record.__dict__[role] = make()
    body = encode_anything(record_data(record, lambda: {"place": make()}), 0, None, new_id())
    assert msgspec.msgpack.decode(body)["data"]["logger"] == "shop.orders"
