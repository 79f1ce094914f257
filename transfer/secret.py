"""A secret is a place to read it from, each time it is needed: what is read once fails for ever after its rotation."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from pathlib import Path

_JWT = re.compile(rb"-+BEGIN NATS USER JWT-+\s+([\w.=-]+)\s")
_SEED = re.compile(rb"-+BEGIN USER NKEY SEED-+\s+(\w+)\s")


class Unreadable(OSError):
    """A file is not there or not whole now, as while it is replaced: read it again at the next try."""

    def __init__(self, variable: str, expected: str, got: str) -> None:
        super().__init__(f"{variable}: expected {expected}, got {got}")
        self.variable = variable
        self.expected = expected
        self.got = got


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """The value of NAME, or the file that NAME_FILE names; `repr` shows neither."""

    variable: str
    value: str = ""
    path: str = ""

    def read(self) -> str:
        """Return it as it is now, of a file without its last line break. Raises `Unreadable`."""
        if not self.path:
            return self.value
        text = read_text(f"{self.variable}_FILE", self.path).removesuffix("\n").removesuffix("\r")
        if not text:
            raise Unreadable(f"{self.variable}_FILE", "a file with the secret in it", "an empty one")
        return text

    def __repr__(self) -> str:
        return f"Secret({self.variable})"


def read_text(variable: str, path: str) -> str:
    """Return what a file says. Raises `Unreadable`, which shows no path that may be the secret itself."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        # somebody may have put the secret itself here in place of its file, and it must not be logged
        shown = repr(path) if path.startswith(("/", "./", "../")) else "something else (not shown)"
        raise Unreadable(variable, "the path of a text file that can be read", f"{shown}: {reason}") from error


def read_creds(path: str) -> tuple[str, str]:
    """Return the user JWT and the nkey seed of a creds file. Raises `Unreadable`."""
    content = (read_text("NATS_CREDS", path) + "\n").encode()
    jwt, seed = _JWT.search(content), _SEED.search(content)
    if jwt is None or seed is None:
        raise Unreadable("NATS_CREDS", "a creds file with a user JWT and an nkey seed", repr(path))
    return jwt[1].decode(), seed[1].decode()


def signed(variable: str, seed: str, nonce: str) -> tuple[str, str]:
    """Return the public key of a user's nkey seed, and a server's nonce signed with it. Raises `Unreadable`."""
    import nkeys  # type: ignore[import-untyped]  # noqa: PLC0415 - PyNaCl takes its time, few need it

    try:
        if not seed.strip().startswith("SU"):
            raise nkeys.ErrInvalidSeed
        pair = nkeys.from_seed(bytearray(seed.strip().encode()))
        public, signature = pair.public_key.decode(), base64.b64encode(pair.sign(nonce.encode())).decode()
        pair.wipe()
    except (nkeys.NkeysError, ValueError, IndexError, TypeError) as error:
        expected = "the seed of a user nkey, which begins with SU"
        raise Unreadable(variable, expected, "something else (not shown)") from error
    return public, signature
