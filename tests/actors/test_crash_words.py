"""What is said of a crash: a driver's or Python's error may quote the entry at hand, so its text is not said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from anyio import Event, create_task_group, fail_after

from collector.actors.supervisor import Supervisor
from collector.errors import Aborted, Poison, SinkUnavailable, safe_description
from collector.events import Crashed
from collector.model import Reason
from tests.support.fakes import Reports
from tests.support.planted import leaks, planted
from transfer.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

PAYLOAD = planted("payload")


class Careless:
    """Crashes with a payload in its error."""

    name = "careless"

    async def run(self, stopping: Event) -> None:
        raise ValueError(PAYLOAD, stopping)


async def test_a_crash_says_its_kind_and_place_and_no_payload() -> None:
    reports, stopping = Reports(), Event()
    with fail_after(30):
        async with create_task_group() as group:
            group.start_soon(Supervisor([Careless()], reports).run, stopping)
            await reports.until(lambda: reports.of(Crashed))
            stopping.set()
    (error,) = reports.of(Crashed)[0].errors
    assert leaks(error) == []
    assert error.startswith("ValueError at ")
    assert "test_crash_words.py:" in error


@pytest.mark.parametrize("broken", [lambda: {"a": 1}[PAYLOAD], lambda: int(PAYLOAD)])
def test_what_python_says_of_a_value_is_left_out(broken: Callable[[], object]) -> None:
    with pytest.raises(Exception) as raised:  # noqa: PT011 - whichever it is
        broken()
    assert leaks(safe_description(raised.value)) == []


def test_our_own_errors_are_said_in_full_but_for_poison() -> None:
    for ours in (Aborted("why"), SinkUnavailable("why"), Unavailable("why")):
        assert "why" in safe_description(ours)
    assert leaks(safe_description(Poison(Reason.MALFORMED, PAYLOAD))) == []
