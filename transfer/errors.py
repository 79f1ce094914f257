"""The errors of `transfer`: one class for each decision that the caller can take, facts as its fields."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transfer.difference import Difference


class TransferError(Exception):
    """Base of everything that this package raises on purpose."""


class InvalidKey(TransferError, ValueError):
    """The key cannot name a logger; nothing was written."""

    def __init__(self, key: object, expected: str) -> None:
        super().__init__(f"expected a logger key of {expected}, got {key!r}")
        self.key = key
        self.expected = expected


class InvalidNamespace(TransferError, ValueError):
    """The namespace cannot name a bucket and a database; nothing was written."""

    def __init__(self, namespace: object, expected: str) -> None:
        super().__init__(f"expected a namespace of {expected}, got {namespace!r}")
        self.namespace = namespace
        self.expected = expected


class InvalidEntry(TransferError, TypeError, ValueError):
    """The entry holds a value that cannot be stored, `path` says where; like `json`, a TypeError and a ValueError."""

    def __init__(self, path: str, expected: str, got: str) -> None:
        super().__init__(f"{path}: expected {expected}, got {got}")
        self.path = path
        self.expected = expected
        self.got = got


class UnreadableSpec(TransferError):
    """The KV value of a logger is not a logger spec: set the logger again."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(f"logger {key!r}: expected its KV value to be a logger spec, but {why}")
        self.key = key
        self.why = why


class UnknownLogger(TransferError):
    """There is no such logger in this namespace of this server: set it first, or look at both names."""

    def __init__(self, key: str, namespace: str = "", server: str = "") -> None:
        where = f" in namespace {namespace!r}" if namespace else ""
        where += f" of {server}" if server else ""
        super().__init__(f"logger {key!r} is not known{where}; `transfer set {key}` makes it")
        self.key = key
        self.namespace = namespace
        self.server = server


class LoggerExists(TransferError):
    """The logger is declared in another way: update what is to change, or replace all of it."""

    def __init__(self, key: str, changes: Sequence[str]) -> None:
        said = [f"logger {key!r} is declared already, and setting it would change:"]
        said += [f"  {change}" for change in changes]
        said += [f"use `transfer set {key} … --replace` for all of this, or `transfer update {key} …` for some of it"]
        super().__init__("\n".join(said))
        self.key = key
        self.changes = tuple(changes)


class LoggerNotEmpty(TransferError):
    """Entries still wait in the stream of the logger that was to be removed: drain, force or let it be."""

    def __init__(self, key: str, waiting: int) -> None:
        super().__init__(
            f"logger {key!r} still holds {waiting} entries that are not stored; drain it, or force and lose them"
        )
        self.key = key
        self.waiting = waiting


class Conflict(TransferError):
    """The request does not fit what is there already, or has changed meanwhile: look before trying again."""


class Misconfigured(Conflict):
    """A stream or durable is not as needed, and somebody else has to change it; `differences` are its fields."""

    def __init__(self, *differences: Difference) -> None:
        super().__init__("; ".join(map(str, differences)))
        self.differences = differences


class Unavailable(TransferError):
    """NATS or JetStream does not answer now and may later: try the same again."""


class Refused(TransferError):
    """NATS does not let us in (credentials, certificates, no TLS) or do this: trying again is of no use."""


class PublishUnconfirmed(TransferError):
    """JetStream did not confirm in time, so that the entry is stored or not.

    Publishing it again with this `id` and `timestamp` stores it once, whichever it was.
    """

    def __init__(self, key: str, entry_id: bytes, timestamp: int | None, attempts: int, why: str = "") -> None:
        unconfirmed = f"logger {key!r}: JetStream did not confirm entry {entry_id.hex()} in {attempts} attempts"
        super().__init__(f"{unconfirmed}: {why}" if why else unconfirmed)
        self.key = key
        self.id = entry_id
        self.timestamp = timestamp
        self.attempts = attempts


class DurableInUse(Conflict):
    """The durable is a push consumer that somebody, probably a Go collector, is bound to: stop that one first."""

    def __init__(self, durable: str) -> None:
        super().__init__(
            f"durable {durable!r}: expected deliver_subject not set, got a push consumer that somebody is bound to"
            " (it is left alone until nobody is); stop the Go collector, or who else it is"
        )
        self.durable = durable


class JetStreamError(TransferError):
    """JetStream answered a request with an error; `err_code` is the server's own number for it."""

    def __init__(self, subject: str, code: int, err_code: int, description: str) -> None:
        super().__init__(f"JetStream answered {subject} with {description} (code {code}, err_code {err_code})")
        self.subject = subject
        self.code = code
        self.err_code = err_code
        self.description = description


class UnknownStream(JetStreamError):
    """There is no such stream (any more)."""


class UnknownDurable(JetStreamError):
    """The stream is there, its durable is not (any more)."""


class Problem:
    """One wrong setting. `got` never holds a secret."""

    def __init__(self, variable: str, expected: str, got: str) -> None:
        self.variable = variable
        self.expected = expected
        self.got = got

    def __str__(self) -> str:
        return f"{self.variable}: expected {self.expected}, got {self.got}"


class WrongSettings(TransferError):
    """Settings are missing or wrong; `problems` are all of them."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)
