"""Missing permissions, read from the refusals of NATS, which come on the connection and not as an answer.

A refused request only times out. Then its caller looks here, so that the error can name the permission to grant.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nats.aio.client import Client

_VIOLATION = re.compile(r'permissions violation for (publish|subscription) to "([^"]+)"', re.IGNORECASE)
_OWN_PART = re.compile(r"(\$JS\.ACK\.[^.]+\.[^.]+|\$JS\.API\.DIRECT\.GET\.[^.]+|_INBOX(?:\.[a-z]+)?)\..+")
"""Of a subject that no other message has, the part before what is its own."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A permission that we do not have: to publish or to subscribe to a subject."""

    action: str
    subject: str

    def __str__(self) -> str:
        return f"NATS does not permit us to {self.action} to {self.subject}"


def missing_permission(words: str) -> Missing | None:
    """Return what the server's words say is not permitted, None when they say something else.

    Acks, flow control and inboxes are named by the wildcard that is granted for them.
    """
    found = _VIOLATION.search(words)
    if found is None:
        return None
    action = "publish" if found[1].lower() == "publish" else "subscribe"
    return Missing(action, _OWN_PART.sub(r"\1.>", found[2]))


def refusal(connection: Client, subject: str) -> Missing | None:
    """Return why nobody answered what was sent to `subject`: that, or to hear an answer, is not permitted."""
    missing = last_refusal(connection)
    if missing is None:
        return None
    if missing.action == "publish":
        return missing if missing.subject == subject else None
    return missing if connection.new_inbox().startswith(missing.subject.removesuffix(">")) else None


def last_refusal(connection: Client) -> Missing | None:
    """Return the missing permission that is the connection's last error, if it is one."""
    return missing_permission(str(connection.last_error or ""))
