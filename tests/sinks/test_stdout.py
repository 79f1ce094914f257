"""What standard output gets: whole lines, whatever a pipe takes at a time, and the rest of one that was torn."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from collector.errors import SinkUnavailable
from collector.sinks.stdout import Stdout, StdoutSink
from tests.support.fakes import delivery, entry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def nobody_is_gone() -> None:
    pytest.fail("expected a reader")


async def test_a_write_that_ends_in_a_line_goes_on_there_whoever_writes_next(pipe: tuple[int, int]) -> None:
    read, write = pipe
    stdout = Stdout(write, 0.05, nobody_is_gone)
    first = StdoutSink("a", stdout).begin([entry(delivery(number), text="x" * 9000) for number in range(20)])
    with pytest.raises(SinkUnavailable, match="ETIMEDOUT"):
        await first.attempt()
    sent = first.written.stored
    assert sent == 0
    content = os.read(read, 1 << 20)
    second = StdoutSink("b", stdout).begin([entry(delivery(100))])
    await second.attempt()
    content += os.read(read, 1 << 20)
    lines = content.split(b"\n")
    assert lines.pop() == b""
    assert all(line.startswith(b'{"_logger":') and line.endswith(b"}") for line in lines)
    assert [line[:14] for line in lines].count(b'{"_logger":"b"') == 1
    done = False
    while not done:
        try:
            await first.attempt()
            done = True
        except SinkUnavailable:
            content += os.read(read, 1 << 20)
    content += os.read(read, 1 << 20)
    assert content.count(b'{"_logger":"a"') == 20
    assert first.written.stored == 20


async def test_a_reader_that_is_gone_is_said_once_to_whom_it_concerns(pipe: tuple[int, int]) -> None:
    read, write = os.pipe()
    os.close(read)
    gone: list[int] = []
    writing = StdoutSink("a", Stdout(write, 1.0, lambda: gone.append(1))).begin([entry(delivery(1))])
    with pytest.raises(SinkUnavailable, match="EPIPE"):
        await writing.attempt()
    assert gone == [1]
    os.close(write)


async def test_a_file_that_ends_in_a_torn_line_gets_a_line_break_first(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b'{"_logger":"a","te')
    with path.open("ab+") as file:
        await StdoutSink("a", Stdout(file.fileno(), 1.0, nobody_is_gone)).begin([entry(delivery(1))]).attempt()
    torn, whole, end = path.read_bytes().split(b"\n")
    assert torn == b'{"_logger":"a","te'
    assert whole.startswith(b'{"_logger":"a"')
    assert not end


async def test_the_key_wins_over_a_field_of_its_name(pipe: tuple[int, int]) -> None:
    read, write = pipe
    await StdoutSink("a", Stdout(write, 1.0, nobody_is_gone)).begin([entry(delivery(1), _logger="other")]).attempt()
    line = os.read(read, 4096)
    assert line.startswith(b'{"_logger":"a",')
    assert b"other" not in line


async def test_lines_whose_sync_failed_are_written_again_by_all_who_sent_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system says once that it lost what was written; a later sync knows nothing of it."""
    path = tmp_path / "out"
    with path.open("ab+") as file:
        stdout = Stdout(file.fileno(), 5.0, nobody_is_gone)
        first, second = (StdoutSink(key, stdout).begin([entry(delivery(1)), entry(delivery(2))]) for key in "ab")
        write, fsync, writes = os.write, os.fsync, list[int]()

        def full(descriptor: int, content: bytes) -> int:
            writes.append(1)
            if len(writes) == 2:
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(descriptor, bytes(content[: bytes(content).index(b"\n") + 1]))

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(SinkUnavailable, match="ENOSPC"):
            await first.attempt()  # one line of two is sent
        monkeypatch.setattr(os, "write", write)
        monkeypatch.setattr(os, "fsync", broken)
        with pytest.raises(SinkUnavailable, match="EIO"):
            await second.attempt()
        monkeypatch.setattr(os, "fsync", fsync)
        lost = path.stat().st_size
        await second.attempt()
        await first.attempt()
        assert (first.written.stored, second.written.stored) == (2, 2)
        lines = path.read_bytes()[lost:].splitlines()
        assert [line[:14] for line in lines] == [b'{"_logger":"b"'] * 2 + [b'{"_logger":"a"'] * 2


def broken(descriptor: int) -> None:
    raise OSError(errno.EIO, "Input/output error")


async def test_the_rest_of_many_lines_is_not_copied_for_each_write(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each write gets a view of one and the same piece."""
    write, owners = os.write, list[object]()

    def noted(descriptor: int, content: memoryview) -> int:
        owners.append(content.obj)
        return write(descriptor, content)

    monkeypatch.setattr(os, "write", noted)
    writing = StdoutSink("a", Stdout(pipe[1], 5.0, nobody_is_gone)).begin(
        [entry(delivery(number), text="x" * 1500) for number in range(20)]
    )
    await writing.attempt()
    assert len(owners) > 5
    assert all(owner is owners[0] for owner in owners)
