"""A block that lasts: begun, ended, and ended after an error."""

from __future__ import annotations

import pytest

from collector.runtime.lasting import Lasting


def test_it_begins_and_ends_and_gives_its_value() -> None:
    calls: list[str] = []
    with Lasting(lambda: calls.append("begun"), lambda: calls.append("ended"), 7) as value:
        assert (value, calls) == (7, ["begun"])
    assert calls == ["begun", "ended"]


def test_it_ends_after_an_error_which_is_raised_further() -> None:
    calls: list[str] = []
    with pytest.raises(KeyError), Lasting(list, lambda: calls.append("ended"), None):
        raise KeyError("in the block")
    assert calls == ["ended"]
