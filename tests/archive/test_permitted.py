"""The place of a logger's archive: a spec chooses neither paths on the disks of replicas nor their logins' buckets."""

from __future__ import annotations

import pytest

from collector.archive.permitted import permitted_place
from collector.errors import WrongDestination

PLACES = ("s3://backup/logs", "/var/backup", "abfs://logs@account.dfs.core.windows.net")


@pytest.mark.parametrize(
    ("to", "place"),
    [
        (None, "s3://backup/logs"),
        ("s3://backup/logs", "s3://backup/logs"),
        ("s3://backup/logs/", "s3://backup/logs/"),
        ("s3://backup/logs/audit", "s3://backup/logs/audit"),
        ("/var/backup", "/var/backup"),
        ("file:///var/backup/audit", "file:///var/backup/audit"),
        (
            "abfs://logs@account.dfs.core.windows.net/any/where",
            "abfs://logs@account.dfs.core.windows.net/any/where",
        ),
    ],
)
def test_a_spec_may_name_a_place_of_the_replica_or_one_below(to: str | None, place: str) -> None:
    assert permitted_place("audit", to, PLACES) == place


@pytest.mark.parametrize(
    "to",
    [
        "/",
        "/etc",
        "/var/backups",
        "/var/backup/../../etc",
        "file:///var/backup/%2e%2e/%2e%2e/etc",
        "file:///etc",
        "s3://backup",
        "s3://backup/log",
        "s3://other/logs",
        "gs://backup/logs",
        "az://logs",
        "abfs://logs@other.dfs.core.windows.net",
        "abfs://logs@account.dfs.evil.example",
    ],
)
def test_any_other_place_is_refused_with_what_is_permitted(to: str) -> None:
    with pytest.raises(WrongDestination, match="at or below s3://backup/logs, /var/backup"):
        permitted_place("audit", to, PLACES)


@pytest.mark.parametrize(
    "to", ["s3://key:hunter2@backup/logs", "ftp://hunter2", "s3:/hunter2", "s3://backup/logs?hunter2"]
)
def test_an_address_that_is_none_is_refused_without_a_word_of_it(to: str) -> None:
    with pytest.raises(WrongDestination) as refused:
        permitted_place("audit", to, PLACES)
    assert "audit" in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_a_replica_without_places_says_what_to_set() -> None:
    with pytest.raises(WrongDestination, match=r"COLLECTOR_ARCHIVE .*--no-archive"):
        permitted_place("audit", "s3://backup", ())
