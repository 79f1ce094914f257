"""The needs of the service: the fields of a durable, of a stream and of the bucket. They are written down only here.

Durables are made from these tables; pipelines, the sampler and `collector check` compare by them. A field without a row
may have any value: `tests/jetstream/test_every_field.py` tries all fields of nats-server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer.difference import Difference, Remedy
from transfer.jetstream.checks import LEAST_INACTIVE, equals, no_limit, rarely_inactive
from transfer.jetstream.comparison import Need, differences
from transfer.jetstream.durable_needs import MAX_ACK_PENDING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transfer.jetstream.configurations import DurableInfo, StreamConfig
    from transfer.names import Names


def _edit(change: str) -> str:
    """Return how to change what `nats stream edit` has no flag for."""
    file = "{stream}.json"
    return (
        f"nats stream info {{stream}} --json | jq '.config | {change}' > {file}"
        f" && nats stream edit {{stream}} --config={file} --force"
    )


def _discarding(limit: str, flag: str, *, per_subject: bool = False) -> Need:
    def read(config: StreamConfig) -> int:
        refuses = config.discard == "new" and (config.discard_new_per_subject or not per_subject)
        return -1 if refuses else int(getattr(config, limit))

    return Need(
        limit,
        "not set, or discard new",
        no_limit,
        Remedy.RISK,
        "when it is full, the oldest entries are gone unstored",
        f"nats stream edit {{stream}} --{flag}=-1 --force",
        read=read,
        stated="max_bytes" if limit == "max_bytes" else "",
    )


def stream_needs(subject: str) -> tuple[Need, ...]:
    """Return what is needed of the stream of a logger."""
    arrive = "this logger's entries would not arrive, or those of others would"
    edit = "nats stream edit {stream} --subjects={subject} --force"
    return (*_STREAM, Need("subjects", subject, equals((subject,)), Remedy.MEND, arrive, edit))


WORK_QUEUE = "workqueue"
_STREAM = (
    Need(
        "retention",
        WORK_QUEUE,
        equals(WORK_QUEUE),
        Remedy.MEND,
        "it would keep what is stored already; nats-server lets nobody change it",
        "docs/runbooks.md#a-stream-that-is-no-work-queue says how to make it anew and keep what is in it",
    ),
    Need(
        "mirror",
        "not set",
        lambda found: found is None,
        Remedy.MEND,
        "what is in it was published elsewhere, and nothing can be published to it",
        "nats stream edit {stream} --no-mirror --subjects={subject} --force",
    ),
    Need(
        "consumer_limits.max_ack_pending",
        f"not set, or at least {MAX_ACK_PENDING}",
        lambda found: found <= 0 or found >= MAX_ACK_PENDING,
        Remedy.MEND,
        "the durable is refused",
        _edit(".consumer_limits.max_ack_pending=0"),
    ),
    Need(
        "consumer_limits.inactive_threshold",
        f"not set, or at least {LEAST_INACTIVE:g} s",
        rarely_inactive,
        Remedy.MEND,
        "the durable would go while replicas write, and what they hold would come again",
        _edit(".consumer_limits.inactive_threshold=0"),
    ),
    Need(
        "sealed",
        "false",
        equals(False),
        Remedy.RISK,
        "nothing can be published to it; nats-server lets nobody change it",
        "when it is empty: nats stream rm {stream} --force && transfer set {key}",
    ),
    Need(
        "storage",
        "file",
        equals("file"),
        Remedy.RISK,
        "a restart of the server empties it; nats-server lets nobody change it",
        "when it is empty: nats stream rm {stream} --force && transfer set {key}",
        stated="storage",
    ),
    Need(
        "persist_mode",
        "default",
        lambda found: found in {"", "default"},
        Remedy.RISK,
        "a crash of the server loses what it has confirmed; nats-server lets nobody change it",
        "when it is empty: nats stream rm {stream} --force && transfer set {key}",
    ),
    Need(
        "max_age",
        "not set",
        no_limit,
        Remedy.RISK,
        "entries that are older are gone unstored",
        "nats stream edit {stream} --max-age=0 --force",
        stated="max_age",
    ),
    _discarding("max_msgs", "max-msgs"),
    _discarding("max_bytes", "max-bytes"),
    _discarding("max_msgs_per_subject", "max-msgs-per-subject", per_subject=True),
    Need(
        "no_ack",
        "false",
        lambda found: not found,
        Remedy.RISK,
        "whoever publishes is never told that an entry is kept",
        "nats stream edit {stream} --ack --force",
    ),
)


def bucket_needs(names: Names) -> tuple[Need, ...]:
    """Return what is needed of the bucket of the loggers, which is a stream too."""
    vanish = "declarations would vanish, and their loggers stop"
    go = "Go clients of v1.7 stop on such a bucket; others do not mind"
    subject = names.bucket_subjects
    return (
        Need(
            "subjects",
            subject,
            equals((subject,)),
            Remedy.MEND,
            "no declaration would arrive",
            _request(f'.subjects=["{subject}"]'),
        ),
        Need("retention", "limits", equals("limits"), Remedy.MEND, vanish, _BUCKET_ANEW),
        Need("max_age", "not set", no_limit, Remedy.MEND, vanish, _request(".max_age=0")),
        _vanishing("max_msgs", vanish),
        _vanishing("max_bytes", vanish),
        Need("storage", "file", equals("file"), Remedy.RISK, "a restart of the server empties it", _BUCKET_ANEW),
        Need("sealed", "false", equals(False), Remedy.RISK, "nothing can be declared any more", _BUCKET_ANEW),
        Need("allow_direct", "true", equals(True), Remedy.RISK, go, _request(".allow_direct=true")),
        Need("allow_msg_ttl", "false", equals(False), Remedy.RISK, go, "nothing, without such clients"),
    )


_BUCKET_ANEW = (
    "nats-server lets nobody change it; save transfer list --json, then nats kv del {bucket} --force, and declare anew"
)


def _vanishing(limit: str, why: str) -> Need:
    def read(config: StreamConfig) -> int:
        return -1 if config.discard == "new" else int(getattr(config, limit))

    return Need(limit, "not set, or discard new", no_limit, Remedy.MEND, why, _request(f".{limit}=-1"), read=read)


def _request(change: str) -> str:
    """Return how to change a bucket: `nats stream edit` asks for a confirmation, and so needs a terminal."""
    config = f"$(nats stream info {{stream}} --json | jq -c '.config | {change}')"
    return f"nats request '$JS.API.STREAM.UPDATE.{{stream}}' \"{config}\""


def compare_durable(
    info: DurableInfo, names: Names, key: str, needs: Iterable[Need], retention: str = WORK_QUEUE
) -> tuple[Difference, ...]:
    """Return what of the durable of a logger is not as needed; of a push consumer that it is one says it all.

    On a stream of another `retention` a durable is not to be replaced, and what would need that is left out.
    """
    found = tuple(differences(f"durable {info.name!r}", needs, info, _command(names, key)))
    if retention != WORK_QUEUE:
        found = tuple(each for each in found if each.remedy is not Remedy.REPLACE)
    return found if not info.is_push else tuple(each for each in found if each.field == "deliver_subject")


def compare_stream(config: StreamConfig, names: Names, key: str) -> tuple[Difference, ...]:
    """Return what of the stream of a logger is not as needed."""
    needs = stream_needs(names.subject(key))
    return tuple(differences(f"stream {config.name!r}", needs, config, _command(names, key)))


def compare_bucket(config: StreamConfig, names: Names) -> tuple[Difference, ...]:
    """Return what of the bucket is not as needed."""
    needs = bucket_needs(names)
    return tuple(
        differences(f"bucket {names.bucket!r}", needs, config, {"stream": names.bucket_stream, "bucket": names.bucket})
    )


def _command(names: Names, key: str) -> dict[str, str]:
    return {"stream": names.stream(key), "key": key, "subject": names.subject(key)}


def refusal_of(err_code: int, names: Names, key: str, description: str) -> Difference | None:
    """Return which field of somebody else's makes nats-server refuse the durable, by its own number of the error."""
    refused = _REFUSALS.get(err_code)
    return None if refused is None else _refused(refused, names, key, description)


def refused_by_another(names: Names, key: str, got: str) -> Difference:
    """Return that a stream has another consumer, as a work queue has only one."""
    return _refused(_REFUSALS[_NOT_THE_ONLY], names, key, got)


def _refused(refused: tuple[str, str, str], names: Names, key: str, got: str) -> Difference:
    field, expected, command = refused
    stream = names.stream(key)
    about, why = f"stream {stream!r}", "nats-server refuses the durable"
    return Difference(about, field, expected, got, Remedy.MEND, why, command.replace("{stream}", stream))


_NOT_THE_ONLY = 10099
_OTHER = "nats consumer ls {stream} names it, nats consumer rm {stream} NAME --force removes it"
RAISE_LIMITS = "raise it in the JetStream limits of nats-server and of the account, then nats-server --signal reload"
# nats-server, server/errors.json
_REFUSALS = {
    _NOT_THE_ONLY: ("consumers", "no other than the durable", _OTHER),
    10100: ("consumers", "no other than the durable", _OTHER),
    10026: ("max_consumers", "room for the durable", _OTHER),
    10121: ("max_ack_pending", f"to be allowed up to {MAX_ACK_PENDING}", RAISE_LIMITS),
    10125: ("max_batch", "not to be limited", RAISE_LIMITS),
}


def wanted_of(needs: Iterable[Need]) -> dict[str, object]:
    """Return the fields that are set where a durable is made."""
    return {need.field: need.wanted for need in needs if need.wanted is not None}
