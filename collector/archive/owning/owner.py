"""The actor of a capture: it waits for the lease, and owns the capture for one tenure after the other.

In: the wish to stop. Out: events and numbers. The owner waits for a server or a store that is down. A log and a stream
that contradict each other end the capture with an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from anyio import create_task_group, move_on_after, sleep

from collector.archive.owning.lease import BEAT
from collector.archive.owning.tenure import Tenure
from collector.archive.told import Doubted, Waiting
from collector.errors import CaptureRefused, NotThere, RecordDamaged, StreamWentBack, leaves
from collector.runtime.backoff import exponential
from transfer.errors import TransferError

if TYPE_CHECKING:
    from anyio import CancelScope

    from collector.archive.owning.attaching import Attached
    from collector.archive.owning.gets import Gets
    from collector.archive.owning.lease import Lease
    from collector.archive.owning.means import Means
    from collector.runtime.latch import Latch

_FIRST, _CAP = 0.1, 5.0
"""Seconds between two tenures, the first and the longest."""
_LOOKS = 3
"""Looks at a stream that went back, until that is certain."""
_CLOSING = 6.0
"""Seconds for the end of a tenure at JetStream."""
_PASSING = (TransferError, CaptureRefused, NotThere)
"""Errors after which the same is tried again."""
_FINAL = (RecordDamaged, StreamWentBack)


class Attaches(Protocol):
    """Looks at the stream of a capture."""

    async def attach(self) -> Attached:
        """Return the stream with a source for it. See `Attaching`."""


class Owner:
    """Owns a capture whenever no other process does, until asked to stop."""

    def __init__(self, means: Means, attaching: Attaches, lease: Lease, gets: Gets) -> None:
        """Archive with these means."""
        self.tenure: Tenure | None = None
        """The tenure that goes on, or the last one."""
        self.is_reading = False
        """Whether a tenure goes on."""
        self._means = means
        self._attaching = attaching
        self._lease = lease
        self._gets = gets
        self._said = ""

    async def run(self, stopping: Latch) -> None:
        """Archive until asked to stop and all that was read is stored.

        Raises RecordDamaged and StreamWentBack. When it is cancelled, the next owner goes on where the log ends.
        """
        while not stopping.is_set():
            if await self._claims():
                try:
                    await self._own(stopping)
                finally:
                    with move_on_after(_CLOSING, shield=True):
                        await self._lease.release()
            else:
                await _until(stopping, BEAT)

    async def _claims(self) -> bool:
        try:
            claimed = await self._lease.claim()
        except TransferError as exc:
            self._wait(str(exc))
            return False
        if not claimed:
            self._wait(f"{self._lease.other} is the owner", owned=True)
        return claimed

    async def _own(self, stopping: Latch) -> None:
        """Archive until the lease is lost, or asked to stop."""
        final: list[BaseException] = []
        async with create_task_group() as group:
            group.start_soon(self._keep_lease, group.cancel_scope)
            try:
                await self._tenures_beside(stopping)
            except (*_FINAL, ExceptionGroup) as exc:
                final = [leaf for leaf in leaves(exc) if isinstance(leaf, _FINAL)]
                if not final:
                    raise
            group.cancel_scope.cancel()
        if final:
            raise final[0]

    async def _keep_lease(self, scope: CancelScope) -> None:
        """Say again and again that the owner lives; end all that it does when another one has taken over."""
        while True:
            await sleep(BEAT)
            if not await self._claims() and not self._lease.is_held:
                scope.cancel()

    async def _tenures_beside(self, stopping: Latch) -> None:
        """Archive, and store in the sink beside, if there is one, until both have ended."""
        async with create_task_group() as both:
            if self._means.beside is not None:
                both.start_soon(self._means.beside.run, stopping)
            await self._tenures(stopping)

    async def _tenures(self, stopping: Latch) -> None:
        attempt, went_back, curve = 0, 0, exponential(_FIRST, _CAP)
        while not stopping.is_set():
            records = 0
            try:
                attached = await self._attaching.attach()
                records = await self._tenure(attached, stopping)
                went_back = 0
            except _PASSING as exc:
                self._wait(str(exc))
            except StreamWentBack:  # a leader that nobody follows any more may have said so
                went_back += 1
                if went_back == _LOOKS:
                    raise
            attempt = 0 if records else attempt + 1
            await _until(stopping, curve(max(1, attempt)))

    async def _tenure(self, attached: Attached, stopping: Latch) -> int:
        """Return how many records a tenure has created."""
        tenure = self.tenure = Tenure(self._means, attached, self._gets)
        self.is_reading = True
        try:
            doubt = await tenure.run(stopping)
            self._said = ""
            if doubt is not None:
                self._means.tell(Doubted(doubt, tenure.deliveries.held))
        finally:
            self.is_reading = False
            with move_on_after(_CLOSING, shield=True):
                await attached.source.close(give_back=stopping.is_set() and tenure.deliveries.held > 0)
        return tenure.records

    def _wait(self, why: str, *, owned: bool = False) -> None:
        """Tell once why nothing is archived."""
        if why != self._said:
            self._said = why
            self._means.tell(Waiting(why, owned))


async def _until(event: Latch, seconds: float) -> None:
    """Wait for an event, or so many seconds."""
    with move_on_after(seconds):
        await event.wait()
