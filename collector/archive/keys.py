"""Key functions: a row in, the key of its block out. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collector.archive.rows import Key, Row

_encode = msgspec.json.Encoder().encode


def by_subject(token: int | None = None) -> Key:
    """Take the subject of the message as the key, or one of its tokens, counted from 1; a missing one is empty."""
    if token is None:
        return lambda row: row.message.subject
    if token < 1:
        raise ValueError(f"expected a token of the subject counted from 1, got {token}")

    def of_subject(row: Row) -> str:
        tokens = row.message.subject.split(".", token)
        return tokens[token - 1] if len(tokens) >= token else ""

    return of_subject


def by_path(path: str) -> Key:
    """Take the value at a path like `metadata.host` or `data.user.region` as the key.

    A path that begins with neither is in `data`. Numbers and booleans are written as in JSON. Everything else, and a
    value that is missing, is an empty key.
    """
    steps = path.split(".")
    if not all(steps):
        raise ValueError(f"expected a path of names like metadata.host as the key, got {path!r}")
    in_metadata = steps[0] == "metadata"
    names = steps[1:] if steps[0] in {"metadata", "data"} and len(steps) > 1 else steps
    decode = msgspec.json.Decoder(_holder(names)).decode

    def of_path(row: Row) -> str:
        try:
            found: Any = decode(row.metadata if in_metadata else row.data)
        except msgspec.DecodeError:  # a step is no map
            return ""
        for _ in names:
            found = found.step
        return found if isinstance(found, str) else _scalar(found)

    return of_path


def _holder(names: list[str]) -> Any:
    """Make the type that decodes one path and passes over everything else."""
    kind: Any = Any
    for name in reversed(names):
        empty = None if kind is Any else msgspec.field(default_factory=kind)
        kind = msgspec.defstruct("_Step", [("step", kind, empty)], rename={"step": name})
    return kind


def _scalar(value: object) -> str:
    return _encode(value).decode() if isinstance(value, bool | int | float) else ""
