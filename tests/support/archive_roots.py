"""Archives in a folder, as a capture makes them: messages in, blocks and records out."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, cast

from collector.archive.compression import Compression, Packing
from collector.archive.cut import CutPolicy, OpenCut, Plan, planned
from collector.archive.decoders import Entries
from collector.archive.formats import About
from collector.archive.formats.dead import write_letters
from collector.archive.formats.ndjson import Ndjson
from collector.archive.layout import Layout, default_template, log_folder, record_path
from collector.archive.record import BlockKind, CutTrigger, encode
from collector.archive.rows import Reading, Row
from tests.support.wire_bytes import INCARNATION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from collector.archive.compression import Compressed
    from collector.archive.formats import Format
    from collector.archive.record import Record
    from collector.archive.rows import Decoder, Key
    from collector.decoding.identity import Incarnation
    from collector.model import Delivery, Rejected


def plain() -> Ndjson:
    return Ndjson(Packing(Compression.NONE))


@dataclass(kw_only=True)
class ArchiveMaker:
    """Adds cuts to the log of one capture, and creates their blocks."""

    root: Path
    form: Format = field(default_factory=plain)
    decoder: Decoder | None = None
    key: Key | None = None
    capture: str = "orders"
    incarnation: Incarnation = INCARNATION
    making: Mapping[str, str] = field(default_factory=dict)
    told: bool = True
    """Whether records have size and SHA-256 of their blocks."""
    window: float = 900.0

    def __post_init__(self) -> None:
        self.records: list[Record] = []
        self._ids = map(str, count())
        stream, created, ext = self.incarnation.stream, self.incarnation.created, self.form.suffix
        template = default_template("key" if self.key else "")
        self.layout = Layout(template, capture=self.capture, stream=stream, incarnation=created, ext=ext)

    def add(self, messages: Sequence[Delivery], trigger: CutTrigger = CutTrigger.AGE) -> Record:
        """Archive messages as one cut."""
        reading = Reading(self.decoder or Entries(self.incarnation), self.incarnation, self.key)
        policy = CutPolicy(window=self.window)
        cut = OpenCut(policy)
        entries: dict[int, list[Row | Rejected]] = {}
        for message in messages:
            read = reading.read([message])
            both: list[Row | Rejected] = [*read.rows, *read.rejects]
            held = sorted(both, key=lambda one: one.position or 0)
            keys = [one.key if isinstance(one, Row) else BlockKind.DEAD for one in held]
            windows = [policy.window_of(message.published_ns)] * len(held)
            blocks = cut.add([message.sequence], keys, windows, counts=[len(held)], clock=(0, 0))
            for block, one in zip(blocks, held, strict=True):
                entries.setdefault(block, []).append(one)
        number = len(self.records) + 1
        first = self.records[-1].to + 1 if self.records else 1
        about = About(self.capture, number, first, messages[-1].sequence)
        bodies = [self._bytes(cut.places[block].key, entries[block], about) for block in range(len(cut.places))]
        plan = Plan(
            capture=self.capture,
            incarnation=self.incarnation.created,
            owner="replica-1",
            layout=self.layout,
            making=self.making,
        )
        record = planned(
            plan,
            cut,
            self.records[-1] if self.records else None,
            to=messages[-1].sequence,
            to_time_ns=messages[-1].published_ns,
            trigger=trigger,
            new_id=lambda: next(self._ids),
            contents=[(len(body), hashlib.sha256(body).digest()) for body in bodies] if self.told else None,
        )
        self.write(record)
        for planned_block, body in zip(record.blocks, bodies, strict=True):
            self.put(planned_block.path, body)
        self.records.append(record)
        return record

    def _bytes(self, key: object, entries: Sequence[Row | Rejected], about: About) -> bytes:
        out = io.BytesIO()
        if key is BlockKind.DEAD:
            write_letters(cast("Compressed", out), cast("Sequence[Rejected]", entries))
        else:
            writer = self.form.open(out)
            writer.write(cast("Sequence[Row]", entries))
            writer.finish(about)
        return out.getvalue()

    def record_path(self, number: int) -> str:
        return record_path(log_folder(self.capture, self.incarnation.created), number)

    def write(self, record: Record, number: int = 0) -> None:
        """Create a record, or replace it."""
        self.put(self.record_path(number or record.number), encode(record))

    def put(self, path: str, content: bytes) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
