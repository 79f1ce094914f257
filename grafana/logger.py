"""The dashboard of one logger: the same questions, and where in its way the data is."""

from __future__ import annotations

from grafana import graphs, stats
from grafana.graphs import BY_INSTANCE, THIRD
from grafana.panels import Json, Panel, Query, dashboard, graph
from grafana.queries import OLDEST, of, same, variables
from grafana.thresholds import THRESHOLDS


def logger() -> Json:
    """Make it."""
    return dashboard(
        "collector-logger",
        "Collector logger",
        "One logger: its stream, its flow, its batches, and the replicas that work on it.",
        variables(several_loggers=False),
        graphs.rows(now=_NOW, lag=_lag(), flow=_flow(), saturation=_saturation(), supervision=_supervision()),
        other="collector-overview",
    )


_NOW = [
    stats.OLDEST_MESSAGE,
    stats.BACKLOG,
    stats.TIME_TO_DRAIN,
    stats.STALLED_LOGGERS,
    stats.UNKNOWN_LAG,
    stats.ACK_PENDING,
    stats.REPLICAS_READY,
    stats.NATS_CONNECTED,
    stats.MONGODB_CONNECTED,
    stats.FAILING_WRITES,
    stats.STREAM_FILLED,
    stats.RECEIVED,
    stats.WRITTEN,
    stats.LATENCY,
    stats.DEAD_LETTERS,
    stats.STUCK_MESSAGES,
    stats.RESTARTED,
]


def _lag() -> list[Panel]:
    return [
        graph(
            "Lag",
            "Messages waiting for a replica, and on them those that a replica has and has not settled.",
            "short",
            Query(same("consumer_pending_messages"), "waiting"),
            Query(same("consumer_ack_pending_messages"), "handed out"),
            stacked=True,
        ),
        graph(
            "Oldest message",
            "Age by the server's clock. Rising by a second in a second: nothing moves. Dashed: CollectorLagOld.",
            "s",
            Query(OLDEST, "oldest message"),
            limit=THRESHOLDS["CollectorLagOld"],
        ),
        *_stream(),
    ]


def _stream() -> list[Panel]:
    return [
        graph(
            "Bytes in the stream",
            "What JetStream's disks have to hold.",
            "bytes",
            Query(same("stream_bytes"), "stream"),
            width=6,
        ),
        graph(
            "Unanswered and delivered before",
            "Messages that a replica was given and never settled, so another one was given them.",
            "short",
            Query(same("consumer_redelivered_messages"), "redelivered"),
            width=6,
        ),
        graph(
            "Waiting pulls",
            "Requests of the replicas that wait at the server. 0 while there is lag: no replica has room.",
            "short",
            Query(same("consumer_waiting_pulls"), "pulls"),
            width=6,
        ),
        graph(
            "Age of the reading",
            "Since a replica last read this lag: up to COLLECTOR_LAG_PERIOD. From 60 s on it is withdrawn.",
            "s",
            Query(f"time() - max by (instance) ({of('lag_refresh_timestamp_seconds')})", BY_INSTANCE),
            width=6,
        ),
    ]


def _flow() -> list[Panel]:
    return [
        graphs.ENTRIES,
        graphs.rates(
            "Messages",
            "A message may carry many entries. Acknowledged: settled for good, dead letters included.",
            {"received": "received_messages_total", "acknowledged": "acknowledged_messages_total"},
        ),
        graphs.seldom_by(
            ["stage", "reason"],
            "Failures",
            "By stage and reason. What fails is tried again in place, and nothing is lost by it.",
            "failures_total",
        ),
        graphs.seldom_by(["stage"], "Retries", "Tries after a failure, with growing pauses.", "retries_total"),
        graphs.DEAD_LETTERS,
        graphs.COMING_AGAIN,
        graphs.rates(
            "Bytes received",
            "As they come from JetStream, not inflated.",
            {"received": "received_bytes_total"},
            unit="Bps",
            width=THIRD,
        ),
        graphs.SUSPECTS,
        graphs.WRITE_DURATION,
        graphs.DELIVERY_LATENCY,
    ]


def _saturation() -> list[Panel]:
    return [
        graphs.MESSAGES_HELD,
        graphs.by_instance("Bytes held", "Of the messages held, by weight in memory.", "bytes", "buffer_bytes"),
        graphs.WRITES_IN_PROGRESS,
    ]


def _supervision() -> list[Panel]:
    return [
        graphs.WRITTEN_BY_REPLICA,
        graphs.seldom_by(
            ["instance"],
            "Restarts",
            "Crashes of this logger's pipeline, after which it was started again.",
            "actor_restarts_total",
        ),
        graphs.OWNERSHIP,
    ]
