"""`transfer publish` of many lines: each confirmed once, as single messages or bundles, with a bar on a terminal."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec
import nats
import pytest
from anyio import fail_after
from hypothesis import given
from hypothesis import strategies as st

from tests.transfer.terminal import on_terminal
from transfer import Logger, Transfer
from transfer.bulk.line_cutter import LineCutter
from transfer.bulk.pipelined import BulkPublisher, NotTaken
from transfer.entries.entry import new_id
from transfer.environment import Environment
from transfer.jetstream.connection import open_connection
from transfer.nats_settings import NatsSettings
from transfer.publishing import ATTEMPT_TIMEOUT, Publication

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from collector.local import NatsServer

COMMAND = [sys.executable, "-m", "transfer"]


@pytest.fixture
def environ(nats_server: NatsServer, namespace: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("NATS_", "NAMESPACE"))}
    made = clean | {"NATS_HOSTS": nats_server.url, "NAMESPACE": namespace, "COLUMNS": "200"}
    subprocess.run([*COMMAND, "set", "a"], env=made, check=True, capture_output=True, timeout=30)
    return made


def publish(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, "publish", "a", *arguments]
    return subprocess.run(command, env=environ, input="", capture_output=True, text=True, check=False, timeout=50)


def write_lines(path: Path, count: int) -> str:
    path.write_text("".join(json.dumps({"n": number, "text": "x" * 200}) + "\n" for number in range(count)))
    return str(path)


async def entries(url: str, namespace: str) -> tuple[int, list[int]]:
    """Return how many messages there are in the stream, and the numbers of the entries in them."""
    async with await nats.connect(url) as connection:
        jetstream = connection.jetstream()
        messages = (await jetstream.stream_info(f"{namespace}:logs:a")).state.messages
        pull = await jetstream.pull_subscribe("", stream=f"{namespace}:logs:a", durable="reader")
        found: list[int] = []
        for _ in range(messages):
            (message,) = await pull.fetch(1, timeout=5)
            await message.ack()
            body = msgspec.msgpack.decode(message.data)
            found += [one["data"]["n"] for one in (body if isinstance(body, list) else [body])]
        return messages, found


@pytest.mark.parametrize("bundles", [False, True])
async def test_every_line_of_a_file_is_there_once(
    environ: dict[str, str], nats_server: NatsServer, namespace: str, tmp_path: Path, *, bundles: bool
) -> None:
    path = write_lines(tmp_path / "lines", 3000)
    done = publish(environ, "--file", path, *(["--bundles"] if bundles else []))
    assert (done.returncode, done.stdout, done.stderr) == (0, "3000 confirmed, 0 not\n", "")
    with fail_after(40):
        messages, found = await entries(nats_server.url, namespace)
    assert sorted(found) == list(range(3000))
    assert messages < 20 if bundles else messages == 3000


@pytest.mark.parametrize("bundles", [False, True])
def test_bad_lines_are_named_and_the_others_are_confirmed(
    environ: dict[str, str], tmp_path: Path, *, bundles: bool
) -> None:
    path = tmp_path / "lines"
    large = json.dumps({"n": "x" * (9 << 20)})
    lines = ['{"n": 1}', "no", large, '{"n": "\\ud800"}', "", '{"n": 2}']
    path.write_text("\n".join(lines))
    done = publish(environ, "--file", str(path), "--json", *(["--bundles"] if bundles else []))
    assert (done.returncode, json.loads(done.stdout)) == (1, {"confirmed": 2, "bad": 3})
    assert [line.split(":")[1] for line in done.stderr.splitlines()] == [" line 2", " line 3", " line 4"]


@pytest.mark.parametrize(
    ("content", "said", "lines"),
    [
        (b"Nov 27 12:00:00 a sshd[1]: accepted\n" * 10_000, "--from text takes each line as a message", 21),
        (gzip.compress(b'{"n": 1}\n' * 1000), "zcat FILE | transfer publish KEY", 2),
        ('{"n": 1}\n'.encode("utf-16") * 1000, "iconv -f UTF-16", 2),
        (json.dumps([{"n": number} for number in range(1000)], indent=2).encode(), "jq -c . makes a line", 2),
        (json.dumps({"n": list(range(1000))}, indent=2).encode(), "jq -c . makes a line", 2),
        (json.dumps([{"n": 1}] * 1000).encode(), "jq -c '.[]' makes a line", 2),
        (b"\n\n" + b"7\n" * 10_000, "expected a JSON object, got a number: 7", 21),
    ],
    ids=["text", "gzip", "UTF-16", "indented array", "indented object", "array", "numbers"],
)
def test_where_nothing_is_an_entry_it_stops_early_and_says_what_to_do(
    environ: dict[str, str], tmp_path: Path, content: bytes, said: str, lines: int
) -> None:
    path = tmp_path / "lines"
    path.write_bytes(content)
    done = publish(environ, "--file", str(path))
    assert (done.returncode, done.stdout) == (1, f"0 confirmed, {lines - 1} not\n")
    written = done.stderr.splitlines()
    assert len(written) == lines
    assert said in written[0]
    assert done.stderr.count(said) == 1 or lines == 21
    assert "stopped" in written[-1]


def test_lines_that_fit_are_published_whatever_stands_between_them(environ: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "lines"
    good = [b'{"n": %d}' % number for number in range(4)]
    text = (
        b"\xef\xbb\xbf"
        + good[0]
        + b"\r\n"
        + b"\0" * 300_000
        + good[1]
        + b"\n"
        + b"no\n" * 50
        + b" "
        + good[2]
        + b"\n"
        + good[3]
    )
    path.write_bytes(text)
    done = publish(environ, "--file", str(path), "--json")
    assert (done.returncode, json.loads(done.stdout)) == (1, {"confirmed": 4, "bad": 50})
    assert "line 2: 300,000 zero bytes before it are left out" in done.stderr


def test_a_line_without_an_end_takes_neither_time_nor_memory(environ: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "lines"
    with path.open("wb") as file:
        file.write(b'{"n": 1}\n{"n": "')
        for _ in range(200):
            file.write(b"x" * (1 << 20))
        file.write(b'"}\n{"n": 2}\n')
    code = "import sys; from pathlib import Path; from transfer.cli import main; status = main(sys.argv[1:]); "
    code += "print(Path('/proc/self/status').read_text(), file=sys.stderr); sys.exit(status)"
    command = [sys.executable, "-c", code, "publish", "a", "--file", str(path)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=50)
    assert (done.returncode, done.stdout) == (1, "2 confirmed, 1 not\n")
    line, *status = done.stderr.splitlines()
    (memory,) = (said.split()[1] for said in status if said.startswith("VmHWM:"))  # `ru_maxrss` may be the parent's
    assert line.startswith("transfer: line 2: expected a line of at most ")
    assert f'got {200 * (1 << 20) + 9:,} bytes: {{"n": "xxx' in line
    assert int(memory) < 150 * 1024  # of some 60 that the command takes anyway, in KiB


async def test_lines_have_their_own_times(
    environ: dict[str, str], nats_server: NatsServer, namespace: str, tmp_path: Path
) -> None:
    path = tmp_path / "lines"
    lines = [{"__REALTIME_TIMESTAMP": f"{1_795_780_800_000_000 + number}", "MESSAGE": "paid"} for number in range(3)]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    for form in ("journald", "json"):
        done = publish(environ, "--file", str(path), "--from", form)
        assert (done.returncode, done.stdout) == (0, "3 confirmed, 0 not\n")
        assert done.stderr.startswith("transfer: line 1: the time of an entry is its field '__REALTIME_TIMESTAMP';")
        assert done.stderr.count("\n") == 1
    one = publish(environ, json.dumps({"at": "2026-11-27T12:00:00Z", "timestamp": 1}), "--timestamp-field", "at")
    assert one.returncode == 0
    text = publish(environ, "order paid", "--from", "text")
    assert text.returncode == 0
    async with await nats.connect(nats_server.url) as connection:
        pull = await connection.jetstream().pull_subscribe("", stream=f"{namespace}:logs:a", durable="reader")
        with fail_after(20):
            found = [msgspec.msgpack.decode(message.data) for message in await pull.fetch(8, timeout=5)]
    moments = [int(entry["timestamp"].timestamp()) for entry in found[:7]]
    assert moments == [1_795_780_800] * 7
    assert [entry["data"].get("msg") for entry in found] == ["paid"] * 3 + [None] * 4 + ["order paid"]
    assert found[6]["data"] == {"at": "2026-11-27T12:00:00Z", "timestamp_": 1}


@given(
    pieces=st.lists(st.sampled_from([b"\n", b"\0", b"a", b"bc", b"x" * 30]), max_size=30),
    chunks=st.lists(st.integers(1, 9), max_size=20),
)
def test_however_bytes_come_the_lines_are_the_same(pieces: list[bytes], chunks: list[int]) -> None:
    text, cutter, found = b"".join(pieces), LineCutter(25), []
    rest = text
    for size in chunks:
        found += cutter.feed(rest[:size])
        rest = rest[size:]
    found += cutter.feed(rest) + cutter.end()
    expected = text.removesuffix(b"\n").split(b"\n") if text else []
    assert [line.number for line in found] == list(range(1, len(expected) + 1))
    assert [(line.holes, line.size) for line in found] == [
        (len(one) - len(one.lstrip(b"\0")), len(one.lstrip(b"\0"))) for one in expected
    ]
    for line, one in zip(found, expected, strict=True):
        assert line.is_whole == (line.size <= 25)
        assert one.lstrip(b"\0").startswith(line.text)


def test_a_terminal_gets_a_bar_with_rate_and_time_left_that_is_gone_at_the_end(
    environ: dict[str, str], tmp_path: Path
) -> None:
    path = write_lines(tmp_path / "lines", 20_000)
    status, written = on_terminal([*COMMAND, "publish", "a", "--file", path], environ)
    assert status == 0
    assert re.search(r"\[#*\.+\] +\d+% [\d,]+ confirmed, 0 not, [\d,]+/s, \d+:\d\d left", written)
    assert written.endswith("\r\x1b[K20000 confirmed, 0 not\r\n")


def test_ctrl_c_ends_it_with_status_130_and_no_traceback(environ: dict[str, str]) -> None:
    command = [*COMMAND, "publish", "a"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environ, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            assert process.stdin is not None
            process.stdin.write("no entry\n")
            process.stdin.flush()
            assert process.stderr is not None
            assert "line 1" in process.stderr.readline()
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130
            assert process.stderr.read() == ""
        finally:
            process.kill()


@pytest.mark.parametrize(
    "arguments",
    [
        ("no",),
        ("[]",),
        ("{}", "--from", "text", "--metadata-field", "a"),
        ("{}", "--bundles"),
        ("{}", "--file", "x"),
        ("--file", "/nowhere/at/all"),
    ],
)
def test_wrong_use_is_status_2(environ: dict[str, str], arguments: tuple[str, ...]) -> None:
    wrong = publish(environ, *arguments)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "expected" in wrong.stderr


async def test_a_restart_of_the_server_is_sat_out_and_nothing_is_there_twice(
    own_nats: Callable[..., NatsServer], namespace: str
) -> None:
    server = own_nats()
    async with Transfer.connect(server.url, namespace=namespace) as transfer:
        await transfer.set(Logger("a"))
        names = transfer.names
    confirmed: list[bytes] = []
    settings = NatsSettings.read(Environment({"NATS_HOSTS": server.url}), "")
    with fail_after(45):
        async with open_connection(settings, name="test") as connection:
            pipeline = BulkPublisher(connection, lambda one: confirmed.append(one.id), 40)
            async with pipeline.running():
                for number in range(4000):
                    if number == 2000:
                        server.kill()
                        server.start()
                    body = msgspec.msgpack.encode({"data": {"n": number}})
                    one = Publication("a", names.subject("a"), names.stream("a"), new_id(), body)
                    await pipeline.send(one)
        assert len(set(confirmed)) == len(confirmed) == 4000
        _, found = await entries(server.url, namespace)
    assert sorted(found) == list(range(4000))


async def test_the_first_that_is_not_taken_ends_it(nats_server: NatsServer, namespace: str) -> None:
    settings = NatsSettings.read(Environment({"NATS_HOSTS": nats_server.url}), "")
    one = Publication("a", f"{namespace}.logs.a", f"{namespace}:logs:a", new_id(), b"x")
    with fail_after(10 * ATTEMPT_TIMEOUT):
        async with open_connection(settings, name="test") as connection:
            with pytest.RaisesGroup(pytest.RaisesExc(NotTaken, match="is not known")):
                pipeline = BulkPublisher(connection, lambda _: None, 5)
                async with pipeline.running():
                    await pipeline.send(one)
