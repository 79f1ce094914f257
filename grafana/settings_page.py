"""`docs/settings.md`: every variable that a program reads, with the default and the bounds that the code itself uses.

Only the meanings stand here. A variable without a meaning, and a meaning without a variable, is an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from collector.settings import Settings
from transfer.environment import Environment
from transfer.options import Queue, read_from

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_HEAD = """\
# Settings

Generated from the code by `make dashboards`. Every program reads its settings from the environment when it starts.

- A **duration** is `250ms`, `15s`, `5m`, `1m30s` or a number of seconds. A **size** is `512KiB`, `4MiB`, `10MB` or a
  number of bytes. An empty variable is a variable that is not set.
- A variable with \\* is a **secret**. The same name with `_FILE` names a file that holds the value. These files,
  creds files and certificates are read again at each connect, so a rotation needs no restart.
- Wrong values are reported together, each with the expected and the given value; the exit status is 2. A variable that
  nobody reads is named in the log, with the one that it probably means.

"""
_BESIDE = """\
- Give one way to log in to NATS, or none: `NATS_NKEY`, `NATS_TOKEN`, `NATS_USER` with `NATS_PASSWORD`, or `NATS_CREDS`.
- With a TLS file, or an address `tls://`, every connection has to be TLS.
- *Read by*: `collector` is `collector run` and `collector check`; `transfer` is the library and all commands of
  `transfer` but `tail`.
"""
_CONNECTING = ("NAMESPACE", "NATS_", "DATABASE")
_SERVICE = ("MODE", "COLLECTOR_")
_CLIENT = ("TRANSFER_",)
COLLECTOR, TRANSFER = "`collector`", "`transfer`"
ALSO_READ_BY: Mapping[str, tuple[str, ...]] = {
    "`dead-letters`": ("NAMESPACE", "NATS_", "DATABASE", "COLLECTOR_SINK", "COLLECTOR_FILES"),
    "`status`": ("COLLECTOR_HTTP",),
    "`tail`": ("NAMESPACE", "DATABASE"),
}
"""Commands that read a part of the settings, with the beginnings of the names."""
MEANINGS: Mapping[str, str] = {
    "NAMESPACE": "Prefix of all names in NATS, and the name of the database.",
    "NATS_HOSTS": "Addresses of NATS servers, with commas between them.",
    "NATS_NKEY": "Seed of a user nkey.",
    "NATS_TOKEN": "Token.",
    "NATS_USER": "User; needs `NATS_PASSWORD`.",
    "NATS_PASSWORD": "Password of `NATS_USER`.",
    "NATS_CREDS": "Path of a creds file.",
    "NATS_TLS_CA": "Path of a PEM file with the authorities that the server's certificate is checked against.",
    "NATS_TLS_CERT": "Path of a PEM file with the client's certificate; needs `NATS_TLS_KEY`.",
    "NATS_TLS_KEY": "Path of a PEM file with the key of that certificate.",
    "DATABASE": "URI of MongoDB, which has to be a replica set. The database is `NAMESPACE`, whatever the URI names.",
    "MODE": "`release`: the log is JSON from level info on. `debug`: the log is readable, from level debug on.",
    "COLLECTOR_SINK": "Where entries go: `mongodb`, `stdout`, `file:PATH` (a folder) or `blackhole`. The `destination`"
    " in the spec of a logger wins. Only `mongodb` requires `DATABASE`.",
    "COLLECTOR_FILES": "Folder of the files of loggers whose destination is `file`, and of dead letters where"
    " `DATABASE` is not set. With `file:PATH` it is PATH.",
    "COLLECTOR_FILE_BYTES": "A new file is begun when the present one would become larger.",
    "COLLECTOR_FILE_AGE": "A new file is begun when the present one is as old.",
    "COLLECTOR_HTTP": "Address on which `/metrics`, `/livez`, `/readyz`, `/status` and the page at `/` answer.",
    "COLLECTOR_BATCH_ENTRIES": "A batch is complete when it has this number of entries.",
    "COLLECTOR_BATCH_BYTES": "A batch is complete when its entries have this size, inflated.",
    "COLLECTOR_BATCH_AGE": "A batch is complete at this age. With little traffic it is most of the delay of an entry."
    " With `0` every batch leaves at once, at any load.",
    "COLLECTOR_BATCH_AGE_LIMIT": "The age grows up to this with the number of busy loggers, so that a replica writes"
    " about a hundred batches a second.",
    "COLLECTOR_WRITES": "Batches of one logger that are written to MongoDB at a time. Other sinks write one by one.",
    "COLLECTOR_BUFFER_BYTES": "Memory for messages that are held or asked for, over all loggers of the replica. The"
    " memory of the process stays below this plus 120 MiB.",
    "COLLECTOR_WRITE_TIMEOUT": "Deadline of one write to MongoDB or standard output. A write that fails is tried again"
    " without an end.",
    "COLLECTOR_ACK_WAIT": "Time after the death of a replica until another one gets its messages. Replicas with"
    " different values agree on the longest.",
    "COLLECTOR_SHUTDOWN_TIMEOUT": "Time from SIGTERM to the end. The grace period of the platform has to be longer.",
    "COLLECTOR_RECONCILE_PERIOD": "Time between two comparisons of the whole bucket with the running pipelines.",
    "COLLECTOR_LAG_PERIOD": "Time between two readings of the lag of all loggers. With more than 500 loggers for each"
    " second of it the time is longer, up to 20 s.",
    "COLLECTOR_HISTOGRAMS": "`logger`: each logger has histograms of its own. `service`: one set for all loggers, for"
    " replicas with hundreds of them.",
    "COLLECTOR_ARCHIVE": "Places where loggers may be archived, with commas between them: `/folder`,"
    " `s3://bucket/prefix`, `az://container/prefix` or `gs://bucket/prefix`. A spec may name one of them, or a place"
    " below one. The first is for specs that name none. Without it no logger is archived.",
    "COLLECTOR_ARCHIVE_BUFFER_BYTES": "Memory for open cuts, over all archived loggers of the replica.",
    "COLLECTOR_ARCHIVE_SPOOL": "Folder for open cuts, in place of memory.",
    "COLLECTOR_ARCHIVE_UPLOADS": "Blocks that are created at a time, over all archived loggers of the replica.",
    "TRANSFER_BUNDLE_ENTRIES": "Most entries that `send`, the handler and the bridges put into one message. `1` where a"
    " Go collector reads them.",
}
_LOCAL: Mapping[str, str] = {
    "COLLECTOR_NATS_SERVER": "Path of nats-server. Without it, the one on the PATH or in the package is started.",
    "COLLECTOR_MONGOD": "Path of mongod. Without it, the one on the PATH or in the package is started.",
}
"""Read by `collector demo`, `collector local` and the tests."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable as a program asks for it."""

    name: str
    value: str
    """What it takes."""
    default: str = ""
    secret: bool = False


class Asked(Environment):
    """An empty environment that notes what it is asked for, and raises nothing."""

    def __init__(self) -> None:
        super().__init__({})
        self.variables: dict[str, Variable] = {}

    def text(self, name: str, default: str | None = None, **keywords: Any) -> str:
        """Note a text."""
        self._note(name, "text", default or "")
        return super().text(name, default, **keywords) or ""

    def choice(self, name: str, options: Sequence[str], default: str) -> str:
        """Note a choice."""
        self._note(name, " or ".join(f"`{option}`" for option in options), default)
        return super().choice(name, options, default)

    def integer(self, name: str, default: int, *, minimum: int | None = None, maximum: int | None = None) -> int:
        """Note a whole number."""
        self._note(name, _bounded("whole number", str, minimum, maximum), str(default))
        return super().integer(name, default, minimum=minimum, maximum=maximum)

    def duration(
        self, name: str, default_seconds: float, *, minimum: float | None = None, maximum: float | None = None
    ) -> float:
        """Note a duration."""
        self._note(name, _bounded("duration", _duration, minimum, maximum), _duration(default_seconds))
        return super().duration(name, default_seconds, minimum=minimum, maximum=maximum)

    def size(self, name: str, default: int, *, minimum: int | None = None) -> int:
        """Note a size."""
        self._note(name, _bounded("size", _size, minimum, None), _size(default))
        return super().size(name, default, minimum=minimum)

    def secret(self, name: str) -> None:
        """Note a secret."""
        self.variables[name] = Variable(name, "text", secret=True)

    def path(self, name: str) -> None:
        """Note a path."""
        self._note(name, "path", "")

    def finish(self) -> None:
        """Raise nothing; what is missing is required."""
        for problem in self.problems:
            asked = self.variables[problem.variable]
            self.variables[problem.variable] = Variable(asked.name, asked.value, "required", asked.secret)

    def _note(self, name: str, value: str, default: str) -> None:
        self.variables[name] = Variable(name, value, f"`{default}`" if default else "")


def asked_for() -> Mapping[str, Mapping[str, Variable]]:
    """Return what the collector and the client ask for, by reader."""
    collector, transfer = Asked(), Asked()
    Settings.read_from(collector)
    read_from(transfer, Queue())
    return {COLLECTOR: collector.variables, TRANSFER: transfer.variables}


def settings_page() -> str:
    """Make the page. Raises KeyError for a variable without a meaning."""
    asked = asked_for()
    names = list(dict.fromkeys(name for variables in asked.values() for name in variables))
    if unread := MEANINGS.keys() - set(names):
        raise ValueError(f"expected a meaning only of variables that are read, got {', '.join(sorted(unread))}")
    rows = {name: _row(name, asked) for name in names}
    return _HEAD + "\n".join(
        [
            *_section("NATS and MongoDB: where they are, and how to log in", rows, _CONNECTING),
            _BESIDE,
            *_section("The service: `collector run`", rows, _SERVICE),
            *_section("The client", rows, _CLIENT),
            "Keywords of `connect` and of the handler win over the environment: [client.md](client.md#options).",
            "",
            "## Servers for `collector demo`, `collector local` and the tests",
            "",
            "| variable | meaning |",
            "| --- | --- |",
            *(f"| `{name}` | {meaning} |" for name, meaning in _LOCAL.items()),
            "",
        ]
    )


def _section(title: str, rows: Mapping[str, str], prefixes: tuple[str, ...]) -> Iterator[str]:
    yield from (f"## {title}", "")
    yield from ("| variable | value | default | meaning | read by |", "| --- | --- | --- | --- | --- |")
    yield from (row for name, row in rows.items() if name.startswith(prefixes))
    yield ""


def _row(name: str, asked: Mapping[str, Mapping[str, Variable]]) -> str:
    readers = {reader: variables[name] for reader, variables in asked.items() if name in variables}
    one = next(iter(readers.values()))
    also = [reader for reader, prefixes in ALSO_READ_BY.items() if name.startswith(prefixes)]
    star = " \\*" if one.secret else ""
    read_by = ", ".join([*readers, *also])
    return f"| `{name}`{star} | {one.value} | {_default(readers)} | {MEANINGS[name]} | {read_by} |"


def _default(readers: Mapping[str, Variable]) -> str:
    defaults = {reader: variable.default for reader, variable in readers.items()}
    if len(set(defaults.values())) == 1:
        return next(iter(defaults.values()))
    return "; ".join(f"{default} ({reader})" for reader, default in defaults.items())


def _bounded(kind: str, shown: Any, minimum: float | None, maximum: float | None) -> str:
    bounds = [f"{word} {shown(bound)}" for word, bound in (("from", minimum), ("to", maximum)) if bound is not None]
    return " ".join([kind, *bounds])


def _duration(seconds: float) -> str:
    if seconds >= 3600 and seconds % 3600 == 0:
        return f"{seconds / 3600:.0f}h"
    return f"{seconds * 1000:.0f}ms" if 0 < seconds < 1 else f"{seconds:g}s"


def _size(size: float) -> str:
    steps = [(unit, size / 1024**power) for power, unit in ((2, "MiB"), (1, "KiB")) if size >= 1024**power]
    return next((f"{number:.0f}{unit}" for unit, number in steps if number.is_integer()), f"{size:.0f}")
