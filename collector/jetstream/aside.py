"""Messages without a body that are no entries: each waits here for its answer, apart from the entries. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collector.flow.settlement import ACK, NAK
from collector.jetstream.messages import Bare, read_bare

if TYPE_CHECKING:
    from collector.flow.settlement import Answer
    from collector.model import Delivery

_CUT_TIMES = 3
"""How often a message is asked for again because it came without its body."""
_MOST_CUT = 10_000


class Aside:
    """The answers to cut messages, which are to be delivered again, and to markers, which are to be removed."""

    __slots__ = ("_cut", "answers")

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self._cut: dict[int, int] = {}
        """How often each message came without its body, by sequence."""

    def keep(self, delivery: Delivery) -> Bare:
        """Return the kind of a message, and keep the answer to one that is no entry.

        A publisher may send the header of a cut message itself. So a message that comes cut again and again, although
        the durable was checked in between, is an entry.
        """
        bare = read_bare(delivery.raw_headers)
        if bare is Bare.MARKER:
            self.answers.append((delivery.reply, ACK))
        elif bare is Bare.CUT:
            return self._keep_cut(delivery)
        return bare

    def _keep_cut(self, delivery: Delivery) -> Bare:
        times = self._cut.pop(delivery.sequence, 0) + 1
        if times > _CUT_TIMES:
            return Bare.ENTRY
        self._cut[delivery.sequence] = times
        if len(self._cut) > _MOST_CUT:
            del self._cut[next(iter(self._cut))]
        self.answers.append((delivery.reply, NAK))
        return Bare.CUT

    def take(self, *, certain: bool) -> list[Answer]:
        """Return the answers that may be sent, once. A second delivery is harmless; an ack has to be `certain`."""
        answers = self.answers
        self.answers = [] if certain else [one for one in answers if one[1] == ACK]
        return answers if certain else [one for one in answers if one[1] != ACK]
