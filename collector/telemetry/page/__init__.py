"""The status page: one HTML file, read as package data."""

from __future__ import annotations

from importlib.resources import files

POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy: the page loads nothing from another server, and asks no other server."""


def page() -> bytes:
    """Return the page. It asks for `status`, relative to its own address, and shows the answer."""
    return files(__name__).joinpath("status.html").read_bytes()
