"""The numbers in the row "Now", colored by the thresholds of the alerts; both dashboards take theirs from here."""

from __future__ import annotations

from grafana.panels import GREEN, ORANGE, PER_SECOND, RED, stat
from grafana.queries import (
    ACK_PENDING_USED,
    BUFFER_USED,
    DRAIN,
    FAILING,
    FILLED,
    IF_LAG_IS_KNOWN,
    LAG,
    LAG_UNKNOWN,
    LATE,
    STALLED,
    STORED,
    STUCK,
    UNDECLARED,
    increase,
    of_service,
    quantile,
    rate,
)
from grafana.thresholds import THRESHOLDS

_OLD = THRESHOLDS["CollectorLagOld"]
_SLOW = THRESHOLDS["CollectorLagGrowing"]
_FULL = THRESHOLDS["CollectorBufferFull"]
_PENDING = THRESHOLDS["CollectorAckPendingAtLimit"]
_FILLED = THRESHOLDS["CollectorStreamFilling"]
_FAILING = 'state="failing"'
_MISCONFIGURED = 'state="misconfigured"'
_IN_TROUBLE = of_service("loggers", 'state=~"failing|backing_off|parked|misconfigured"')
_EARLY = 0.8
"""The share of a threshold from which on a number is orange."""

REPLICAS_READY = stat(
    "Replicas ready",
    "Replicas that are scraped and whose /readyz is 200. CollectorDown fires when there is none in a namespace.",
    "short",
    f"sum({of_service('ready')}) or vector(0)",
    {0: RED, 1: GREEN},
)
NATS_CONNECTED = stat(
    "NATS connected",
    "Share of the replicas that are connected. While it is below 100 %, /status of the others says why.",
    "percentunit",
    f"avg({of_service('nats_connected')})",
    {0: RED, 1: GREEN},
)
MONGODB_CONNECTED = stat(
    "MongoDB connected",
    "Share of the replicas for which a primary takes writes. While it is below 100 %, /status says why.",
    "percentunit",
    f"avg({of_service('mongodb_connected')})",
    {0: RED, 1: GREEN},
)
FAILING_LOGGERS = stat(
    "Failing loggers",
    "Loggers whose writes keep failing on a replica. CollectorWritesFailing fires when none succeeds on any.",
    "short",
    f"sum(max by (log_namespace) ({of_service('loggers', _FAILING)}))",
    {1: RED},
)
FAILING_WRITES = stat(
    "Failing writes",
    "1 when writes of the logger failed in the last 3 minutes, and none succeeded: CollectorWritesFailing.",
    "short",
    FAILING,
    {1: RED},
)
REPORTS_LOST = stat(
    "Reports lost, 1 h",
    "Log lines that standard error did not take, and events at which metrics, status or log raised an error: what they "
    "show may be wrong. Entries are moved all the same. CollectorObserverFails.",
    "short",
    f"sum(increase({of_service('log_lost_lines_total')}[1h])) "
    f"+ sum(increase({of_service('observer_failures_total')}[1h]))",
    {1: ORANGE},
)
MISCONFIGURED = stat(
    "Misconfigured",
    "Loggers whose stream, durable or collection is not what is needed; nothing of them is moved. "
    "CollectorMisconfigured.",
    "short",
    f"sum(max by (log_namespace) ({of_service('loggers', _MISCONFIGURED)}))",
    {1: ORANGE},
)
JETSTREAM_FILLED = stat(
    "JetStream filled",
    "The fullest of the account and of the streams, as a share of their limits: at 100 % entries are lost. No data: "
    "they have no limits, and that of the server counts. CollectorStreamFilling, CollectorJetStreamFilling.",
    "percentunit",
    f"max({STORED} or {FILLED})",
    {_FILLED * _EARLY: ORANGE, _FILLED: RED},
)
STREAM_FILLED = stat(
    "Stream filled",
    "How much of its nearest limit the stream uses: at 100 % it drops entries, or takes none. CollectorStreamFilling.",
    "percentunit",
    f"max({FILLED})",
    {_FILLED * _EARLY: ORANGE, _FILLED: RED},
)
BUCKET_MISSING = stat(
    "Bucket missing",
    "1 while the bucket of loggers is gone, or has lost loggers that run; those go on. CollectorBucketMissing.",
    "short",
    f"max({of_service('bucket_missing')})",
    {1: RED},
)
UNREADABLE = stat(
    "Unreadable declarations",
    "Keys of the bucket that declare no logger. `collector check` names them.",
    "short",
    f"sum(max by (log_namespace) ({of_service('unreadable_declarations')}))",
    {1: ORANGE},
)
UNDECLARED_MESSAGES = stat(
    "Undeclared messages",
    "Messages in streams that no logger is declared for, so that nobody moves them. CollectorUndeclaredStream.",
    "short",
    UNDECLARED,
    {1: ORANGE},
)
OLDEST_MESSAGE = stat(
    "Oldest message",
    "Age of the oldest message that is not settled, of the worst logger. Of an archived logger: beyond two windows, "
    "within which its messages wait. Red from where CollectorLagOld fires.",
    "s",
    f"clamp_min(max({LATE}), 0)",
    {_OLD * _EARLY: ORANGE, _OLD: RED},
)
_BACKLOG = f"max by (log_namespace) ({of_service('backlog_messages')})"
BACKLOG_OF_ALL = stat(
    "Backlog",
    "Messages that wait for all loggers of the namespaces chosen. Unknown while it is unknown of one of them.",
    "short",
    f"sum({_BACKLOG}) unless on () (count by (log_namespace) ({of_service('build_info')}) "
    f"unless on (log_namespace) {_BACKLOG})",
)
BACKLOG = stat("Backlog", "Messages of the logger that are not yet settled.", "short", f"sum({LAG})")
TIME_TO_DRAIN = stat(
    "Time to drain",
    "How long the slowest logger needs for its backlog, at its speed of the last 2 minutes. Red from where "
    "CollectorLagGrowing fires, if the backlog grows. Never: there is a backlog, and nothing of it is settled. Without "
    "archived loggers.",
    "s",
    DRAIN,
    {_SLOW * _EARLY: ORANGE, _SLOW: RED},
)
STALLED_LOGGERS = stat(
    "Stalled loggers",
    "Loggers with a backlog of which nothing was settled for 5 minutes, without archived ones: CollectorStalled.",
    "short",
    STALLED,
    {1: RED},
)
UNKNOWN_LAG = stat(
    "Lag unknown",
    "Loggers whose lag nobody has read for a minute: no stream, no answer, or parked. CollectorLagUnknown.",
    "short",
    LAG_UNKNOWN,
    {1: RED},
)
RECEIVED = stat(
    "Received", "Entries taken from JetStream, by all replicas.", PER_SECOND, f"sum({rate('received_entries_total')})"
)
WRITTEN = stat("Written", "Entries newly stored, by all replicas.", PER_SECOND, f"sum({rate('written_entries_total')})")
LATENCY = stat(
    "Delivery latency, p95",
    "Of 95 in 100 batches, the oldest message was in MongoDB within this time after JetStream had stored it.",
    "s",
    quantile(0.95, "delivery_latency_seconds"),
)
DEAD_LETTERS = stat(
    "Dead letters, 1 h",
    "Entries of the last hour that can never be stored as they are, and are kept aside. CollectorDeadLetters.",
    "short",
    f"sum({increase('dead_lettered_entries_total', '1h')})",
    {1: ORANGE},
)
STUCK_MESSAGES = stat(
    "Stuck messages",
    "Messages in a stream that nobody is given any more. The collector brings them back; where it cannot, "
    "CollectorStuckMessages fires.",
    "short",
    f"sum({STUCK}) {IF_LAG_IS_KNOWN}",
    {1: RED},
)
PIPELINES_IN_TROUBLE = stat(
    "Pipelines in trouble",
    "Pipelines that are failing, backing off, parked or misconfigured, over all replicas. /status says why.",
    "short",
    f"sum({_IN_TROUBLE})",
    {1: ORANGE},
)
RESTARTED = stat(
    "Restarts, 15 min",
    "Actors that crashed and were started again. Red from where CollectorCrashLooping fires, if it is one actor.",
    "short",
    f"sum({increase('actor_restarts_total', '15m')})",
    {1: ORANGE, THRESHOLDS["CollectorCrashLooping"] + 1: RED},
)
FULLEST_BUFFER = stat(
    "Fullest buffer",
    "What the fullest replica holds of what it may hold. Full for long: MongoDB is too slow. CollectorBufferFull.",
    "percentunit",
    f"max({BUFFER_USED})",
    {_FULL * _EARLY: ORANGE, _FULL: RED},
)
ACK_PENDING = stat(
    "Ack pending",
    "Unanswered messages, as a share of the most that JetStream hands out; worst logger. CollectorAckPendingAtLimit.",
    "percentunit",
    f"max({ACK_PENDING_USED})",
    {_PENDING * _EARLY: ORANGE, _PENDING: RED},
)
