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
    assert failed.stderr == "transfer: logger 'nobody' is not known; `transfer set nobody` makes it\n"


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("set", "a b"),
        ("publish", "a", "[]"),
        ("publish", "a", "{"),
        ("set", "a", "--max-age", "soon"),
        ("set", "a", "--granularity", "hours"),
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
