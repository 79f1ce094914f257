"""The options of `connect` and of handlers; options that are not given come from the environment."""

from __future__ import annotations

import logging
import os
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, TypedDict

from transfer.environment import Environment
from transfer.names import check_namespace
from transfer.nats_settings import DEFAULT_HOSTS, NatsSettings, with_keywords

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from typing import Unpack

_log = logging.getLogger("transfer.settings")
BUNDLE_ENTRIES = 500
_MOST_IN_A_BUNDLE = 10_000
MAX_ENTRIES = 10_000
MAX_BYTES = 16 * 1024 * 1024


class Overflow(StrEnum):
    """The fate of an entry when the queue is full."""

    DROP_NEWEST = "drop_newest"
    DROP_OLDEST = "drop_oldest"
    BLOCK = "block"
    """`send` waits."""


class Login(TypedDict, total=False):
    """How to log in to NATS: one way of these."""

    nkey: str | None
    """The seed."""
    token: str | None
    user: str | None
    password: str | None
    creds: str | None
    """The path of a creds file."""
    tls_ca: str | None
    tls_cert: str | None
    tls_key: str | None


class Queue(TypedDict, total=False):
    """How `send` queues and bundles."""

    overflow: str
    """`drop_newest`, `drop_oldest` or `block`: what becomes of an entry for which the queue has no room."""
    max_entries: int
    max_bytes: int
    bundle_entries: int
    """Entries in one message at most; 1 for collectors that read no bundles, such as the Go one."""


class Options(Login, Queue, total=False):
    """Both."""


class SendOptions(TypedDict, total=False):
    """The options of `send` besides key and data."""

    metadata: object
    timestamp: object
    """A datetime or nanoseconds since 1970; now."""
    important: bool
    """May have room in the tenth of the queue that is kept for such."""


class PublishOptions(TypedDict, total=False):
    """The options of `publish` besides key and data: see `Transfer.publish`."""

    metadata: Mapping[str, object] | None
    timestamp: datetime | int | None
    id: bytes | None
    timeout: float


class QueueSettings:
    """A `Queue` that was checked, with a value for everything."""

    def __init__(self, environment: Environment, queue: Queue) -> None:
        overflow = queue.get("overflow", Overflow.DROP_NEWEST.value)
        if overflow not in [one.value for one in Overflow]:
            environment.add_problem("overflow", "one of " + ", ".join(Overflow), repr(overflow))
            overflow = Overflow.DROP_NEWEST.value
        self.overflow = Overflow(overflow)
        self.max_entries = _whole(environment, "max_entries", queue.get("max_entries", MAX_ENTRIES), 1 << 31)
        self.max_bytes = _whole(environment, "max_bytes", queue.get("max_bytes", MAX_BYTES), 1 << 40)
        default = environment.integer("TRANSFER_BUNDLE_ENTRIES", BUNDLE_ENTRIES, minimum=1, maximum=_MOST_IN_A_BUNDLE)
        given = queue.get("bundle_entries", default)
        self.bundle_entries = _whole(environment, "bundle_entries", given, _MOST_IN_A_BUNDLE)


def _whole(environment: Environment, name: str, value: object, maximum: int) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= maximum:
        return value
    environment.add_problem(name, f"a whole number from 1 to {maximum}", repr(value))
    return 1


def read_options(
    servers: str | Sequence[str] | None, namespace: str | None, **options: Unpack[Options]
) -> tuple[NatsSettings, str, QueueSettings]:
    """Return where and who we are, the namespace, and the queue.

    One way to log in that is given hides all of them in the environment. Raises `WrongSettings` with all problems, and
    TypeError for an option that there is not.
    """
    login = {name: str(value) for name, value in options.items() if name in Login.__annotations__ and value}
    queue = Queue(**{name: value for name, value in options.items() if name in Queue.__annotations__})  # type: ignore[typeddict-item]
    if unknown := options.keys() - Options.__annotations__.keys():
        raise TypeError(f"expected options of {', '.join(Options.__annotations__)}, got {', '.join(sorted(unknown))}")
    given: dict[str, str | None] = {f"NATS_{name.upper()}": value for name, value in login.items()}
    given |= {
        "NATS_HOSTS": servers if servers is None or isinstance(servers, str) else ",".join(servers),
        "NAMESPACE": namespace,
    }
    environment = Environment(with_keywords(os.environ, given))
    read = read_from(environment, queue)
    for misspelt in environment.misspelt("TRANSFER_"):
        _warn_once(str(misspelt))
    return read


def read_from(environment: Environment, queue: Queue) -> tuple[NatsSettings, str, QueueSettings]:
    """Read everything that a client reads from the environment. Raises `WrongSettings` with all problems."""
    name = environment.text("NAMESPACE", required=True, check=check_namespace)
    settings = NatsSettings.read(environment, DEFAULT_HOSTS)
    queue_settings = QueueSettings(environment, queue)
    environment.finish()
    return settings, name, queue_settings


@cache
def _warn_once(sentence: str) -> None:
    _log.warning("%s", sentence)
