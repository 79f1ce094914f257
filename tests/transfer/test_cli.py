"""The command `transfer` as a process: what it prints, what it exits with, what it does to standard input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import nats
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector.local import NatsServer

    Command = Callable[..., subprocess.CompletedProcess[str]]


def run(*arguments: str, environ: dict[str, str], stdin: str = "") -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("NATS_", "NAMESPACE"))}
    command = [sys.executable, "-m", "transfer", *arguments]
    return subprocess.run(
        command, env=clean | environ, input=stdin, capture_output=True, text=True, check=False, timeout=30
    )


@pytest.fixture
def transfer(nats_server: NatsServer, namespace: str) -> Command:
    environ = {"NATS_HOSTS": nats_server.url, "NAMESPACE": namespace}

    def command(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return run(*arguments, environ=environ, stdin=stdin)

    return command


def test_a_logger_is_set_shown_updated_and_removed(transfer: Command) -> None:
    assert transfer("set", "system", "--description", "system beta", "--max-age", "7d").stdout == "system: set\n"
    assert transfer("update", "system", "--max-bytes", "1MiB").returncode == 0
    assert transfer("publish", "system", '{"msg": "x"}').stdout.startswith("confirmed: ")
    shown = json.loads(transfer("get", "system", "--json").stdout)
    assert shown["description"] == "system beta"
    assert shown["stream"] == {"max_age": 604800, "max_bytes": 1 << 20}
    assert shown["messages"] == 1
    assert "system beta" in transfer("get", "system").stdout
    assert [one["key"] for one in json.loads(transfer("list", "--json").stdout)] == ["system"]
    assert transfer("list").stdout.splitlines()[1].split()[:2] == ["system", "1"]
    refused = transfer("remove", "system")
    assert (refused.returncode, "still holds 1 entries" in refused.stderr) == (1, True)
    assert json.loads(transfer("remove", "system", "--force", "--json").stdout) == {"key": "system", "done": "removed"}
    assert json.loads(transfer("list", "--json").stdout) == []


def test_the_archive_of_a_logger_is_set_shown_updated_and_ended(transfer: Command) -> None:
    def archive() -> object:
        return json.loads(transfer("get", "audit", "--json").stdout)["archive"]

    assert transfer("set", "audit", "--archive").returncode == 0
    assert archive() == {}
    stated = (
        "--window",
        "5m",
        "--format",
        "csv",
        "--archive-column",
        "user.id=int64",
        "--archive-metadata",
        "_headers",
    )
    assert transfer("update", "audit", "--archive", "s3://bucket/logs", *stated).returncode == 0
    assert archive() == {
        "to": "s3://bucket/logs",
        "format": "csv",
        "window": 300,
        "columns": {"user.id": "int64"},
        "metadata": ["_headers"],
    }
    assert transfer("update", "audit", "--window", "1h", "--destination", "archive").returncode == 0
    assert archive() == {**archive(), "to": "s3://bucket/logs", "window": 3600}  # type: ignore[dict-item]
    assert "s3://bucket/logs" in transfer("get", "audit").stdout
    refused = transfer("set", "audit", "--archive", "s3://bucket/logs", "--window", "5m", "--destination", "archive")
    assert "archive.window: 3600.0 -> 300.0" in refused.stderr
    assert "got none" in transfer("update", "audit", "--no-archive").stderr
    assert transfer("update", "audit", "--no-archive", "--destination", "mongodb").returncode == 0
    assert json.loads(transfer("get", "audit", "--json").stdout).get("archive") is None


async def test_a_logger_whose_stream_is_gone_is_listed_and_an_update_makes_the_stream_anew(
    transfer: Command, nats_server: NatsServer, namespace: str
) -> None:
    transfer("set", "gone")
    async with await nats.connect(nats_server.url) as connection:
        await connection.jetstream().delete_stream(f"{namespace}:logs:gone")
    assert transfer("list").stdout.splitlines()[1].split() == ["gone", "-", "-"]
    assert transfer("update", "gone").returncode == 0
    assert transfer("list").stdout.splitlines()[1].split() == ["gone", "0", "0"]


def test_standard_input_is_published_and_bad_lines_are_named(transfer: Command) -> None:
    transfer("set", "a")
    lines = [json.dumps({"n": number}) for number in range(300)]
    lines[6], lines[8] = "not json", "[1]"
    published = transfer("publish", "a", "-", "--json", stdin="\n".join([*lines, "", '{"n": 300}']))
    assert published.returncode == 1
    assert json.loads(published.stdout) == {"confirmed": 299, "bad": 2}
    assert [line[:17] for line in published.stderr.splitlines()] == ["transfer: line 7:", "transfer: line 9:"]
    assert json.loads(transfer("get", "a", "--json").stdout)["messages"] == 299
    good = transfer("publish", "a", stdin='{"n": 1}\n')
    assert (good.returncode, good.stdout, good.stderr) == (0, "1 confirmed, 0 not\n", "")


def test_lines_for_an_unknown_logger_end_at_the_first(transfer: Command) -> None:
    ended = transfer("publish", "nobody", stdin='{"n": 1}\n' * 1000)
    assert ended.returncode == 1
    assert "'nobody' is not known" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments", [("get", "nobody"), ("update", "nobody"), ("publish", "nobody", "{}")])
def test_what_fails_is_one_sentence_and_status_1(transfer: Command, arguments: tuple[str, ...]) -> None:
    failed = transfer(*arguments)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.startswith("transfer: logger 'nobody' is not known in namespace ")
    assert failed.stderr.endswith("; `transfer set nobody` makes it\n")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("set", "a b"),
        ("publish", "a", "[]"),
        ("publish", "a", "{"),
        ("set", "a", "--max-age", "soon"),
        ("set", "a", "--granularity", "hours"),
        ("set", "a", "--window", "5m"),
        ("set", "a", "--destination", "archive"),
        ("set", "a", "--archive", "bucket"),
        ("set", "a", "--archive", "--window", "0.5"),
        ("set", "a", "--archive", "--archive-column", "user=int64"),
        ("set", "a", "--archive", "--format", "csv", "--archive-column", "user=integer"),
        ("set", "a", "--archive", "--archive-path", "{capture}/{date}"),
        ("set", "a", "--archive", "--archive-key", "metadata..host"),
        ("remove", "a", "--drain", "--force"),
    ],
)
def test_wrong_use_is_status_2(transfer: Command, arguments: tuple[str, ...]) -> None:
    wrong = transfer(*arguments)
    assert wrong.returncode == 2
    assert "Traceback" not in wrong.stderr


def test_wrong_settings_are_all_named_with_status_2() -> None:
    wrong = run("list", environ={"NAMESPACE": "a b", "NATS_NKEY": "hidden", "NATS_USER": "u"})
    assert wrong.returncode == 2
    for name in ("NAMESPACE: expected", "NATS_NKEY: expected", "NATS_PASSWORD: expected"):
        assert name in wrong.stderr
    assert "hidden" not in wrong.stderr


def test_help_teaches_and_the_version_is_said() -> None:
    assert "transfer publish system '{" in run("--help", environ={}).stdout
    assert run("--version", environ={}).stdout.startswith("transfer")


DECLARED = (
    "--description",
    "what the shop says",
    "--collection",
    "timeseries",
    "--expire-after",
    "30d",
    "--max-age",
    "7d",
)


def test_setting_a_logger_that_is_declared_says_what_would_change_and_changes_nothing(transfer: Command) -> None:
    transfer("set", "shop", *DECLARED)
    before = transfer("get", "shop", "--json").stdout
    refused = transfer("set", "shop", "--description", "other words", "--max-bytes", "1MiB")
    assert (refused.returncode, refused.stdout) == (1, "")
    for change in (
        "description: 'what the shop says' -> 'other words'",
        "collection.kind: 'timeseries' -> not set",
        "collection.expire_after_seconds: 2592000 -> not set",
        "stream.max_age: 604800.0 -> not set",
        "stream.max_bytes: not set -> 1048576",
    ):
        assert f"\n  {change}\n" in refused.stderr
    assert "`transfer update shop …`" in refused.stderr
    assert "--replace" in refused.stderr
    assert transfer("get", "shop", "--json").stdout == before
    assert transfer("set", "shop", *DECLARED).stdout == "shop: set\n", "the same declaration again changes nothing"
    assert transfer("set", "shop", "--description", "other words", "--replace").stdout == "shop: replaced\n"
    assert json.loads(transfer("get", "shop", "--json").stdout).get("collection") is None


async def test_a_declaration_that_nobody_can_read_is_replaced_only_when_asked_to(
    transfer: Command, nats_server: NatsServer, namespace: str
) -> None:
    transfer("set", "shop")
    async with await nats.connect(nats_server.url) as connection:
        bucket = await connection.jetstream().key_value(f"{namespace}_logs")
        await bucket.put("shop", b"\xc1")
    refused = transfer("set", "shop", "--description", "x")
    assert (refused.returncode, "declaration: " in refused.stderr) == (1, True)
    assert transfer("set", "shop", "--description", "x", "--replace").returncode == 0


@pytest.mark.parametrize(
    "command",
    [("get", "shopp"), ("update", "shopp"), ("remove", "shopp"), ("publish", "shopp", "{}")],
    ids=lambda c: c[0],
)
def test_an_unknown_logger_is_named_with_namespace_server_and_the_one_like_it(
    transfer: Command, nats_server: NatsServer, namespace: str, command: tuple[str, ...]
) -> None:
    transfer("set", "shop")
    transfer("set", "payments")
    failed = transfer(*command)
    assert failed.returncode == 1
    assert f"logger 'shopp' is not known in namespace {namespace!r} of {nats_server.url}" in failed.stderr
    assert failed.stderr.endswith("; did you mean 'shop'?\n")


def test_a_misspelt_variable_is_named(nats_server: NatsServer, namespace: str) -> None:
    environ = {"NATS_HOSTS": nats_server.url, "NAMESPACE": namespace}
    listed = run("list", environ=environ | {"NATS_HOST": "x", "TRANSFER_BUNDLE": "1"})
    assert listed.returncode == 0
    assert listed.stderr.splitlines() == [
        "transfer: NATS_HOST is not a known variable: did you mean NATS_HOSTS?",
        "transfer: TRANSFER_BUNDLE is not a known variable, and is ignored",
    ]
    missing = run("list", environ={"NATS_HOSTS": nats_server.url, "NAME_SPACE": namespace})
    assert missing.returncode == 2
    assert "NAMESPACE: expected a value, got nothing: it is not set, but NAME_SPACE is: did you mean" in missing.stderr
