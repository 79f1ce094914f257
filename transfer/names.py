"""The names of everything outside, built nowhere else; they are those of the Go collector and client v1.7."""

from __future__ import annotations

import re
from dataclasses import dataclass

from transfer.errors import InvalidKey, InvalidNamespace

MAX_KEY = 128
MAX_NAMESPACE = 63
"""A namespace is the name of a MongoDB database too."""
SUFFIXES = ("_logs", "_fail")
"""The ends of the names of a logger's collections, behind its key."""
LEASES = "transfer_archive"
"""The KV bucket in which the owners of captures say that they live. A capture belongs to no namespace."""
LEASES_STREAM = f"KV_{LEASES}"
_TAKEN = frozenset({"admin", "config", "local"})
_NAME = re.compile(r"[A-Za-z0-9_-]+")


def check_key(key: object) -> str:
    """Return the key, or raise `InvalidKey`."""
    if isinstance(key, str) and len(key) <= MAX_KEY and _NAME.fullmatch(key):
        return key
    raise InvalidKey(key, f"1 to {MAX_KEY} of the characters A-Z a-z 0-9 _ -")


def check_namespace(namespace: object) -> str:
    """Return the namespace, or raise `InvalidNamespace`."""
    if isinstance(namespace, str) and len(namespace) <= MAX_NAMESPACE and _NAME.fullmatch(namespace):
        return namespace
    raise InvalidNamespace(namespace, f"1 to {MAX_NAMESPACE} of the characters A-Z a-z 0-9 _ -")


def lease_subject(key: str) -> str:
    """Name the subject of one key in the bucket of leases; of `>`, those of all keys."""
    return f"$KV.{LEASES}.{key}"


@dataclass(frozen=True, slots=True)
class Names:
    """Every name in one namespace; a name is never made from an invalid key, so nothing is written under one."""

    namespace: str

    def __post_init__(self) -> None:
        check_namespace(self.namespace)

    @property
    def bucket(self) -> str:
        """The KV bucket of the loggers."""
        return f"{self.namespace}_logs"

    @property
    def bucket_stream(self) -> str:
        """The stream that JetStream keeps the bucket in."""
        return f"KV_{self.bucket}"

    @property
    def bucket_subjects(self) -> str:
        """A wildcard for the subjects of all values of the bucket."""
        return self.bucket_subject(">")

    def bucket_subject(self, key: str) -> str:
        """Name the subject of one value of the bucket; of the empty key, what all of them begin with."""
        return f"$KV.{self.bucket}.{key}"

    @property
    def database(self) -> str:
        """The MongoDB database."""
        return self.namespace

    @property
    def all_subjects(self) -> str:
        """A wildcard for the subjects of all loggers."""
        return f"{self.namespace}.logs.>"

    @property
    def replicas(self) -> str:
        """The subject on which replicas tell each other that they live."""
        return f"{self.namespace}.replicas"

    def stream(self, key: str) -> str:
        """Name the work-queue stream of a logger."""
        return f"{self.namespace}:logs:{check_key(key)}"

    def key_of(self, stream: str) -> str:
        """Return the key of the logger that a stream belongs to; empty when it is no logger's of this namespace."""
        prefix = f"{self.namespace}:logs:"
        return stream.removeprefix(prefix) if stream.startswith(prefix) else ""

    def durable(self, key: str) -> str:
        """Name the one durable of that stream, of the same name."""
        return self.stream(key)

    def subject(self, key: str) -> str:
        """Name the subject that entries are published to."""
        return f"{self.namespace}.logs.{check_key(key)}"

    def collection(self, key: str) -> str:
        """Name the collection that entries arrive in."""
        return check_key(key) + SUFFIXES[0]

    def dead_letters(self, key: str) -> str:
        """Name the collection that keeps what could not be stored."""
        return check_key(key) + SUFFIXES[1]
