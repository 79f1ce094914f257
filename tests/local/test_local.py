"""The embedded servers: they start, keep what they have, go when their starter goes, and say what is missing."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from threading import Thread
from typing import TYPE_CHECKING

import nats
import pytest
from pymongo import MongoClient

from collector.local import (
    MissingServer,
    Mongod,
    NatsServer,
    ServerDidNotStart,
    find_mongod,
    find_nats_server,
    local_servers,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STARTER = """
import signal
from collector.local import local_servers
with local_servers() as servers:
    print(servers.nats.port, servers.mongod.port, flush=True)
    signal.pause()
"""


async def test_nats_server_keeps_its_port_and_its_messages_over_a_restart(own_nats: Callable[..., NatsServer]) -> None:
    server = own_nats()
    url, pid = server.url, server.pid
    async with await nats.connect(url) as connection:
        await connection.jetstream().add_stream(name="kept", subjects=["kept"])
        await connection.jetstream().publish("kept", b"still here")
    server.restart()
    assert (server.url, server.alive) == (url, True)
    assert server.pid != pid
    async with await nats.connect(url) as connection:
        assert (await connection.jetstream().get_msg("kept", 1)).data == b"still here"


@pytest.mark.parametrize("end", [Mongod.stop, Mongod.kill])
def test_mongod_keeps_its_port_and_its_documents_over_a_restart(
    own_mongod: Callable[[], Mongod], end: Callable[[Mongod], None]
) -> None:
    server = own_mongod()
    url = server.url
    with MongoClient[dict[str, object]](url, w="majority") as client:
        client.test.kept.insert_one({"_id": 1})
    end(server)
    assert not server.alive
    server.start()
    assert server.url == url
    with MongoClient[dict[str, object]](url, w="majority") as client:
        client.test.kept.insert_one({"_id": 2})
        assert client.test.kept.count_documents({}) == 2


async def test_nats_server_takes_more_configuration(own_nats: Callable[..., NatsServer]) -> None:
    server = own_nats("authorization { token: secret }")
    async with await nats.connect(server.url, token="secret") as connection:
        assert connection.max_payload == 8 * 1024 * 1024


def test_a_paused_server_is_alive_and_silent_until_it_is_resumed(own_nats: Callable[..., NatsServer]) -> None:
    server = own_nats()
    server.pause()
    with socket.create_connection(("127.0.0.1", server.port), 0.2) as connection, pytest.raises(TimeoutError):
        connection.recv(1)
    assert server.alive
    server.resume()
    with socket.create_connection(("127.0.0.1", server.port), 5) as connection:
        assert connection.recv(4) == b"INFO"


def test_a_paused_server_can_be_stopped(own_nats: Callable[..., NatsServer]) -> None:
    server = own_nats()
    server.pause()
    server.stop()
    assert not server.alive
    with pytest.raises(ProcessLookupError):
        _ = server.pid


def test_nothing_is_left_of_local_servers() -> None:
    with local_servers() as servers:
        pids = servers.nats.pid, servers.mongod.pid
        assert servers.mongod.log_path.read_text().splitlines()[0].startswith('{"t":')
        assert "Server is ready" in servers.nats.log_path.read_text()
        folder = servers.folder
    assert not folder.exists()
    assert [pid for pid in pids if _runs(pid)] == []


def test_the_servers_die_with_a_starter_that_is_killed(tmp_path: Path) -> None:
    command, environment = [sys.executable, "-c", STARTER], os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as starter:
        assert starter.stdout
        ports = [int(port) for port in starter.stdout.readline().split()]
        assert [_listens(port) for port in ports] == [True, True]
        starter.kill()
    deadline = time.monotonic() + 10
    while any(_listens(port) for port in ports):
        assert time.monotonic() < deadline, f"still listening: {ports}"
        time.sleep(0.01)


def test_a_server_started_in_a_thread_outlives_the_thread(tmp_path: Path) -> None:
    with NatsServer(tmp_path) as server:
        for change in (server.stop, server.start):
            thread = Thread(target=change)
            thread.start()
            thread.join()
        assert _listens(server.port)


def test_a_second_start_is_refused_and_harms_nothing(own_nats: Callable[..., NatsServer]) -> None:
    server = own_nats()
    with pytest.raises(RuntimeError, match="expected nats-server to be stopped"):
        server.start()
    assert server.alive


def test_the_servers_do_not_hear_a_ctrl_c_meant_for_their_starter(own_nats: Callable[..., NatsServer]) -> None:
    assert os.getpgid(own_nats().pid) != os.getpgrp()


def test_a_port_lost_before_the_first_start_is_chosen_anew(tmp_path: Path) -> None:
    for server in (NatsServer(tmp_path), Mongod(tmp_path)):
        lost = server.port
        with socket.create_server(("127.0.0.1", lost)), server:
            assert server.port != lost


@pytest.mark.parametrize("kind", [NatsServer, Mongod])
def test_a_given_port_that_is_taken_is_an_error_with_the_servers_own_words(
    tmp_path: Path, kind: type[NatsServer | Mongod]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        server = kind(tmp_path, port=other.getsockname()[1])
        with pytest.raises(ServerDidNotStart, match=r"(?is)but it ended:\n.*address already in use"):
            server.start()
    assert not server.alive


def test_a_wrong_configuration_is_an_error_with_the_servers_own_words(tmp_path: Path) -> None:
    with pytest.raises(ServerDidNotStart, match="no_such_thing"):
        NatsServer(tmp_path, config="no_such_thing: 1").start()
    with pytest.raises(ServerDidNotStart, match="no_such_thing"):
        Mongod(tmp_path, parameters={"no_such_thing": 1}).start()


@pytest.mark.parametrize(
    ("find", "variable"), [(find_nats_server, "COLLECTOR_NATS_SERVER"), (find_mongod, "COLLECTOR_MONGOD")]
)
def test_a_missing_program_is_an_error_that_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, find: Callable[[], Path], variable: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("collector.local.programs.sysconfig.get_path", lambda _: str(tmp_path))
    monkeypatch.delenv(variable, raising=False)
    with pytest.raises(MissingServer, match=rf"pip install 'transfer-collector\[service,local\]'.* {variable}"):
        find()
    monkeypatch.setenv(variable, "/nowhere/at-all")
    with pytest.raises(MissingServer, match=f"expected {variable} to name a program, got '/nowhere/at-all'"):
        find()


def test_the_variable_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    named = tmp_path / "mine"
    named.symlink_to(find_nats_server())
    monkeypatch.setenv("COLLECTOR_NATS_SERVER", str(named))
    assert find_nats_server() == named


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere mongod brings its libraries")
def test_mongod_runs_where_the_system_has_no_libcurl(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COLLECTOR_MONGOD", str(_asking_for(b"libcurl.so.9", b"libcurl.so.4", tmp_path)))
    with Mongod(tmp_path) as server, MongoClient[dict[str, object]](server.url) as client:
        client.test.works.insert_one({})


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere mongod brings its libraries")
def test_a_missing_library_is_an_error_that_names_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COLLECTOR_MONGOD", str(_asking_for(b"liblzma.so.9", b"liblzma.so.5", tmp_path)))
    with pytest.raises(MissingServer, match=r"no liblzma\.so\.9: apt-get install liblzma5"):
        Mongod(tmp_path).start()


def _asking_for(library: bytes, instead_of: bytes, folder: Path) -> Path:
    """Make a mongod that needs a library no system has, in place of one that this system may have."""
    program = folder / "mongod-of-another-system"
    program.write_bytes(find_mongod().read_bytes().replace(instead_of + b"\0", library + b"\0"))
    program.chmod(0o755)
    return program


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except ConnectionRefusedError:
        return False
    return True
