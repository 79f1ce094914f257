"""A child of a supervisor that does what a test says."""

from __future__ import annotations

import asyncio

from anyio import Event, lowlevel


class ScriptedChild:
    """An actor whose lives are played by the test: each run does what is next in `script`, the last one for ever."""

    def __init__(self, name: str, *script: str | Exception) -> None:
        self.name = name
        self.script = list(script) or ["run"]
        self.runs = 0
        self.running = 0
        self.drained = Event()
        self.drained.set()
        self.started = Event()

    async def run(self, stopping: Event) -> None:
        """Live."""
        self.runs += 1
        self.running += 1
        self.started.set()
        try:
            await self._live(stopping)
        finally:
            self.running -= 1

    async def _live(self, stopping: Event) -> None:
        play = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        match play:
            case "run":
                await stopping.wait()
                await self.drained.wait()
            case "return":
                return
            case "stray cancellation":
                raise asyncio.CancelledError
            case "cancels its own task":
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                await lowlevel.checkpoint()
            case Exception():
                raise play
