"""Owners: writes this replica's sign of life, watches the claims on time-series loggers, and offers them to pipelines.

While the replica has no time-series logger, MongoDB is not asked.
"""

from __future__ import annotations

import math
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from anyio import CancelScope, Event, current_time, move_on_after, sleep

from collector.actors.waiting import first_of
from collector.errors import SinkUnavailable, StillOwned
from collector.events import Failed, Failure, OwnershipChange, OwnershipChanged, Report, Stage
from collector.runtime.latch import Latch
from collector.sinks.timeseries.ownership import CLAIM_TTL, Claim, Shares, claim_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from collector.decoding.identity import Incarnation
    from collector.sinks.timeseries.claims import Claims, Fenced
    from collector.sinks.timeseries.ownership import Board, Tenure

_LOOK = 0.1
_PERIOD = 1.0
"""Seconds between two looks at the claims, each of which is a sign of life."""
_TOUCH_PERIOD = 300.0


class Candidacy:
    """One logger's candidacy of this replica: standing by, or owning."""

    def __init__(
        self,
        logger: str,
        claim: str,
        claims: Claims,
        report: Report,
        left: Callable[[Tenure], object],
        *,
        may_take: Callable[[], bool] = lambda: True,
        stays: bool = False,
    ) -> None:
        self.claim = claim
        self.stays = stays
        """Whether no other replica is a candidate: then the claim is not handed over for the sake of equal shares."""
        self.logger = logger
        self.offered = Latch()
        """Set when the claim may be taken."""
        self.handing_over = Latch()
        """Set when the owner has to drain and give the claim back."""
        self.lost = Latch()
        """Set when another replica has taken the claim."""
        self.seen = Claim(None, 0)
        self.fenced: Fenced | None = None
        self.changing = False
        """Whether the claim is just being taken or given back."""
        self.registered = False
        self.missing_since: float | None = None
        """Since when the document of the claim is missing although it was registered."""
        self._claims = claims
        self._report = report
        self._left = left
        """Called with a tenure that could not be given back."""
        self._may_take = may_take

    @property
    def holds(self) -> bool:
        """Whether this replica owns the logger, or is just about to."""
        return self.changing or self.fenced is not None

    async def own(self, stopping: Event) -> Fenced | None:
        """Stand by until this replica is the owner and every earlier one is fenced off; None when asked to stop."""
        while not stopping.is_set():
            await first_of(stopping, self.offered)
            self.offered = Latch()
            if stopping.is_set():
                break
            if not self._may_take():
                continue
            with CancelScope(shield=True), self._in_change():  # drivers are never cut; each call has its own deadline
                self.fenced = await self._take()
            if self.fenced is not None:
                self.lost, self.handing_over = Latch(), Latch()
                self._report(OwnershipChanged(self.logger, OwnershipChange.TAKEN, self.fenced.tenure.epoch))
                return self.fenced
        return None

    async def give_back(self, *, lost: bool) -> None:
        """End the ownership: let another replica take the claim now, unless one has taken it already.

        When MongoDB does not answer, the claim stays this replica's for all others, until it is given back later.
        """
        fenced, self.fenced = self.fenced, None
        if fenced is None:
            return
        change = OwnershipChange.LOST if lost else OwnershipChange.GIVEN_BACK
        self._report(OwnershipChanged(self.logger, change, fenced.tenure.epoch))
        with CancelScope(shield=True), self._in_change():
            await fenced.close()
            if not lost:
                try:
                    await self._claims.give_back(fenced.tenure)
                except SinkUnavailable as exc:
                    self._left(fenced.tenure)
                    self._fail(exc, "giving the claim back later")

    @contextmanager
    def _in_change(self) -> Iterator[None]:
        self.changing = True
        try:
            yield
        finally:
            self.changing = False

    async def _take(self) -> Fenced | None:
        try:
            return await self._claims.take(self.claim, self.seen)
        except SinkUnavailable as exc:
            self._fail(exc, "taking the claim again")
            return None

    def _fail(self, exc: SinkUnavailable, action: str) -> None:
        self._report(Failed(self.logger, Stage.CONTROL, Failure.UNAVAILABLE, str(exc), action))


class Owners:
    """Keeps this replica's candidacies, and takes and hands over claims so that all replicas own about as many."""

    name = "owners"

    def __init__(self, claims: Claims, report: Report, patience: float) -> None:
        """`patience` is the number of seconds after which `pausing` gives up on claims that are still held."""
        self._claims = claims
        self._report = report
        self._patience = patience
        self._shares = Shares(claims.me)
        self._candidacies: dict[str, Candidacy] = {}
        self._left: dict[str, Tenure] = {}
        """The last tenure of each claim that has ended here and could not be given back."""
        self._changed = Event()
        self._touched = -math.inf
        self._pausing = False

    @contextmanager
    def candidacy(self, logger: str, incarnation: Incarnation, *, stays: bool = False) -> Iterator[Candidacy]:
        """Be a candidate for a logger while the block lasts. One that `stays` has no other candidate."""
        claim = claim_id(incarnation)
        candidacy = Candidacy(
            logger,
            claim,
            self._claims,
            self._report,
            self._leave_over,
            may_take=lambda: not self._pausing,
            stays=stays,
        )
        self._candidacies[claim] = candidacy
        self._changed.set()
        try:
            yield candidacy
        finally:
            del self._candidacies[claim]

    def _leave_over(self, tenure: Tenure) -> None:
        self._left[tenure.claim] = tenure
        self._changed.set()

    @asynccontextmanager
    async def pausing(self) -> AsyncIterator[None]:
        """Own no logger while the block lasts: owned ones are drained and given back first, and no claim is taken.

        Raises StillOwned, before the block, when claims are not given back in time.
        """
        self._pausing = True
        try:
            with move_on_after(self._patience):
                while self._hand_over_all():  # noqa: ASYNC110 - claims that are taken meanwhile are handed over too
                    await sleep(_LOOK)
            if held := self._hand_over_all():
                raise StillOwned(held, self._patience)
            yield
        finally:
            self._pausing = False

    def _hand_over_all(self) -> list[str]:
        """Ask for all claims back; return the loggers whose claims are still held."""
        held = [one for one in self._candidacies.values() if one.holds]
        for one in held:
            one.handing_over.set()
        return [one.logger for one in held]

    async def run(self, stopping: Event) -> None:
        """Watch the claims until asked to stop. The pipelines have to end before."""
        announced = False
        while not stopping.is_set():
            self._changed = Event()
            if self._candidacies or self._left:
                announced = True
                await self._step()
            with move_on_after(_PERIOD if announced else None):
                await first_of(stopping, self._changed)
        if announced:
            await self._leave()

    async def _step(self) -> None:
        """Read and decide about the claims once; when MongoDB does not answer, it is asked again in a second."""
        try:
            with CancelScope(shield=True):
                await self._claims.announce(len(self._candidacies))
                await self._give_back_left()
                await self._register()
                board = await self._claims.board(list(self._candidacies))
                await self._restore(board)
                await self._touch()
        except SinkUnavailable as exc:
            self._report(Failed("", Stage.CONTROL, Failure.UNAVAILABLE, str(exc), "looking at the claims again"))
        else:
            self._apply(board)

    async def _give_back_left(self) -> None:
        """Give back the claims that could not be given back before; one that was taken since is left as it is."""
        for claim, tenure in list(self._left.items()):
            try:
                await self._claims.give_back(tenure)
            except SinkUnavailable as exc:  # the board is read all the same
                self._report(Failed("", Stage.CONTROL, Failure.UNAVAILABLE, str(exc), "giving the claim back later"))
                return
            if self._left.get(claim) is tenure:  # another tenure may have ended meanwhile
                del self._left[claim]

    async def _register(self) -> None:
        new = [candidacy for candidacy in self._candidacies.values() if not candidacy.registered]
        if new:
            await self._claims.register({candidacy.claim: candidacy.logger for candidacy in new})
            for candidacy in new:
                candidacy.registered = True

    async def _restore(self, board: Board) -> None:
        """Make documents of claims again that somebody has removed: an owned one as it was, else a new one."""
        now = current_time()
        for candidacy in list(self._candidacies.values()):
            if candidacy.claim in board.claims or not candidacy.registered:
                candidacy.missing_since = None
            elif candidacy.fenced is not None:
                self._report_removed(candidacy)
                await self._claims.restore(candidacy.logger, candidacy.fenced)
            elif candidacy.missing_since is None:
                candidacy.missing_since = now
            elif now - candidacy.missing_since >= CLAIM_TTL:
                self._report_removed(candidacy)
                candidacy.registered = False

    def _report_removed(self, candidacy: Candidacy) -> None:
        error = f"somebody has removed the document of claim {candidacy.claim}"
        self._report(Failed(candidacy.logger, Stage.CONTROL, Failure.CLAIM_REMOVED, error, "making it again"))

    async def _touch(self) -> None:
        if current_time() - self._touched > _TOUCH_PERIOD:
            await self._claims.touch(one.fenced for one in self._candidacies.values() if one.fenced is not None)
            self._touched = current_time()

    def _apply(self, board: Board) -> None:
        known = {claim: one for claim, one in self._candidacies.items() if claim in board.claims}
        owning = {claim: one.fenced.tenure.epoch for claim, one in known.items() if one.fenced is not None}
        staying = {claim for claim, one in known.items() if one.stays}
        decision = self._shares.decide(board, known.keys() - owning, owning, current_time(), staying)
        for claim in () if self._pausing else decision.take:
            known[claim].seen = board.claims[claim]
            known[claim].offered.set()
        for claim in decision.hand_over:
            known[claim].handing_over.set()
        for claim in decision.lost:
            known[claim].lost.set()

    async def _leave(self) -> None:
        with CancelScope(shield=True):
            try:
                await self._claims.leave()
            except SinkUnavailable as exc:
                self._report(Failed("", Stage.CONTROL, Failure.UNAVAILABLE, str(exc), "leaving claims to expire"))
