"""The body of a pull request (https://docs.nats.io/reference/reference-protocols/nats_api_reference). Pure."""

from __future__ import annotations

import msgspec

from transfer.jetstream.api import NANOSECONDS
from transfer.jetstream.durable_needs import GROUP


def pull_request(messages: int, max_bytes: int, expires: float, heartbeat: float, priority: int) -> bytes:
    """Return the request for so many messages and bytes; a durable without priorities ignores group and priority."""
    wanted = {
        "batch": messages,
        "max_bytes": max_bytes,
        "expires": int(expires * NANOSECONDS),
        "idle_heartbeat": int(heartbeat * NANOSECONDS),
        "group": GROUP,
        "priority": priority,
    }
    return msgspec.json.encode(wanted)
