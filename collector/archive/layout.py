"""Paths of blocks: from a template, so that no two blocks of an archive ever share one. Pure.

A template has `{capture} {stream} {key} {date} {hour} {minute} {first} {last} {n} {ulid} {ext}`, and jet-capture's
`{YYYY} {MM} {DD} {HH} {mm}`. Times are the start of the window, in UTC. `{first}` and `{last}` are the interval of the
cut. `{n}` is the number of the cut and eight letters of capture and incarnation, because another capture under the same
root, or the stream when it is made anew, counts from 1 too.
"""

from __future__ import annotations

import re
from base64 import b32encode
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import PurePosixPath
from string import Formatter
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import quote

from collector.archive.record import BlockKind
from collector.errors import WrongTemplate

if TYPE_CHECKING:
    from collections.abc import Callable

JETCAPTURE = "{key}/{YYYY}/{MM}/{DD}/{HH}/{mm}/backup-{ulid}.{ext}"
NO_KEY = "__HIVE_DEFAULT_PARTITION__"
"""The folder of entries whose key is empty, as Hive, DuckDB, Polars and Spark call it."""
OVERFLOW = "__other__"
"""The folder of entries whose key was one too many for a cut."""
RESERVED = ("_archive", "_dead")
"""Folders at the root that hold no rows."""
MAX_PATH = 900
"""S3 takes 1,024 bytes with the prefix of the root."""
_MAX_PART = 200
"""File systems take 255 bytes, and a store that writes temporary files needs some of them."""
_MAX_KEY = 120
_LAST_SECOND = 253_402_300_799
"""The end of the year 9999. The window of an entry with a time of its own may be any; its path is not."""
_DIGEST = 16
_UNIQUE = {"n", "ulid"}
_FIELDS = {
    *("capture", "stream", "key", "date", "hour", "minute", "first", "last", "n", "ulid", "ext"),
    *("YYYY", "MM", "DD", "HH", "mm"),
}
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LITERAL = re.compile(r"[A-Za-z0-9._=~+@,-]*(?:/[A-Za-z0-9._=~+@,-]*)*")

Key: TypeAlias = "str | BlockKind"
"""The key of an entry, or that it is a dead letter, or one of too many keys."""


def default_template(key_name: str = "") -> str:
    """Return the template of Hive paths; with a name of the key its values are folders `name=value`."""
    folder = f"{quoted(key_name)}={{key}}/" if key_name else ""
    return "{capture}/" + folder + "date={date}/hour={hour}/{first}-{last}-{n}.{ext}"


class Layout:
    """Makes the paths of the blocks of one capture from a template."""

    def __init__(self, template: str, *, capture: str, stream: str, incarnation: str, ext: str) -> None:
        """Take a template. Raises WrongTemplate when a path could leave the root, be reserved, or come twice."""
        whole = template if "{ext}" in template else template + ".{ext}"
        self._template = whole if ext else whole.replace(".{ext}", "").replace("{ext}", "")
        self._capture = quoted(capture)
        self._tag = b32encode(blake2b(f"{capture}\0{incarnation}".encode(), digest_size=5).digest()).decode().lower()
        self._fixed = {"capture": self._capture, "stream": quoted(stream), "ext": ext}
        if fault := self._fault(template):
            raise WrongTemplate(template, fault)

    def path(self, key: Key, window_ns: int, *, first: int, last: int, number: int, new_id: Callable[[], str]) -> str:
        """Return the path of a block; no other block of this archive has it, whatever its key."""
        name = f"{number:08}-{self._tag}"
        if key is BlockKind.DEAD:
            return f"_dead/{self._capture}/{first:020}-{last:020}-{name}.ndjson"
        start = datetime.fromtimestamp(min(max(0, window_ns // 1_000_000_000), _LAST_SECOND), UTC)
        return self._template.format(
            key=_folder_of(key),
            first=f"{first:020}",
            last=f"{last:020}",
            n=name,
            ulid=new_id() if "{ulid}" in self._template else "",
            date=f"{start:%Y-%m-%d}",
            hour=f"{start:%H}",
            minute=f"{start:%M}",
            YYYY=f"{start:%Y}",
            MM=f"{start:%m}",
            DD=f"{start:%d}",
            HH=f"{start:%H}",
            mm=f"{start:%M}",
            **self._fixed,
        )

    def numbered(self, path: str, block: int) -> str:
        """Return a path that no other block of the same cut has: for blocks that the template does not tell apart."""
        ext = self._fixed["ext"]
        end = f".{ext}" if ext and path.endswith(f".{ext}") else ""
        return f"{path.removesuffix(end)}.{block}{end}"

    def _fault(self, template: str) -> str:
        try:
            parts = list(Formatter().parse(template))
        except ValueError as exc:
            return str(exc)
        names = [name for _, name, _, _ in parts if name is not None]
        if unknown := [name for name in names if name not in _FIELDS]:
            return f"{{{unknown[0]}}}, which is none of {', '.join(sorted(_FIELDS))}"
        if any(spec or conversion for _, _, spec, conversion in parts):
            return "a format behind the name of a field"
        if not _UNIQUE & set(names):
            return "neither {n} nor {ulid}, so that a later cut would get the same path"
        if literal := next((text for text, *_ in parts if not _LITERAL.fullmatch(text)), ""):
            return f"the text {literal!r}, in which a character is none of A-Z a-z 0-9 . _ = ~ + @ , - /"
        return self._fault_of_longest()

    def _fault_of_longest(self) -> str:
        """Look at a path with the longest key, and the highest numbers there are."""
        highest = 2**64 - 1
        path = self.path("\N{SNOWMAN}" * 500, 0, first=highest, last=highest, number=10**12, new_id=lambda: "0" * 26)
        parts = path.split("/")
        if any(part in {"", ".", ".."} for part in parts):
            return "an empty step, a . or a .., which may lead out of the root"
        if parts[0] in RESERVED or any(parts[0].startswith(f"{name}.") for name in RESERVED):
            return f"{parts[0]} at the root, which holds no rows"
        if long := next((part for part in parts if len(part) > _MAX_PART), ""):
            return f"a step of up to {len(long)} characters, of at most {_MAX_PART}"
        if len(path) > MAX_PATH:
            return f"a path of up to {len(path)} characters, of at most {MAX_PATH}"
        return ""


def quoted(value: str) -> str:
    """Return a value as one step of a path: percent-encoded, never hidden, never reserved, and not too long.

    Readers of Hive paths decode it. A long value is cut, and ends with a hash; the rows have it whole.
    """
    encoded = quote(value.encode("utf-8", "surrogatepass"), safe=" ").replace(" ", "%20").replace("~", "%7E")
    if encoded[:1] in {"_", "."}:
        encoded = f"%{ord(encoded[0]):02X}{encoded[1:]}"
    if len(encoded) <= _MAX_KEY:
        return encoded
    digest = blake2b(value.encode("utf-8", "surrogatepass"), digest_size=_DIGEST // 2).hexdigest()
    start = re.sub(r"%.?$", "", encoded[: _MAX_KEY - _DIGEST - 1])
    return f"{start}~{digest}"


def _folder_of(key: Key) -> str:
    return (quoted(key) or NO_KEY) if isinstance(key, str) else OVERFLOW


def ulid(time_ms: int, entropy: bytes) -> str:
    """Return a ULID: 48 bits of time and 80 of chance, in 26 characters that sort by time."""
    number = int.from_bytes(time_ms.to_bytes(6) + entropy[:10].ljust(10, b"\0"))
    return "".join(_CROCKFORD[(number >> shift) & 31] for shift in range(125, -1, -5))


def log_folder(capture: str, incarnation: str) -> str:
    """Return the folder of a capture's log: another incarnation of the stream has another one."""
    return f"_archive/{_log_name(capture, incarnation)}"


def hints_folder(capture: str, incarnation: str) -> str:
    """Return the folder of the hints of a log, which is not inside of the log's own."""
    return f"_archive/_hints/{_log_name(capture, incarnation)}"


def _log_name(capture: str, incarnation: str) -> str:
    return f"{quoted(capture)}-{re.sub(r'[^0-9A-Za-z]', '', incarnation) or '0'}"


def record_path(folder: str, number: int) -> str:
    """Return the path of a record, or of a hint; paths sort by their number."""
    return f"{folder}/{number:012}.cut"


def number_in(path: str) -> int | None:
    """Return the number in the path of a record; None when it is another file."""
    name = PurePosixPath(path).name
    return int(name[:12]) if re.fullmatch(r"\d{12}\.cut", name) else None
