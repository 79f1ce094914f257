"""The answer of `/status` as a table for people. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transfer.printable import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_HEADINGS = ("LOGGER", "STATE", "LAG", "OLDEST", "RECEIVED/S", "WRITTEN/S", "DEAD", "HELD", "NOTE")
_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def table(status: Mapping[str, Any], width: int) -> str:
    """Return a few lines on the replica, then one for each logger, none longer than `width`."""
    lines = [*_head(status), "", *_columns([_HEADINGS, *map(_row, status["loggers"].items())])]
    return "\n".join(_cut(printable(line.replace("\n", " ")), width) for line in lines)


def _head(status: Mapping[str, Any]) -> list[str]:
    ready = "ready" if status["ready"] else f"not ready: {', '.join(status['not_ready'])}"
    servers = ", ".join(
        f"{server} {'connected' if connected else 'away'}" for server, connected in status["connected"].items()
    )
    buffer, entries = status["buffer"], status["entries"]
    done = {
        "received": entries["received"],
        "written": entries["written"],
        "there already": entries["duplicates"],
        "dead-lettered": entries["dead_lettered"],
    }
    actors = ", ".join(f"{name} {_state(actor)}" for name, actor in status["actors"].items())
    lines = [
        f"{status['namespace']}: {ready} ({servers}), version {status['version']}, since {status['started'][:19]}Z",
        f"entries: {', '.join(f'{count:,} {text}' for text, count in done.items())}",
        f"replicas: {_replicas(status)}",
        f"buffer: {size(buffer['bytes'])} of {size(buffer['limit_bytes'])}; actors: {actors}",
    ]
    return [*lines, *([f"last error{_error(status)}"] if status["last_error"] else [])]


def _replicas(status: Mapping[str, Any]) -> str:
    """Return how many replicas live, and how many loggers are at home on this one."""
    if not status["replicas"]:
        return "unknown, so no logger is at home here"
    return f"{len(status['replicas'])} live; {status['homes']} of {len(status['loggers'])} loggers are at home here"


def _row(named: tuple[str, Mapping[str, Any]]) -> tuple[str, ...]:
    key, logger = named
    lag, oldest = logger["lag_messages"], logger["oldest_message_age_seconds"]
    return (
        key,
        _state(logger),
        "?" if lag is None else f"{lag:,}",
        "?" if oldest is None else duration(oldest),
        f"{logger['received_per_second']:,.0f}",
        f"{logger['written_per_second']:,.0f}",
        f"{logger['dead_lettered']:,}",
        size(logger["in_hand_bytes"]),
        logger["why"] or (f"error{_error(logger)}" if logger["last_error"] else ""),
    )


def _error(one: Mapping[str, Any]) -> str:
    """Return the last error; where it is past, with its time."""
    past = f" of {one['last_error_at'][:19]}Z, past" if one["last_error_past"] else ""
    return f"{past}: {one['last_error']}"


def _state(actor: Mapping[str, Any]) -> str:
    backoff = actor["backoff"]
    if backoff is None:
        return str(actor["state"])
    return f"{actor['state']} (try {backoff['attempt']} in {backoff['restart_in_seconds']:.0f} s)"


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lay the rows out: names and notes on the left, numbers on the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(_cell(row, widths, at) for at in range(len(row))).rstrip() for row in rows]


def _cell(row: Sequence[str], widths: Sequence[int], at: int) -> str:
    left = at < 2 or at == len(row) - 1
    return row[at].ljust(widths[at]) if left else row[at].rjust(widths[at])


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else line[: width - 1] + "…"


def size(count: float) -> str:
    """Return bytes as a person reads them."""
    for unit, name in _UNITS:
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count:.0f} B"


def duration(seconds: float) -> str:
    """Return seconds as a person reads them."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02}s"
    return f"{minutes // 60}h{minutes % 60:02}m"
