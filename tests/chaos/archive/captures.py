"""The streams that are captured in each world of the archive, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from transfer.jetstream.api import request

if TYPE_CHECKING:
    from nats.js import JetStreamContext

DURABLE = "archive"
_ACK_WAIT_NS = 60_000_000_000
_MAX_ACK_PENDING = 20_000


@dataclass(frozen=True, slots=True)
class Captured:
    """One stream and the form of its blocks."""

    stream: str
    retention: str
    """`limits`, `workqueue` or `interest`."""
    form: str
    compression: str
    key: str = "subject:2"
    """Of the folders; empty: there are none."""
    decoder: str = ""
    """Empty: that of the format."""
    template: str = ""
    """Of the paths; empty: the default."""

    @property
    def durable(self) -> str:
        """The durable that it is read by; empty for a stream that is read without acks."""
        return "" if self.retention == "limits" else DURABLE

    @property
    def poison(self) -> bool:
        """Whether some of its messages have to become dead letters."""
        return self.form != "raw"

    async def make(self, jetstream: JetStreamContext, replicas: int) -> None:
        """Make the stream and its durable, if they are not there as they should be."""
        config = {
            "name": self.stream,
            "subjects": [f"{self.stream}.>"],
            "retention": self.retention,
            "storage": "file",
            "num_replicas": replicas,
        }
        await request(jetstream, f"STREAM.CREATE.{self.stream}", config)
        if self.durable:
            durable = {
                "durable_name": self.durable,
                "ack_policy": "explicit",
                "ack_wait": _ACK_WAIT_NS,
                "max_ack_pending": _MAX_ACK_PENDING,
                "num_replicas": replicas,
            }
            wanted = {"stream_name": self.stream, "config": durable}
            await request(jetstream, f"CONSUMER.CREATE.{self.stream}.{self.durable}", wanted)

    async def waiting(self, jetstream: JetStreamContext) -> int:
        """Return how many messages are in a stream that acks empty; 0 for one that keeps them."""
        if not self.durable:
            return 0
        info = msgspec.json.decode(await request(jetstream, f"STREAM.INFO.{self.stream}"))
        messages: int = info["state"]["messages"]
        return messages


JETCAPTURES_PATHS = "{capture}/{key}/{YYYY}/{MM}/{DD}/{HH}/{mm}/backup-{ulid}.{ext}"
CAPTURES = (
    Captured("limits", "limits", "parquet", "zstd"),
    Captured("queue", "workqueue", "ndjson", "zstd", decoder="entries", template=JETCAPTURES_PATHS),
    Captured("interest", "interest", "csv", "gzip", key="data.source", decoder="entries"),
    Captured("raw", "workqueue", "raw", "none", key=""),
)
"""Each kind of stream and each format, shared out over the worlds."""
