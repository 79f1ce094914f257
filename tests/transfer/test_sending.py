"""The thread that sends, without NATS: what one logger's trouble is to others, what a fault of ours is to callers."""

from __future__ import annotations

import asyncio
import logging
import logging.config
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from weakref import ref

import pytest

import transfer.background.outbox
import transfer.background.sender
import transfer.background.thread
from transfer.background.process import close_all, ending, in_child
from transfer.background.thread import SendingThread
from transfer.blocking import BlockingTransfer
from transfer.errors import Conflict, InvalidEntry, JetStreamError, TransferError, Unavailable, UnknownLogger
from transfer.handler import TransferHandler

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.transfer.fake_nats import Nats
    from transfer.background.sender import Sender
    from transfer.publishing import Publication

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize("stuck", [4, 40, 400])
def test_loggers_whose_streams_take_nothing_hold_up_no_other(
    nats: Nats, sender: Callable[..., Sender], stuck: int
) -> None:
    async def confirm(publication: Publication) -> None:
        if publication.key != "good":
            await asyncio.Event().wait()

    nats.confirm = confirm
    one = sender(bundle_entries=1)
    for _ in range(9000 // stuck):
        for number in range(stuck):
            one.send(f"stuck{number}", {"msg": "x"})
    deadline = time.monotonic() + 30
    while len({key for key, *_ in nats.attempts}) < stuck and time.monotonic() < deadline:
        time.sleep(0.01)
    for published in range(1, 21):
        one.send("good", {"msg": "x"})
        while one.stats().published < published and time.monotonic() < deadline:
            time.sleep(0.001)
    assert one.stats().published == 20
    assert len(one._outbox.on_their_way()) <= 256 + stuck


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UnknownLogger("app"), "unknown_logger"),
        (Conflict("another stream"), "refused"),
        (InvalidEntry("entry", "less", "more"), "too_large"),
        (JetStreamError("subject", 400, 10054, "message size exceeds maximum allowed"), "too_large"),
    ],
)
def test_what_can_never_be_stored_is_dropped_and_only_that(
    nats: Nats, sender: Callable[..., Sender], error: TransferError, reason: str
) -> None:
    async def confirm(publication: Publication) -> None:
        if len(publication.body) > 2000 or reason != "too_large":
            raise error

    nats.confirm = confirm
    one = sender()
    for size in (10, 10, 3000, 10):
        one.send("app", {"filling": bytes(range(250)) * (size // 250)})
    assert one.flush(20)
    kept = 3 if reason == "too_large" else 0
    assert (one.stats().published, one.stats().dropped) == (kept, {reason: 4 - kept})


def test_a_fault_of_ours_begins_the_sending_anew_with_what_was_on_its_way_as_it_was(
    nats: Nats, sender: Callable[..., Sender], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    faults = iter([True, False])
    original = transfer.background.outbox.Outbox.take

    def take(*given: Any) -> Any:
        taken = original(*given)
        if next(faults, False):
            raise MemoryError("a fault of ours")
        return taken

    monkeypatch.setattr(transfer.background.outbox.Outbox, "take", take)
    one = sender()
    for number in range(5):
        one.send("app", {"number": number})
    assert one.flush(20)
    assert (one.stats().published, one.stats().dropped) == (5, {})
    assert nats.attempts[0][2], "it may have been sent before"
    assert capfd.readouterr().err == "transfer: sending begins anew: MemoryError: a fault of ours\n"


@pytest.mark.parametrize("part", ["publication_of", "_send", "_until_ready", "_deliver"])
def test_whatever_fails_in_the_thread_for_good_nobody_waits_for_it_for_ever(
    sender: Callable[..., Sender], monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError("a fault of ours")

    monkeypatch.setattr(transfer.background.thread if part == "publication_of" else SendingThread, part, fail)
    one = sender(overflow="block", max_entries=5)

    def send() -> None:
        for number in range(20):
            one.send("app", {"number": number})

    sending = threading.Thread(target=send, daemon=True)
    sending.start()
    sending.join(30)
    assert not sending.is_alive()
    assert one.flush(20)
    assert sum(one.stats().dropped.values()) == 20


def test_the_number_of_a_thread_that_has_ended_is_nobody_s(nats: Nats, sender: Callable[..., Sender]) -> None:
    one = sender()
    one.send("app", {})
    assert one.flush(10)
    thread = one._thread
    assert thread is not None
    ours = set(thread._idents)
    assert all(ident in transfer.system.inside.SENDING for ident in ours)
    one.rest()
    thread.join(20)
    assert not any(ident in transfer.system.inside.SENDING for ident in ours)
    assert not thread.is_current()


@pytest.mark.parametrize(
    "other",
    [
        lambda: logging.getLogger(f"new.{time.monotonic_ns()}"),
        lambda: logging.config.dictConfig({"version": 1, "incremental": True}),
        lambda: logging.shutdown([ref(handler) for handler in logging.getLogger("waiting").handlers]),
    ],
)
def test_who_waits_for_room_holds_up_nobody_who_configures_logging(nats: Nats, other: Callable[[], None]) -> None:
    async def never(_: Publication) -> None:
        await asyncio.Event().wait()

    nats.confirm = never
    handler = TransferHandler("app", url="nats://127.0.0.1:1", namespace="beta", overflow="block", max_entries=10)
    logger = logging.getLogger("waiting")
    logger.addHandler(handler)

    def log() -> None:
        for _ in range(50):
            logger.warning("entry")

    waiting = threading.Thread(target=log, daemon=True)
    waiting.start()
    try:
        deadline = time.monotonic() + 20
        while handler.stats().queued < 5 and time.monotonic() < deadline:
            time.sleep(0.001)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(other).result(20)
        assert waiting.is_alive()
    finally:
        logger.removeHandler(handler)
        handler._sender.close(0)
        waiting.join(20)


@pytest.mark.filterwarnings("error")
def test_after_the_end_every_call_raises_and_those_under_way_are_answered(sender: Callable[..., Sender]) -> None:
    one = sender()
    blocking = BlockingTransfer(one, namespace="beta", timeout=10)

    async def never(_: object) -> None:
        await asyncio.Event().wait()

    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(one.call, never, 10.0) for _ in range(4)]
        while not one._thread or len([call for call in one._thread._calls.waiting if call.task]) < 4:
            time.sleep(0.001)
        blocking.close(0.1)
        for future in waiting:
            with pytest.raises(TransferError, match="end"):
                future.result(20)
    for call in (lambda: blocking.get("app"), blocking.list, lambda: blocking.publish("app", {})):
        with pytest.raises(TransferError, match="end"):
            call()


def test_a_call_without_a_connection_ends_at_its_timeout(
    sender: Callable[..., Sender], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def keep_connected(_: SendingThread) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(SendingThread, "_keep_connected", keep_connected)
    with pytest.raises(Unavailable):
        BlockingTransfer(sender(), namespace="beta", timeout=0.1).get("app")


def test_threads_that_fork_at_once_leave_no_lock_held(sender: Callable[..., Sender]) -> None:
    """Nothing is held over a fork: there is nothing that two of them could mix up."""
    senders = [sender(), sender()]
    in_child()
    in_child()
    for one in senders:
        for lock in (one._outbox.lock, one._start_lock):
            with ThreadPoolExecutor(1) as other:
                assert other.submit(lock.acquire, timeout=5).result()
                other.submit(lock.release).result()


def test_the_end_of_the_process_may_come_twice(sender: Callable[..., Sender]) -> None:
    one = sender()
    one.send("app", {})
    try:
        close_all()
        one.send("app", {})
        close_all()
        assert one.stats().published == 2
    finally:
        ending.begin_anew()


def test_an_entry_that_comes_alone_takes_few_turns_of_the_loop(sender: Callable[..., Sender]) -> None:
    """It wakes the thread, waits a moment for others, is sent and is done."""
    one, turns = sender(), 0
    one.send("a", {})
    assert one.flush(10)
    thread = one._thread
    assert thread is not None
    selector: Any = thread._loop._selector  # type: ignore[union-attr]
    select = selector.select

    def counted(timeout: float | None = None) -> Any:
        nonlocal turns
        turns += 1
        return select(timeout)

    selector.select = counted
    for number in range(20):
        one.send("a", {})
        while one.stats().published < number + 2:
            time.sleep(0.001)
    print(turns / 20)  # noqa: T201 - figures
    assert turns / 20 <= 8
