"""The durable of a logger: a pull consumer, made or brought in line; what is known about the one there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from transfer.errors import Conflict, DurableInUse, JetStreamError, UnknownDurable
from transfer.jetstream_api import DURABLE_EXISTS, NANOSECONDS, NOT_THE_ONLY_DURABLE, request

if TYPE_CHECKING:
    from nats.js import JetStreamContext

    from transfer.names import Names

ACK_WAIT = 30.0
MAX_ACK_PENDING = 100_000


class _Config(msgspec.Struct):
    config: dict[str, Any]


class DurableConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration of a durable that is in force; `ack_wait` in nanoseconds, as the server has it."""

    durable_name: str = ""
    ack_policy: str = ""
    deliver_policy: str = ""
    deliver_subject: str = ""
    deliver_group: str = ""
    ack_wait: int = 0
    max_deliver: int = -1
    max_ack_pending: int = 0
    max_waiting: int = 0


class Delivered(msgspec.Struct, frozen=True):
    """How far a durable has come in its stream."""

    stream_seq: int = 0


class DurableInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A durable as the server that leads it sees it."""

    stream_name: str
    name: str
    created: str
    config: DurableConfig
    delivered: Delivered = Delivered()
    num_ack_pending: int = 0
    num_redelivered: int = 0
    num_waiting: int = 0
    num_pending: int = 0
    push_bound: bool = False

    @property
    def is_push(self) -> bool:
        """Say whether it is a push consumer, as the Go collector makes it."""
        return bool(self.config.deliver_subject)


async def durable_info(jetstream: JetStreamContext, names: Names, key: str) -> DurableInfo:
    """Return the durable of a logger, or raise `UnknownStream` or `UnknownDurable`."""
    return msgspec.json.decode(await _read(jetstream, names, key), type=DurableInfo)


async def _read(jetstream: JetStreamContext, names: Names, key: str) -> bytes:
    return await request(jetstream, f"CONSUMER.INFO.{names.stream(key)}.{names.durable(key)}")


async def ensure_durable(
    jetstream: JetStreamContext,
    names: Names,
    key: str,
    *,
    ack_wait: float = ACK_WAIT,
    max_ack_pending: int = MAX_ACK_PENDING,
    replace_push: bool = False,
) -> DurableInfo:
    """Make the pull durable of a logger, or bring ack wait, max ack pending and max deliver of the one there in line.

    A push durable of the Go collector is left as it is, or with `replace_push` deleted and made again as a pull one;
    what was not acked stays in the stream. Any number of replicas may do this at once: when two replace the same push
    durable, the second may replace the first's new one too, which costs a redelivery. Raises `DurableInUse` when it
    would have to replace one that somebody is bound to, `UnknownStream` without a stream, `Conflict` when the stream
    has a durable of another name.
    """
    limits = {"ack_wait": round(ack_wait * NANOSECONDS), "max_ack_pending": max_ack_pending, "max_deliver": -1}
    try:
        reply = await _read(jetstream, names, key)
    except UnknownDurable:
        return await _make_durable(jetstream, names, key, limits)
    found = msgspec.json.decode(reply, type=DurableInfo)
    if not found.is_push:
        config = msgspec.json.decode(reply, type=_Config).config
        in_line = config | limits == config
        return found if in_line else await _put_durable(jetstream, names, key, "update", config | limits)
    if not replace_push:
        return found
    if found.push_bound:
        raise DurableInUse(found.name)
    await _delete_durable(jetstream, names, key)
    return await _make_durable(jetstream, names, key, limits)


async def lift_max_deliver(jetstream: JetStreamContext, names: Names, key: str) -> None:
    """Have the durable deliver a message as often as it takes, and change nothing else of it.

    What has reached the limit before stays where it is: nats-server 2.15 never gives it to anybody again.
    """
    config = msgspec.json.decode(await _read(jetstream, names, key), type=_Config).config
    if config.get("max_deliver", -1) > 0:
        await _put_durable(jetstream, names, key, "update", config | {"max_deliver": -1})


async def give_up_durable(jetstream: JetStreamContext, names: Names, key: str, created: str) -> bool:
    """Delete the durable that was made at `created`: the next one delivers all that is in the stream.

    Whoever consumes makes the next one with `ensure_durable`; for a moment nats-server may still refuse that (10012).
    Returns False, and has done nothing, when somebody else was quicker.
    """
    try:
        if (await durable_info(jetstream, names, key)).created != created:
            return False
    except UnknownDurable:
        return False
    await _delete_durable(jetstream, names, key)
    return True


async def _make_durable(jetstream: JetStreamContext, names: Names, key: str, limits: dict[str, int]) -> DurableInfo:
    config = {
        "durable_name": names.durable(key),
        "name": names.durable(key),
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "replay_policy": "instant",
    }
    try:
        return await _put_durable(jetstream, names, key, "create", config | limits)
    except JetStreamError as error:
        if error.err_code in NOT_THE_ONLY_DURABLE:
            raise Conflict(
                f"stream {names.stream(key)!r}: expected no other consumer, got {error.description}"
            ) from error
        if error.err_code in DURABLE_EXISTS:  # another replica was quicker, with other limits
            return await durable_info(jetstream, names, key)
        raise


async def _put_durable(
    jetstream: JetStreamContext, names: Names, key: str, action: str, config: dict[str, Any]
) -> DurableInfo:
    stream, durable = names.stream(key), names.durable(key)
    wanted = {"stream_name": stream, "config": config, "action": action}
    return msgspec.json.decode(
        await request(jetstream, f"CONSUMER.CREATE.{stream}.{durable}", wanted), type=DurableInfo
    )


async def _delete_durable(jetstream: JetStreamContext, names: Names, key: str) -> None:
    try:
        await request(jetstream, f"CONSUMER.DELETE.{names.stream(key)}.{names.durable(key)}")
    except UnknownDurable:
        return  # another replica was quicker
