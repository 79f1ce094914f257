"""Comparing a configuration with what is needed: one difference for each field, with what may be done about it."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from transfer.difference import Difference, Remedy
from transfer.jetstream.api import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from transfer.wire import StreamSpec


_TIMES = frozenset({"ack_wait", "max_age", "max_expires", "inactive_threshold", "priority_timeout"})


@dataclass(frozen=True, slots=True)
class Need:
    """One field, and what it has to be."""

    field: str
    """As the server calls it."""
    expected: str
    is_met: Callable[[Any], bool]
    remedy: Remedy
    why: str
    """The consequence of the difference."""
    command: str = ""
    """Mends it; in it `{stream}`, `{key}` and `{subject}` stand for theirs."""
    wanted: object = None
    """The value to set; None is the server's own default."""
    read: Callable[[Any], Any] | None = None
    """Where it is not the field of this name."""
    stated: str = ""
    """The name that the spec's `stream` has for it: what is stated there is meant."""


def differences(about: str, needs: Iterable[Need], found: object, values: Mapping[str, str]) -> Iterator[Difference]:
    """Yield what is not as needed; `values` fill the commands."""
    config = getattr(found, "config", found)
    for need in needs:
        value = need.read(found) if need.read else attrgetter(need.field)(config)
        if not need.is_met(value):
            said, do = _said(need.field, value), _filled(need.command, values)
            yield Difference(
                about, need.field, need.expected, said, need.remedy, need.why, do, value, need.wanted, need.stated
            )


def _said(field: str, value: object) -> str:
    """Return a value as people write it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and field.rpartition(".")[2] in _TIMES:
        return f"{value / NANOSECONDS:g} s"
    if field == "backoff" and isinstance(value, tuple):
        return ", ".join(f"{each / NANOSECONDS:g} s" for each in value)
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "nothing"
    if isinstance(value, dict):
        return str(value.get("name", "set"))
    return str(value)


def _filled(command: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        command = command.replace(f"{{{name}}}", value)
    return command


def in_line(config: dict[str, Any], differences: Iterable[Difference]) -> dict[str, Any]:
    """Return a configuration as JetStream said it, with what is to be updated set or left to the server's default."""
    changed = {each.field: each.wanted for each in differences if each.remedy is Remedy.UPDATE}
    kept = {field: value for field, value in config.items() if field not in changed}
    return kept | {field: value for field, value in changed.items() if value is not None}


def not_meant(risks: Sequence[Difference], stated: StreamSpec | None) -> tuple[Difference, ...]:
    """Return the risks that the logger's spec does not state."""
    return tuple(risk for risk in risks if not _is_stated(risk, stated))


def _is_stated(risk: Difference, stated: StreamSpec | None) -> bool:
    value = getattr(stated, risk.stated, None) if risk.stated else None
    if value is None:
        return False
    found = risk.value / NANOSECONDS if risk.field in _TIMES else risk.value
    return bool(found == value)
