"""The dashboard of all loggers: is it late, is it losing, is it full."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collector.events import State
from grafana import graphs, stats
from grafana.graphs import BY_INSTANCE, THIRD
from grafana.panels import (
    BLUE,
    DARK_RED,
    GREEN,
    ORANGE,
    PER_MINUTE,
    PER_SECOND,
    PURPLE,
    RED,
    Json,
    Panel,
    Query,
    dashboard,
    graph,
)
from grafana.queries import (
    ACK_PENDING_USED,
    BUFFER_USED,
    BY_LOGGER,
    LAG,
    OLDEST,
    STORED,
    of,
    of_service,
    rate,
    same,
    variables,
)
from grafana.thresholds import THRESHOLDS

if TYPE_CHECKING:
    from collections.abc import Mapping

_MOST = 10
"""Loggers in one panel: a fleet has hundreds, and the worst are looked for."""
_STATES: Mapping[str, str] = {
    State.RUNNING: GREEN,
    State.FAILING: DARK_RED,
    State.STANDBY: BLUE,
    State.BACKING_OFF: ORANGE,
    State.PARKED: RED,
    State.MISCONFIGURED: RED,
    State.DRAINING: PURPLE,
}
_LOGGER = (
    "/d/collector-logger?${__url_time_range}&${datasource:queryparam}&${job:queryparam}"
    "&var-log_namespace=${__field.labels.log_namespace}&var-logger=${__field.labels.logger}"
)


def overview() -> Json:
    """Make it."""
    return dashboard(
        "collector-overview",
        "Collector overview",
        "Is it late, is it losing, is it full: all loggers and replicas. A click on a logger's line leads to it.",
        variables(several_loggers=True),
        graphs.rows(now=_NOW, lag=_lag(), flow=_flow(), saturation=_saturation(), supervision=_supervision()),
        other="collector-logger",
    )


def _largest(
    title: str, description: str, unit: str, expr: str, *, limit: float | None = None, width: int = 12
) -> Panel:
    query = Query(f"topk({_MOST}, {expr})", "{{logger}}")
    return graph(f"{title}, largest {_MOST}", description, unit, query, limit=limit, width=width, logger_link=_LOGGER)


_NOW = [
    stats.REPLICAS_READY,
    stats.NATS_CONNECTED,
    stats.MONGODB_CONNECTED,
    stats.FAILING_LOGGERS,
    stats.MISCONFIGURED,
    stats.PIPELINES_IN_TROUBLE,
    stats.OLDEST_MESSAGE,
    stats.BACKLOG_OF_ALL,
    stats.TIME_TO_DRAIN,
    stats.STALLED_LOGGERS,
    stats.UNKNOWN_LAG,
    stats.DEAD_LETTERS,
    stats.STUCK_MESSAGES,
    stats.UNDECLARED_MESSAGES,
    stats.JETSTREAM_FILLED,
    stats.BUCKET_MISSING,
    stats.UNREADABLE,
    stats.REPORTS_LOST,
    stats.RESTARTED,
    stats.RECEIVED,
    stats.WRITTEN,
    stats.LATENCY,
    stats.FULLEST_BUFFER,
    stats.ACK_PENDING,
]


def _lag() -> list[Panel]:
    return [
        _largest("Lag", "Messages that are not settled: waiting or being worked on.", "short", LAG),
        _largest(
            "Oldest message",
            "Age by the server's clock. Rising by a second in a second: nothing moves. Dashed: CollectorLagOld.",
            "s",
            OLDEST,
            limit=THRESHOLDS["CollectorLagOld"],
        ),
        graph(
            "Backlog, as each replica reads it",
            "One number for all loggers, for autoscaling. The lines lie on each other; one that parts is old.",
            "short",
            Query(of_service("backlog_messages"), BY_INSTANCE),
        ),
        _largest("Bytes in the streams", "What JetStream's disks have to hold.", "bytes", same("stream_bytes")),
        graph(
            "JetStream account used",
            "Of what the account may store. Without limits there is no line. Dashed: CollectorJetStreamFilling.",
            "percentunit",
            Query(STORED, "{{log_namespace}} {{storage}} {{tier}}"),
            limit=THRESHOLDS["CollectorJetStreamFilling"],
            most=1,
        ),
        _largest(
            "Stream limits used",
            "Bytes, messages or age, as a share of the stream's limit. At the dashed line: CollectorStreamFilling.",
            "percentunit",
            f"max {BY_LOGGER} ({of('stream_filled_ratio')})",
            limit=THRESHOLDS["CollectorStreamFilling"],
        ),
    ]


def _flow() -> list[Panel]:
    return [
        graphs.ENTRIES,
        _largest("Written", "Entries newly stored.", PER_SECOND, f"sum {BY_LOGGER} ({rate('written_entries_total')})"),
        graphs.seldom_by(
            ["stage"],
            "Failures",
            "By stage. What fails is tried again in place, and nothing is lost by it.",
            "failures_total",
        ),
        graphs.DEAD_LETTERS,
        graphs.COMING_AGAIN,
        graphs.WRITE_DURATION,
        graphs.DELIVERY_LATENCY,
    ]


def _saturation() -> list[Panel]:
    return [
        graph(
            "Buffer used",
            "What a replica holds of COLLECTOR_BUFFER_BYTES. Full: it asks for no more until MongoDB takes some. "
            "Dashed: CollectorBufferFull.",
            "percentunit",
            Query(BUFFER_USED, BY_INSTANCE),
            width=THIRD,
            limit=THRESHOLDS["CollectorBufferFull"],
            most=1,
        ),
        graphs.MESSAGES_HELD,
        graphs.WRITES_IN_PROGRESS,
        graph(
            "Event loop lag",
            "How late the loop was at its last look. Above 0.1 s for long: the replica has too little CPU.",
            "s",
            Query(of_service("event_loop_lag_seconds"), BY_INSTANCE),
            width=THIRD,
        ),
        graph(
            "Age of a batch",
            "How long a batch waits for more entries. It follows the number of busy loggers of the replica, from "
            "COLLECTOR_BATCH_AGE to COLLECTOR_BATCH_AGE_LIMIT.",
            "s",
            Query(of_service("batch_age_seconds"), BY_INSTANCE),
            width=THIRD,
        ),
        _largest(
            "Ack pending",
            "Unanswered messages, as a share of the most that JetStream hands out: at 100 % it hands out no more. "
            "Dashed: CollectorAckPendingAtLimit.",
            "percentunit",
            ACK_PENDING_USED,
            limit=THRESHOLDS["CollectorAckPendingAtLimit"],
            width=THIRD,
        ),
        graphs.WRITTEN_BY_REPLICA,
    ]


def _connected() -> Panel:
    shares = {"NATS": "nats_connected", "MongoDB": "mongodb_connected", "ready": "ready"}
    return graph(
        "Connected",
        "Share of the replicas that are connected, and ready.",
        "percentunit",
        *(Query(f"avg({of_service(metric)})", legend) for legend, metric in shares.items()),
        width=THIRD,
        most=1,
    )


def _homes() -> list[Panel]:
    return [
        graph(
            "Homes",
            "Loggers at home on a replica: it is given their messages first, the others what it has no room for.",
            "short",
            Query(of_service("homes"), BY_INSTANCE),
            width=THIRD,
            stacked=True,
        ),
        graph(
            "Replicas that hear each other",
            "Living replicas, as each of them hears. Fewer than there are: a trickle is cut among replicas.",
            "short",
            Query(of_service("replicas"), BY_INSTANCE),
            width=THIRD,
        ),
    ]


def _supervision() -> list[Panel]:
    return [
        graph(
            "Pipelines, by state",
            "One for each logger and replica. Standby: another replica writes this time-series logger.",
            "short",
            Query(f"sum by (state) ({of_service('loggers')})", "{{state}}"),
            width=THIRD,
            stacked=True,
            colors=_STATES,
        ),
        graphs.seldom_by(["actor"], "Restarts", "Actors that crashed and were started again.", "actor_restarts_total"),
        _connected(),
        *_homes(),
        graphs.OWNERSHIP,
        graph(
            "Reconnects to NATS",
            "How often a replica's connection came back.",
            PER_MINUTE,
            Query(f"rate({of_service('nats_reconnects_total')}[$__rate_interval]) * 60", BY_INSTANCE),
            width=THIRD,
        ),
        graph(
            "Replicas, by version",
            "Two versions are there while one replaces the other.",
            "short",
            Query(f"count by (version) ({of_service('build_info')})", "{{version}}"),
            width=THIRD,
            stacked=True,
        ),
    ]
