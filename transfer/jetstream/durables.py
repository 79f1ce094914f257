"""The durable of a logger: a pull consumer, made or brought in line; what is known about the one there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from transfer.difference import Remedy, with_remedy, without_risks
from transfer.errors import DurableInUse, JetStreamError, Misconfigured, Unavailable, UnknownDurable
from transfer.jetstream.api import DURABLE_EXISTS, request
from transfer.jetstream.comparison import in_line
from transfer.jetstream.configurations import DurableInfo
from transfer.jetstream.durable_needs import ACK_WAIT, MAX_ACK_PENDING, durable_needs
from transfer.jetstream.needs import RAISE_LIMITS, WORK_QUEUE, compare_durable, refusal_of, wanted_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from nats.js import JetStreamContext

    from transfer.difference import Difference
    from transfer.jetstream.comparison import Need
    from transfer.names import Names

_TRIES = 3
"""Looks at a durable that others change at the same time."""

_NOT_TAKEN = f"nats-server does not take it from us; {RAISE_LIMITS}"


class _Config(msgspec.Struct):
    config: dict[str, Any]


async def durable_info(jetstream: JetStreamContext, names: Names, key: str) -> DurableInfo:
    """Return the durable of a logger, or raise `UnknownStream` or `UnknownDurable`."""
    return msgspec.json.decode(await _read(jetstream, names, key), type=DurableInfo)


async def _read(jetstream: JetStreamContext, names: Names, key: str) -> bytes:
    return await request(jetstream, f"CONSUMER.INFO.{names.stream(key)}.{names.durable(key)}")


class _Asked(NamedTuple):
    """Whose durable is to be how."""

    jetstream: JetStreamContext
    names: Names
    key: str
    needs: tuple[Need, ...]
    made_by: tuple[Need, ...]
    """The needs that a new durable meets."""
    retention: str

    def compare(self, found: DurableInfo) -> tuple[Difference, ...]:
        return compare_durable(found, self.names, self.key, self.needs, self.retention)

    @property
    def wanted(self) -> dict[str, Any]:
        """Return the configuration of a new durable; on a stream that is no work queue it outlives a restart."""
        durable = self.names.durable(self.key)
        config = {"durable_name": durable, "name": durable} | wanted_of(self.made_by)
        return config if self.retention == WORK_QUEUE else config | {"mem_storage": False}


async def ensure_durable(
    jetstream: JetStreamContext,
    names: Names,
    key: str,
    *,
    ack_wait: float = ACK_WAIT,
    max_ack_pending: int = MAX_ACK_PENDING,
    retention: str = WORK_QUEUE,
    homes: bool = False,
    keep: bool = False,
    on_change: Callable[[Difference], object] = lambda _: None,
) -> DurableInfo:
    """Make the durable of a logger, or update it to `durable_needs`; return the durable as it is then.

    A durable that nats-server cannot change is made anew, also a push durable of the Go collector; unacked messages
    stay in the stream. Any number of replicas may do this at once: when two replace the same durable, the second may
    replace the first's new one too, which costs a redelivery. On a stream that is no work queue, as its `retention`
    says, a durable is never made anew: without one, such a stream may drop what it keeps. With `homes` the durable
    serves the requests of a logger's home first; with `keep` only one that is made now does. `on_change` is called with
    each difference.

    Raises `DurableInUse` when it would have to replace a durable that a client is bound to, `Misconfigured` when
    somebody else has to change something first, and `UnknownStream` without a stream.
    """
    needs, made_by = (durable_needs(ack_wait, max_ack_pending, homes=one) for one in (homes and not keep, homes))
    asked = _Asked(jetstream, names, key, needs, made_by, retention)
    for _ in range(_TRIES):
        try:
            reply = await _read(jetstream, names, key)
        except UnknownDurable:
            made = await _make_durable(asked)
        else:
            made = await _bring_in_line(asked, reply, on_change)
        if made is None:
            continue
        if left := without_risks(asked.compare(made)):
            raise Misconfigured(*[replace(each, command=_NOT_TAKEN) for each in left])
        return made
    raise Unavailable(f"durable {names.durable(key)!r}: expected to bring it in line, but others change it too")


async def _bring_in_line(asked: _Asked, reply: bytes, on_change: Callable[[Difference], object]) -> DurableInfo | None:
    """Return the durable as it is then, or None when it has to be looked at again."""
    found = msgspec.json.decode(reply, type=DurableInfo)
    differences = without_risks(asked.compare(found))
    if not differences:
        return found
    if mend := with_remedy(differences, Remedy.MEND):
        raise Misconfigured(*mend)
    for difference in differences:
        on_change(difference)
    if not with_remedy(differences, Remedy.REPLACE):
        config = msgspec.json.decode(reply, type=_Config).config
        return await _put_durable(asked, "update", in_line(config, differences))
    if found.push_bound:
        raise DurableInUse(found.name)
    await give_up_durable(asked.jetstream, asked.names, asked.key, found.created)
    return await _make_durable(asked)


async def give_up_durable(jetstream: JetStreamContext, names: Names, key: str, created: str) -> bool:
    """Delete the durable that was made at `created`: the next one delivers all that is in the stream.

    The consumer makes the next one with `ensure_durable`; for a moment nats-server may still refuse that (10012).
    Returns False, and has done nothing, when somebody else was quicker.
    """
    try:
        if (await durable_info(jetstream, names, key)).created != created:
            return False
    except UnknownDurable:
        return False
    await _delete_durable(jetstream, names, key)
    return True


async def _make_durable(asked: _Asked) -> DurableInfo | None:
    """Make it; None when somebody else was quicker, with needs of their own."""
    try:
        return await _put_durable(asked, "create", asked.wanted)
    except JetStreamError as error:
        if error.err_code in DURABLE_EXISTS:
            return None
        raise


async def _put_durable(asked: _Asked, action: str, config: dict[str, Any]) -> DurableInfo:
    stream, durable = asked.names.stream(asked.key), asked.names.durable(asked.key)
    wanted = {"stream_name": stream, "config": config, "action": action}
    try:
        reply = await request(asked.jetstream, f"CONSUMER.CREATE.{stream}.{durable}", wanted)
    except JetStreamError as error:
        if (refused := refusal_of(error.err_code, asked.names, asked.key, error.description)) is not None:
            raise Misconfigured(refused) from error
        raise
    return msgspec.json.decode(reply, type=DurableInfo)


async def _delete_durable(jetstream: JetStreamContext, names: Names, key: str) -> None:
    try:
        await request(jetstream, f"CONSUMER.DELETE.{names.stream(key)}.{names.durable(key)}")
    except UnknownDurable:
        return  # another replica was quicker
