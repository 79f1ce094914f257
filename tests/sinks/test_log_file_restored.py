"""The file of a logger knows a message by its time too, keeps the work of others, and trusts only what is synced."""

from __future__ import annotations

import errno
import os
import random
from typing import TYPE_CHECKING

import msgspec
import pytest

from collector.errors import SinkUnavailable
from collector.sinks.lines import Lines
from collector.sinks.log_file import LogFile, Rotation
from tests.sinks.test_log_file import LARGE, LIFE, NEXT_LIFE, append, content, expected, let_go, log_file
from tests.support.fakes import delivery, entry

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from collector.model import Entry


def at(time: int, sequences: Iterable[int]) -> list[Entry]:
    """Make messages that the stream stored at about a time, each with a text of its own."""
    made = []
    for sequence in sequences:
        of = msgspec.structs.replace(delivery(sequence), published_ns=time * 1000 + sequence)
        made.append(entry(of, text=f"{time} {sequence}"))
    return made


def put(file: LogFile, entries: list[Entry]) -> int:
    lines = Lines(entries)
    return file.append(lines.entries, lines.lines)


def texts(folder: Path) -> list[str]:
    return [msgspec.json.decode(line)["text"] for line in content(folder)]


@pytest.mark.parametrize("older", [0, 1, 5, 9])
@pytest.mark.parametrize("gaps", [1, 2])
@pytest.mark.parametrize("restarted", [False, True])
def test_a_sequence_that_is_used_again_is_another_message(
    tmp_path: Path, older: int, gaps: int, *, restarted: bool
) -> None:
    """NATS comes back three times from an older copy, each with new messages; all of each time come twice."""
    chance, wanted = random.Random(older), list[str]()  # noqa: S311 - an order, no secret
    file = log_file(tmp_path)
    file.open()
    for time, first in enumerate([1, older + 1, older + 1, older // 2 + 1], 1):
        new = at(time, range(first, 11 + time, gaps))
        wanted += [one.document["text"] for one in new]
        parts = [new[place : place + 3] for place in range(0, len(new), 3)]
        assert put(file, parts[0]) == 0
        later = parts[1:]
        chance.shuffle(later)  # batches are tried again in any order
        assert [put(file, part) for part in later] == [0] * len(later)
        if restarted:
            file.close()
            file = log_file(tmp_path)
            file.open()
        assert put(file, new) == len(new)
    file.close()
    assert sorted(texts(tmp_path)) == sorted(wanted)


def test_a_failed_write_of_a_used_sequence_is_tried_again_after_later_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = log_file(tmp_path)
    file.open()
    put(file, at(1, range(1, 11)))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        with pytest.raises(SinkUnavailable):
            put(file, at(2, range(6, 11)))
    assert put(file, at(2, range(11, 21))) == 0
    assert put(file, at(2, range(6, 11))) == 0
    file.close()
    assert len(texts(tmp_path)) == 25


def failing(*_: int) -> None:
    raise OSError(errno.EIO, "Input/output error")


def test_one_delivery_that_is_in_a_batch_twice_is_one_line(tmp_path: Path) -> None:
    file = log_file(tmp_path)
    file.open()
    lines = Lines([entry(delivery(1), number=1), entry(delivery(1), number=1)])  # equal, and with one reply
    assert file.append(lines.entries, lines.lines) == 1
    bundle = delivery(2)
    lines = Lines([entry(bundle, 0, number=2), entry(bundle, 1, number=3)])
    assert file.append(lines.entries, lines.lines) == 0
    file.close()
    assert len(content(tmp_path)) == 3


def test_lines_that_are_read_back_are_synced_before_they_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = log_file(tmp_path)
    file.open()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", killed)
        with pytest.raises(KeyboardInterrupt):
            append(file, 1, 2)
    let_go(file)
    inode, synced, fsync = (tmp_path / "system.ndjson").stat().st_ino, list[int](), os.fsync

    def noted(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    file = log_file(tmp_path)
    file.open()
    assert synced[0] == inode
    assert append(file, 1, 2, delivered=2) == 2
    file.close()


def killed(descriptor: int) -> None:
    raise KeyboardInterrupt


def test_lines_whose_sync_failed_are_written_anew_before_they_are_synced_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system says once that a sync has failed, and may have lost the lines then."""
    file = log_file(tmp_path)
    file.open()
    append(file, 1, 2)
    let_go(file)  # its checkpoint is at the beginning
    before = (tmp_path / "system.ndjson").read_bytes()
    file = log_file(tmp_path)
    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", failing)
            with pytest.raises(SinkUnavailable, match="EIO"):
                file.open()
    steps, fsync, pwrite = list[bytes](), os.fsync, os.pwrite

    def synced(descriptor: int) -> None:
        steps.append(b"")
        fsync(descriptor)

    def written(descriptor: int, part: bytes, at: int) -> int:
        assert at == len(b"".join(steps))
        steps.append(part[:100])
        return pwrite(descriptor, part[:100], at)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "pwrite", written)
    file.open()
    assert b"".join(steps[: steps.index(b"")]) == before
    assert append(file, 1, 2, delivered=2) == 2
    file.close()
    assert content(tmp_path) == expected(1, 2)


@pytest.mark.parametrize("behind", [False, True])
def test_a_standby_of_an_older_stream_leaves_the_checkpoint_alone(tmp_path: Path, *, behind: bool) -> None:
    file = log_file(tmp_path, life=NEXT_LIFE)
    file.open()
    append(file, 1, 2)
    if behind:
        let_go(file)
    else:
        file.close()
    before = (tmp_path / ".collector" / "system.json").read_bytes()
    standby = LogFile(tmp_path, "system", LIFE, Rotation(1 << 30, 0.0), lambda: 2e9)
    standby.open()
    standby.look_at_age()
    standby.close()
    assert (tmp_path / ".collector" / "system.json").read_bytes() == before
    file = log_file(tmp_path, life=NEXT_LIFE)
    file.open()
    assert append(file, 1, 2, 3) == 2
    file.close()
    assert content(tmp_path) == expected(1, 2, 3)


def test_the_first_line_of_another_stream_comes_after_a_checkpoint_of_its_own(tmp_path: Path) -> None:
    """The offset of the old checkpoint is a place in a file that was taken away."""
    file = log_file(tmp_path)
    file.open()
    append(file, 1, 2)
    file.close()
    (tmp_path / "system.ndjson").rename(tmp_path / "system.20010101T000000.000000Z.ndjson")
    file = log_file(tmp_path, life=NEXT_LIFE)
    file.open()
    append(file, *range(1, 9))
    let_go(file)
    file = log_file(tmp_path, life=NEXT_LIFE)
    file.open()
    assert append(file, *range(1, 9)) == 8
    file.close()
    assert content(tmp_path) == expected(1, 2, *range(1, 9))


def test_a_torn_line_is_cut_off_before_the_file_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1e9]
    file = LogFile(tmp_path, "system", LIFE, Rotation(1 << 30, 60.0), lambda: now[0])
    file.open()
    append(file, 1, 2)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        patch.setattr(os, "ftruncate", failing)
        with pytest.raises(SinkUnavailable):
            append(file, 3)
    now[0] += 61
    file.look_at_age()
    append(file, 3)
    file.close()
    assert content(tmp_path) == expected(1, 2, 3)


@pytest.mark.parametrize("name", ["old", "20990101T000000.5", "99991231T235959.999999", "20990101T000000.000000", "zz"])
def test_a_file_of_any_name_beside_it_does_not_stop_a_rotation(tmp_path: Path, name: str) -> None:
    (tmp_path / f"system.{name}Z.ndjson").write_bytes(b"")
    file = log_file(tmp_path, Rotation(1, 1e9))
    file.open()
    for sequence in range(1, 5):
        append(file, sequence)
    file.close()
    assert sorted(content(tmp_path)) == expected(1, 2, 3, 4)
    assert (tmp_path / f"system.{name}Z.ndjson").read_bytes() == b""


def test_entries_that_leave_no_line_take_nothing_away_of_what_is_known(tmp_path: Path) -> None:
    """Every other message is a reject or was dropped, and all in hand come again after a restart of nats-server."""
    file = log_file(tmp_path, LARGE)
    file.open()
    for first in range(1, 20_001, 2000):
        append(file, *range(first, first + 2000, 2))
    assert append(file, *range(1, 20_001, 2), delivered=2) == 10_000
    file.close()
