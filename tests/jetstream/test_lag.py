"""The lag of loggers, read from a real server: what is asked for it, and that it is what the server says."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import anyio
import nats
import nats.errors
import pytest
from nats.js.api import AckPolicy, ConsumerConfig

import collector.jetstream.lag
from collector.events.readings import Sampled, Waiting
from collector.flow.in_hand import InHand
from collector.jetstream.lag import JetStreamLag
from collector.jetstream.stuck import Stuck
from tests.support.fakes import delivery
from tests.support.pulling import connected, quiet
from transfer import Logger, Transfer
from transfer.errors import JetStreamError, Unavailable
from transfer.jetstream.durables import durable_info, ensure_durable
from transfer.jetstream.streams import listed_streams
from transfer.names import Names

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from nats.js import JetStreamContext

    from collector.local import NatsServer
    from transfer.jetstream.configurations import DurableInfo
    from transfer.jetstream.streams import StreamState

pytestmark = pytest.mark.timeout(180)
LOGGERS = [f"l{number:02}" for number in range(20)]
PERIOD = 5.0


class Scene:
    """A namespace with loggers, all of whose durables are pulled."""

    def __init__(self, jetstream: JetStreamContext, names: Names, transfer: Transfer) -> None:
        self.jetstream, self.names, self.transfer = jetstream, names, transfer
        self.lag = JetStreamLag(jetstream, names, PERIOD)
        self.asked: list[str] = []
        self.failing: dict[str, Exception] = {}

    async def durable_info(self, jetstream: JetStreamContext, names: Names, key: str) -> DurableInfo:
        self.asked.append(key)
        if key in self.failing:
            raise self.failing[key]
        return await durable_info(jetstream, names, key)

    async def read(self) -> dict[str, Sampled]:
        self.asked.clear()
        samples = await self.lag.sample(LOGGERS)
        return {sampled.logger: sampled for sampled in samples if isinstance(sampled, Sampled)}

    async def pull(self, key: str) -> None:
        """Have a pull request wait at the durable, as the collector has."""
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self.names.stream(key)}.{self.names.durable(key)}"
        inbox = self.jetstream._nc.new_inbox()
        await self.jetstream._nc.subscribe(inbox)
        await self.jetstream._nc.publish(subject, b'{"batch": 1, "expires": 60000000000}', reply=inbox)

    async def publish(self, key: str) -> None:
        await self.transfer.publish(key, {"msg": "hello"})


@asynccontextmanager
async def playing(server: NatsServer, namespace: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    async with await nats.connect(server.url) as connection:
        jetstream = connection.jetstream()
        scene = Scene(jetstream, Names(namespace), Transfer(jetstream, namespace=namespace))
        monkeypatch.setattr(collector.jetstream.lag, "durable_info", scene.durable_info)
        for key in LOGGERS:
            await scene.transfer.set(Logger(key))
            await ensure_durable(jetstream, scene.names, key)
        with anyio.fail_after(30):
            yield scene


@pytest.fixture
async def scene(nats_server: NatsServer, namespace: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    """Give loggers that are pulled, and whose durables were asked once."""
    async with playing(nats_server, namespace, monkeypatch) as scene:
        for key in LOGGERS:
            await scene.pull(key)
        await scene.read()
        assert sorted(scene.asked) == LOGGERS
        yield scene


async def test_the_durables_of_empty_streams_are_asked_in_turn_and_each_within_ten_readings(scene: Scene) -> None:
    asked: list[str] = []
    for _ in range(10):
        read = await scene.read()
        assert len(scene.asked) < len(LOGGERS) / 2
        assert {sampled.ack_pending_limit for sampled in read.values()} == {100_000}
        assert {sampled.waiting_pulls for sampled in read.values()} == {1}
        asked += scene.asked
    assert sorted(asked) == LOGGERS


async def test_a_durable_whose_stream_is_not_empty_is_asked_each_time_and_its_lag_is_what_the_server_says(
    scene: Scene,
) -> None:
    for _ in range(3):
        await scene.publish("l07")
    while (await durable_info(scene.jetstream, scene.names, "l07")).num_pending != 2:  # noqa: ASYNC110 - the server's
        await anyio.sleep(0.01)
    for _ in range(3):
        sampled = (await scene.read())["l07"]
        assert "l07" in scene.asked
        said = await durable_info(scene.jetstream, scene.names, "l07")
        assert (sampled.pending, sampled.ack_pending) == (said.num_pending, said.num_ack_pending) == (2, 1)
        assert sampled.messages == 3


async def test_what_was_read_of_messages_is_forgotten_with_the_last_of_them(scene: Scene) -> None:
    await scene.publish("l07")
    assert (await scene.read())["l07"].ack_pending == 1
    await scene.jetstream.purge_stream(scene.names.stream("l07"))
    for _ in range(10):
        sampled = (await scene.read())["l07"]
        if "l07" not in scene.asked:
            assert (sampled.messages, sampled.pending, sampled.ack_pending, sampled.redelivered) == (0, 0, 0, 0)


async def test_a_durable_that_nobody_pulls_is_asked_each_time(
    nats_server: NatsServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with playing(nats_server, namespace, monkeypatch) as scene:
        for _ in range(2):
            assert {sampled.waiting_pulls for sampled in (await scene.read()).values()} == {0}
            assert sorted(scene.asked) == LOGGERS


async def test_a_logger_without_stream_or_durable_or_leader_is_left_out_and_harms_no_other(scene: Scene) -> None:
    await scene.transfer.remove("l00", force=True)
    for key in ("l01", "l02"):
        await scene.publish(key)
    await scene.jetstream.delete_consumer(scene.names.stream("l01"), scene.names.durable("l01"))
    scene.failing["l02"] = Unavailable("no leader")
    assert set(await scene.read()) == set(LOGGERS[3:])
    scene.failing.clear()
    assert set(await scene.read()) == set(LOGGERS[2:])


async def test_what_waits_is_known_of_every_logger_but_one_whose_stream_has_no_leader(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.transfer.remove("l00", force=True)
    for key in ("l01", "l02", "l02"):
        await scene.publish(key)
    await scene.jetstream.delete_consumer(scene.names.stream("l01"), scene.names.durable("l01"))
    scene.failing["l02"] = Unavailable("no leader")
    found = await scene.lag.sample(LOGGERS)
    waiting = {one.logger: one.messages for one in found if isinstance(one, Waiting)}
    assert waiting == {"l00": 0, "l01": 1, "l02": 2}
    assert len(found) == len(LOGGERS)

    async def without_a_leader(*_: object) -> dict[str, StreamState | None]:
        return await listed_streams(scene.jetstream, scene.names) | {scene.names.stream("l02"): None}

    monkeypatch.setattr(collector.jetstream.lag, "listed_streams", without_a_leader)
    assert {one.logger for one in await scene.lag.sample(LOGGERS)} == {*LOGGERS} - {"l02"}


async def test_what_is_refused_for_all_is_raised_as_it_is_and_for_one_leaves_that_one_out(scene: Scene) -> None:
    refused = JetStreamError("$JS", 500, 10008, "not available")
    await scene.publish("l03")
    await scene.publish("l04")
    scene.failing["l03"] = refused
    assert {*LOGGERS} - set(await scene.read()) == {"l03"}
    scene.failing |= dict.fromkeys(LOGGERS, refused)
    with pytest.raises(JetStreamError) as raised:
        await scene.read()
    assert raised.value is refused


async def test_a_durable_that_was_mended_is_asked_again_at_once(scene: Scene) -> None:
    made = await durable_info(scene.jetstream, scene.names, "l05")
    assert await scene.lag.bring_back("l05", Stuck(made.created, 1, 1))
    assert "l05" not in await scene.read()
    assert "l05" in scene.asked


async def test_while_a_durable_is_lost_all_messages_of_its_stream_wait(own_nats: Callable[..., NatsServer]) -> None:
    server, names = own_nats(), Names("lost")
    async with connected(server, error_cb=quiet) as connection:
        jetstream, transfer = connection.jetstream(), Transfer(connection.jetstream(), namespace="lost")
        await transfer.set(Logger("l"))
        await ensure_durable(jetstream, names, "l")
        for _ in range(3):
            await transfer.publish("l", {"msg": "hello"})
        lag = JetStreamLag(jetstream, names, PERIOD)
        (read,) = await lag.sample(["l"])
        assert isinstance(read, Sampled)
        assert (read.messages, read.pending) == (3, 3)
        await anyio.to_thread.run_sync(server.restart)
        with anyio.fail_after(60):
            while not connection.is_connected:  # noqa: ASYNC110 - nats-py's
                await anyio.sleep(0.01)
        (waiting,) = await lag.sample(["l"])
        assert (type(waiting), waiting.messages) == (Waiting, 3)
        await ensure_durable(jetstream, names, "l")
        (read,) = await lag.sample(["l"])
        assert isinstance(read, Sampled)
        assert (read.messages, read.pending, read.ack_pending) == (3, 3, 0)


@pytest.mark.parametrize(("retention", "stuck"), [("workqueue", 1), ("interest", None)])
async def test_stuck_messages_are_brought_back_only_where_no_message_goes_with_its_durable(
    nats_server: NatsServer, namespace: str, retention: str, stuck: int | None
) -> None:
    names = Names(namespace)
    stream, durable = names.stream("l"), names.durable("l")
    async with await nats.connect(nats_server.url) as connection:
        jetstream = connection.jetstream()
        await jetstream.add_stream(name=stream, subjects=[names.subject("l")], retention=retention)
        config = ConsumerConfig(durable_name=durable, ack_policy=AckPolicy.EXPLICIT, max_deliver=1)
        await jetstream.add_consumer(stream, config)
        await jetstream.publish(names.subject("l"), b"once")
        pull = await jetstream.pull_subscribe_bind(durable, stream)
        (message,) = await pull.fetch(1)
        await message.nak()
        with anyio.fail_after(30):
            while (await durable_info(jetstream, names, "l")).num_ack_pending:
                with suppress(nats.errors.TimeoutError):  # it counts the deliveries when somebody asks
                    await pull.fetch(1, timeout=0.1)
        found = await JetStreamLag(jetstream, names, PERIOD).stuck("l")
    assert (found and found.messages) == stuck


@pytest.mark.parametrize(
    ("period", "loggers", "turns"),
    [(0.2, 10, 10), (5.0, 10, 10), (10.0, 10, 5), (60.0, 10, 1), (5.0, 10_000, 10), (20.0, 10_000, 5), (20.0, 100, 2)],
)
def test_where_readings_are_rare_a_durable_is_asked_more_often(
    monkeypatch: pytest.MonkeyPatch, period: float, loggers: int, turns: int
) -> None:
    """After 50 s at most, and not more than a hundred durables a second however many loggers there are."""
    now = 1000.0
    monkeypatch.setattr("collector.jetstream.lag.time.monotonic", lambda: now)
    lag = JetStreamLag(None, Names("n"), 0.2 if period > 10 else period)  # type: ignore[arg-type]
    for _ in range(3):
        lag._take_turn(loggers)
        now += period
    assert lag._turns == turns


async def test_the_durable_of_a_logger_whose_home_is_elsewhere_is_left_to_its_home(scene: Scene) -> None:
    """Four replicas would ask each durable of a trickle four times."""
    elsewhere = set(LOGGERS[:10])
    scene.lag = JetStreamLag(scene.jetstream, scene.names, PERIOD, is_elsewhere=lambda key: key in elsewhere)
    for key in LOGGERS:
        await scene.publish(key)
        await scene.pull(key)
    await scene.read()
    assert sorted(scene.asked) == LOGGERS, "nothing was known of any"
    for _ in range(10):
        read = await scene.read()
        assert set(LOGGERS[10:]) <= set(scene.asked)
        assert len(scene.asked) < 15
        assert {sampled.lag for sampled in read.values()} == {1}
        for key in elsewhere.difference(scene.asked):
            assert (read[key].pending, read[key].ack_pending, read[key].stuck) == (None, None, None)
            assert read[key].ack_pending_limit == 100_000
    elsewhere.clear()
    await scene.read()
    assert sorted(scene.asked) == LOGGERS


async def test_the_durable_of_a_logger_is_seldom_asked_while_all_its_messages_are_in_hand_here(scene: Scene) -> None:
    """Of a thousand loggers with an entry a second each, nearly all have a message or two in hand at any time."""
    hands = {key: InHand() for key in LOGGERS}
    scene.lag = JetStreamLag(scene.jetstream, scene.names, PERIOD, in_hand=hands.get)
    for number, key in enumerate(LOGGERS):
        await scene.publish(key)
        await scene.pull(key)
        hands[key].take([delivery(1, delivered=1 + number % 2)])
    hands["l01"].keep((delivery(1).reply, b"+ACK"))
    hands["l01"].release([delivery(1, delivered=2)])
    for key in ("l02", "l03"):  # one more, which nobody has in hand: it waits, or it is stuck
        await scene.publish(key)
    del hands["l04"]
    await scene.read()
    for _ in range(10):
        read = await scene.read()
        assert {"l02", "l03", "l04"} <= set(scene.asked)
        assert len(scene.asked) < 10
        for number, key in enumerate(LOGGERS):
            if key not in scene.asked:
                counts = read[key].pending, read[key].ack_pending, read[key].redelivered
                assert counts == (0, 1, number % 2 if key != "l01" else 0)
                assert (read[key].lag, read[key].stuck) == (1, 0)


async def test_a_backlog_is_read_closely_by_every_replica(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector.jetstream.lag, "_FEW", 3)
    scene.lag = JetStreamLag(scene.jetstream, scene.names, PERIOD, is_elsewhere=lambda _: True)
    for key, count in (("l07", 3), ("l08", 2)):
        for _ in range(count):
            await scene.publish(key)
        for _ in range(count):
            await scene.pull(key)
    await scene.read()
    asked = list[str]()
    for _ in range(3):
        await scene.read()
        asked += scene.asked
    assert asked.count("l07") == 3
    assert asked.count("l08") < 3
