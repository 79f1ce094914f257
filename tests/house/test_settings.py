"""The settings of the service: every variable, its default, its limits; all that is wrong at once, no secret shown."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from collector.settings import MIB, Settings, Sink
from transfer.errors import WrongSettings
from transfer.secret import Secret

REQUIRED = {"NAMESPACE": "beta", "NATS_HOSTS": "nats://127.0.0.1:4222", "DATABASE": "mongodb://127.0.0.1:27017"}


def problems(environ: dict[str, str]) -> dict[str, str]:
    with pytest.raises(WrongSettings) as raised:
        Settings.read(environ)
    return {problem.variable: str(problem) for problem in raised.value.problems}


def test_the_defaults_are_those_of_the_contract() -> None:
    settings = Settings.read(REQUIRED)
    assert {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)} == {
        "namespace": "beta",
        "nats": settings.nats,
        "sink": Sink.MONGODB,
        "files": Path("collector-files"),
        "file_bytes": 256 * MIB,
        "file_age": 86_400.0,
        "database": Secret("DATABASE", "mongodb://127.0.0.1:27017"),
        "release": False,
        "batch_entries": 1000,
        "batch_bytes": 4 * MIB,
        "batch_age": 0.1,
        "batch_age_limit": 1.5,
        "buffer_bytes": 64 * MIB,
        "writes": 4,
        "write_timeout": 10.0,
        "ack_wait": 30.0,
        "shutdown_timeout": 30.0,
        "reconcile_period": 60.0,
        "lag_period": 5.0,
        "logger_histograms": True,
        "http": ("0.0.0.0", 8080),  # noqa: S104 - the contract
        "archives": (),
        "archive_buffer_bytes": 128 * MIB,
        "archive_spool": None,
        "archive_uploads": 4,
    }
    assert settings.nats.hosts == ("nats://127.0.0.1:4222",)


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("COLLECTOR_BATCH_ENTRIES", "5000", "batch_entries", 5000),
        ("COLLECTOR_BATCH_BYTES", "8MiB", "batch_bytes", 8 * MIB),
        ("COLLECTOR_BATCH_BYTES", "1000000", "batch_bytes", 1_000_000),
        ("COLLECTOR_BATCH_AGE", "250ms", "batch_age", 0.25),
        ("COLLECTOR_BATCH_AGE", "0", "batch_age", 0.0),
        ("COLLECTOR_BATCH_AGE_LIMIT", "2s", "batch_age_limit", 2.0),
        ("COLLECTOR_BUFFER_BYTES", "1GiB", "buffer_bytes", 1024 * MIB),
        ("COLLECTOR_WRITES", "8", "writes", 8),
        ("COLLECTOR_WRITE_TIMEOUT", "15s", "write_timeout", 15.0),
        ("COLLECTOR_ACK_WAIT", "1m30s", "ack_wait", 90.0),
        ("COLLECTOR_SHUTDOWN_TIMEOUT", "5m", "shutdown_timeout", 300.0),
        ("COLLECTOR_RECONCILE_PERIOD", "10", "reconcile_period", 10.0),
        ("COLLECTOR_LAG_PERIOD", "1s", "lag_period", 1.0),
        ("COLLECTOR_FILE_BYTES", "1GiB", "file_bytes", 1024 * MIB),
        ("COLLECTOR_FILE_AGE", "1h", "file_age", 3600.0),
        ("COLLECTOR_FILES", "/var/lib/entries", "files", Path("/var/lib/entries")),
        ("COLLECTOR_SINK", "mongodb", "sink", Sink.MONGODB),
        ("COLLECTOR_SINK", "stdout", "sink", Sink.STDOUT),
        ("COLLECTOR_SINK", "blackhole", "sink", Sink.BLACKHOLE),
        ("COLLECTOR_SINK", "file:/var/lib/entries", "files", Path("/var/lib/entries")),
        ("COLLECTOR_ARCHIVE", "/backup/", "archives", ("/backup",)),
        ("COLLECTOR_ARCHIVE", "s3://logs/a, gs://logs", "archives", ("s3://logs/a", "gs://logs")),
        ("COLLECTOR_ARCHIVE", "abfs://c@a.dfs.core.windows.net/x", "archives", ("abfs://c@a.dfs.core.windows.net/x",)),
        ("COLLECTOR_ARCHIVE_BUFFER_BYTES", "1GiB", "archive_buffer_bytes", 1024 * MIB),
        ("COLLECTOR_ARCHIVE_SPOOL", "/var/lib/cuts", "archive_spool", Path("/var/lib/cuts")),
        ("COLLECTOR_ARCHIVE_UPLOADS", "8", "archive_uploads", 8),
        ("COLLECTOR_HTTP", "127.0.0.1:0", "http", ("127.0.0.1", 0)),
        ("COLLECTOR_HTTP", "[::1]:9090", "http", ("::1", 9090)),
        ("COLLECTOR_HTTP", ":9090", "http", ("0.0.0.0", 9090)),  # noqa: S104 - the contract
        ("MODE", "release", "release", True),
        ("MODE", "", "release", False),
    ],
)
def test_a_tunable_is_read_from_its_variable(variable: str, text: str, name: str, value: Any) -> None:
    assert getattr(Settings.read({**REQUIRED, variable: text}), name) == value


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("NAMESPACE", "a.b"),
        ("NAMESPACE", "x" * 64),
        ("DATABASE", "postgres://127.0.0.1"),
        ("DATABASE", "mongodb://"),
        ("MODE", "production"),
        ("COLLECTOR_BATCH_ENTRIES", "0"),
        ("COLLECTOR_BATCH_ENTRIES", "100001"),
        ("COLLECTOR_BATCH_ENTRIES", "many"),
        ("COLLECTOR_BATCH_BYTES", "4 mebibytes"),
        ("COLLECTOR_BATCH_BYTES", "1KiB"),
        ("COLLECTOR_BATCH_AGE", "-1"),
        ("COLLECTOR_BATCH_AGE", "soon"),
        ("COLLECTOR_BUFFER_BYTES", "1"),
        ("COLLECTOR_WRITES", "65"),
        ("COLLECTOR_WRITE_TIMEOUT", "0"),
        ("COLLECTOR_ACK_WAIT", "10ms"),
        ("COLLECTOR_SHUTDOWN_TIMEOUT", "nan"),
        ("COLLECTOR_RECONCILE_PERIOD", "4s"),
        ("COLLECTOR_LAG_PERIOD", "inf"),
        ("COLLECTOR_SINK", "file"),
        ("COLLECTOR_SINK", "file:"),
        ("COLLECTOR_SINK", "stdout:/var/lib/entries"),
        ("COLLECTOR_SINK", "kafka"),
        ("COLLECTOR_SINK", "archive"),
        ("COLLECTOR_ARCHIVE", "backup"),
        ("COLLECTOR_ARCHIVE", "/backup,"),
        ("COLLECTOR_ARCHIVE", "ftp://backup"),
        ("COLLECTOR_ARCHIVE", "s3://key:secret@backup/logs"),
        ("COLLECTOR_ARCHIVE", "s3://backup?secret"),
        ("COLLECTOR_ARCHIVE_BUFFER_BYTES", "1KiB"),
        ("COLLECTOR_ARCHIVE_UPLOADS", "0"),
        ("COLLECTOR_FILE_BYTES", "1KiB"),
        ("COLLECTOR_FILE_AGE", "0"),
        ("COLLECTOR_HTTP", "8080"),
        ("COLLECTOR_HTTP", "0.0.0.0:http"),
        ("COLLECTOR_HTTP", "0.0.0.0:65536"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(variable: str, text: str) -> None:
    found = problems({**REQUIRED, variable: text})
    assert list(found) == [variable]
    assert found[variable].startswith(f"{variable}: expected ")


def test_all_problems_are_said_at_once() -> None:
    wrong = {"MODE": "x", "COLLECTOR_WRITES": "x", "COLLECTOR_HTTP": "x", "COLLECTOR_ACK_WAIT": "x"}
    assert set(problems(wrong)) == {"NAMESPACE", "NATS_HOSTS", "DATABASE", *wrong}


def test_a_secret_comes_from_a_file_too(tmp_path: Path) -> None:
    path = tmp_path / "database"
    path.write_text("mongodb://user:hunter2@127.0.0.1:27017\n")
    environ = {name: value for name, value in REQUIRED.items() if name != "DATABASE"}
    database = Settings.read({**environ, "DATABASE_FILE": str(path)}).database
    assert database is not None
    assert database.read().endswith("27017")
    missing = problems({**environ, "DATABASE_FILE": str(tmp_path / "missing")})
    assert "DATABASE_FILE" in missing


def test_no_secret_is_ever_shown() -> None:
    secret = "hunter2"
    settings = Settings.read({**REQUIRED, "DATABASE": f"mongodb://user:{secret}@127.0.0.1", "NATS_TOKEN": secret})
    assert secret not in f"{settings!r} {settings}"
    for uri in (f"mongodb://user:{secret}@", f"mongodb://user:{secret}@h:99999", f"mongodb+srv://u:{secret}@a"):
        assert secret not in "".join(problems({**REQUIRED, "DATABASE": uri}).values())


def test_draining_leaves_time_for_the_last_call_to_a_server_that_hangs_and_for_closing() -> None:
    assert Settings.read(REQUIRED).drain_timeout == 30.0 - 10.0 - 7.0
    longer = Settings.read({**REQUIRED, "COLLECTOR_SHUTDOWN_TIMEOUT": "60s", "COLLECTOR_WRITE_TIMEOUT": "1s"})
    assert longer.drain_timeout == 60.0 - 7.0 - 7.0
    short = Settings.read({**REQUIRED, "COLLECTOR_SHUTDOWN_TIMEOUT": "5s"})
    assert 0 < short.drain_timeout < short.shutdown_timeout


@pytest.mark.parametrize("sink", ["stdout", "file:/var/lib/entries", "blackhole"])
def test_without_mongodb_as_the_destination_no_database_is_asked_for(sink: str) -> None:
    environ = {name: value for name, value in REQUIRED.items() if name != "DATABASE"}
    assert Settings.read({**environ, "COLLECTOR_SINK": sink}).database is None
    assert list(problems({**environ, "COLLECTOR_SINK": "mongodb"})) == ["DATABASE"]
    assert list(problems({**environ, "COLLECTOR_SINK": sink, "DATABASE": "postgres://127.0.0.1"})) == ["DATABASE"]


def test_the_folder_of_files_is_named_once() -> None:
    both = {"COLLECTOR_SINK": "file:/var/lib/entries", "COLLECTOR_FILES": "/var/lib/others"}
    assert list(problems({**REQUIRED, **both})) == ["COLLECTOR_FILES"]
