"""The headers of a message."""

from __future__ import annotations

from collector.decoding.headers import headers


def test_headers_keep_order_and_every_value_and_every_byte() -> None:
    block = (
        b"NATS/1.0\r\nA: 1\r\nb:  two words \r\nA: 2\r\nempty:\r\nno colon\r\n: no name\r\nx: \xff\xc3\xa9: y\r\n\r\n"
    )
    fields = headers(block)
    assert fields == [
        ("A", "1"),
        ("b", "two words"),
        ("A", "2"),
        ("empty", ""),
        ("no colon", ""),
        ("", "no name"),
        ("x", "\xff\xc3\xa9: y"),
    ]
    assert fields[-1][1].encode("latin-1") == b"\xff\xc3\xa9: y"
    assert headers(b"") == []
