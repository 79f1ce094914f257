"""A record of the standard library becomes the data of an entry, whatever was logged."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NoReturn

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transfer.anything import ANYTHING, UnspeakableError
from transfer.entry import new_id
from transfer.lenient import encode_anything
from transfer.record import record_data

if TYPE_CHECKING:
    from collections.abc import Mapping


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
