"""A replay: which rows it takes, in which order, and the messages that it makes of them."""

from __future__ import annotations

import json
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from anyio import fail_after, lowlevel
from click.testing import CliRunner

from collector.archive.compression import Compression, Packing
from collector.archive.decoders import AsItCame, PlainJson
from collector.archive.finding import find_logs
from collector.archive.formats.parquet import Parquet
from collector.archive.formats.raw import Raw
from collector.archive.record import BlockKind
from collector.archive.replaying import NOWHERE, Place
from collector.archive.replaying.cursor import opened_cursor
from collector.archive.replaying.entries import Bundles
from collector.archive.replaying.order import Cuts
from collector.archive.replaying.raw import RawMessages
from collector.archive.replaying.replay import Replay, Wanted
from collector.archive.stores.local import LocalStore
from collector.cli import main
from collector.decoding.codec import Codec
from collector.errors import BlockUnreadable, WrongCursor, WrongReplay
from collector.model import Delivery
from tests.support.archive_damages import COLUMNS, FORMS, archive, path_of
from tests.support.archive_roots import ArchiveMaker
from tests.support.archiving import message, messages
from tests.support.wire_bytes import INCARNATION, PUBLISHED_NS

if TYPE_CHECKING:
    from pathlib import Path

    from collector.jetstream.window import Outgoing
    from collector.model import Entry

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]


class Sent:
    """A sender that keeps what it is given."""

    def __init__(self) -> None:
        self.messages: list[Outgoing] = []

    async def send(self, message: Outgoing) -> None:
        self.messages.append(message)

    def deliveries(self, stream: str = "elsewhere") -> list[Delivery]:
        facts = enumerate(self.messages, 1)
        return [Delivery(one.subject, "", one.body, one.headers, stream, n, 1, PUBLISHED_NS * 2) for n, one in facts]


async def replayed(
    root: Path, target: Bundles | RawMessages | None = None, start: Place = NOWHERE, **wanted: Any
) -> tuple[Sent, Replay]:
    store, sent = LocalStore(root, patience=60), Sent()
    (log,) = await find_logs(store)
    target = target or Bundles("to", INCARNATION, "r", 1 << 20)
    replay = Replay(store, Wanted(**wanted), start, target, sent)
    with fail_after(60):
        await replay.run(log, lowlevel.checkpoint)
    return sent, replay


def entries(received: list[Delivery]) -> list[Entry]:
    """Return the entries as a collector decodes them."""
    codec = Codec(INCARNATION)
    found = []
    for one in received:
        decoded = codec.decode(one)
        assert decoded.rejects == []
        found += decoded.entries
    return found


def plain(values: list[Entry]) -> list[Any]:
    return [one.document for one in values]


# --- entries


@pytest.mark.parametrize("form", [one for one in FORMS if not one.startswith("raw")])
async def test_each_entry_is_decoded_as_it_was_in_each_format(tmp_path: Path, form: str) -> None:
    """Identity, time, metadata and data are those of the first time, so the collector stores the same document."""
    originals = [
        b'{"data": {"n": 1, "text": "a"}}',
        b'{"data": {"n": -5, "text": "", "deep": {"a": [1, 0.5, null, true]}}, "metadata": {"host": "x"}}',
        b'{"data": {"_id": "mine", "text": "\\u2028\\r\\n\\""}, "timestamp": "2024-01-02T03:04:05.678901Z"}',
        b'{"data": {"big": 18446744073709551616}, "id": "0123456789abcdef01234567"}',
        b'{"data": {"n": "no number"}, "metadata": null, "timestamp": "0001-02-03T00:00:00Z"}',
    ]
    making = {"columns": json.dumps(COLUMNS)} if "columns" in form else {}
    received = messages(originals)
    ArchiveMaker(root=tmp_path, form=FORMS[form](), making=making).add(received)
    sent, _ = await replayed(tmp_path)
    assert plain(entries(sent.deliveries())) == plain(entries(received))


async def test_entries_are_in_order_in_bundles_and_each_replay_has_its_own_message_ids(tmp_path: Path) -> None:
    maker = archive(tmp_path)
    sent, replay = await replayed(tmp_path)
    again, _ = await replayed(tmp_path)
    other, _ = await replayed(tmp_path, Bundles("to", INCARNATION, "another", 1 << 20))
    assert sent.messages == again.messages
    ids = [[one.headers for one in each.messages] for each in (sent, other)]
    assert not set(ids[0]) & set(ids[1])
    found = entries(sent.deliveries())
    assert [one.document["_id"] for one in found] == sorted(one.document["_id"] for one in found)
    blocks = [block for record in maker.records for block in record.blocks]
    assert replay.tally.left.dead_letters == sum(block.rows for block in blocks if block.kind is BlockKind.DEAD)
    assert sum(one.entries for one in sent.messages) == len(found)
    assert all(b"Transfer-Attempt: 2\r\n" in one.headers for one in sent.messages)


async def test_a_replay_goes_on_behind_each_place_of_a_message(tmp_path: Path) -> None:
    archive(tmp_path)
    tiny = partial(Bundles, "to", INCARNATION, "r", 2000)
    whole, _ = await replayed(tmp_path, tiny())
    bodies = plain(entries(whole.deliveries()))
    done = 0
    for one in whole.messages:
        done += one.entries
        assert isinstance(one.place, Place)
        rest, _ = await replayed(tmp_path, tiny(), start=one.place)
        assert plain(entries(rest.deliveries())) == bodies[done:]
    assert len(whole.messages) > 5


def time_at(sequence: int) -> str:
    return datetime.fromtimestamp((PUBLISHED_NS + sequence) / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%S.")


@pytest.mark.parametrize(
    ("wanted", "sequences"),
    [
        ({}, set(range(1, 21)) | set(range(30, 49))),
        ({"first": 2}, set(range(30, 49))),
        ({"first": 2, "last": 2}, set(range(30, 37))),
        ({"since": time_at(0) + "123456825"}, set(range(36, 49))),
        ({"until": time_at(0) + "123456820"}, set(range(1, 21)) | {30}),
        ({"since": time_at(0) + "123456794", "until": time_at(0) + "123456796"}, {5, 6}),
        ({"since": "2024-05-06T07:08:10"}, set()),
        ({"until": "2024-05-06T07:08:09"}, set()),
    ],
)
async def test_a_part_is_chosen_by_cuts_and_times(tmp_path: Path, wanted: dict[str, Any], sequences: set[int]) -> None:
    archive(tmp_path, FORMS["ndjson-zstd"]())
    sent, _ = await replayed(tmp_path, Bundles("to", INCARNATION, "r", 1), **wanted)  # each entry is a message
    places = [one.place for one in sent.messages]
    assert {place.sequence for place in places if isinstance(place, Place)} == sequences


async def test_a_key_is_chosen_by_blocks_and_no_other_block_is_read(tmp_path: Path) -> None:
    maker = archive(tmp_path)
    for block in (block for record in maker.records for block in record.blocks if block.key != "web-1"):
        (tmp_path / block.path).unlink()
    sent, _ = await replayed(tmp_path, key="web-1")
    assert {one.document["metadata"]["host"] for one in entries(sent.deliveries())} == {"web-1"}


async def test_rows_that_are_no_entries_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    bodies = [b"5", b'{"n": 1}', b'{"_raw": "AA==", "_error": "x"}']
    maker = ArchiveMaker(root=tmp_path, decoder=PlainJson(INCARNATION))
    maker.add(messages(bodies))
    sent, replay = await replayed(tmp_path)
    assert [one.document["n"] for one in entries(sent.deliveries())[:1]] == [1]
    assert replay.tally.left.no_entries == 1
    assert replay.tally.left.why.startswith("1/0: ")


async def test_many_blocks_are_merged_through_files(tmp_path: Path) -> None:
    """More keys than blocks that are merged at once."""
    bodies = [b'{"data": {"n": %d}, "metadata": {"host": "%d"}}' % (n, n * 7 % 150) for n in range(600)]
    for form, decoder in ((Parquet(), None), (Raw(Packing(Compression.NONE)), AsItCame())):
        root = tmp_path / form.suffix
        maker = ArchiveMaker(root=root, form=form, decoder=decoder, key=lambda row: str(row.message.sequence * 7 % 150))
        record = maker.add(messages(bodies))
        assert len(record.blocks) == 150
        with ExitStack() as stack:
            rows = await Cuts(LocalStore(root, patience=60)).rows(record, record.blocks, stack)
            assert [row.sequence for row in rows] == list(range(1, 601))


async def test_a_block_that_is_missing_or_damaged_ends_the_replay_with_its_path(tmp_path: Path) -> None:
    maker = archive(tmp_path)
    path = path_of(maker, 2)
    content = (tmp_path / path).read_bytes()
    maker.put(path, content[:-3])
    with pytest.raises(BlockUnreadable, match=path):
        await replayed(tmp_path)
    (tmp_path / path).unlink()
    with pytest.raises(ExceptionGroup) as caught:
        await replayed(tmp_path)
    assert caught.group_contains(BlockUnreadable, match=path)


# --- raw messages

ODD_HEADERS = (
    b"NATS/1.0\r\nNats-Rollup: all\r\nX: 1\r\nX: 2\r\nNats-Msg-Id: a\r\nTransfer-Attempt: 7\r\n"
    b"Nats-Expected-Last-Sequence: 1\r\n\r\n"
)


@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize("body", [b"", b"text", b"\xff\x00", b"aGVsbG8="])
async def test_a_raw_message_is_as_it_was_without_words_to_the_server(tmp_path: Path, text: bool, body: bytes) -> None:
    form, making = Raw(Packing(Compression.ZSTD), text=text), {"format": "raw"} | ({"text": "true"} if text else {})
    maker = ArchiveMaker(root=tmp_path, form=form, decoder=AsItCame(), making=making)
    maker.add([message(body, 1, raw_headers=ODD_HEADERS), message(body, 2, raw_headers=b"NATS/1.0\r\nY: \xff\r\n\r\n")])
    sent, _ = await replayed(tmp_path, RawMessages(INCARNATION.created, "r", subject=None, prefix="again."))
    assert [(one.subject, one.body) for one in sent.messages] == [("again.shop.orders", body)] * 2
    assert [one.headers for one in sent.messages] == [
        b"NATS/1.0\r\nNats-Msg-Id: r-1\r\nX: 1\r\nX: 2\r\nTransfer-Attempt: 7\r\n\r\n",
        b"NATS/1.0\r\nNats-Msg-Id: r-2\r\nY: \xff\r\n\r\n",
    ]
    sent, _ = await replayed(tmp_path, RawMessages(INCARNATION.created, "r", subject="to"))
    assert b"Transfer-Attempt: 8\r\n" in sent.messages[0].headers


async def test_rows_and_raw_messages_have_their_own_targets(tmp_path: Path) -> None:
    archive(tmp_path / "rows")
    archive(tmp_path / "raw", FORMS["raw-none"]())
    with pytest.raises(WrongReplay, match="--to-logger"):
        await replayed(tmp_path / "rows", RawMessages("", "r", subject=None))
    with pytest.raises(WrongReplay, match="raw"):
        await replayed(tmp_path / "raw")


# --- cursor and command


def test_a_cursor_is_kept_for_one_replay_and_used_by_one_process(tmp_path: Path) -> None:
    path = tmp_path / "a.cursor"
    with opened_cursor(path, {"to": "a"}) as cursor:
        assert (cursor.start, path.exists()) == (NOWHERE, False)
        cursor.save(Place(2, 7, 1), 10)
        with pytest.raises(WrongCursor, match="another process"), opened_cursor(path, {"to": "a"}):
            pass
    with opened_cursor(path, {"to": "a"}) as again:
        assert (again.start, again.before, again.replay) == (Place(2, 7, 1), 10, cursor.replay)
    with pytest.raises(WrongCursor, match="another to"), opened_cursor(path, {"to": "b"}):
        pass
    path.write_bytes(b"{")
    with pytest.raises(WrongCursor, match="remove it"), opened_cursor(path, {"to": "a"}):
        pass


def test_a_dry_run_counts_without_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maker = archive(tmp_path / "root")
    blocks = [block for record in maker.records for block in record.blocks]
    dead = sum(block.rows for block in blocks if block.kind is BlockKind.DEAD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAMESPACE", "beta")
    monkeypatch.setenv("NATS_HOSTS", "nats://127.0.0.1:1")
    arguments = [
        "archive",
        "replay",
        str(tmp_path / "root"),
        "--capture",
        "orders",
        "--to-logger",
        "audit",
        "--dry-run",
    ]
    result = CliRunner().invoke(main, [*arguments, "--json", "--since", "2024-01-01T00:00:00+02:00"])
    said, rows = json.loads(result.output), sum(block.rows for block in blocks) - dead
    assert (result.exit_code, said["entries"], said["left"]["dead_letters"]) == (0, rows, dead)
    assert [path.name for path in tmp_path.iterdir()] == ["root"]
    assert CliRunner().invoke(main, [*arguments, "--to-stream", "X"]).exit_code == 2
    assert CliRunner().invoke(main, [*arguments, "--since", "yesterday"]).exit_code == 2
