"""Judges the NATS side: facts in, findings out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from collector.check.clock import judge_clock
from collector.check.findings import ok, warning, wrong
from collector.jetstream.priorities import ASKED_FOR_VERSIONS
from transfer.difference import Remedy
from transfer.jetstream.comparison import not_meant
from transfer.jetstream.durable_needs import MAX_ACK_PENDING, durable_needs
from transfer.jetstream.needs import compare_bucket, compare_durable, compare_stream, refused_by_another

if TYPE_CHECKING:
    from collections.abc import Iterator

    from collector.check.facts import LoggerFacts, Nats, Stream
    from collector.check.findings import Finding
    from transfer.difference import Difference
    from transfer.jetstream.configurations import StreamConfig
    from transfer.names import Names

TESTED_API_LEVEL = 1
"""The API level of nats-server 2.11, the oldest version that the collector is tested with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The planned deployment of the service."""

    names: Names
    replicas: int
    held: int
    """Messages of one logger that a replica holds at most."""
    ack_wait: float
    homes: bool = False
    """Whether loggers have a home among the replicas."""


def judge_nats(facts: Nats, plan: Plan) -> Iterator[Finding]:
    """Yield all findings."""
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
    yield from _permissions(facts, plan)
    if facts.unheard:
        return
    yield from _jetstream(facts)
    if facts.jetstream_error:
        return
    yield judge_clock("NATS", facts.clock_ahead)
    yield from _bucket(facts, plan)
    yield from _homes(facts)
    if facts.loggers_error:
        yield wrong("loggers", expected="to list them", got=facts.loggers_error, do="see the findings above")
    elif facts.bucket is not None and not facts.loggers:
        yield ok("loggers", "none is declared yet")
    plan = replace(plan, homes=bool(facts.homes))
    for logger in facts.loggers:
        yield from _logger(logger, plan)
    for name, messages in facts.undeclared:
        yield _undeclared(name, messages, plan)


def _replicas(plan: Plan) -> Finding:
    """Judge whether all replicas can be filled: at the durable's limit of unanswered messages none is given more."""
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


def _permissions(facts: Nats, plan: Plan) -> Iterator[Finding]:
    for sentence in facts.not_permitted:
        judge = warning if sentence.endswith(f" {plan.names.replicas}") else wrong  # without it only homes are missing
        yield judge(
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


def _undeclared(name: str, messages: int, plan: Plan) -> Finding:
    return wrong(
        f"stream {name}",
        expected=f"a declaration of its logger in bucket {plan.names.bucket}",
        got=f"none, and {messages} messages that nobody moves",
        do=f"declare it, which keeps the stream and what waits in it: transfer set {plan.names.key_of(name)}",
    )


def _bucket(facts: Nats, plan: Plan) -> Iterator[Finding]:
    about, bucket = f"bucket {plan.names.bucket}", facts.bucket
    if bucket is None and facts.undeclared:
        yield wrong(
            about,
            expected="to be there, as streams of loggers are",
            got="none: replicas that run go on, one that starts knows no logger",
            do="restore it, or declare the loggers again with transfer set",
        )
        return
    if bucket is None:
        yield ok(about, "not there yet; the first replica or `transfer set` makes it")
        return
    for difference in compare_bucket(bucket.config, plan.names):
        yield _finding(about, difference)
    yield ok(about, f"there, declarations and removals: {bucket.messages}")


def _homes(facts: Nats) -> Iterator[Finding]:
    if facts.homes:
        yield ok("homes", "each logger has one among the replicas, which gets its messages first")
    elif facts.homes is not None:
        yield warning(
            "homes",
            expected="all servers to be nats-server 2.12 or newer, and in a cluster to answer us",
            got="an older one, or no answer: replicas share each trickle, which costs CPU time",
            do=f"upgrade; in a cluster permit this user to publish to {ASKED_FOR_VERSIONS}",
        )


def _finding(about: str, difference: Difference) -> Finding:
    """Return the finding for a difference: wrong when it stops a logger until somebody else changes it."""
    expected, got = f"{difference.field} {difference.expected}", f"{difference.got}: {difference.why}"
    if difference.remedy is Remedy.MEND:
        return wrong(about, expected=expected, got=got, do=difference.command)
    do = {
        Remedy.UPDATE: "nothing: a running replica sets it",
        Remedy.REPLACE: "nothing: a running replica makes the durable anew, and what is not acked stays",
    }
    return warning(about, expected=expected, got=got, do=do.get(difference.remedy, difference.command))


def _logger(logger: LoggerFacts, plan: Plan) -> Iterator[Finding]:
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
    trouble = [*_stream(logger, logger.stream.config, plan), *_durable(logger, logger.stream, plan)]
    yield from trouble
    if not trouble:
        there = "stream and durable are in order"
        missing = "the stream is in order, and a running replica makes its durable"
        yield ok(about, f"{there if logger.durable else missing}, {logger.stream.messages} messages wait")


def _stream(logger: LoggerFacts, config: StreamConfig, plan: Plan) -> Iterator[Finding]:
    stated = logger.spec.stream if logger.spec else None
    for difference in not_meant(compare_stream(config, plan.names, logger.key), stated):
        yield _finding(f"stream {config.name}", difference)


def _durable(logger: LoggerFacts, stream: Stream, plan: Plan) -> Iterator[Finding]:
    durable, about = logger.durable, f"durable {plan.names.durable(logger.key)}"
    if durable is None:
        if stream.consumers:
            refusal = refused_by_another(plan.names, logger.key, f"{stream.consumers} of another name")
            yield _finding(about, refusal)
        return
    if durable.is_push and durable.push_bound:
        yield _in_use(about)
        return
    needs = durable_needs(plan.ack_wait, homes=plan.homes)
    differences = compare_durable(durable, plan.names, logger.key, needs, stream.config.retention)
    for difference in differences:
        yield _finding(about, difference)
    stuck = stream.messages - durable.num_pending - durable.num_ack_pending
    if stuck > 0 and not differences:
        yield warning(
            about,
            expected="every message that waits to be given to somebody",
            got=f"{stuck} that may be given to nobody any more",
            do="nothing: a running replica makes sure within minutes, and brings them back",
        )


def _in_use(about: str) -> Finding:
    return wrong(
        about,
        expected="deliver_subject not set, or nobody to be bound to it",
        got="a push consumer in use",
        do="stop the Go collector first: the logger waits until then",
    )
