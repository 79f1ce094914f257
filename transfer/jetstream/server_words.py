"""The error lines of nats-server on a connection (`-ERR`), by name, each with its consequence.

The list is that of nats-server 2.15.1, from its `client.go`, `server.go`, `parser.go`, `accounts.go`, `route.go`,
`gateway.go` and `leafnode.go`, as far as a client can hear it. None of them ends our side for good: what the server
wants to close it closes itself, and then we connect again.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

import nats.errors


class Follows(Enum):
    """The server's next step after an error line."""

    NOTHING = auto()
    """One request was refused, and the connection goes on."""
    END = auto()
    """The server ends the connection; a new one may work at once."""
    REFUSAL = auto()
    """The server ends the connection, and lets no other in before somebody has changed something."""


class Sentence(NamedTuple):
    """One thing that the server says: how it begins, in small letters."""

    begins: str
    follows: Follows
    mend: str = ""
    """The remedy of errors that do not pass by themselves."""


_OTHER_PORT = "correct NATS_HOSTS: clients have another port"
SENTENCES = (
    Sentence("permissions violation", Follows.NOTHING, "grant it to our user"),
    Sentence(
        "maximum subscriptions exceeded",
        Follows.NOTHING,
        "raise max_subscriptions of the server, or the limit of the account or user",
    ),
    Sentence("invalid subject", Follows.NOTHING),
    Sentence("invalid publish subject", Follows.NOTHING),
    Sentence("authorization violation", Follows.REFUSAL, "correct our login, or let it in"),
    Sentence("user authentication expired", Follows.REFUSAL, "give us a new creds file"),
    Sentence("user authentication revoked", Follows.REFUSAL, "give us a new creds file"),
    Sentence("account authentication expired", Follows.REFUSAL, "renew the account"),
    Sentence("attempted to connect to route port", Follows.REFUSAL, _OTHER_PORT),
    Sentence("attempted to connect to gateway port", Follows.REFUSAL, _OTHER_PORT),
    Sentence("attempted to connect to leaf node port", Follows.REFUSAL, _OTHER_PORT),
    Sentence("secure connection - tls required", Follows.END),
    Sentence("authentication timeout", Follows.END),
    Sentence("failed account registration", Follows.END, "look into the log of nats-server"),
    Sentence("maximum connections exceeded", Follows.END, "raise max_connections of the server"),
    Sentence("maximum account active connections exceeded", Follows.END, "raise the connection limit of the account"),
    Sentence("connection throttling is active", Follows.END),
    Sentence("stale connection", Follows.END),
    Sentence("maximum payload violation", Follows.END, "raise max_payload of the server, or send less in a message"),
    Sentence("maximum control line exceeded", Follows.END, "raise max_control_line of the server"),
    Sentence("unknown protocol operation", Follows.END),
    Sentence("invalid client protocol", Follows.END),
    Sentence("no responders requires headers support", Follows.END),
)


class ServerSaid(nats.errors.Error):
    """nats-server said this on the connection. `words` are its own, capitals included."""

    def __init__(self, words: str) -> None:
        known = next((one for one in SENTENCES if words.lower().startswith(one.begins)), None)
        self.words = words
        self.follows = known.follows if known else Follows.END
        mend = f"; {known.mend}" if known and known.mend else ""
        super().__init__(f"nats-server said {words!r}{mend}")


def said_in_line(line: bytes) -> ServerSaid:
    """Read a line `-ERR 'words'`, whatever is in it."""
    words = line.removeprefix(b"-ERR").strip().strip(b"'")
    return ServerSaid(words.decode(errors="backslashreplace"))
