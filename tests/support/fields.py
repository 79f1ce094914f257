"""Every field of a durable and of a stream, as somebody may set it otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SECOND = 1_000_000_000


ENTRIES = 20


Fields = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One field as somebody may set it; `{key}` stands for the logger's."""

    name: str
    of: str
    """durable or stream"""
    fields: Fields
    misconfigured: str = ""
    """The field that the logger names, and waits for; else it stores what comes."""
    risk: str = ""
    """The field that a running logger names."""
    only: str = ""
    """before or during, where nats-server does not allow the other."""
    anew: bool = False
    """Whether a durable has to be deleted and made with it, as nats-server does not change it."""
    entries: int = ENTRIES
    mend: str = "back"
    """How it is mended: by an update back, by a resume, or by making the stream anew from a copy."""
    confirmed: bool = True
    publish_late: bool = False
    """Whether to publish when the logger has said what is wrong: before, nats-server keeps nothing."""
    publish_first: bool = False
    """Whether nothing can be published afterwards."""
    publish_mended: bool = False
    """Whether nothing can be published before it is mended."""
    timeseries: bool = False
    redelivered: bool = False
    """Whether messages come again and again until the field is mended."""


def durable(name: str, anew: bool = False, **fields: Any) -> Row:
    return Row(name, "durable", fields, anew=anew)


SOON = "2124-01-01T00:00:00Z"


DURABLE_ROWS = [
    durable("description", description="x"),
    Row("ack_wait 1 ns", "durable", {"ack_wait": 1}, redelivered=True),
    durable("ack_wait 1 s", ack_wait=SECOND),
    durable("ack_wait a minute", ack_wait=60 * SECOND),
    durable("ack_wait ten years", ack_wait=10 * 365 * 86400 * SECOND),
    durable("max_deliver", max_deliver=1),
    durable("max_deliver unlimited", max_deliver=-1),
    Row("backoff", "durable", {"backoff": [1_000_000, 2_000_000], "max_deliver": 5}, redelivered=True),
    durable("backoff without max_deliver", backoff=[SECOND]),
    durable("filter_subject of its own", filter_subject="fields.logs.{key}"),
    durable("filter_subject of another", filter_subject="fields.logs.other"),
    durable("filter_subjects", filter_subjects=["fields.logs.other", "fields.more"]),
    durable("replay_policy", anew=True, replay_policy="original"),
    durable("sample_freq", sample_freq="100%"),
    durable("max_waiting", anew=True, max_waiting=1),
    durable("max_waiting more", anew=True, max_waiting=5000),
    durable("max_ack_pending 1", max_ack_pending=1),
    durable("max_ack_pending unlimited", max_ack_pending=-1),
    durable("max_ack_pending more", max_ack_pending=500_000),
    durable("headers_only", headers_only=True),
    durable("max_batch", max_batch=1),
    durable("max_expires", max_expires=1_000_000),
    durable("max_bytes", max_bytes=1),
    durable("inactive_threshold 1 ms", inactive_threshold=1_000_000),
    durable("inactive_threshold an hour", inactive_threshold=3600 * SECOND),
    durable("num_replicas", num_replicas=1),
    durable("mem_storage", anew=True, mem_storage=True),
    durable("mem_storage file", anew=True, mem_storage=False),
    Row("mem_storage file of a time-series", "durable", {"mem_storage": False}, anew=True, timeseries=True),
    durable("metadata", metadata={"a": "b"}),
    Row("pause_until", "durable", {"pause_until": SOON}, misconfigured="pause_until", mend="resume"),
    durable("pause_until past", pause_until="2001-01-01T00:00:00Z"),
    durable("overflow", priority_groups=["A"], priority_policy="overflow"),
    durable("pinned_client", priority_groups=["A", "B"], priority_policy="pinned_client", priority_timeout=SECOND),
    durable("prioritized", priority_groups=["A"], priority_policy="prioritized"),
    durable("sourcing", anew=True, sourcing=True),
    durable("deliver_subject", anew=True, deliver_subject="push.{key}"),
    durable("deliver_group", anew=True, deliver_subject="push.{key}", deliver_group="g", headers_only=True),
    durable("rate_limit_bps", anew=True, deliver_subject="push.{key}", rate_limit_bps=8),
    durable("flow_control", anew=True, deliver_subject="push.{key}", flow_control=True, idle_heartbeat=SECOND),
    Row("headers_only of a time-series", "durable", {"headers_only": True}, timeseries=True),
    Row("max_waiting of a time-series", "durable", {"max_waiting": 1}, anew=True, timeseries=True),
    Row("max_deliver of a time-series", "durable", {"max_deliver": 1, "ack_wait": SECOND}, timeseries=True),
    Row(
        "pause of a time-series",
        "durable",
        {"pause_until": SOON},
        misconfigured="pause_until",
        mend="resume",
        timeseries=True,
    ),
    durable("headers_only and a filter", headers_only=True, filter_subject="fields.more", max_batch=1, max_deliver=2),
]


def stream(name: str, **fields: Any) -> Row:
    return Row(name, "stream", fields)


def misconfigured(field: str, *, only: str = "", mend: str = "back", name: str = "", **fields: Any) -> Row:
    return Row(name or field, "stream", fields, misconfigured=field, only=only, mend=mend)


def risk(field: str, *, only: str = "", entries: int = ENTRIES, confirmed: bool = True, **fields: Any) -> Row:
    return Row(field, "stream", fields, risk=field, only=only, entries=entries, confirmed=confirmed)


STREAM_ROWS = [
    stream("description", description="x"),
    misconfigured("subjects", name="subjects, one more", subjects=["fields.logs.{key}", "fields.more.{key}"]),
    misconfigured("subjects", name="subjects, wild", subjects=["fields.*.{key}"]),
    misconfigured("subjects", name="subjects of others", subjects=["elsewhere.{key}"]),
    misconfigured("retention", name="limits", only="before", mend="copy", retention="limits"),
    Row(
        "interest",
        "stream",
        {"retention": "interest"},
        misconfigured="retention",
        only="before",
        mend="copy",
        publish_late=True,
    ),
    stream("max_consumers", max_consumers=1),
    risk("max_msgs", max_msgs=5, entries=5),
    risk("max_bytes", max_bytes=100_000),
    risk("max_age", max_age=20 * SECOND, duplicate_window=SECOND),
    risk("max_msgs_per_subject", max_msgs_per_subject=5, entries=5),
    stream("max_msg_size", max_msg_size=100_000),
    stream("discard new", discard="new", max_msgs=100, max_bytes=100_000),
    stream(
        "discard_new_per_subject", discard="new", discard_new_per_subject=True, max_msgs=99, max_msgs_per_subject=50
    ),
    risk("storage", only="before", storage="memory"),
    risk("no_ack", no_ack=True, confirmed=False),
    stream("duplicate_window", duplicate_window=100_000_000),
    stream("placement", placement={"tags": []}),
    stream("metadata", metadata={"a": "b"}),
    Row(
        "mirror",
        "stream",
        {"mirror": {"name": "origin"}, "subjects": []},
        misconfigured="mirror",
        only="before",
        publish_mended=True,
    ),
    Row("sealed", "stream", {"sealed": True}, risk="sealed", publish_first=True),
    stream("num_replicas", num_replicas=1),
    stream("sources", sources=[{"name": "origin", "filter_subject": "nothing"}]),
    stream("compression", compression="s2"),
    Row("first_seq", "stream", {"first_seq": 1000}, only="before"),
    stream("subject_transform", subject_transform={"src": "fields.logs.{key}", "dest": "changed.{key}"}),
    stream("republish", republish={"src": "fields.logs.{key}", "dest": "again.{key}", "headers_only": True}),
    stream("deny_delete", deny_delete=True),
    stream("deny_purge", deny_purge=True),
    stream("allow_rollup_hdrs", allow_rollup_hdrs=True),
    stream("allow_direct", allow_direct=True),
    Row("mirror_direct", "stream", {"mirror_direct": True}, only="during"),
    misconfigured("consumer_limits.max_ack_pending", only="before", consumer_limits={"max_ack_pending": 10}),
    misconfigured("consumer_limits.inactive_threshold", consumer_limits={"inactive_threshold": 1_000_000}),
    stream("consumer_limits, an hour", consumer_limits={"inactive_threshold": 3600 * SECOND}),
    stream("allow_msg_ttl", allow_msg_ttl=True),
    Row(
        "subject_delete_marker_ttl",
        "stream",
        {"subject_delete_marker_ttl": 600 * SECOND, "allow_msg_ttl": True, "allow_rollup_hdrs": True},
    ),
    stream("allow_atomic", allow_atomic=True),
    stream("allow_batched", allow_batched=True),
    stream("allow_msg_schedules", allow_msg_schedules=True, allow_rollup_hdrs=True),
    risk("persist_mode", only="before", persist_mode="async"),
]


NOT_ON_A_WORK_QUEUE = {
    "opt_start_seq", "opt_start_time", "deliver_policy", "ack_policy", "direct", "allow_msg_counter", "name",
    "durable_name",
}  # fmt: skip
"""What nats-server 2.15 lets nobody set otherwise on a pull consumer of a work queue."""


DURABLE_FIELDS = {
    "durable_name", "name", "description", "deliver_policy", "opt_start_seq", "opt_start_time", "ack_policy",
    "ack_wait", "max_deliver", "backoff", "filter_subject", "filter_subjects", "replay_policy",
    "rate_limit_bps", "sample_freq", "max_waiting", "max_ack_pending", "flow_control", "headers_only",
    "max_batch", "max_expires", "max_bytes", "deliver_subject", "deliver_group", "idle_heartbeat",
    "inactive_threshold", "num_replicas", "mem_storage", "direct", "sourcing", "metadata", "pause_until",
    "priority_groups", "priority_policy", "priority_timeout",
}  # fmt: skip


STREAM_FIELDS = {
    "name", "description", "subjects", "retention", "max_consumers", "max_msgs", "max_bytes", "max_age",
    "max_msgs_per_subject", "max_msg_size", "discard", "storage", "num_replicas", "no_ack",
    "duplicate_window", "placement", "mirror", "sources", "compression", "first_seq", "subject_transform",
    "republish", "allow_direct", "mirror_direct", "discard_new_per_subject", "sealed", "deny_delete",
    "deny_purge", "allow_rollup_hdrs", "consumer_limits", "allow_msg_ttl", "subject_delete_marker_ttl",
    "allow_msg_counter", "allow_atomic", "allow_msg_schedules", "persist_mode", "allow_batched", "metadata",
}  # fmt: skip
"""Of ConsumerConfig and StreamConfig in nats-server 2.15.1, server/consumer.go and server/stream.go."""


CASES = [
    (row, when) for row in (*DURABLE_ROWS, *STREAM_ROWS) for when in ("before", "during") if row.only in {"", when}
]
