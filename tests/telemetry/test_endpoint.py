"""The endpoint: paths, methods, addresses, and clients that hang."""

from __future__ import annotations

import json
import re
import socket
from http.client import HTTPConnection

import pytest

from collector.errors import CannotListen
from collector.events import LoggerState, State, lifecycle
from collector.telemetry.endpoint import serving
from tests.support.status import UP, Scene, served


def test_metrics_are_served_in_the_exposition_format(scene: Scene) -> None:
    status, text, headers = scene.get("/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=")
    assert "# TYPE collector_loggers gauge" in text


def test_the_metrics_of_a_loop_that_is_stuck_say_so(scene: Scene) -> None:
    """It reports nothing any more, also not that the replica is not ready."""
    scene.observe(*UP)
    scene.metrics.observe(lifecycle.Ready(ready=True))
    assert 'collector_ready{log_namespace="beta"} 1.0' in scene.get("/metrics")[1]
    scene.now += 100
    text = scene.get("/metrics")[1]
    assert 'collector_ready{log_namespace="beta"} 0.0' in text
    assert 'collector_event_loop_lag_seconds{log_namespace="beta"} 100.0' in text


def test_a_query_is_passed_over(scene: Scene) -> None:
    assert scene.get("/livez?verbose")[0] == 200


def test_another_path_is_answered_with_the_list_of_them(scene: Scene) -> None:
    assert scene.get("/nothing")[:2] == (404, "paths: / /metrics /livez /readyz /status\n")


@pytest.mark.parametrize("path", ["/metrics", "/status"])
def test_a_client_of_http_1_0_gets_a_long_body_whole(scene: Scene, path: str) -> None:
    with socket.create_connection(scene.address, 30) as connection, connection.makefile("rb") as stream:
        connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        head, _, body = stream.read().partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert body.endswith(b"\n")


@pytest.mark.parametrize("loggers", [0, 1, 250, 251, 1000])
def test_the_status_in_pieces_is_the_same_as_the_whole(scene: Scene, loggers: int) -> None:
    scene.observe(*(LoggerState(f"logger{number:04}", State.RUNNING) for number in range(loggers)))
    chunks = list(scene.status.chunks())
    assert json.loads(b"".join(chunks)) == scene.status.snapshot() == json.loads(scene.get("/status")[1])
    assert list(json.loads(b"".join(chunks))["loggers"]) == sorted(scene.status.snapshot()["loggers"])
    assert max(map(len, chunks)) < 200_000


@pytest.mark.parametrize("path", ["/", "/metrics", "/livez", "/readyz", "/status", "/nothing"])
def test_head_gives_the_same_without_a_body(scene: Scene, path: str) -> None:
    (status, text, headers), (headed, nothing, its_headers) = scene.get(path), scene.get(path, "HEAD")
    assert (headed, nothing) == (status, "")
    if path in {"/metrics", "/status"}:
        assert its_headers["Transfer-Encoding"] == headers["Transfer-Encoding"] == "chunked"
    else:
        assert its_headers["Content-Length"] == headers["Content-Length"] == str(len(text))


def test_the_page_is_whole_and_may_ask_nobody_else(scene: Scene) -> None:
    status, text, headers = scene.get("/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; ")
    assert text.startswith("<!doctype html>")
    assert text.endswith("</html>\n")
    assert set(re.findall(r"https?://[^\"]+", text)) == {"http://www.w3.org/2000/svg"}  # a name, which nobody asks


def test_nothing_can_be_posted(scene: Scene) -> None:
    assert scene.get("/status", "POST")[0] == 501


def test_several_requests_go_over_one_connection(scene: Scene) -> None:
    connection = HTTPConnection(*scene.address, timeout=5)
    for path in ("/livez", "/metrics", "/livez"):
        connection.request("GET", path)
        assert connection.getresponse().read()
    connection.close()


def test_a_client_that_hangs_keeps_nobody_waiting() -> None:
    with served() as scene, socket.create_connection(scene.address) as silent:
        silent.sendall(b"GET /livez")
        assert scene.get("/livez")[0] == 200


def test_an_address_that_is_taken_is_an_error_at_once() -> None:
    with (
        served() as scene,
        pytest.raises(CannotListen, match=r"COLLECTOR_HTTP: expected .* in use; end the process") as caught,
        serving(scene.address, scene.metrics, scene.status),
    ):
        pass
    assert f"{scene.address[0]}:{scene.address[1]}" in str(caught.value)


@pytest.mark.parametrize(("host", "port"), [("192.0.2.1", 8080), ("no such host", 8080), ("999.1.1.1", 8080)])
def test_an_address_that_is_none_of_this_machines_is_an_error_that_names_the_variable(host: str, port: int) -> None:
    with (
        served() as scene,
        pytest.raises(CannotListen, match="COLLECTOR_HTTP"),
        serving((host, port), scene.metrics, scene.status),
    ):
        pass


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
@pytest.mark.parametrize(("host", "asked"), [("::1", "::1"), ("0.0.0.0", "127.0.0.1"), ("0.0.0.0", "::1")])  # noqa: S104
def test_it_listens_on_ipv6_too(host: str, asked: str) -> None:
    with served(host) as scene:
        scene.address = (asked, scene.address[1])
        assert scene.get("/livez")[0] == 200
