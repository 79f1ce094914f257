"""Certificates for the TLS tests, in DER by hand (RFC 5280, RFC 8410): no `openssl` command, no further dependency."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from nacl.signing import SigningKey

if TYPE_CHECKING:
    from pathlib import Path

ED25519 = bytes.fromhex("3005 0603 2b6570")
COMMON_NAME = bytes.fromhex("0603 550403")
PRIVATE_KEY = bytes.fromhex("302e 020100 3005 0603 2b6570 0422 0420")
CRITICAL = bytes.fromhex("0101 ff")


def der(tag: int, *parts: bytes) -> bytes:
    """Encode one value: tag, length, content."""
    content = b"".join(parts)
    length = len(content).to_bytes(2, "big").lstrip(b"\x00") or b"\x00"
    if len(content) >= 0x80:
        length = bytes([0x80 | len(length)]) + length
    return bytes([tag]) + length + content


def sequence(*parts: bytes) -> bytes:
    return der(0x30, *parts)


def name(text: str) -> bytes:
    return sequence(der(0x31, sequence(COMMON_NAME, der(0x0C, text.encode()))))


def time(moment: datetime) -> bytes:
    return der(0x17, moment.strftime("%y%m%d%H%M%SZ").encode())


def extension(number: int, *content: bytes, critical: bytes = b"") -> bytes:
    return sequence(der(0x06, b"\x55\x1d", bytes([number])), critical, der(0x04, *content))


def pem(kind: str, content: bytes) -> str:
    return f"-----BEGIN {kind}-----\n{base64.encodebytes(content).decode()}-----END {kind}-----\n"


@dataclass(frozen=True)
class Authority:
    """Makes `ca.pem` and, signed by it, pairs such as `server.pem` and `server.key` for 127.0.0.1."""

    folder: Path
    key: SigningKey

    @classmethod
    def make(cls, folder: Path, seed: bytes = b"a" * 32) -> Authority:
        authority = cls(folder, SigningKey(seed))
        usage = extension(0x0F, bytes.fromhex("0302 0204"), critical=CRITICAL)
        is_authority = extension(0x13, sequence(CRITICAL), critical=CRITICAL)
        authority._write("ca", authority.key, is_authority, usage)
        return authority

    def issue(self, subject: str) -> None:
        address = extension(0x11, sequence(der(0x87, bytes([127, 0, 0, 1]))))
        self._write(subject, SigningKey.generate(), extension(0x13, sequence(), critical=CRITICAL), address)

    def path(self, file: str) -> str:
        return str(self.folder / file)

    def _write(self, subject: str, key: SigningKey, *extensions: bytes) -> None:
        public, now = key.verify_key.encode(), datetime.now(UTC)
        identifiers = (
            extension(0x0E, der(0x04, hashlib.sha256(public).digest()[:20])),
            extension(0x23, sequence(der(0x80, hashlib.sha256(self.key.verify_key.encode()).digest()[:20]))),
        )
        content = sequence(
            der(0xA0, bytes.fromhex("020102")),
            der(0x02, b"\x01", hashlib.sha256(subject.encode()).digest()[:8]),
            ED25519,
            name("ca"),
            sequence(time(now - timedelta(hours=1)), time(now + timedelta(days=1))),
            name(subject),
            sequence(ED25519, der(0x03, b"\x00", public)),
            der(0xA3, sequence(*extensions, *identifiers)),
        )
        signed = sequence(content, ED25519, der(0x03, b"\x00", self.key.sign(content).signature))
        (self.folder / f"{subject}.pem").write_text(pem("CERTIFICATE", signed))
        (self.folder / f"{subject}.key").write_text(pem("PRIVATE KEY", PRIVATE_KEY + key.encode()))
