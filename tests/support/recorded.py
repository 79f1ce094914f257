"""An HTTP server on loopback that answers as a test says, and keeps what it was asked."""

from __future__ import annotations

import ssl
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


_OF_AN_OBJECT = {"etag": '"1"', "last-modified": "Sat, 28 Nov 2026 09:00:00 GMT"}


@dataclass(frozen=True)
class Request:
    """One request; the names of its headers are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """One answer; status 0 ends the connection without one, and -1 gives none until the server ends."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


def error(status: int, code: str = "", more: str = "") -> Answer:
    """Return an answer as the clouds say no; `more` is text that must not be shown."""
    return Answer(status, f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{more}</Message></Error>".encode())


@dataclass
class Recorder:
    """What was asked, and the answers to give; the last one is given again and again."""

    answers: list[Answer]
    asked: list[Request] = field(default_factory=list)
    port: int = 0
    ending: Event = field(default_factory=Event)

    def next(self, request: Request) -> Answer:
        self.asked.append(request)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    recorded: ClassVar[Recorder]

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.recorded.next(Request(self.command, self.path, headers, body))
        if answer.status < 0:
            self.recorded.ending.wait()
        if answer.status <= 0:
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in {**_OF_AN_OBJECT, **answer.headers}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    do_GET = do_PUT = do_HEAD = answer  # noqa: N815 - http.server looks for these names

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def recorder(*answers: Answer, certificate: tuple[str, str] | None = None) -> Iterator[Recorder]:
    """Serve these answers, in order."""
    recorded = Recorder(list(answers))
    handler = type("Handler", (_Handler,), {"recorded": recorded})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    recorded.port = server.server_address[1]
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield recorded
    finally:
        recorded.ending.set()
        server.shutdown()
        thread.join()
        server.server_close()
