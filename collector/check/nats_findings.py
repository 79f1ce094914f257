"""Judges the NATS side: facts in, findings out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from collector.check.clock import judge_clock
from collector.check.findings import ok, warning, wrong
from transfer.durables import MAX_ACK_PENDING
from transfer.jetstream_api import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from collector.check.facts import Logger, Nats, Stream
    from collector.check.findings import Finding
    from transfer.durables import DurableInfo
    from transfer.names import Names

TESTED_API_LEVEL = 1
"""Of nats-server 2.11, the oldest that this is tested with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How the service is going to be run."""

    names: Names
    replicas: int
    held: int
    """Messages of one logger that a replica holds at most."""
    ack_wait: float

    def unanswered(self, logger: Logger) -> int:
        """Return what the durable has to allow: all that replicas may hold; of a time-series logger, one may."""
        timeseries = logger.spec and logger.spec.collection and logger.spec.collection.kind == "timeseries"
        return min(MAX_ACK_PENDING, self.held * (1 if timeseries else self.replicas))


def judge_nats(facts: Nats, plan: Plan) -> Iterator[Finding]:
    """Yield what is right and wrong."""
    yield _replicas(plan)
    if facts.error:
        yield wrong(
            "NATS",
            expected=f"{facts.hosts} to let us in",
            got=facts.error,
            do="is it up and can it be reached from here? Are login and certificates right?",
        )
        return
    yield ok("NATS", f"connected to {facts.hosts}, nats-server {facts.version}")
    yield from _permissions(facts)
    if facts.unheard:
        return
    yield from _jetstream(facts)
    if facts.jetstream_error:
        return
    yield judge_clock("NATS", facts.clock_ahead)
    yield from _bucket(facts.bucket, plan)
    if facts.loggers_error:
        yield wrong("loggers", expected="to list them", got=facts.loggers_error, do="see the findings above")
    elif facts.bucket is not None and not facts.loggers:
        yield ok("loggers", "none is declared yet")
    for logger in facts.loggers:
        yield from _logger(logger, plan)


def _replicas(plan: Plan) -> Finding:
    """Judge whether all replicas together can hold what each may: at the durable's limit all of them are given none."""
    unanswered = plan.replicas * plan.held
    if unanswered <= MAX_ACK_PENDING:
        return ok(
            "settings", f"namespace {plan.names.namespace}, replicas hold up to {unanswered} messages of a logger"
        )
    return wrong(
        "settings",
        expected=f"all replicas to hold at most {MAX_ACK_PENDING} messages of a logger, its durable's max_ack_pending",
        got=f"{unanswered}: {plan.replicas} times COLLECTOR_BATCH_ENTRIES x (COLLECTOR_WRITES + 2)",
        do=f"lower one of these, or run at most {MAX_ACK_PENDING // plan.held} replicas",
    )


def _permissions(facts: Nats) -> Iterator[Finding]:
    for sentence in facts.not_permitted:
        yield wrong(
            "NATS permissions",
            expected="all of docs/security.md's role collector",
            got=sentence,
            do="grant it to this user",
        )
    if not facts.not_permitted:
        yield ok("NATS permissions", "all that the service does")


def _jetstream(facts: Nats) -> Iterator[Finding]:
    if facts.jetstream_error:
        yield wrong(
            "JetStream",
            expected="an answer",
            got=facts.jetstream_error,
            do="enable it in the server (jetstream {}) and for this account (jetstream: enabled)",
        )
    elif facts.api_level is None:
        yield ok("JetStream", "answers; its API level is not known, as $JS.API.INFO is not permitted")
    elif facts.api_level < TESTED_API_LEVEL:
        yield warning(
            "JetStream",
            expected=f"API level {TESTED_API_LEVEL} or more",
            got=f"level {facts.api_level}",
            do="upgrade to nats-server 2.11 or newer: the collector is not tested with older ones",
        )
    else:
        yield ok("JetStream", f"answers, API level {facts.api_level}")


def _bucket(bucket: Stream | None, plan: Plan) -> Iterator[Finding]:
    about = f"bucket {plan.names.bucket}"
    if bucket is None:
        yield ok(about, "not there yet; the first replica or `transfer set` makes it")
        return
    if bucket.max_age is not None:
        yield wrong(
            about,
            expected="no age at which declarations vanish",
            got=f"{bucket.max_age:g} s",
            do=f"nats stream edit KV_{plan.names.bucket} --max-age=0",
        )
    if bucket.allows_message_ttl or not bucket.allows_direct:
        yield warning(
            about,
            expected="direct reads and no message TTL, as the Go client makes it",
            got=f"direct reads {'on' if bucket.allows_direct else 'off'},"
            f" message TTL {'on' if bucket.allows_message_ttl else 'off'}",
            do="nothing, unless Go clients of v1.7 are to use it: those stop on such a bucket",
        )
    yield ok(about, f"there, {bucket.messages} entries")


def _logger(logger: Logger, plan: Plan) -> Iterator[Finding]:
    about = f"logger {logger.key}"
    if logger.spec is None:
        yield wrong(
            about,
            expected="a logger spec",
            got=logger.unreadable,
            do=f"declare it anew: transfer set {logger.key} --replace",
        )
        return
    if logger.not_seen:
        yield wrong(about, expected="to look at its stream", got=logger.not_seen, do="see the findings above")
        return
    if logger.stream is None:
        yield wrong(
            f"stream {plan.names.stream(logger.key)}",
            expected="to be there",
            got="none, so that publishing fails",
            do=f"make it: transfer update {logger.key}",
        )
        return
    trouble = [*_stream(logger, logger.stream, plan), *_durable(logger, logger.stream, plan)]
    yield from trouble
    if not trouble:
        yield ok(about, f"stream and durable are in order, {logger.stream.messages} messages wait")


def _stream(logger: Logger, stream: Stream, plan: Plan) -> Iterator[Finding]:
    about, subject = f"stream {stream.name}", plan.names.subject(logger.key)
    if stream.retention != "workqueue" or stream.subjects != (subject,):
        yield wrong(
            about,
            expected=f"a workqueue of {subject}",
            got=f"{stream.retention} of {', '.join(stream.subjects) or 'nothing'}",
            do="somebody else made it: remove it, or name the logger otherwise",
        )
    stated = logger.spec.stream if logger.spec else None
    if stream.storage == "memory" and not (stated and stated.storage == "memory"):
        yield warning(
            about,
            expected="storage file",
            got="memory, which a restart of the server empties",
            do="make it anew with storage file, or state memory in the logger's spec",
        )
    if stream.max_age is not None and not (stated and stated.max_age == stream.max_age):
        yield warning(
            about,
            expected="no max age, or the spec's",
            got=f"{stream.max_age:g} s, after which entries that nobody stored are gone",
            do=f"nats stream edit {stream.name} --max-age=0, or state it in the logger's spec",
        )
    yield from _fullness(stream, stated_bytes=stated.max_bytes if stated else None)


def _fullness(stream: Stream, *, stated_bytes: int | None) -> Iterator[Finding]:
    limits = {"bytes": stream.max_bytes, "messages": stream.max_messages}
    got = [f"{limit} {what}" for what, limit in limits.items() if limit is not None]
    meant = stream.max_messages is None and stream.max_bytes == stated_bytes
    if got and stream.discards_old and not meant:
        yield warning(
            f"stream {stream.name}",
            expected="no limit, or discard new",
            got=f"{' and '.join(got)} with discard old: when it is full, the oldest are gone unstored",
            do=f"nats stream edit {stream.name} --discard=new, so that publishing fails instead",
        )


def _durable(logger: Logger, stream: Stream, plan: Plan) -> Iterator[Finding]:
    durable, about = logger.durable, f"durable {plan.names.durable(logger.key)}"
    yield from _room(logger, stream, plan)
    if durable is None:
        if stream.consumers:
            yield wrong(
                about,
                expected="no other consumer on this stream, as a workqueue has only one",
                got=f"{stream.consumers} of another name",
                do=f"look for it with nats consumer ls {stream.name}, and remove it",
            )
        return
    if durable.is_push:
        yield _push(about, durable)
        return
    yield from _settings_of(about, durable, plan)
    stuck = stream.messages - durable.num_pending - durable.num_ack_pending
    if stuck > 0:
        yield warning(
            about,
            expected="every message that waits to be given to somebody",
            got=f"{stuck} that may be given to nobody any more",
            do="nothing: a running replica makes sure within minutes, and brings them back",
        )


def _push(about: str, durable: DurableInfo) -> Finding:
    if durable.push_bound:
        return wrong(
            about,
            expected="nobody to be bound to it",
            got="a push consumer in use",
            do="stop the Go collector first: the logger waits until then",
        )
    return warning(
        about,
        expected="a pull durable",
        got="a push consumer that nobody is bound to",
        do="nothing: the first replica replaces it, and what is not acked stays",
    )


def _settings_of(about: str, durable: DurableInfo, plan: Plan) -> Iterator[Finding]:
    config, ack_wait = durable.config, durable.config.ack_wait / NANOSECONDS
    if config.ack_policy != "explicit":
        yield wrong(
            about, expected="ack policy explicit", got=config.ack_policy, do="delete it: a replica makes it anew"
        )
    if config.max_deliver > 0:
        yield wrong(
            about,
            expected="no max deliver",
            got=f"{config.max_deliver}, after which a message stays in the stream and nobody is given it",
            do="keep whoever sets it from doing so; a replica lifts it and brings back what is stuck",
        )
    if ack_wait != plan.ack_wait:
        yield warning(
            about,
            expected=f"an ack wait of {plan.ack_wait:g} s, this COLLECTOR_ACK_WAIT",
            got=f"{ack_wait:g} s",
            do="nothing, if it was changed: the replicas bring it in line; all have to have the same",
        )


def _room(logger: Logger, stream: Stream, plan: Plan) -> Iterator[Finding]:
    about, needed = f"durable {plan.names.durable(logger.key)}", plan.unanswered(logger)
    if stream.max_ack_pending is not None and stream.max_ack_pending < MAX_ACK_PENDING:
        yield wrong(
            about,
            expected=f"max_ack_pending {MAX_ACK_PENDING}",
            got=f"the stream's limit of {stream.max_ack_pending}, so that the durable is refused",
            do=f"take consumer_limits off stream {stream.name}",
        )
    elif logger.durable and not logger.durable.is_push and logger.durable.config.max_ack_pending < needed:
        yield warning(
            about,
            expected=f"max_ack_pending of at least {needed}, {plan.held} for each replica",
            got=str(logger.durable.config.max_ack_pending),
            do=f"keep whoever sets it from doing so; a replica raises it to {MAX_ACK_PENDING} when it starts",
        )
