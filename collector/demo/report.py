"""The result of the demo: the table, the dead letters and the verdict, for people or as JSON. Pure."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from collector.demo.ledger import Bad, Letter, Row, total

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_NUMBERS = ("confirmed", "stored", "dead_lettered", "archived", "missing", "duplicated")


@dataclass(frozen=True, slots=True)
class Report:
    """The outcomes of all confirmed entries."""

    rows: Sequence[Row]
    bad: Sequence[tuple[str, Bad, Letter | None]]
    seconds: float
    log_ends: str
    """The ends of the replicas' logs, shown when something is wrong."""

    @property
    def good(self) -> bool:
        """Whether no entry is missing or twice, and exactly the bad entries are dead letters."""
        return bool(self.rows) and all(row.right for row in self.rows)

    @property
    def verdict(self) -> str:
        """The result in one sentence."""
        whole = total(self.rows)
        if self.good:
            stored, letters = f"{whole.stored:,} entries stored", f"{whole.dead_lettered} dead-lettered"
            letters += f", {whole.archived:,} archived"
            return f"Nothing lost, nothing twice: {stored}, {letters}, in {self.seconds:.0f} s."
        wrong = (
            f"{whole.missing:,} missing, {whole.duplicated:,} too many, {whole.misplaced:,} where they do not belong"
        )
        return f"Promise broken: of {whole.confirmed:,} confirmed entries {wrong}."

    def lines(self) -> Iterator[str]:
        """Yield the lines of the table, the dead letters and the verdict."""
        rows = [*self.rows, total(self.rows)]
        width = max(len(row.logger) for row in rows)
        heads = [name.replace("_", "-") for name in _NUMBERS]
        yield "  ".join([f"{'logger':<{width}}", *(f"{head:>{_column(head)}}" for head in heads)])
        for row in rows:
            numbers = [getattr(row, name) for name in _NUMBERS]
            shown = ["-" if number is None else f"{number:,}" for number in numbers]
            cells = [f"{number:>{_column(head)}}" for number, head in zip(shown, heads, strict=True)]
            if row is rows[-1]:
                yield "-" * (width + sum(2 + _column(head) for head in heads))
            yield "  ".join([f"{row.logger:<{width}}", *cells])
        yield ""
        yield "Dead letters keep the original bytes, and why they could not be stored:"
        for _, bad, letter in self.bad:
            yield f"  {bad.what}"
            yield f"    {letter.reason}: {letter.error}" if letter else f"    expected {bad.reason}, got no dead letter"
        yield ""
        if not self.good:
            yield self.log_ends
            yield ""
        yield self.verdict

    def json(self) -> str:
        """Return the result as JSON."""
        letters = [
            {
                "logger": key,
                "what": bad.what,
                "expected": bad.reason.value,
                "reason": letter and letter.reason,
                "error": letter and letter.error,
            }
            for key, bad, letter in self.bad
        ]
        verdict = {"good": self.good, "verdict": self.verdict, "seconds": round(self.seconds, 1)}
        rows = {"loggers": [asdict(row) for row in self.rows], "total": asdict(total(self.rows))}
        return json.dumps({**verdict, **rows, "dead_letters": letters}, indent=2)


def _column(head: str) -> int:
    return max(9, len(head))
