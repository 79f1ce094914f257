"""The panels that both dashboards have: they show what is chosen, be it one logger or all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana.panels import PER_MINUTE, PER_SECOND, Panel, Query, Row, graph
from grafana.queries import ARCHIVE_WINDOW, of, quantile, rate, same

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

THIRD = 8
"""The width of three panels side by side."""
BY_INSTANCE = "{{instance}}"
_HALF_AND_MOST = (0.5, 0.95)


def rows(
    *,
    now: Sequence[Panel],
    lag: Sequence[Panel],
    flow: Sequence[Panel],
    saturation: Sequence[Panel],
    supervision: Sequence[Panel],
) -> list[Row]:
    """Return the rows of a dashboard in the order of the data; batches and archive are the same in both."""
    return [
        Row("Now", now),
        Row("Lag", lag),
        Row("Flow", flow),
        Row("Batches", BATCHES),
        Row("Archive", ARCHIVE),
        Row("Saturation, by replica", saturation),
        Row("Supervision", supervision),
    ]


def rates(
    title: str, description: str, metrics: Mapping[str, str], *, unit: str = PER_SECOND, width: int = 12
) -> Panel:
    """Make a line for each counter, over all that is chosen; `metrics` are by what they are called."""
    queries = [Query(f"sum({rate(metric)})", legend) for legend, metric in metrics.items()]
    return graph(title, description, unit, *queries, width=width)


def seldom(title: str, description: str, metrics: Mapping[str, str]) -> Panel:
    """Make a line for each counter of what is rare, a minute; there is a line at 0 while it does not happen."""
    queries = [Query(f"sum({rate(metric)}) * 60", legend) for legend, metric in metrics.items()]
    return graph(title, description, PER_MINUTE, *queries, width=THIRD)


def seldom_by(labels: Sequence[str], title: str, description: str, metric: str) -> Panel:
    """Make a line for all of one counter, and one for each value of its labels for which it happens, a minute."""
    legend = " ".join(f"{{{{{label}}}}}" for label in labels)
    by = f"sum by ({', '.join(labels)}) ({rate(metric)}) * 60 > 0"
    return graph(
        title, description, PER_MINUTE, Query(f"sum({rate(metric)}) * 60", "all"), Query(by, legend), width=THIRD
    )


def by_instance(title: str, description: str, unit: str, metric: str) -> Panel:
    """Make a line for each replica: the sum of a gauge over its loggers."""
    return graph(title, description, unit, Query(f"sum by (instance) ({of(metric)})", BY_INSTANCE), width=THIRD)


def quantiles(
    title: str,
    description: str,
    unit: str,
    metric: str,
    *,
    shares: Sequence[float] = (0.5, 0.95, 0.99),
    width: int = 12,
) -> Panel:
    """Make a line for each quantile of a histogram."""
    # what is not a number is filtered out: it is drawn as a line down to 0
    queries = [Query(f"{quantile(share, metric)} >= 0", f"p{share * 100:.0f}") for share in shares]
    description += " With COLLECTOR_HISTOGRAMS=service: of all loggers together."
    return graph(title, description, unit, *queries, width=width)


ENTRIES = rates(
    "Entries",
    "Received and written part while entries are tried again, are there already, or become dead letters.",
    {
        "received": "received_entries_total",
        "written": "written_entries_total",
        "there already": "duplicate_entries_total",
        "dropped by rules": "dropped_entries_total",
    },
)
DEAD_LETTERS = seldom_by(
    ["reason"],
    "Dead letters",
    "Entries that can never be stored as they are. `collector dead-letters list LOGGER` shows them.",
    "dead_lettered_entries_total",
)
COMING_AGAIN = seldom(
    "Messages that come again",
    "Delivered before; given back unwritten by a replica that stops; or brought back, as nobody was given them.",
    {
        "redelivered": "redelivered_messages_total",
        "given back": "returned_messages_total",
        "brought back": "brought_back_messages_total",
    },
)
WRITE_DURATION = quantiles(
    "Write duration",
    "One batch, from the first try to MongoDB's acknowledgement, retries included.",
    "s",
    "write_duration_seconds",
)
DELIVERY_LATENCY = quantiles(
    "Delivery latency",
    "From JetStream's storing of a batch's oldest message to MongoDB's acknowledgement.",
    "s",
    "delivery_latency_seconds",
)
BATCHES = [
    graph(
        "Batches, by what made them leave",
        "Age: there was not more to do. Entries or bytes: there was. Drain: a replica stopped.",
        PER_SECOND,
        Query(f"sum by (trigger) ({rate('batches_total')})", "{{trigger}}"),
        width=THIRD,
        stacked=True,
    ),
    quantiles(
        "Entries in a batch",
        "Few at low load, up to COLLECTOR_BATCH_ENTRIES at high.",
        "short",
        "batch_entries",
        shares=_HALF_AND_MOST,
        width=THIRD,
    ),
    quantiles(
        "Bytes of a batch",
        "Of its entries, inflated; up to COLLECTOR_BATCH_BYTES.",
        "bytes",
        "batch_bytes",
        shares=_HALF_AND_MOST,
        width=THIRD,
    ),
]
MESSAGES_HELD = by_instance("Messages held", "Received and not yet settled.", "short", "buffer_messages")
WRITES_IN_PROGRESS = by_instance(
    "Writes in progress", "Batches on their way to MongoDB.", "short", "writes_in_progress"
)
WRITTEN_BY_REPLICA = graph(
    "Written, by replica",
    "Entries newly stored. Replicas share a plain logger; a time-series logger is written by one of them.",
    PER_SECOND,
    Query(f"sum by (instance) ({rate('written_entries_total')})", BY_INSTANCE),
    width=THIRD,
)
OWNERSHIP = seldom_by(
    ["reason"],
    "Changes of the one writer",
    "Of time-series loggers: taken and given back at starts and stops. Lost: fenced off by another replica.",
    "ownership_changes_total",
)
SUSPECTS = seldom_by(
    ["reason"],
    "Entries looked up before the insert",
    "Time-series only: delivered or published again, so they may be there already. Costs time, loses nothing.",
    "suspect_entries_total",
)
ARCHIVE = [
    graph(
        "Oldest cut that is not stored",
        "The age of a cut whose blocks are not all there. Beyond two windows CollectorArchiveCutOld fires.",
        "s",
        Query(f"max({same('archive_open_cut_age_seconds')})", "oldest cut"),
        Query(f"2 * min({ARCHIVE_WINDOW})", "two windows"),
        Query(f"max({same('archive_oldest_message_age_seconds')})", "oldest message in hand"),
        width=THIRD,
    ),
    graph(
        "Not archived yet",
        "Messages that the owners have not archived, and those of them that an owner holds.",
        "short",
        Query(f"sum({same('archive_lag_messages')})", "not archived"),
        Query(f"sum({same('archive_unacked_messages')})", "held"),
        width=THIRD,
    ),
    graph(
        "Archived up to",
        "The sequence of the stream up to which all is archived, of all that is chosen together.",
        "short",
        Query(f"sum({same('archive_cursor')})", "cursor"),
        width=THIRD,
    ),
    rates(
        "Rows and blocks",
        "Rows in blocks that were created. Dead letters are in blocks of their own, under _dead.",
        {
            "rows": "archive_rows_total",
            "blocks": "archive_blocks_total",
            "dead letters": "archive_dead_letters_total",
        },
        width=THIRD,
    ),
    rates(
        "Bytes archived",
        "Of the bodies of messages, and of the blocks that were made of them.",
        {"messages": "archive_raw_bytes_total", "blocks": "archive_stored_bytes_total"},
        unit="Bps",
        width=THIRD,
    ),
    graph(
        "Cuts, by what closed them",
        "Window: its end. Bytes, messages or blocks: a limit. Age: ack wait or --max-age. Shutdown: an owner stopped.",
        PER_MINUTE,
        Query(f"sum by (trigger) ({rate('archive_cuts_total')}) * 60", "{{trigger}}"),
        width=THIRD,
        stacked=True,
    ),
    quantiles(
        "Creation of a block",
        "One attempt at the store.",
        "s",
        "archive_store_seconds",
        width=THIRD,
    ),
    seldom_by(
        ["reason"],
        "Failures of the store",
        "Calls that failed and are made again. Refused: somebody has to change rights or settings.",
        "archive_store_failures_total",
    ),
    seldom_by(
        ["why"],
        "Owners that begin again",
        "By the doubt: what is not stored is read again, and nothing is lost. CollectorArchiveRestless: above 6.",
        "archive_resets_total",
    ),
    seldom(
        "Tenures, repeats, and what was not as planned",
        "Expired: messages that left the stream before they were archived, which are lost to the archive.",
        {
            "tenures": "archive_tenures_total",
            "repeats": "archive_repeats_total",
            "blocks completed": "archive_completed_blocks_total",
            "rows of __other__": "archive_overflow_rows_total",
            "expired": "archive_expired_messages_total",
        },
    ),
    by_instance("Archives owned", "Each is read by one process at a time.", "short", "archive_owner"),
    graph(
        "Keys in open cuts",
        "Rows of the keys beyond 10,000 go into blocks of __other__.",
        "short",
        Query(f"max({same('archive_keys')})", "most keys"),
        width=4,
    ),
    graph(
        "Bytes of open cuts",
        "Held in memory or in the spool.",
        "bytes",
        Query(f"sum by (instance) ({of('archive_open_cut_bytes')})", BY_INSTANCE),
        width=4,
    ),
]
