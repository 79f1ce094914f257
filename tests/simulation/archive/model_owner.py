"""One tenure of a replica: what it does from the end of the log on, with the service's own decisions.

From the service: `Log`, `Reading`, `Count`, `OpenCut`, `planned`, `Shares`. The order of the steps is written here, and
an actor of the service has to keep it.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from collector.archive.cut import CutPolicy, OpenCut, Plan, planned
from collector.archive.layout import Layout, default_template
from collector.archive.log import missing
from collector.archive.members import Shares
from collector.archive.reading import Reading, Verdict, cursor_after, read_slice, went_back
from collector.archive.record import BlockKind
from tests.simulation.archive.model_store import StoreClient, packed
from tests.simulation.archive.model_stream import DURABLE, STREAM, Inbox
from tests.simulation.archive.world import Done, Lost, Stopped, Unknown
from tests.simulation.scheduler import Bell, Sleep

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from collector.archive.reading import Slice, Taken
    from collector.archive.record import CutTrigger, Record
    from collector.jetstream.parser import AnyFrame
    from tests.simulation.archive.model_replica import Replica
    from tests.simulation.archive.model_store import Row
    from tests.simulation.archive.model_stream import Consumer

CAPTURE, INCARNATION = "orders", "1"
_WINDOW = 7
"""Messages in a window."""
_PAUSE = 0.5
_WAIT = 1.5
_TRIES = 20


class Owner:
    """The owner of the capture, from the end of the log until a doubt."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._world = replica.world
        self._wire = replica.wire
        self._stream = replica.stream
        self._rules = replica.world.rules
        self._store = StoreClient(replica.wire, replica.store)
        self._log = self._rules.log(self._store, CAPTURE, INCARNATION)
        self._came: list[AnyFrame] = []
        self._bell = Bell()
        self._inbox: Inbox | None = None
        self._consumer: Consumer | None = None
        self._ids = 0
        self._held: set[int] = set()
        """The messages of the open cut, where repeats are not dropped."""
        self._times: dict[int, int] = {}
        """When the stream stored the messages that came."""
        layout = Layout(default_template("k"), capture=CAPTURE, stream=STREAM, incarnation=INCARNATION, ext="rows")
        name = replica.process.name
        self._plan = Plan(capture=CAPTURE, incarnation=INCARNATION, owner=name, layout=layout, making={})

    async def run(self) -> None:
        """Archive until a doubt. Raises Lost, and Stopped."""
        last: Record | None = await self._patiently(self._log.last)
        connection = self._replica.connection
        if last is not None and self._rules.stops_when_back and not self._stream.queue:
            facts = await self._patiently(partial(self._wire.call, self._stream.facts_at, last.to))
            if how := went_back(last, *facts):
                raise Stopped(how)
        if last is not None and self._rules.one_open_cut:
            await self._complete(last)
        self._reading = self._rules.reading(cursor_after(last) if self._rules.begins_at_log else 0)
        await self._rewind(self._reading.cursor)
        if self._replica.connection != connection and not self._stream.queue:
            raise Lost("reconnect")  # it may be another stream than the one that was compared with the log
        storing: Done | None = None
        while True:
            cut, rows, trigger = await self._fill()
            if storing is not None:
                await storing.wait()
            await self._count()
            last = await self._plan_cut(cut, rows, trigger, last)
            storing = Done()
            self._replica.beside(self._finish(last, rows, storing))
            if not self._world.reads_on:
                await storing.wait()

    def close(self) -> None:
        """End the subscription: the server is told before any later reset."""
        if self._inbox is not None:
            self._inbox.open = False

    async def _fill(self) -> tuple[OpenCut, dict[int, list[Row]], CutTrigger]:
        """Read until a cut is due."""
        cut = OpenCut(self._world.policy)
        rows: dict[int, list[Row]] = {}
        self._held.clear()
        while (trigger := cut.due(self._world.scheduler.now, 0)) is None:
            await self._replica.keep_lease()
            await self._take(await self._receive(), cut, rows)
        while self._came:  # deliveries that were on their way when the cut got due belong to it
            await self._take(self._read(), cut, rows)
        self._open = (cut, rows)
        return cut, rows, trigger

    async def _take(self, came: Slice, cut: OpenCut, rows: dict[int, list[Row]]) -> None:
        taken = self._taken(self._reading, came)
        self._times.update(zip(came.sequences, came.times_ns, strict=True))
        self._ack(taken.archived)
        if not self._rules.dead_letters_in_record:
            await self._put_letters(taken.new.sequences)
        if self._rules.drops_repeats:
            self._add(taken.new.sequences, cut, rows)
        else:
            self._add([one for one in taken.new.sequences if one > max(self._held, default=0)], cut, rows)
            self._held.update(taken.new.sequences)

    def _add(self, sequences: Sequence[int], cut: OpenCut, rows: dict[int, list[Row]]) -> None:
        now = self._world.scheduler.now
        places = [(one, position) for one in sequences for position in self._positions(one)]
        keys = [self._replica.keys_of(one)[position] for one, position in places]
        windows = [one // _WINDOW * _WINDOW for one, _ in places]
        counts = [len(self._positions(one)) for one in sequences]
        blocks = cut.add(sequences, keys, windows, counts=counts, clock=(now, now))
        for block, (one, position) in zip(blocks, places, strict=True):
            rows.setdefault(block, []).append((self._times[one], position))

    def _positions(self, sequence: int) -> Sequence[int]:
        """Return the positions of the entries that are in the cut: all, unless dead letters are put apart."""
        apart = not self._rules.dead_letters_in_record
        keys = self._replica.keys_of(sequence)
        return [position for position, key in enumerate(keys) if not (apart and key is BlockKind.DEAD)]

    def _taken(self, reading: Reading, came: Slice) -> Taken:
        taken = reading.take(came)
        if reading.doubt is not None:
            self._world.tally["gaps"] += 1
            raise Lost(reading.doubt)
        self._world.tally["repeats"] += len(came.sequences) - len(taken.new.sequences)
        return taken

    async def _count(self) -> None:
        """Rule 7: compare with the durable; take what comes meanwhile."""
        count = self._rules.count(self._reading)
        while self._stream.queue:
            try:
                facts = await self._wire.call(self._stream.info)
            except Unknown:
                continue
            if self._came:  # the answer may be older
                await self._take(self._read(), *self._open)
                continue
            verdict = count.judge(facts)
            if verdict is Verdict.RIGHT:
                return
            if verdict is Verdict.DOUBT:
                self._world.tally["counts that were wrong"] += 1
                raise Lost(self._reading.doubt)
            await Sleep(_PAUSE)

    async def _plan_cut(
        self, cut: OpenCut, rows: dict[int, list[Row]], trigger: CutTrigger, last: Record | None
    ) -> Record:
        to, rules = self._reading.highest, self._rules
        if not rules.drops_repeats:
            sequences = sorted(self._held)
            cut, rows = OpenCut(self._world.policy), {}
            self._add(sequences, cut, rows)
        at = self._times[to]
        record = planned(self._plan, cut, last, to=to, to_time_ns=at, trigger=trigger, new_id=self._new_id)
        if not (rules.drops_repeats and rules.begins_at_log):
            record = replace(record, after=min(record.after, record.members.firsts[0] - 1))
        if not rules.plans_first:
            for block, content in rows.items():
                path = f"{record.blocks[block].path}.{self._new_id()}"
                await self._create(path, content)
        self._world.say(self._replica.process.name, "plans record {}: ({}, {}]", record.number, record.after, record.to)
        if not await self._patiently(lambda: self._log.create(record)):
            self._world.tally["records that were taken"] += 1
            raise Lost("record")
        return record

    async def _finish(self, record: Record, rows: dict[int, list[Row]], done: Done) -> None:
        """Create the blocks of a record, and answer for its messages; meanwhile the owner reads on."""
        reading, rules = self._reading, self._rules
        if not rules.settles_last:
            self._ack(list(record.members.sequences()))
        if not rules.one_open_cut:
            done.set()
        if rules.plans_first:
            await self._put_blocks(record, rows)
        if rules.settles_last:
            self._ack(list(record.members.sequences()))
        reading.settled(record.to, record.members.messages)
        done.set()

    async def _put_blocks(self, record: Record, rows: dict[int, list[Row]]) -> None:
        for block, content in rows.items():
            await self._create(record.blocks[block].path, content)

    # --- rule 10

    async def _complete(self, record: Record) -> None:
        """Make each block of a record that is not there, from what the stream still has."""
        if not self._rules.plans_first:
            return
        absent = await self._patiently(lambda: missing(self._store, record))
        if not absent:
            return
        self._world.tally["cuts that were completed"] += 1
        shares = Shares(record.members)
        wanted = {one for one, blocks in record.members.shares() if set(blocks) & set(absent)}
        have = await (self._fetch(record, wanted) if self._stream.queue else self._read_again(record))
        rows: dict[int, list[Row]] = {block: [] for block in absent}
        for sequence in sorted(have & wanted):
            divided = self._divided(record, sequence, shares)
            for position, block in zip(self._positions(sequence), divided, strict=False):
                if block in rows:
                    rows[block].append((self._times[sequence], position))
        await self._put_blocks(record, rows)

    def _divided(self, record: Record, sequence: int, shares: Shares) -> Sequence[int | None]:
        if self._rules.names_members:
            return shares.of(sequence) or ()
        window = sequence // _WINDOW * _WINDOW
        numbers: dict[tuple[Any, int], int] = {
            (block.key if block.kind is BlockKind.ROWS else block.kind, block.window_ns): number
            for number, block in enumerate(record.blocks)
        }
        keys = self._replica.keys_of(sequence)
        return [numbers.get((key, 0 if key is BlockKind.DEAD else window)) for key in keys]

    async def _fetch(self, record: Record, wanted: set[int]) -> set[int]:
        """Have the durable deliver all again, until the wanted messages have come."""
        await self._rewind(record.after)
        reading, have, tries = Reading(record.after), set[int](), 0
        while not wanted <= have:
            came = await self._receive()
            tries = 0 if came.sequences else tries + 1
            if tries > _TRIES:
                raise Lost("silence")
            self._times.update(zip(came.sequences, came.times_ns, strict=True))
            have |= set(self._taken(reading, came).new.sequences)
        return have

    async def _read_again(self, record: Record) -> set[int]:
        have, position = set[int](), record.after
        while position < record.to:
            got: dict[int, int] = await self._patiently(partial(self._wire.call, self._stream.read, position, 5))
            if not got:
                break
            self._times.update(got)
            have |= set(got)
            position = max(got)
        return have

    # --- JetStream

    async def _rewind(self, cursor: int) -> None:
        """Rule 7: reset the durable, or make a new reader; listen at a new inbox from before that."""
        self.close()
        self._came.clear()
        self._inbox = Inbox(self._replica.process, self._receive_frame)
        self._replica.inboxes.append(self._inbox)
        try:
            if self._stream.queue:
                await self._wire.call(self._stream.reset)
            else:
                self._consumer = await self._wire.call(self._stream.make_reader, cursor)
        except Unknown:
            raise Lost("no answer to the reset") from None

    def _receive_frame(self, frame: AnyFrame) -> None:
        self._came.append(frame)
        self._bell.ring()

    async def _receive(self) -> Slice:
        """Return what has come; ask for more when nothing has.

        A reader without acks has to notice that its connection is another one. A durable delivers again what got lost,
        so its owner may be slow to notice.
        """
        if self._inbox is not None and self._inbox.connection and not self._stream.queue:
            raise Lost("reconnect")
        if not self._came and self._inbox is not None:
            world, bell = self._world, Bell()
            self._bell = bell
            if self._inbox.open and not world.stormy(world.weather.lost):
                world.scheduler.after(world.travel(), None, self._pull, self._inbox)
            world.scheduler.after(_WAIT, self._replica.process, bell.ring)
            await bell
        return self._read()

    def _pull(self, inbox: Inbox) -> None:
        if inbox.open:
            self._stream.pull(self._consumer, inbox, 4)

    def _read(self) -> Slice:
        frames, self._came = self._came, []
        return read_slice(frames, STREAM, DURABLE)

    def _ack(self, sequences: Sequence[int]) -> None:
        """Send acks: each may be lost, and all are lost with the connection."""
        world = self._world
        for sequence in sequences if self._stream.queue else ():
            if not world.stormy(world.weather.lost):
                world.scheduler.after(world.travel(), None, self._stream.ack, sequence)

    # --- the store

    async def _put_letters(self, sequences: Sequence[int]) -> None:
        for sequence in sequences:
            for position, key in enumerate(self._replica.keys_of(sequence)):
                if key is BlockKind.DEAD:
                    await self._create(f"_dead/{sequence}-{position}", [(self._times[sequence], position)])

    async def _create(self, path: str, rows: list[Row]) -> None:
        await self._patiently(lambda: self._store.create(path, packed(rows)))

    async def _patiently(self, attempt: Callable[[], Awaitable[Any]]) -> Any:
        while True:
            try:
                return await attempt()
            except Unknown:
                await Sleep(_PAUSE)

    def _new_id(self) -> str:
        self._ids += 1
        return f"{self._replica.process.name}-{self._world.scheduler.now:.6f}-{self._ids}"


def policy(messages: int, age: float) -> CutPolicy:
    """Return the limits of the cuts of one schedule."""
    return CutPolicy(window=1e9, max_messages=messages, max_age=age, max_keys=3)
