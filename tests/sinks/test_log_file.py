"""The file of a logger: each message once, whatever step a kill or a failure comes in, and whatever befalls files."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from collector.decoding.identity import Incarnation
from collector.errors import SinkUnavailable
from collector.sinks.lines import Lines
from collector.sinks.log_file import LogFile, Rotation
from tests.support.fakes import delivery, entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from collector.model import Entry

LIFE = Incarnation("beta:logs:system", "2024-05-06T07:08:09Z")
NEXT_LIFE = Incarnation("beta:logs:system", "2025-05-06T07:08:09Z")
LARGE = Rotation(1 << 30, 1e9)
SMALL = Rotation(700, 1e9)
MANY_STEPS = 400


class Killed(BaseException):
    """The process was killed here."""


def log_file(folder: Path, rotation: Rotation = LARGE, life: Incarnation = LIFE, now: float = 1e9) -> LogFile:
    return LogFile(folder, "system", life, rotation, lambda: now)


def messages(*sequences: int, delivered: int = 1) -> list[Entry]:
    return [entry(delivery(sequence, delivered=delivered), number=sequence) for sequence in sequences]


def append(file: LogFile, *sequences: int, delivered: int = 1) -> int:
    lines = Lines(messages(*sequences, delivered=delivered))
    return file.append(lines.entries, lines.lines)


def content(folder: Path) -> list[str]:
    """Return the lines of all files, in the order of the files."""
    paths = [*sorted(folder.glob("system.*Z.ndjson")), folder / "system.ndjson"]
    return "".join(path.read_text() for path in paths if path.exists()).splitlines()


def expected(*sequences: int) -> list[str]:
    return [line.decode().removesuffix("\n") for line in Lines(messages(*sequences)).lines]


def let_go(file: LogFile) -> None:
    """Close what the system closes of a process that was killed."""
    for descriptor in (file._file, file._lock):
        if descriptor is not None:
            os.close(descriptor)
    file._file = file._lock = None


@contextmanager
def at_step(monkeypatch: pytest.MonkeyPatch, step: int, what: BaseException, *, torn: bool = False) -> Iterator[None]:
    """Have the n-th call that changes files fail; a torn write has written one half of what it was given."""
    calls = 0

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def instead(*arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == step:
                if torn and call is write:
                    write(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                raise what
            return call(*arguments)

        return instead

    write = os.write
    with monkeypatch.context() as patch:
        for name in ("write", "fsync", "ftruncate"):
            patch.setattr(os, name, counted(getattr(os, name)))
        for name in ("rename", "replace"):
            patch.setattr(Path, name, counted(getattr(Path, name)))
        yield


@pytest.mark.parametrize("torn", [False, True])
@pytest.mark.parametrize("rotation", [LARGE, SMALL])
def test_a_kill_at_any_step_loses_nothing_and_writes_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rotation: Rotation, *, torn: bool
) -> None:
    for step in range(1, MANY_STEPS):
        folder, killed = tmp_path / str(step), False
        acked: list[int] = []
        file = log_file(folder, rotation)
        try:
            with at_step(monkeypatch, step, Killed(), torn=torn):
                file.open()
                for first in range(1, 20, 3):
                    append(file, first, first + 1, first + 2)
                    acked.append(first)
        except Killed:
            killed = True
        let_go(file)
        file = log_file(folder, rotation)
        file.open()
        for first in range(1, 20, 3):  # what was acked comes again too: nats-server may forget
            append(file, first, first + 1, first + 2, delivered=2)
        file.close()
        assert sorted(content(folder)) == sorted(expected(*range(1, 22))), step
        if not killed:
            return
    pytest.fail("expected a run that is not killed")


@pytest.mark.parametrize("torn", [False, True])
@pytest.mark.parametrize("rotation", [LARGE, SMALL])
def test_a_failure_at_any_step_can_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rotation: Rotation, *, torn: bool
) -> None:
    failed = 0
    for step in range(1, MANY_STEPS):
        file, tries = log_file(tmp_path / str(step), rotation), 0
        with at_step(monkeypatch, step, OSError(errno.ENOSPC, "No space left on device"), torn=torn):
            tries += tries_of(file.open)
            for first in range(1, 12, 2):
                tries += tries_of(partial(append, file, first, first + 1))
        file.close()
        assert content(tmp_path / str(step)) == expected(*range(1, 13)), step
        failed += tries
    assert failed > 10


def tries_of(work: Callable[[], object]) -> int:
    """Try until it works; return how often it did not."""
    for tries in range(10):
        try:
            work()
        except SinkUnavailable as exc:
            if "ENOSPC" not in str(exc):
                raise
        else:
            return tries
    pytest.fail("expected to work when the disk has room again")


def test_two_deliveries_of_one_message_are_one_line(tmp_path: Path) -> None:
    file = log_file(tmp_path)
    file.open()
    lines = Lines([*messages(1, 2), *messages(1, delivered=2)])
    assert file.append(lines.entries, lines.lines) == 1
    assert append(file, 2, 3, delivered=2) == 1
    assert content(tmp_path) == expected(1, 2, 3)
    file.close()


def test_a_stream_that_is_made_anew_counts_from_one_again(tmp_path: Path) -> None:
    for life in (LIFE, NEXT_LIFE):
        file = log_file(tmp_path, life=life)
        file.open()
        assert append(file, 1, 2) == 0
        file.close()
    assert content(tmp_path) == expected(1, 2, 1, 2)


def test_the_lock_is_held_by_one(tmp_path: Path) -> None:
    first, second = log_file(tmp_path), log_file(tmp_path)
    first.open()
    with pytest.raises(SinkUnavailable, match="another process writes it"):
        second.open()
    append(first, 1)
    first.close()
    second.open()
    assert append(second, 1, 2) == 1
    second.close()


@pytest.mark.parametrize("what", ["renamed", "removed", "emptied", "replaced", "all gone", "folder gone"])
def test_whatever_is_done_to_the_file_no_later_line_is_lost(tmp_path: Path, what: str) -> None:
    file = log_file(tmp_path)
    file.open()
    append(file, 1, 2)
    path = tmp_path / "system.ndjson"
    if what == "renamed":
        path.rename(tmp_path / "system.1.ndjson")
    elif what == "removed":
        path.unlink()
    elif what == "emptied":
        os.truncate(path, 0)
    elif what == "folder gone":
        shutil.rmtree(tmp_path)
    elif what == "all gone":
        path.unlink()
        (tmp_path / ".collector" / "system.json").unlink()
    else:
        path.unlink()
        path.write_text("somebody else's, without an end")
    append(file, 3)
    with pytest.raises(SinkUnavailable, match="another process writes it"):
        log_file(tmp_path).open()
    let_go(file)
    file = log_file(tmp_path)
    file.open()
    append(file, 3, 4, delivered=2)
    file.close()
    assert content(tmp_path)[-2:] == expected(3, 4)


def test_a_file_is_renamed_at_its_age_also_when_nothing_comes_and_names_never_go_back(tmp_path: Path) -> None:
    now = [1e9]
    file = LogFile(tmp_path, "system", LIFE, Rotation(1 << 30, 60.0), lambda: now[0])
    file.open()
    for sequence, moment in enumerate((1e9, 1e9 + 59, 1e9 + 61, 1e9 + 125, 1e9 + 10, 1e9 + 300), 1):
        now[0] = moment
        append(file, sequence)
    now[0] += 60
    file.look_at_age()
    file.look_at_age()
    assert (tmp_path / "system.ndjson").read_bytes() == b""
    assert content(tmp_path) == expected(*range(1, 7))
    assert len(list(tmp_path.glob("system.*Z.ndjson"))) == 4
    file.close()


def test_a_checkpoint_that_is_no_checkpoint_is_passed_over(tmp_path: Path) -> None:
    for garbage in (b"", b"\x00" * 100, b"{}", b"[1", b'{"stream":"a","created":"b","offset":"x"}'):
        file = log_file(tmp_path)
        file.open()
        append(file, 1, 2)
        file.close()
        (tmp_path / ".collector" / "system.json").write_bytes(garbage)
    assert content(tmp_path) == expected(1, 2)
