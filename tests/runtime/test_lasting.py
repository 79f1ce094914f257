"""A block that lasts: begun, ended, and ended after an error."""

from __future__ import annotations

import pytest

from collector.runtime.lasting import Lasting


def test_it_begins_and_ends_and_gives_its_value() -> None:
    calls: list[str] = []
    with Lasting(lambda who: calls.append(f"{who} begun"), lambda who: calls.append(f"{who} ended"), "a", 7) as value:
        assert (value, calls) == (7, ["a begun"])
    assert calls == ["a begun", "a ended"]


def test_it_ends_after_an_error_which_is_raised_further() -> None:
    calls: list[str] = []
    with pytest.raises(KeyError), Lasting(list, calls.append, "ended", None):
        raise KeyError("in the block")
    assert calls == ["ended"]
