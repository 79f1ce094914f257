"""The expressions of both dashboards: what is read of which metric, filtered by the variables of the dashboard."""

from __future__ import annotations

from grafana.panels import Variable

_SERVICE = 'job=~"$job",instance=~"$instance",log_namespace=~"$log_namespace"'
_LOGGER = f'{_SERVICE},logger=~"$logger"'
BY_LOGGER = "by (log_namespace, logger)"
_KNOWN = "acknowledged_messages_total"
"""Has a child for every logger that a replica knows, whatever state it is in."""


def of(name: str) -> str:
    """Return a logger's metric."""
    return f"collector_{name}{{{_LOGGER}}}"


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
ACK_PENDING_USED = f"{same('consumer_ack_pending_messages')} / {same('consumer_ack_pending_limit_messages')}"
BUFFER_USED = f"sum without (logger) ({of('buffer_bytes')}) / {of_service('buffer_limit_bytes')}"
_ACKNOWLEDGED = f"sum {BY_LOGGER} ({rate('acknowledged_messages_total', '5m')})"
STUCK = f"min {BY_LOGGER} (min_over_time({of('stream_stuck_messages')}[5m])) > {_ACKNOWLEDGED}"
"""Streams and durables are read one after the other: what is settled in between is in some readings, but not stuck."""
DRAIN = f"{LAG} / ({_ACKNOWLEDGED} > 0)"
STALLED = f"count({LAG} > 0 and {_ACKNOWLEDGED} == 0) or vector(0)"
LAG_UNKNOWN = f"count(count {BY_LOGGER} ({of(_KNOWN)}) unless {LAG}) or vector(0)"


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
