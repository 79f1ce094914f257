"""The progress of the demo: a line for each step, and on a terminal a moving line below them."""

from __future__ import annotations

import shutil
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

_WIDTH = 80
_CLEAR = "\r\x1b[K"


class Step:
    """One step of the demo; its result is added to its text."""

    def __init__(self, text: str) -> None:
        self.text = text

    def add(self, text: str) -> None:
        """Add to the text of the step."""
        self.text += text


class Display:
    """Writes the progress to a terminal or a pipe."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._done, self._failed, self._working = _marks(stream)
        self._counts = ""
        self.doing = ""

    @contextmanager
    def stage(self, text: str) -> Iterator[Step]:
        """Show a step while the block lasts; afterwards a line stays with its result and duration."""
        stage, started = Step(text), time.monotonic()
        self.doing = text
        self._draw()
        mark = click.style(self._failed, fg="red")
        try:
            yield stage
            mark, self.doing = click.style(self._done, fg="green"), ""
        finally:
            seconds = f"{time.monotonic() - started:.1f} s"
            width = self._width - len(self._done) - len(seconds) - 2
            self.write(f"{mark} {stage.text:<{width}} {seconds}")

    def count(self, confirmed: int, arrived: int) -> None:
        """Show the numbers of confirmed and stored entries."""
        behind = max(0, confirmed - arrived)
        self._counts = f"{confirmed:,} confirmed, {confirmed - behind:,} stored, {behind:,} to go"
        self._draw()

    def write(self, text: str = "") -> None:
        """Write lines that stay."""
        click.echo(f"{_CLEAR if self._live else ''}{text}", file=self._stream)

    @property
    def _width(self) -> int:
        return min(_WIDTH, shutil.get_terminal_size((_WIDTH, 0)).columns) - 1 if self._live else _WIDTH

    def _draw(self) -> None:
        """Write the moving line over the one before; the counts stand at its end, as far as there is room."""
        if self._live:
            room = max(0, self._width - len(self._counts) - 1)
            text = f"{self._working} {self.doing}"
            text = text if len(text) <= room else f"{text[: room - 1]}{self._working}"
            line = f"{text:<{room}} {self._counts}"[: self._width]
            click.echo(_CLEAR + click.style(line, dim=True), file=self._stream, nl=False)


def _marks(stream: TextIO) -> tuple[str, str, str]:
    marks = ("✓", "✗", "…")
    try:
        "".join(marks).encode(stream.encoding or "ascii")
    except UnicodeEncodeError:
        return "+", "x", "~"
    return marks
