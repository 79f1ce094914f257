"""An entry is put in, and something comes between: an exception of a signal handler, no stack left, another entry.

A signal handler runs where Python looks for signals: when a function begins, and after each call.
A hook of the profiler runs there too.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING

import pytest

import transfer.background.thread
from transfer.background.lane import Queued, room_of
from transfer.background.outbox import Outbox
from transfer.handler import TransferHandler
from transfer.options import Overflow
from transfer.system.inside import SENDING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from tests.transfer.fake_nats import Nats
    from transfer.background.sender import Sender

pytestmark = pytest.mark.timeout(60)
ID = b"x" * 12


class Signal(BaseException):
    """What a signal handler raises."""


def between(place: int, call: Callable[[], object], happens: Callable[[], object]) -> bool:
    """Call something, and have something else happen at one of the places inside; return whether it has that many."""
    left = place

    def look(_: FrameType, event: str, __: object) -> None:
        nonlocal left
        if event in {"call", "c_return"}:
            left -= 1
            if left == -1:
                sys.setprofile(None)
                happens()

    sys.setprofile(look)
    try:
        call()
    finally:
        sys.setprofile(None)
    return left < 0


def interrupt() -> None:
    raise Signal


def is_right(box: Outbox) -> bool:
    """Return whether the sums are those of what is there."""
    lanes = box._lanes.values()
    all_waiting = [one for lane in lanes for one in (*lane.ordinary, *lane.important)]
    waiting = [room_of(one) for one in all_waiting if isinstance(one, Queued)]
    sums = [sum(lane.entries for lane in lanes), sum(lane.bytes for lane in lanes)]
    return (box.entries, box.bytes) == (len(waiting), sum(waiting)) == tuple(sums)


FULL: dict[str, Callable[[], Outbox]] = {
    "empty": lambda: Outbox(Overflow.DROP_NEWEST, 10, 10_000),
    "full": lambda: filled(Overflow.DROP_NEWEST),
    "full, the oldest is dropped": lambda: filled(Overflow.DROP_OLDEST),
    "full of another's": lambda: filled(Overflow.DROP_NEWEST, "b"),
}


def filled(overflow: Overflow, key: str = "a") -> Outbox:
    box = Outbox(overflow, 10, 10_000)
    for _ in range(9):
        add(box, key)
    return box


def add(box: Outbox, key: str = "a") -> None:
    box.add(key, ID, b"body", important=False, may_block=False)


@pytest.mark.parametrize("kind", FULL)
def test_an_exception_in_the_middle_leaves_the_sums_right(kind: str) -> None:
    place, goes_on = 0, True
    while goes_on:
        box, goes_on = FULL[kind](), False
        try:
            goes_on = between(place, lambda box=box: add(box), interrupt)  # type: ignore[misc]
        except Signal:
            goes_on = True
        assert is_right(box), place
        place += 1
    assert place > 3


@pytest.mark.parametrize("kind", FULL)
def test_an_entry_in_the_middle_of_another_is_lost_by_neither(kind: str) -> None:
    place, goes_on = 0, True
    while goes_on:
        box = FULL[kind]()
        before = box.entries + box.dropped.total()
        goes_on = between(place, lambda box=box: add(box), lambda box=box: add(box))  # type: ignore[misc]
        assert is_right(box), place
        assert box.entries + box.dropped.total() == before + 1 + goes_on, place
        place += 1
    assert place > 3


def test_an_exception_in_the_middle_holds_up_no_entry(
    nats: Nats, sender: Callable[..., Sender], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that sends sleeps, and is not told of the entry that should wake it."""
    monkeypatch.setattr(transfer.background.thread, "_SLEEP", 0.05)
    one = sender()
    one.send("a", {})
    place, goes_on = 0, True
    while goes_on:
        assert one.flush(10)
        try:
            goes_on = between(place, lambda: one.send("a", {}), interrupt)
        except Signal:
            goes_on = True
        while one.stats().queued:  # without anybody who hurries it
            time.sleep(0.001)
        place += 1
    stats = one.stats()
    assert place > 20
    assert (stats.queued, stats.queued_bytes, stats.dropped) == (0, 0, {})


def test_an_exception_while_the_thread_is_started_is_no_end_of_sending(
    nats: Nats, sender: Callable[..., Sender]
) -> None:
    place, goes_on = 0, True
    while goes_on:
        one = sender()
        try:
            goes_on = between(place, lambda one=one: one.send("a", {}), interrupt)  # type: ignore[misc]
        except Signal:
            goes_on = True
        one.send("a", {"number": 2})
        assert one.flush(10), place
        while len(SENDING) > 1:  # until one that has begun has ended
            time.sleep(0.001)
        one.close(10)
        place += 1


def test_what_is_logged_where_no_stack_is_left_holds_up_nothing(nats: Nats) -> None:
    """Each function of a recursion logs that it is too deep: at some depth, any call inside is without a stack."""
    handler = TransferHandler("a", url="nats://127.0.0.1:1", namespace="beta")
    logger = logging.getLogger("shop.recursion")
    logger.propagate = False
    logger.addHandler(handler)
    logged = 0

    def descend() -> None:
        nonlocal logged
        try:
            descend()
        except RecursionError:
            logger.warning("too deep")
            logged += 1
            handler.wait(10)
            raise

    try:
        for _ in range(3):
            with pytest.raises(RecursionError):
                descend()
        assert handler.wait(10)
        stats = handler.stats()
        assert logged > 100
        assert (stats.queued, stats.dropped) == (0, {})
        assert stats.published >= logged
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
        handler._sender.close(0)
