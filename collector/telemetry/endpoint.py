"""HTTP: `/metrics`, `/livez`, `/readyz`, `/status`, and the status page at `/`.

A thread of its own answers, so that a stuck event loop cannot lie.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain
from selectors import EVENT_READ, DefaultSelector
from socket import AF_INET, AF_INET6, IPPROTO_IPV6, IPV6_V6ONLY, has_dualstack_ipv6, socketpair
from threading import Thread
from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST

from collector.errors import CannotListen
from collector.telemetry.page import POLICY, page

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from collector.telemetry.metrics import Metrics
    from collector.telemetry.status import Status

_HTML = "text/html; charset=utf-8"
_JSON = "application/json"
_TEXT = "text/plain; charset=utf-8"
_SLOW_CLIENT = 5.0
_EVERY = "0.0.0.0"  # noqa: S104 - probes come from outside the container


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _SLOW_CLIENT
    protocol_version = "HTTP/1.1"
    server_version = "collector"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer a path; an unknown one with the list of all paths."""
        path = self.path.split("?", 1)[0]
        answers = {
            "/": self._page,
            "/metrics": self._metrics,
            "/livez": self._livez,
            "/readyz": self._readyz,
            "/status": self._status,
        }
        answer = answers.get(path)
        if answer is None:
            self._send(HTTPStatus.NOT_FOUND, _TEXT, ("paths: " + " ".join(answers) + "\n").encode())
        else:
            answer()

    do_HEAD = do_GET  # noqa: N815 - http.server's name

    def _page(self) -> None:
        self._send(HTTPStatus.OK, _HTML, self.server.page)

    def _metrics(self) -> None:
        status = self.server.status
        chunks = self.server.metrics.chunks(time.time(), ready=not status.not_ready, loop_lag=status.loop_lag)
        self._send_in_pieces(CONTENT_TYPE_LATEST, chunks)

    def _livez(self) -> None:
        not_alive = self.server.status.not_alive
        self._answer_probe(not not_alive, not_alive or "ok")

    def _readyz(self) -> None:
        not_ready = self.server.status.not_ready
        self._answer_probe(not not_ready, ", ".join(not_ready) or "ok")

    def _status(self) -> None:
        self._send_in_pieces(_JSON, self.server.status.chunks())

    def _answer_probe(self, well: bool, text: str) -> None:
        self._send(HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE, _TEXT, text.encode() + b"\n")

    def _send_in_pieces(self, content_type: str, chunks: Iterable[bytes]) -> None:
        """Send a body that may be very long; HTTP 1.0 knows no pieces."""
        if self.request_version == "HTTP/1.0":
            self._send(HTTPStatus.OK, content_type, b"".join(chunks))
            return
        self._send_head(HTTPStatus.OK, content_type, ("Transfer-Encoding", "chunked"))
        if self.command != "HEAD":
            for chunk in chain(filter(None, chunks), (b"",)):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))

    def _send(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self._send_head(status, content_type, ("Content-Length", str(len(body))))
        if self.command != "HEAD":
            self.wfile.write(body)

    def _send_head(self, status: HTTPStatus, content_type: str, length: tuple[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header(*length)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Write nothing: probes and scrapes are not worth a line."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    timeout = 0
    """Seconds that `handle_request` waits for a connection: `serve` has waited."""

    def __init__(self, address: tuple[str, int], metrics: Metrics, status: Status) -> None:
        self.page = page()
        self.metrics = metrics
        self.status = status
        self._ended, self._end = socketpair()
        self._both = address[0] == _EVERY and has_dualstack_ipv6()
        host = "::" if self._both else address[0]
        self.address_family = AF_INET6 if ":" in host else AF_INET
        super().__init__((host, address[1]), _Handler)

    def serve(self) -> None:
        """Answer until `end` is called; `serve_forever` looks again and again whether it was."""
        with DefaultSelector() as selector:
            selector.register(self, EVENT_READ)
            selector.register(self._ended, EVENT_READ)
            while self._ended not in [key.fileobj for key, _ in selector.select()]:
                self.handle_request()

    def end(self) -> None:
        """Let `serve` return."""
        self._end.close()

    def server_close(self) -> None:
        """Let go of all sockets."""
        super().server_close()
        self._ended.close()
        self._end.close()

    def server_bind(self) -> None:
        """Bind; where 0.0.0.0 is asked for, to every interface of IPv6 too: a cluster may have either."""
        if self._both:
            self.socket.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, 0)
        super().server_bind()

    def handle_error(self, request: object, client_address: object) -> None:
        """Write nothing: a client may go away in the middle of an answer."""


@contextmanager
def serving(address: tuple[str, int], metrics: Metrics, status: Status) -> Iterator[tuple[str, int]]:
    """Answer HTTP while the block lasts; yield the address. Port 0 asks for a free port.

    Raises CannotListen when the address cannot be listened on.
    """
    try:
        server = _Server(address, metrics, status)
    except (OSError, OverflowError, UnicodeError) as exc:
        raise CannotListen(*address, getattr(exc, "strerror", None) or str(exc)) from exc
    thread = Thread(target=server.serve, name="endpoint", daemon=True)
    thread.start()
    try:
        yield address[0], server.server_port
    finally:
        server.end()
        thread.join()
        server.server_close()
