"""How the blocks of a capture are made: a choice of format, compression, columns and decoder, and its form in a record.

A record has it, so that a block which is missing is made in its own way, also after the settings have changed. Pure.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from collector.archive.compression import Compression, Packing
from collector.archive.decoders import AsItCame, Entries, PlainJson
from collector.archive.formats.columns import declared
from collector.archive.formats.csv import Csv
from collector.archive.formats.ndjson import Ndjson
from collector.archive.formats.raw import Raw

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import BinaryIO

    from collector.archive.formats import Format
    from collector.archive.formats.columns import Column
    from collector.archive.rows import Decoder
    from collector.decoding.identity import Incarnation

FORMATS = ("ndjson", "csv", "parquet", "raw")
DECODERS = ("entries", "json", "raw")
_OWN = "own"
"""The name of a format or a decoder that is not of this project."""


class Spool(Protocol):
    """Opens a file that holds a part of a block until the block is complete."""

    def __call__(self) -> BinaryIO:
        """Return an empty file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """How the blocks of a capture are made."""

    format: str | Format = "ndjson"
    """`ndjson`, `csv`, `parquet`, `raw`, or a format of the user's own."""
    compression: Compression = Compression.ZSTD
    columns: Mapping[str, str] = field(default_factory=dict)
    """Declared columns of CSV and Parquet, each with its type."""
    headers: bool = False
    deliveries: bool = False
    text: bool = False
    """Whether the format raw has bodies as text, where they are UTF-8."""
    decoder: str | Decoder = ""
    """`entries`, `json`, `raw`, or the user's own; empty: `raw` for the format raw, else `json`."""

    def __post_init__(self) -> None:
        """Raise ValueError for a choice that there is not."""
        if isinstance(self.format, str) and self.format not in FORMATS:
            raise ValueError(f"expected a format of {', '.join(FORMATS)}, got {self.format!r}")
        if isinstance(self.decoder, str) and self.decoder not in {*DECODERS, ""}:
            raise ValueError(f"expected a decoder of {', '.join(DECODERS)}, got {self.decoder!r}")
        if self.columns and self.format not in {"csv", "parquet"}:
            raise ValueError(f"expected columns with the format csv or parquet alone, got them with {self.format}")
        declared(self.columns)

    def opened(self, spool: Spool) -> Format:
        """Return the format, whose blocks hold in files of `spool` what is not written yet."""
        if not isinstance(self.format, str):
            return self.format
        return _MAKERS[self.format](self, declared(self.columns), spool)

    def decoding(self, incarnation: Incarnation) -> Decoder:
        """Return the decoder of the messages of a stream."""
        if not isinstance(self.decoder, str):
            return self.decoder
        match self.decoder or ("raw" if self.format == "raw" else "json"):
            case "entries":
                return Entries(incarnation)
            case "json":
                return PlainJson(incarnation)
        return AsItCame()

    def described(self) -> dict[str, str]:
        """Return it as a record has it; see `of`."""
        form = {"format": self.format if isinstance(self.format, str) else _OWN}
        form["decoder"] = self.decoder if isinstance(self.decoder, str) else _OWN
        form["compression"] = self.compression.value
        if self.columns:
            form["columns"] = json.dumps(dict(self.columns))
        return form | {name: "true" for name in _FLAGS if getattr(self, name)}

    def of(self, described: Mapping[str, str]) -> Making:
        """Return the choice that was described so; format and decoder of the user's own are those of this one.

        Raises ValueError when this one has none.
        """
        own: dict[str, Any] = {"format": self.format, "decoder": self.decoder}
        for name, ours in own.items():
            if described.get(name) == _OWN and isinstance(ours, str):
                raise ValueError(f"expected the own {name} that the last cut was planned with, got {ours or 'none'!r}")
        said: dict[str, Any] = {name: value for name, value in described.items() if name in own and value != _OWN}
        if "columns" in described:
            said["columns"] = json.loads(described["columns"])
        said |= {name: described.get(name) == "true" for name in _FLAGS}
        compression = Compression(described.get("compression", Compression.ZSTD))
        return Making(**own | said, compression=compression)


_FLAGS = ("headers", "deliveries", "text")


def _ndjson(making: Making, _: Sequence[Column], spool: Spool) -> Format:
    return Ndjson(Packing(making.compression, spool), headers=making.headers, deliveries=making.deliveries)


def _csv(making: Making, columns: Sequence[Column], spool: Spool) -> Format:
    packing = Packing(making.compression, spool)
    return Csv(packing, columns, headers=making.headers, deliveries=making.deliveries)


def _parquet(making: Making, columns: Sequence[Column], spool: Spool) -> Format:
    from collector.archive.formats.parquet import Parquet  # noqa: PLC0415 - Arrow is loaded where it is needed

    facts = {"headers": making.headers, "deliveries": making.deliveries}
    return Parquet(making.compression, columns, spool=spool, **facts)


def _raw(making: Making, _: Sequence[Column], spool: Spool) -> Format:
    return Raw(Packing(making.compression, spool), text=making.text)


_MAKERS: dict[str, Callable[[Making, Sequence[Column], Spool], Format]] = {
    "ndjson": _ndjson,
    "csv": _csv,
    "parquet": _parquet,
    "raw": _raw,
}
