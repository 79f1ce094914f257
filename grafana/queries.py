"""The expressions of both dashboards: what is read of which metric, filtered by the variables of the dashboard."""

from __future__ import annotations

from grafana.panels import NEVER, Variable

_SERVICE = 'job=~"$job",instance=~"$instance",log_namespace=~"$log_namespace"'
_LOGGER = f'{_SERVICE},logger=~"$logger"'
BY_LOGGER = "by (log_namespace, logger)"
_KNOWN = "acknowledged_messages_total"
"""Has a child for every logger that a replica knows, whatever state it is in."""


def of(name: str, *matchers: str) -> str:
    """Return a logger's metric."""
    return f"collector_{name}{{{','.join((_LOGGER, *matchers))}}}"


def of_service(name: str, *matchers: str) -> str:
    """Return a metric of a replica."""
    return f"collector_{name}{{{','.join((_SERVICE, *matchers))}}}"


def same(name: str) -> str:
    """Return a gauge that is the same on every replica, once for each logger."""
    return f"max {BY_LOGGER} ({of(name)})"


def rate(name: str, over: str = "$__rate_interval") -> str:
    """Return a counter's increase a second."""
    return f"rate({of(name)}[{over}])"


def increase(name: str, over: str) -> str:
    """Return a counter's increase in all."""
    return f"increase({of(name)}[{over}])"


def quantile(share: float, name: str) -> str:
    """Return below what a share of a histogram's observations is, over loggers and replicas.

    Histograms without a logger, as COLLECTOR_HISTOGRAMS=service makes them, are taken whatever logger is chosen.
    """
    buckets = f'collector_{name}_bucket{{{_SERVICE},logger=~"$logger|"}}'
    return f"histogram_quantile({share}, sum by (le) (rate({buckets}[$__rate_interval])))"


LAG = same("lag_messages")
OLDEST = same("lag_oldest_message_age_seconds")
ARCHIVE_WINDOW = same("archive_window_seconds")
"""Is there of archived loggers alone: their messages wait until their window ends, and are not acked before."""
LATE = f"{OLDEST} - 2 * {ARCHIVE_WINDOW} or {OLDEST}"
"""The age of the oldest message; of an archived logger that beyond two windows."""
ACK_PENDING_USED = f"{same('consumer_ack_pending_messages')} / {same('consumer_ack_pending_limit_messages')}"
BUFFER_USED = f"sum without (logger) ({of('buffer_bytes')}) / {of_service('buffer_limit_bytes')}"
_ACKNOWLEDGED = f"sum {BY_LOGGER} ({rate('acknowledged_messages_total', '5m')})"
_WAITING = f"max {BY_LOGGER} (min_over_time({of('lag_messages')}[1m])) > 0"
"""A message that comes and is settled at once is no backlog, and may be in a reading."""
STUCK = f"min {BY_LOGGER} (min_over_time({of('stream_stuck_messages')}[5m])) > {_ACKNOWLEDGED}"
"""Streams and durables are read one after the other: what is settled in between is in some readings, but not stuck."""
IF_LAG_IS_KNOWN = f"or on () 0 * count({LAG})"
"""0 where nothing was found, if there was something to look at."""
_SPEED = f"sum {BY_LOGGER} ({rate('acknowledged_messages_total', '2m')})"
DRAIN = f"clamp_max(max((({_WAITING}) unless {ARCHIVE_WINDOW}) / {_SPEED}), {NEVER:.0f}) {IF_LAG_IS_KNOWN}"
STALLED = f"count(({_WAITING}) and {_ACKNOWLEDGED} == 0 unless {ARCHIVE_WINDOW}) {IF_LAG_IS_KNOWN}"
LAG_UNKNOWN = f"count(count {BY_LOGGER} ({of(_KNOWN)}) unless {LAG}) or on () 0 * count({of_service('build_info')})"
_TRYING = 'stage=~"write|dead_letter"'
_FAILED = f"sum {BY_LOGGER} (increase({of('failures_total', _TRYING)}[3m]))"
_STORED = " + ".join(
    f"sum {BY_LOGGER} ({increase(name, '3m')})"
    for name in ("written_entries_total", "duplicate_entries_total", "dead_lettered_entries_total")
)
FAILING = f"count({_FAILED} > 0 and {_STORED} == 0) or on () 0 * count({of(_KNOWN)})"
FILLED = f"max by (log_namespace, logger, limit) ({of('stream_filled_ratio')})"
_BY_STORE = "by (log_namespace, storage, tier)"
STORED = (
    f"max {_BY_STORE} ({of_service('jetstream_storage_bytes')})"
    f" / max {_BY_STORE} ({of_service('jetstream_storage_limit_bytes')})"
)
UNDECLARED = f"sum(max by (log_namespace) ({of_service('undeclared_stream_messages')}))"


def variables(*, several_loggers: bool) -> list[Variable]:
    """Return the choices in the head of a dashboard."""
    of_job = 'job=~"$job"'
    known = f'collector_{_KNOWN}{{{of_job},log_namespace=~"$log_namespace"}}'
    return [
        Variable("job", "Job", "label_values(collector_build_info, job)"),
        Variable("instance", "Replica", f"label_values(collector_build_info{{{of_job}}}, instance)"),
        Variable("log_namespace", "Namespace", f"label_values(collector_build_info{{{of_job}}}, log_namespace)"),
        Variable("logger", "Logger", f"label_values({known}, logger)", several=several_loggers),
    ]
