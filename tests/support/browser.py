"""A real headless Chromium, driven over the WebDriver protocol (https://www.w3.org/TR/webdriver2/) by HTTP alone."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from contextlib import contextmanager
from http.client import HTTPConnection
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from collector.local.server import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
_START_TIMEOUT = 30.0


class Browser:
    """One window."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._session = ""

    def open(self, capabilities: dict[str, Any]) -> None:
        """Start the browser itself."""
        made = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
        self._session = f"/session/{made['sessionId']}"

    def close(self) -> None:
        """End it."""
        self._ask("DELETE", self._session)

    def go(self, url: str) -> None:
        """Load a page."""
        self._ask("POST", f"{self._session}/url", {"url": url})

    def run(self, script: str, *arguments: object) -> Any:
        """Run the body of a function in the page and return what it returns."""
        return self._ask("POST", f"{self._session}/execute/sync", {"script": script, "args": arguments})

    def picture(self) -> bytes:
        """Return what is seen, as PNG."""
        return base64.b64decode(self._ask("GET", f"{self._session}/screenshot"))

    def until(self, script: str, *arguments: object, seconds: float = 20) -> None:
        """Wait until an expression is true in the page; fail when it takes too long."""
        deadline = time.monotonic() + seconds
        while not self.run(f"return {script}", *arguments):
            assert time.monotonic() < deadline, f"not within {seconds} s: {script}"
            time.sleep(0.05)

    def console(self) -> list[str]:
        """Return what the page has written to its console, and what the browser held against it."""
        return [line["message"] for line in self._ask("POST", f"{self._session}/se/log", {"type": "browser"})]

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            value = json.loads(connection.getresponse().read())["value"]
        finally:
            connection.close()
        assert not (isinstance(value, dict) and "error" in value), value
        return value


@contextmanager
def browser(*, width: int = 1280, height: int = 900, dark: bool = False) -> Iterator[Browser]:
    """Open a window of that size, in a profile of its own; it and the browser are gone afterwards."""
    port = free_port()
    with TemporaryDirectory(prefix="chromium-") as profile:
        scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
        options = {
            "args": [*_FLAGS, scheme, f"--user-data-dir={profile}"],
            "mobileEmulation": {"deviceMetrics": {"width": width, "height": height, "pixelRatio": 1}},
        }
        with subprocess.Popen(
            ["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as driver:
            window = Browser(port)
            try:
                _wait_for(window)
                window.open({"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}})
                try:
                    yield window
                finally:
                    window.close()
            finally:
                driver.terminate()


def _wait_for(window: Browser) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    while True:
        try:
            window._ask("GET", "/status")
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
