"""The settings of the service: read from the environment once, all wrong values reported together."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from pymongo.errors import ConfigurationError, InvalidName, InvalidURI
from pymongo.uri_parser import parse_uri

from transfer.environment import Environment
from transfer.errors import InvalidNamespace
from transfer.jetstream.durable_needs import ACK_WAIT, LONGEST_ACK_WAIT
from transfer.names import check_namespace
from transfer.nats_settings import NatsSettings
from transfer.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

DAY = 86_400.0
KIB = 1024
MIB = 1024 * KIB
_PLACE = re.compile(r"(?:file://)?/[^?#]*|(?:s3a?|az|azure|gs)://[^@?#/:]+(?:/[^?#]*)?|abfss?://[^?#:/]+(?:/[^?#]*)?")
_LEAST_DRAIN = 1.0
_LONGEST_QUESTION = 7.0
"""Seconds that a question to JetStream takes at most when the server hangs: to be written, and to be answered."""
_CLOSING = 7.0
"""Seconds for naks, and for the end of the connections."""


class Sink(StrEnum):
    """The kinds of sinks: the values of COLLECTOR_SINK, and of `destination` in a logger spec."""

    MONGODB = "mongodb"
    STDOUT = "stdout"
    FILE = "file"
    BLACKHOLE = "blackhole"
    ARCHIVE = "archive"
    """Of a logger's spec alone: the archive has its entries, and no other sink."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of the service; sizes in bytes, durations in seconds."""

    namespace: str
    nats: NatsSettings
    sink: Sink
    """The sink of loggers whose spec names no destination."""
    files: Path
    """The folder for the files of loggers, and for dead letters when there is no MongoDB."""
    file_bytes: int
    file_age: float
    database: Secret | None
    """The MongoDB URI; None: there is no MongoDB."""
    release: bool
    batch_entries: int
    batch_bytes: int
    batch_age: float
    batch_age_limit: float
    buffer_bytes: int
    writes: int
    write_timeout: float
    ack_wait: float
    shutdown_timeout: float
    reconcile_period: float
    lag_period: float
    logger_histograms: bool
    """Whether each logger has histograms of its own; else one histogram is for all loggers."""
    http: tuple[str, int]
    """Host and port; 0.0.0.0 stands for all interfaces, of IPv6 too."""
    archives: tuple[str, ...]
    """Where archives may be: in these places and below them. The first is for specs that name no place."""
    archive_buffer_bytes: int
    archive_spool: Path | None
    archive_uploads: int

    @property
    def drain_timeout(self) -> float:
        """Seconds a pipeline may take to write its batches: the shutdown less one uncut call and the closing."""
        return max(_LEAST_DRAIN, self.shutdown_timeout - self._longest_call - _CLOSING)

    @property
    def _longest_call(self) -> float:
        return max(self.write_timeout, _LONGEST_QUESTION)

    @property
    def most_held(self) -> int:
        """Messages of one logger that a replica holds at most: in written batches, in the open one, and received."""
        return self.batch_entries * (self.writes + 2)

    @property
    def hand_over_timeout(self) -> float:
        """Seconds until a pipeline has surely given its claim back: its drain, and the calls that no drain cuts."""
        return self.drain_timeout + 3 * self._longest_call

    def __repr__(self) -> str:
        return f"Settings(namespace={self.namespace!r}, …)"

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Settings:
        """Read all settings. Raises WrongSettings, which names every wrong variable."""
        return cls.read_from(Environment(environ))

    @classmethod
    def read_from(cls, environment: Environment) -> Settings:
        """Read all settings; afterwards `environment` has the effective values and the variables without an effect."""
        namespace, nats, places = read_namespace(environment), NatsSettings.read(environment), Places.read(environment)
        settings = cls(
            namespace=namespace,
            nats=nats,
            sink=places.sink,
            files=places.files,
            file_bytes=environment.size("COLLECTOR_FILE_BYTES", 256 * MIB, minimum=64 * KIB),
            file_age=environment.duration("COLLECTOR_FILE_AGE", DAY, minimum=1.0),
            database=places.database,
            release=environment.choice("MODE", ("debug", "release"), "debug") == "release",
            batch_entries=environment.integer("COLLECTOR_BATCH_ENTRIES", 1000, minimum=1, maximum=100_000),
            batch_bytes=environment.size("COLLECTOR_BATCH_BYTES", 4 * MIB, minimum=64 * KIB),
            batch_age=environment.duration("COLLECTOR_BATCH_AGE", 0.1, minimum=0.0),
            batch_age_limit=environment.duration("COLLECTOR_BATCH_AGE_LIMIT", 1.5, minimum=0.0),
            buffer_bytes=environment.size("COLLECTOR_BUFFER_BYTES", 64 * MIB, minimum=MIB),
            writes=environment.integer("COLLECTOR_WRITES", 4, minimum=1, maximum=64),
            write_timeout=environment.duration("COLLECTOR_WRITE_TIMEOUT", 10.0, minimum=0.1),
            ack_wait=environment.duration("COLLECTOR_ACK_WAIT", ACK_WAIT, minimum=1.0, maximum=LONGEST_ACK_WAIT),
            shutdown_timeout=environment.duration("COLLECTOR_SHUTDOWN_TIMEOUT", 30.0, minimum=1.0),
            reconcile_period=environment.duration("COLLECTOR_RECONCILE_PERIOD", 60.0, minimum=5.0),
            lag_period=environment.duration("COLLECTOR_LAG_PERIOD", 5.0, minimum=0.1),
            logger_histograms=environment.choice("COLLECTOR_HISTOGRAMS", ("logger", "service"), "logger") == "logger",
            http=_http(environment),
            archives=_archives(environment),
            archive_buffer_bytes=environment.size("COLLECTOR_ARCHIVE_BUFFER_BYTES", 128 * MIB, minimum=MIB),
            archive_spool=_spool(environment),
            archive_uploads=environment.integer("COLLECTOR_ARCHIVE_UPLOADS", 4, minimum=1, maximum=64),
        )
        environment.finish()
        return settings


def read_namespace(environment: Environment) -> str:
    """Read NAMESPACE; a problem is noted in `environment`."""
    namespace = environment.text("NAMESPACE", required=True) or ""
    if namespace:
        try:
            check_namespace(namespace)
        except InvalidNamespace as exc:
            environment.add_problem("NAMESPACE", "1 to 63 of A-Z a-z 0-9 _ -", str(exc))
    return namespace


@dataclass(frozen=True, slots=True)
class Places:
    """The sink, the folder and the database of entries and dead letters."""

    sink: Sink
    files: Path
    database: Secret | None

    @classmethod
    def read(cls, environment: Environment) -> Places:
        """Read COLLECTOR_SINK, the folder of files, and DATABASE, which only the sink mongodb requires."""
        text = environment.text("COLLECTOR_SINK", "mongodb")
        name, _, path = text.partition(":")
        if name not in {*Sink} - {Sink.ARCHIVE} or bool(path) != (name == Sink.FILE):
            environment.add_problem("COLLECTOR_SINK", "mongodb, stdout, file:PATH or blackhole", repr(text))
            name = Sink.MONGODB
        files = environment.text("COLLECTOR_FILES", path or "collector-files")
        if path and environment.is_set("COLLECTOR_FILES"):
            environment.add_problem("COLLECTOR_FILES", "nothing beside COLLECTOR_SINK=file:PATH", repr(files))
        sink = Sink(name)
        return cls(sink, Path(files), read_database(environment, required=sink is Sink.MONGODB))


def read_database(environment: Environment, *, required: bool = True) -> Secret | None:
    """Read DATABASE, the secret URI; a problem is noted in `environment` without quoting it."""
    database = environment.secret("DATABASE")
    if database is None:
        if not required:
            return None
        environment.add_problem("DATABASE", "a MongoDB URI such as mongodb://127.0.0.1:27017", "nothing: it is not set")
        return Secret("DATABASE")
    try:
        parsed = parse_uri(database.read(), validate=True, warn=False, connect_timeout=None, srv_max_hosts=None)
        environment.effective["DATABASE"] = ",".join(f"{host}:{port}" for host, port in parsed["nodelist"])
    except (InvalidURI, InvalidName, ConfigurationError, ValueError) as exc:
        environment.add_problem("DATABASE", "a MongoDB URI such as mongodb://127.0.0.1:27017", type(exc).__name__)
    return database


def _archives(environment: Environment) -> tuple[str, ...]:
    """Read the places of archives. A wrong one is not shown, because it may hold a login."""
    text = environment.text("COLLECTOR_ARCHIVE")
    if not text:
        return ()
    named = [place.strip() for place in text.split(",")]
    places = tuple(place if place == "/" else place.rstrip("/") for place in named)
    if all(_PLACE.fullmatch(place) for place in places):
        return places
    expected = "/folder, s3://bucket/prefix, az://container/prefix or gs://bucket/prefix, with commas between them"
    environment.add_problem("COLLECTOR_ARCHIVE", f"{expected}, and no login", "something else (not shown)")
    return ()


def _spool(environment: Environment) -> Path | None:
    text = environment.text("COLLECTOR_ARCHIVE_SPOOL")
    return Path(text) if text else None


def _http(environment: Environment) -> tuple[str, int]:
    text = environment.text("COLLECTOR_HTTP", "0.0.0.0:8080") or ""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65_535:
        environment.add_problem("COLLECTOR_HTTP", "HOST:PORT such as 0.0.0.0:8080", repr(text))
        return "", 0
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - probes come from outside the container
