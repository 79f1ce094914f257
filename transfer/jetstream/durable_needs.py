"""The settings that the service needs of a durable, field by field: written down only here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer.difference import Remedy
from transfer.jetstream.api import NANOSECONDS
from transfer.jetstream.checks import LEAST_INACTIVE, equals, no_limit, rarely_inactive, unset
from transfer.jetstream.comparison import Need

if TYPE_CHECKING:
    from transfer.jetstream.configurations import DurableInfo

ACK_WAIT = 30.0
LONGEST_ACK_WAIT = 3600.0
"""Seconds; what a replica held that died would wait longer with more. No setting may be above it."""
ARCHIVED_ACK_WAIT = LONGEST_ACK_WAIT - 1
"""Seconds, for an archived logger: its messages wait until their cut is stored, and a new owner resets the durable. No
other durable is left with it, so that a logger which is archived no more gets back what it had."""
MAX_ACK_PENDING = 100_000
_LEAST_WAITING = 512
"""Pull requests at a time: nats-server's own default. Each replica has some."""
_GIVEN_TO_NOBODY = "messages would be given to nobody"
_ASKING_REFUSED = "replicas would be refused when they ask for messages"
_ANEW = "nats consumer rm {stream} {stream} --force, and a replica makes it anew"


GROUP = "home"
"""The priority group that every pull request names."""


def durable_needs(
    ack_wait: float = ACK_WAIT, max_ack_pending: int = MAX_ACK_PENDING, *, homes: bool = False
) -> tuple[Need, ...]:
    """Return the needs of a durable; with `homes` it has to serve the requests of a logger's home first."""
    pending = Need(
        "max_ack_pending",
        f"at least {max_ack_pending}",
        lambda found: found >= max_ack_pending,
        Remedy.UPDATE,
        "replicas that hold so many keep all others from getting any",
        wanted=max_ack_pending,
    )
    return (*_ALWAYS, *_priorities(homes=homes), *_ack_wait(ack_wait), pending)


def _priorities(*, homes: bool) -> tuple[Need, ...]:
    """Return what the priorities have to be.

    Every request names group and priority, which a durable without priorities ignores. So a replica that wants no
    homes leaves the durable as one that wants them has made it, and they never undo each other's updates.
    """
    ours = ("prioritized", GROUP)

    def is_met(found: tuple[str, ...]) -> bool:
        return found == ours or (not homes and found == ("none",))

    def read(info: DurableInfo) -> tuple[str, ...]:
        return (info.config.priority_policy, *info.config.priority_groups)

    expected, why = f"prioritized, with group {GROUP}", "replicas cut a trickle into small batches"
    if not homes:
        expected, why = f"none, or {expected}", _ASKING_REFUSED
    policy, groups = ("prioritized", (GROUP,)) if homes else (None, None)
    return (
        Need("priority_policy", expected, is_met, Remedy.UPDATE, why, wanted=policy, read=read),
        Need("priority_groups", expected, is_met, Remedy.UPDATE, why, wanted=groups, read=read),
    )


def _ack_wait(seconds: float) -> tuple[Need, ...]:
    """Return what the ack wait has to be: replicas with different ones agree on the longest."""
    wanted, longest = round(seconds * NANOSECONDS), round(LONGEST_ACK_WAIT * NANOSECONDS)
    of_archive = round(ARCHIVED_ACK_WAIT * NANOSECONDS)
    edit = f"nats consumer edit {{stream}} {{stream}} --wait={seconds:g}s --force"
    return (
        Need(
            "ack_wait",
            f"{seconds:g} s to {LONGEST_ACK_WAIT:g} s",
            lambda found: found == wanted or (wanted <= found <= longest and found != of_archive),
            Remedy.UPDATE,
            "messages would come again while they are worked on, or not for very long",
            wanted=wanted,
        ),
        Need(
            "ack_wait",
            f"{seconds:g} s, this COLLECTOR_ACK_WAIT",
            lambda found: found <= wanted or found > longest or found == of_archive,
            Remedy.RISK,
            "what a replica held that died waits for so long; replicas agree on the longest of theirs",
            edit,
        ),
    )


_ALWAYS = (
    Need(
        "deliver_subject",
        "not set, as it is pulled",
        lambda found: not found,
        Remedy.REPLACE,
        "it is a push consumer, as the Go collector makes it",
        _ANEW,
    ),
    Need("deliver_policy", "all", equals("all"), Remedy.REPLACE, _GIVEN_TO_NOBODY, _ANEW, "all"),
    Need(
        "ack_policy",
        "explicit",
        equals("explicit"),
        Remedy.REPLACE,
        "messages would count as stored that are not",
        _ANEW,
        "explicit",
    ),
    Need("replay_policy", "instant", equals("instant"), Remedy.REPLACE, "messages would come slowly", _ANEW, "instant"),
    Need(
        "max_waiting",
        f"at least {_LEAST_WAITING}",
        lambda found: found >= _LEAST_WAITING,
        Remedy.REPLACE,
        _ASKING_REFUSED,
        _ANEW,
    ),
    Need("sourcing", "not set", lambda found: not found, Remedy.REPLACE, "it is meant for another stream", _ANEW),
    Need(
        "max_deliver",
        "-1",
        no_limit,
        Remedy.UPDATE,
        "a message that was delivered so often stays in the stream, and nobody is given it",
        wanted=-1,
    ),
    Need(
        "mem_storage",
        "true",
        equals(True),
        Remedy.REPLACE,
        "nats-server would write its state to disk up to ten times a second, which costs most of its CPU",
        _ANEW,
        True,
    ),
    unset("backoff", "messages would come again while they are worked on"),
    unset("filter_subject", _GIVEN_TO_NOBODY),
    unset("filter_subjects", _GIVEN_TO_NOBODY),
    unset("headers_only", "messages would come without their entries"),
    unset("max_batch", _ASKING_REFUSED),
    unset("max_expires", _ASKING_REFUSED),
    unset("max_bytes", _ASKING_REFUSED),
    Need(
        "inactive_threshold",
        f"not set, or at least {LEAST_INACTIVE:g} s",
        rarely_inactive,
        Remedy.UPDATE,
        "the durable would go while replicas write, and what they hold would come again",
    ),
    unset("priority_timeout", _ASKING_REFUSED),
    Need(
        "pause_until",
        "not in the future",
        lambda found: found is None,
        Remedy.MEND,
        "somebody has paused it, and it gives messages to nobody",
        "nats consumer resume {stream} {stream} --force",
        read=lambda info: (info.config.pause_until or "paused") if info.paused else None,
    ),
)
