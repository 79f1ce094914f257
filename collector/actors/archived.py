"""The pipeline of an archived logger: one replica owns it, archives its messages, and stores them beside the archive.

Nothing of the room `archive` is imported before a spec asks for it, and a missing package of the extra is a state.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from anyio import create_task_group, current_time, move_on_after

from collector.actors.patience import Patience
from collector.actors.sides import Sides
from collector.errors import WrongDestination
from collector.events.archiving import ArchiveSampled
from collector.runtime.latch import Latch, Listening

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from anyio import Event

    from collector.actors.moving import Shared
    from collector.actors.owned_archive import Common, OwnedArchive
    from collector.jetstream.source import Attached
    from collector.settings import Settings
    from transfer.wire import LoggerSpec

_ANEW_PAUSE = 0.2


class Archiving:
    """The part of a replica that all archived loggers share. Nothing is made before the first of them is opened."""

    def __init__(self, settings: Settings, needs: Callable[[str], AbstractContextManager[None]]) -> None:
        """Have the durable of a logger be that of an archived one while the block of `needs` lasts."""
        self.needs = needs
        self._settings = settings
        self._common: Common | None = None

    def common(self) -> Common:
        """Return the memory and the uploads that archived loggers share."""
        from collector.actors.owned_archive import Common  # noqa: PLC0415 - no other logger needs it

        if self._common is None:
            self._common = Common.of(self._settings, os.environ)
        return self._common


class ArchivedPipeline:
    """Archives one logger until it is asked to stop, and stores its entries in its other destination, if it has one.

    The stream still has all messages that are in hand at the end, and the next owner reads them again.
    """

    __slots__ = ("_archiving", "_key", "_patience", "_shared", "_sides", "_source", "_spec", "name")

    def __init__(self, spec: LoggerSpec, shared: Shared, archiving: Archiving) -> None:
        self.name = f"pipeline {spec.key}"
        self._key = spec.key
        self._spec = spec
        self._shared = shared
        self._source = shared.sources.of(spec.key)
        self._archiving = archiving
        self._sides = Sides(shared.report)
        self._patience = Patience(spec.key, self._sides.of("archive"), shared.turns)

    async def run(self, stopping: Event) -> None:
        """Archive one incarnation of the stream after the other, until asked to stop."""
        archive = self._spec.archive
        self._shared.report(ArchiveSampled(logger=self._key, is_owner=False, window=archive.window if archive else 0.0))
        with self._archiving.needs(self._key):
            while not stopping.is_set():
                await self._live(stopping)
                with move_on_after(_ANEW_PAUSE):
                    await stopping.wait()

    async def _live(self, stopping: Event) -> None:
        attached = await self._patience.until_done(self._source.attach, stopping)
        if attached is None:
            return
        archive = await self._patience.until_done(partial(self._opened, attached), stopping)
        if archive is None:
            return
        ending, group = Latch(), create_task_group()

        def end() -> None:
            group.cancel_scope.deadline = current_time() + self._shared.settings.drain_timeout
            ending.set()

        async with group, Listening((stopping,), end), Listening((archive.anew,), group.cancel_scope.cancel):
            await archive.run(ending)

    async def _opened(self, attached: Attached) -> OwnedArchive:
        """Open the archive. Raises WrongDestination when somebody has to change something, and SinkUnavailable."""
        try:
            from collector.actors.owned_archive import OwnedArchive  # noqa: PLC0415 - no other logger needs it

            return await OwnedArchive.opened(self._spec, self._shared, attached, self._sides, self._archiving.common())
        except ImportError as exc:
            raise WrongDestination(
                f"expected the extra archive to be installed, as {self._key} is archived, but {exc}:"
                " pip install 'transfer-collector[archive]'"
            ) from None
