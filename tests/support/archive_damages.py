"""Archives with something wrong in them: each damage is a function that does it, and says how it has to be found."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from collector.archive.compression import Compression, Packing
from collector.archive.decoders import AsItCame
from collector.archive.formats.columns import declared
from collector.archive.formats.csv import Csv
from collector.archive.formats.ndjson import Ndjson
from collector.archive.formats.parquet import Parquet
from collector.archive.formats.raw import Raw
from collector.archive.keys import by_path
from collector.archive.layout import hints_folder, record_path
from collector.archive.proof.findings import Kind
from collector.archive.record import encode
from tests.support.archive_roots import ArchiveMaker, plain
from tests.support.archiving import message
from tests.support.wire_bytes import INCARNATION

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from collector.archive.formats import Format
    from collector.model import Delivery

COLUMNS = {"n": "int64", "text": "string"}


def _packed(form: Callable[[Packing], Format], compression: Compression) -> Format:
    return form(Packing(compression))


FORMS: dict[str, Callable[[], Format]] = {
    **{f"ndjson-{one}": partial(_packed, Ndjson, one) for one in Compression},
    **{f"csv-{one}": partial(_packed, Csv, one) for one in Compression},
    **{f"raw-{one}": partial(_packed, Raw, one) for one in Compression},
    **{f"parquet-{one}": partial(Parquet, one) for one in Compression},
    "csv-columns": lambda: Csv(Packing(Compression.GZIP), declared(COLUMNS)),
    "parquet-columns": lambda: Parquet(columns=declared(COLUMNS)),
}
BUNDLE = b"NATS/1.0\r\nContent-Type: application/vnd.transfer.bundle+msgpack\r\n\r\n"


def entry(number: int, host: str) -> dict[str, Any]:
    return {"data": {"n": number, "text": f'ä,"{number}"\r\n' * 5}, "metadata": {"host": host}}


def some_messages(first: int, count: int, *, with_dead: bool = False) -> list[Delivery]:
    """Return lone entries, bundles whose entries have two keys, and on request entries that are dead letters."""
    messages = []
    for sequence in range(first, first + count):
        if sequence % 3:
            messages.append(message(msgspec.json.encode(entry(sequence, f"web-{sequence % 2}")), sequence))
        else:
            bundle: list[Any] = [entry(sequence, f"web-{place % 2}") for place in range(4)]
            if with_dead:
                bundle[1] = {"data": "no map"}
            messages.append(message(msgspec.msgpack.encode(bundle), sequence, raw_headers=BUNDLE))
    if with_dead:
        messages.append(message(b"{not json", first + count))
    return messages


def archive(root: Path, form: Format | None = None, **others: Any) -> ArchiveMaker:
    """Return an archive of three cuts, in which some sequences are missing."""
    form = form or plain()
    raw = isinstance(form, Raw)
    if not raw:
        others.setdefault("key", by_path("metadata.host"))
    maker = ArchiveMaker(root=root, form=form, decoder=AsItCame() if raw else None, **others)
    maker.add(some_messages(1, 20, with_dead=True))
    maker.add(some_messages(30, 7))
    maker.add(some_messages(37, 12))
    return maker


def path_of(maker: ArchiveMaker, cut: int = 2, block: int = 0) -> str:
    return maker.records[cut - 1].blocks[block].path


def changed(change: Callable[[bytes], bytes], kind: Kind, cut: int = 2) -> Callable[[ArchiveMaker], tuple[Kind, str]]:
    def damage(maker: ArchiveMaker) -> tuple[Kind, str]:
        path = path_of(maker, cut)
        content = (maker.root / path).read_bytes()
        assert change(content) != content
        maker.put(path, change(content))
        return kind, path

    return damage


def lines(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[bytes], bytes]:
    return lambda content: b"".join(change(content.splitlines(keepends=True)))


def removed(cut: int, kind: Kind) -> Callable[[ArchiveMaker], tuple[Kind, str]]:
    def damage(maker: ArchiveMaker) -> tuple[Kind, str]:
        path = path_of(maker, cut)
        (maker.root / path).unlink()
        return kind, path

    return damage


def exchanged(maker: ArchiveMaker) -> tuple[Kind, str]:
    """Two blocks of one cut have each other's bytes."""
    one, other = (maker.root / path_of(maker, 2, block) for block in (0, 1))
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    return Kind.ENTRIES, path_of(maker)


def of_another_cut(maker: ArchiveMaker) -> tuple[Kind, str]:
    maker.put(path_of(maker), (maker.root / path_of(maker, 3)).read_bytes())
    return Kind.ENTRIES, path_of(maker)


def doubled_block(maker: ArchiveMaker) -> tuple[Kind, str]:
    path = f"{path_of(maker)}.copy"
    maker.put(path, (maker.root / path_of(maker)).read_bytes())
    return Kind.NOT_NAMED, path


def foreign_file(maker: ArchiveMaker) -> tuple[Kind, str]:
    maker.put("orders/README", b"hello")
    return Kind.NOT_NAMED, "orders/README"


def file_in_the_log(maker: ArchiveMaker) -> tuple[Kind, str]:
    path = f"{maker.record_path(2)}.bak"
    maker.put(path, b"")
    return Kind.NOT_NAMED, path


def record_changed(change: Callable[[bytes], bytes]) -> Callable[[ArchiveMaker], tuple[Kind, str]]:
    def damage(maker: ArchiveMaker) -> tuple[Kind, str]:
        path = maker.record_path(2)
        maker.put(path, change((maker.root / path).read_bytes()))
        return Kind.RECORD_DAMAGED, path

    return damage


def record_removed(number: int) -> Callable[[ArchiveMaker], tuple[Kind, str]]:
    def damage(maker: ArchiveMaker) -> tuple[Kind, str]:
        (maker.root / maker.record_path(number)).unlink()
        return Kind.RECORD_MISSING, maker.record_path(number)

    return damage


def last_record_removed(maker: ArchiveMaker) -> tuple[Kind, str]:
    """Only a hint knows that there was one more."""
    maker.put(record_path(hints_folder("orders", INCARNATION.created), 3), b"")
    return record_removed(3)(maker)


def last_record_removed_without_a_hint(maker: ArchiveMaker) -> tuple[Kind, str]:
    """Nothing but its blocks tells that it was there."""
    (maker.root / maker.record_path(3)).unlink()
    return Kind.NOT_NAMED, path_of(maker, 3)


def record_doubled(maker: ArchiveMaker) -> tuple[Kind, str]:
    maker.put(maker.record_path(4), (maker.root / maker.record_path(3)).read_bytes())
    return Kind.RECORD_DAMAGED, maker.record_path(4)


def record_of_another_log(maker: ArchiveMaker) -> tuple[Kind, str]:
    maker.put(maker.record_path(2), encode(replace(maker.records[1], capture="other")))
    return Kind.RECORD_DAMAGED, maker.record_path(2)


def interval_apart(maker: ArchiveMaker) -> tuple[Kind, str]:
    maker.write(replace(maker.records[2], after=maker.records[1].to - 1))
    return Kind.INTERVAL, maker.record_path(3)


def first_interval(maker: ArchiveMaker) -> tuple[Kind, str]:
    members = maker.records[0].members
    assert members.firsts[0] == 1
    maker.write(replace(maker.records[1], after=maker.records[0].to + 1))
    return Kind.INTERVAL, maker.record_path(2)


def same_path_twice(maker: ArchiveMaker) -> tuple[Kind, str]:
    """Let cut 3 name a block of cut 2."""
    record = maker.records[2]
    blocks = (replace(record.blocks[0], path=path_of(maker)), *record.blocks[1:])
    maker.write(replace(record, blocks=blocks))
    return Kind.NAMED_TWICE, path_of(maker)


def size_told(maker: ArchiveMaker) -> tuple[Kind, str]:
    record = maker.records[1]
    blocks = (replace(record.blocks[0], size=1), *record.blocks[1:])
    maker.write(replace(record, blocks=blocks))
    return Kind.BYTES, path_of(maker)


DAMAGES: dict[str, Callable[[ArchiveMaker], tuple[Kind, str]]] = {
    "block missing": removed(2, Kind.BLOCK_MISSING),
    "block of the last cut missing": removed(3, Kind.CUT_OPEN),
    "block empty": changed(lambda _: b"", Kind.ENTRIES),
    "block cut in a line": changed(lambda content: content[:-9], Kind.BLOCK_DAMAGED),
    "block without its last byte": changed(lambda content: content[:-1], Kind.BLOCK_DAMAGED),
    "block cut between lines": changed(lines(lambda all_: all_[:-1]), Kind.ENTRIES),
    "block without its first row": changed(lines(lambda all_: all_[1:]), Kind.ENTRIES),
    "block with a row twice": changed(lines(lambda all_: [*all_, all_[0]]), Kind.ENTRIES),
    "block twice in itself": changed(lambda content: content * 2, Kind.ENTRIES),
    "rows in another order": changed(lines(lambda all_: all_[::-1]), Kind.ENTRIES),
    "a row in place of another": changed(lines(lambda all_: [all_[1], *all_[1:]]), Kind.ENTRIES),
    "another position": changed(lambda content: content.replace(b'"_pos":0', b'"_pos":9', 1), Kind.ENTRIES),
    "another sequence": changed(lambda content: content.replace(b'"_seq":3', b'"_seq":8', 1), Kind.ENTRIES),
    "a letter of a text": changed(lambda content: content.replace(b"web", b"wep", 1), Kind.BYTES),
    "no JSON": changed(lambda content: content.replace(b"{", b"(", 1), Kind.BLOCK_DAMAGED),
    "no UTF-8": changed(lambda content: content.replace("ä".encode(), b"\xff\xff", 1), Kind.BLOCK_DAMAGED),
    "no column": changed(lambda content: content.replace(b'"_seq"', b'"_sey"', 1), Kind.BLOCK_DAMAGED),
    "other bytes altogether": changed(lambda _: bytes(range(256)), Kind.BLOCK_DAMAGED),
    "bytes behind the end": changed(lambda content: content + b"x", Kind.BLOCK_DAMAGED),
    "an empty line": changed(lambda content: content + b"\n", Kind.BYTES),
    "blocks exchanged": exchanged,
    "block of another cut": of_another_cut,
    "block doubled": doubled_block,
    "foreign file": foreign_file,
    "file in the log": file_in_the_log,
    "record shortened": record_changed(lambda content: content[:-1]),
    "record empty": record_changed(lambda _: b""),
    "record with a bit flipped": record_changed(lambda content: content[:40] + bytes([content[40] ^ 1]) + content[41:]),
    "record missing": record_removed(2),
    "first record missing": record_removed(1),
    "last record missing": last_record_removed,
    "last record missing without a hint": last_record_removed_without_a_hint,
    "record doubled": record_doubled,
    "record of another log": record_of_another_log,
    "interval begins too early": interval_apart,
    "interval begins too late": first_interval,
    "path in two records": same_path_twice,
    "size": size_told,
}
