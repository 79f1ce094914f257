"""One tenure of the owner: it archives from the end of the log on, until a doubt, or until it is asked to stop.

The order of the steps is that of `tests/simulation/archive/model_owner.py`: read, count, record, blocks, acks. While
the blocks of a cut are created, the next one fills.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from hashlib import sha256
from typing import TYPE_CHECKING

from anyio import CancelScope, Event, create_task_group, current_time, lowlevel, sleep, to_thread

from collector.archive.blocks import Blocks, Filling, messages_of
from collector.archive.completing import complete
from collector.archive.cut import OpenCut, Plan, planned
from collector.archive.formats import About
from collector.archive.layout import Layout
from collector.archive.log import Log
from collector.archive.owning.means import new_id
from collector.archive.reading import Count, Doubt, Verdict, cursor_after, expired, pending_of, read_slice, went_back
from collector.archive.reading import Reading as Deliveries
from collector.archive.record import BlockKind, CutTrigger
from collector.archive.rows import Reading
from collector.archive.told import CutCompleted, CutStored, MessagesExpired, Owning
from collector.decoding.identity import Incarnation
from collector.errors import StreamWentBack
from transfer.errors import Unavailable, UnknownStream

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from collector.archive.owning.attaching import Attached
    from collector.archive.owning.gets import Gets
    from collector.archive.owning.means import Means
    from collector.archive.reading import Taken
    from collector.archive.record import Record
    from collector.runtime.latch import Latch

_SLICE = 500
"""Deliveries that are decoded without letting other tasks run."""
_TRIES = 10
"""Counts without any progress, of which the last one is wrong."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.5


class Tenure:
    """The owner of a capture, from the end of the log until a doubt."""

    def __init__(self, means: Means, attached: Attached, gets: Gets) -> None:
        """Archive a stream that was looked at."""
        created = attached.state.created
        incarnation = Incarnation(means.stream, created)
        names = {"capture": means.capture, "stream": means.stream, "incarnation": created}
        layout = Layout(means.template, **names, ext=means.form.suffix)
        self.deliveries = Deliveries(0)
        self.filling: Filling | None = None
        self.opened_at = math.inf
        self.closed: tuple[float, int] | None = None
        """Of the cut whose blocks are not all there: when it was opened, and the time of its first message."""
        self.pending = 0
        """Messages that were not delivered yet at the last delivery."""
        self.records = 0
        """Records that this tenure has created."""
        self._means = means
        self._attached = attached
        self._source = attached.source
        self._gets = gets
        self._log = Log(means.uploads.patient, means.capture, created)
        self._reading = Reading(means.making.decoding(incarnation), incarnation, means.key)
        self._plan = Plan(
            capture=means.capture, incarnation=created, owner=means.owner, layout=layout, making=means.described
        )
        self._learned = False
        self._stored = Event()
        self._ended_by: Doubt | None = None

    async def run(self, stopping: Latch) -> Doubt | None:
        """Archive until a doubt, which is returned when the last cut is stored, or until asked to stop.

        Raises StreamWentBack, RecordDamaged, and Unavailable or Refused.
        """
        last = await self._begin()
        beside = self._means.beside
        self.deliveries = Deliveries(cursor_after(last), beside=beside is not None)
        await self._source.rewind(self.deliveries.cursor)
        if await self._is_another_stream():
            return Doubt.STREAM
        if beside is not None:
            beside.rewind(self.deliveries.cursor, self._source)
        self._means.tell(Owning(self.deliveries.cursor))
        self._stored.set()
        stopping.call(self._wake)
        try:
            async with create_task_group() as group:
                self._ended_by = await self._archive(group, last, stopping)
        finally:
            stopping.forget(self._wake)
            if self.filling is not None:
                self.filling.blocks.drop()
        return self._ended_by

    async def _archive(self, group: TaskGroup, last: Record | None, stopping: Latch) -> Doubt | None:
        while True:
            filling = self._begin_cut()
            trigger = await self._fill(filling, stopping)
            if not isinstance(trigger, CutTrigger):
                return trigger
            await self._stored.wait()
            if doubt := await self._count(filling):
                return doubt
            last = await self._planned(filling, last, trigger)
            if not await self._log.create(last):
                return Doubt.RECORD
            self.records += 1
            self.closed = (self.opened_at, filling.first_time_ns)
            self.filling, self._stored = None, Event()
            group.start_soon(self._store, last, filling)
            if trigger is CutTrigger.SHUTDOWN:
                return None

    def _wake(self) -> None:
        self._source.inbox.changed.set()

    # --- rules 10 and 12

    async def _begin(self) -> Record | None:
        """Return the last record of the log, whose blocks are all there then."""
        last = await self._log.last()
        state = self._attached.state
        if last is None:
            return None
        time_ns = await self._gets.time_of(last.to) if state.last_seq >= last.to else None
        if how := went_back(last, state.last_seq, time_ns):
            raise StreamWentBack(self._means.stream, how)
        means = self._means
        made = await complete(last, self._gets, means.making, means.uploads, means.spool)
        if made.blocks:
            means.tell(CutCompleted(last.number, made.blocks, made.rows, made.expired))
        if self._attached.is_whole and (lost := expired(last.to, state.first_seq)):
            means.tell(MessagesExpired(lost))
        return last

    async def _is_another_stream(self) -> bool:
        """Look at the stream again, once it is read: it may have been made anew under its name since the first look."""
        known = self._attached.state
        try:
            now = await self._gets.state()
        except UnknownStream:
            return True
        return now.created != known.created or now.last_seq < known.last_seq

    # --- reading

    def _begin_cut(self) -> Filling:
        means, policy = self._means, self._attached.policy
        self.filling = Filling(OpenCut(policy), Blocks(means.form, means.spool), policy)
        self.opened_at = math.inf
        return self.filling

    async def _fill(self, filling: Filling, stopping: Latch) -> CutTrigger | Doubt | None:
        """Read until the cut is due, there is a doubt, or it is empty and the owner is asked to stop."""
        inbox, cut, size = self._source.inbox, filling.cut, filling.blocks.size
        while True:
            if inbox.doubt is not None:
                return inbox.doubt
            held = self._attached.policy.max_bytes if size.is_full else size.bytes
            if (trigger := cut.due(current_time(), held)) is not None:
                return trigger
            if not stopping.is_set():
                await inbox.ask()
            elif not inbox.has_come:
                return CutTrigger.SHUTDOWN if cut else None
            if inbox.has_come:
                room = self._attached.policy.max_messages - cut.members.messages
                if doubt := await self._take(filling, min(_SLICE, room)):
                    return doubt
            else:
                with CancelScope(deadline=min(cut.due_at, inbox.silent_at)):
                    await inbox.changed.wait()

    async def _take(self, filling: Filling, most: int) -> Doubt | None:
        """Take some of the deliveries that have come into the cut."""
        deliveries, source, tally = self.deliveries, self._source, self._means.tally
        came = read_slice(source.inbox.take(most), self._means.stream, source.name)
        taken = deliveries.take(came)
        if deliveries.doubt is not None:
            return deliveries.doubt
        if came.frames:
            self.pending = pending_of(came.frames[-1][1])
            if not self._learned:
                source.learn(came.frames[0][1])
                self._learned = True
        tally.fetched += len(taken.new.sequences)
        tally.repeats += len(came.sequences) - len(taken.new.sequences)
        await self._add(taken, filling)
        await lowlevel.checkpoint()
        return None

    async def _add(self, taken: Taken, filling: Filling) -> None:
        """Take new messages into the cut, and into the sink beside it those that are archived already too."""
        new, messages, beside = taken.new, messages_of(taken.new, self._means.stream), self._means.beside
        archived = bisect_right(new.sequences, self.deliveries.cursor)
        if archived:
            new = new.picked(range(archived, len(new.sequences)))
        now = current_time()
        if new.sequences and not filling.cut:
            self.opened_at = now
        filling.add(new, messages[archived:], self._reading, (now, time.time()))
        if beside is None:
            await self._source.ack(taken.archived)
        else:
            await beside.came(messages, taken.archived)

    async def _count(self, filling: Filling) -> Doubt | None:
        """Rule 7: compare with the durable, and take what comes meanwhile. No request is made, so that this ends."""
        if self._means.beside is None:
            return await self._compare(filling)
        async with self._means.beside.quiet():
            return await self._compare(filling)

    async def _compare(self, filling: Filling) -> Doubt | None:
        count, pause, inbox = Count(self.deliveries, _TRIES), _FIRST_PAUSE, self._source.inbox
        while True:
            try:
                facts = await self._source.facts()
            except Unavailable:
                facts, verdict = None, Verdict.AGAIN
            else:
                if facts is None:
                    return None
                self._look_beside()
                verdict = Verdict.AGAIN if inbox.has_come else count.judge(facts)
            if verdict is Verdict.RIGHT:
                return None
            if doubt := self.deliveries.doubt or inbox.doubt:
                return doubt
            if inbox.has_come:  # the answer may be older than these
                if doubt := await self._take(filling, _SLICE):
                    return doubt
            else:
                await sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    # --- a cut that is closed

    async def _planned(self, filling: Filling, last: Record | None, trigger: CutTrigger) -> Record:
        """Complete the bytes of all blocks, and return the record of the cut."""
        number = 1 if last is None else last.number + 1
        about = About(self._means.capture, number, self.deliveries.cursor + 1, self.deliveries.highest)
        contents = await to_thread.run_sync(_finished, filling, about)
        return planned(
            self._plan,
            filling.cut,
            last,
            to=self.deliveries.highest,
            to_time_ns=filling.last_time_ns,
            trigger=trigger,
            new_id=new_id,
            contents=contents,
        )

    async def _store(self, record: Record, filling: Filling) -> None:
        """Create the blocks of a record, and then ack its messages. Meanwhile the owner reads on."""
        began = current_time()
        try:
            size = await self._means.uploads.create_all(record, range(len(record.blocks)), filling.blocks)
        finally:
            filling.blocks.drop()
        await self._ack(record)
        self.deliveries.settled(record.to, record.members.messages)
        self._look_beside()
        self.closed = None
        self._stored.set()
        dead = sum(block.rows for block in record.blocks if block.kind is BlockKind.DEAD)
        stored = CutStored(
            number=record.number,
            trigger=record.trigger,
            messages=record.members.messages,
            rows=len(record.members.blocks) - dead,
            dead_letters=dead,
            overflow=record.overflow,
            blocks=len(record.blocks),
            raw_bytes=filling.raw_bytes,
            bytes=size,
            to=record.to,
            seconds=current_time() - began,
        )
        self._means.tell(stored)

    def _look_beside(self) -> None:
        """Count the messages that the sink beside has not, which are not acked either."""
        if self._means.beside is not None:
            self.deliveries.held = self._means.beside.unacked

    async def _ack(self, record: Record) -> None:
        """Ack the messages of a cut whose blocks are all there, where the sink beside has them too."""
        if self._means.beside is None:
            await self._source.ack(record.members.sequences())
        else:
            await self._means.beside.archived(record.to)


def _finished(filling: Filling, about: About) -> list[tuple[int, bytes]]:
    """Complete the blocks of a cut, and return size and SHA-256 of each. It works in a thread, as it takes a while."""
    contents = []
    for number in range(len(filling.cut.places)):
        filling.blocks.finish(number, about)
        content = filling.blocks.content(number)
        contents.append((len(content), sha256(content).digest()))
    return contents
