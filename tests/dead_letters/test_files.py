"""Dead letters in files: once each, the later attempt wins, and the commands read all that was kept."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
import pytest
from bson import ObjectId
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.dead_letters.files import LetterFileReader, LetterFiles, LetterFileStore
from collector.dead_letters.summary import Filter
from collector.errors import SinkUnavailable
from collector.model import Reason, Rejected
from collector.runtime.durably import locked
from tests.support.fakes import delivery, reject

if TYPE_CHECKING:
    from pathlib import Path

FAILED_AT = 1_800_000_000.25


class Kept:
    """The letters of one logger in a folder."""

    def __init__(self, folder: Path) -> None:
        self.now = FAILED_AT
        self.files = LetterFiles(folder, "system")
        self.store = LetterFileStore(self.files, lambda: self.now)
        self.reader = LetterFileReader(self.files, folder / "system.ndjson")

    async def found(self, wanted: Filter | None = None) -> list[ObjectId]:
        return [one.id async for group in self.reader.find(wanted or Filter()) for one in group]


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def attempt_of(one: Rejected, attempt: int) -> Rejected:
    """Make the same reject as a later redrive brings it back."""
    headers = f"NATS/1.0\r\nTransfer-Attempt: {attempt}\r\n\r\n".encode()
    of = msgspec.structs.replace(one.delivery, raw_headers=headers)
    return msgspec.structs.replace(one, delivery=of, body=b"of attempt %d" % attempt)


async def test_a_letter_is_kept_once_and_read_as_it_was(kept: Kept) -> None:
    one = msgspec.structs.replace(
        reject(
            msgspec.structs.replace(
                delivery(42, b"\xff\x00body"), raw_headers=b"NATS/1.0\r\nA: b\r\nB: \xff\xfe\r\n\r\n"
            )
        ),
        error="expected this, got \ud800",
    )
    await kept.store.store([one])
    kept.now += 1
    await kept.store.store([one])
    (letter,) = await kept.reader.read([one.identity])
    assert letter.body == b"\xff\x00body"
    assert letter.headers == ((b"A", b"b"), (b"B", b"\xff\xfe"))
    assert letter.error == "expected this, got \\ud800"
    summary = letter.summary
    assert (summary.id, summary.reason, summary.sequence, summary.attempt) == (one.identity, "malformed", 42, 1)
    assert (summary.size, summary.body_file, summary.entry) == (6, None, None)
    assert summary.failed_at == datetime.fromtimestamp(FAILED_AT, UTC)


async def test_the_later_attempt_takes_the_place_and_the_earlier_never_does(kept: Kept) -> None:
    one = reject(delivery(1))
    for attempt in (2, 1, 3, 2):
        await kept.store.store([attempt_of(one, attempt)])
    (letter,) = await kept.reader.read([one.identity])
    assert (letter.body, letter.summary.attempt) == (b"of attempt 3", 3)


async def test_only_the_letter_that_was_read_is_removed(kept: Kept) -> None:
    one = reject(delivery(1))
    await kept.store.store([one])
    (read,) = await kept.reader.read([one.identity])
    await kept.store.store([attempt_of(one, 2)])
    assert await kept.reader.remove([read.summary]) == 0
    (read,) = await kept.reader.read([one.identity])
    assert await kept.reader.remove([read.summary]) == 1
    assert await kept.reader.remove([read.summary]) == 0
    assert await kept.found() == []


async def test_a_filter_means_the_same_letters_as_in_mongodb(kept: Kept) -> None:
    rejects = [reject(delivery(number), reason=[Reason.MALFORMED, Reason.RULE][number % 2]) for number in range(6)]
    for kept.now, one in enumerate(rejects, 1_800_000_000):
        await kept.store.store([one])
    ids = [one.identity for one in rejects]
    start = datetime.fromtimestamp(1_800_000_000, UTC)
    since, until = start.replace(second=start.second + 2), start.replace(second=start.second + 4)
    for wanted, expected in (
        (Filter(), ids),
        (Filter(reasons=(Reason.RULE,)), ids[1::2]),
        (Filter(since=since), ids[2:]),
        (Filter(until=until), ids[:4]),
        (Filter(since=since, until=until, limit=1), ids[2:3]),
        (Filter(ids=(ids[4], ids[1], ids[1])), [ids[1], ids[4]]),
        (Filter(ids=(ObjectId(),)), []),
    ):
        assert await kept.found(wanted) == expected, wanted
        assert await kept.reader.count(wanted) == len(expected), wanted


async def test_a_logger_is_known_by_its_folder_or_its_entries(kept: Kept, tmp_path: Path) -> None:
    assert "system.ndjson" in await kept.reader.missing()
    (tmp_path / "system.ndjson").touch()
    assert await kept.reader.missing() == ""
    (tmp_path / "system.ndjson").unlink()
    kept.files.prepare()
    assert await kept.reader.missing() == ""
    assert await kept.found() == []


async def test_a_file_that_is_no_letter_is_named(kept: Kept) -> None:
    one = reject(delivery(1))
    await kept.store.store([one])
    path = kept.files.folder / f"{one.identity}.json"
    for garbage in (b"", b"{}", b"[]", b"\xff", b'{"_id":"1","body":"x","headers":[]}'):
        path.write_bytes(garbage)
        with pytest.raises(SinkUnavailable, match=str(one.identity)):
            await kept.found()


async def test_a_folder_that_cannot_be_written_is_said(kept: Kept) -> None:
    kept.files.folder.parent.mkdir(parents=True)
    kept.files.folder.write_text("a file in its place")
    with pytest.raises(SinkUnavailable, match="dead letters"):
        await kept.store.store([reject(delivery(1))])


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(body=st.binary(max_size=50), headers=st.binary(max_size=80).map(lambda some: b"NATS/1.0\r\n" + some))
async def test_any_body_and_any_headers_come_back(kept: Kept, body: bytes, headers: bytes) -> None:
    one = reject(msgspec.structs.replace(delivery(1, body), raw_headers=headers))
    await kept.store.store([one])
    (letter,) = await kept.reader.read([one.identity])
    assert letter.body == body


async def test_a_lock_that_another_process_keeps_is_an_outage_and_no_wait_for_ever(kept: Kept, tmp_path: Path) -> None:
    await kept.store.store([reject(delivery(1))])
    (read,) = await kept.reader.read(await kept.found())
    impatient = LetterFiles(tmp_path, "system", 0.1)
    with locked(kept.files.folder / ".lock", 0.1):
        with pytest.raises(SinkUnavailable, match="another process holds the lock"):
            await LetterFileStore(impatient, lambda: FAILED_AT).store([reject(delivery(2))])
        with pytest.raises(SinkUnavailable, match="another process holds the lock"):
            await LetterFileReader(impatient, tmp_path).remove([read.summary])
    await LetterFileStore(impatient, lambda: FAILED_AT).store([reject(delivery(2))])
    assert len(await kept.found()) == 2
