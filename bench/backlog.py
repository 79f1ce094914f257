"""Publishing very many messages quickly: core publishes, of which every so-manieth asks JetStream for its confirmation.

nats-server drops what comes faster than a stream stores it; of a connection at most `_WINDOWS` times `_WINDOW`
messages are unconfirmed at any time, far below that limit. The stream's own count is compared afterwards.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from bench.wire import WireBroken, wired

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.entries import Traffic
    from bench.wire import Wire

_WINDOW = 250
_WINDOWS = 4
_CONNECTIONS = 2


def publish(port: int, traffic: Traffic, subjects: Sequence[str], messages: int) -> None:
    """Publish messages 0, 1, 2 ... to the subjects in turn; return when JetStream has them all.

    The order is about that of the numbers: the connections take turns, a window at a time.
    """
    addresses = [subject.encode() for subject in subjects]
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        share = [pool.submit(_publish, port, traffic, addresses, messages, part) for part in range(_CONNECTIONS)]
        for done in share:
            done.result()


def _publish(port: int, traffic: Traffic, subjects: list[bytes], messages: int, part: int) -> None:
    unconfirmed = 0
    with wired(port) as wire:
        for start in range(part * _WINDOW, messages, _CONNECTIONS * _WINDOW):
            wire.send(_window(wire, traffic, subjects, range(start, min(start + _WINDOW, messages))))
            unconfirmed += 1
            while unconfirmed >= _WINDOWS:
                unconfirmed -= _confirmations(wire)
        while unconfirmed:
            unconfirmed -= _confirmations(wire)


def _window(wire: Wire, traffic: Traffic, subjects: list[bytes], numbers: range) -> bytes:
    commands = [traffic.command(subjects[number % len(subjects)], number) for number in numbers[:-1]]
    last = numbers[-1]
    return b"".join([*commands, traffic.command(subjects[last % len(subjects)], last, wire.next_reply())])


def _confirmations(wire: Wire) -> int:
    answers = wire.receive()
    for answer in answers:
        if answer.headers or b'"seq"' not in answer.body:
            raise WireBroken(f"expected JetStream to confirm, got {answer.headers + answer.body!r}")
    return len(answers)
