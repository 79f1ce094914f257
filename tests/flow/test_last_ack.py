"""The ack of the newest message of a logger that trickles leaves with the next answers: never lost, never too early."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio import run
from hypothesis import given
from hypothesis import strategies as st

from collector.events import Answered
from collector.flow.in_hand import InHand
from collector.flow.settlement import ACK
from collector.flow.settler import Settler
from tests.support.fakes import KEY, Reports, delivery, reject

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collector.flow.settlement import Answer


class Answering:
    """Takes answers while it is there."""

    def __init__(self) -> None:
        self.is_there = True
        self.sent: list[Answer] = []

    async def answer(self, answers: Sequence[Answer]) -> int:
        return self.answer_at_once(answers)

    def answer_at_once(self, answers: Sequence[Answer]) -> int:
        if not self.is_there:
            return len(answers)
        self.sent += answers
        return 0

    def wake(self) -> None:
        """Wake nobody."""

    @property
    def sequences(self) -> list[int]:
        return [int(reply.split(".")[5]) for reply, _ in self.sent]


class Scene:
    """A settler, and the counts that metrics make of its settlements and reports."""

    def __init__(self) -> None:
        self.in_hand, self.answering, self.reports = InHand(), Answering(), Reports()
        self.settler = Settler(KEY, self.in_hand, self.answering, self.reports)
        self.number = self.acknowledged = 0

    async def settle(self, messages: int = 1, *, keeps_last: bool = True) -> None:
        several = [delivery(self.number + number) for number in range(1, messages + 1)]
        self.number += messages
        self.in_hand.take(several)
        unanswered, owed = await self.settler.settle(several, keeps_last=keeps_last)
        self.acknowledged += messages - unanswered - owed

    @property
    def counted(self) -> int:
        return self.acknowledged + sum(event.messages for event in self.reports.of(Answered))


async def test_the_last_ack_leaves_with_the_next_answers_and_in_order() -> None:
    scene = Scene()
    await scene.settle(3)
    assert (scene.answering.sequences, scene.counted, len(scene.in_hand)) == ([1, 2], 2, 0)
    await scene.settle(2)
    assert (scene.answering.sequences, scene.counted) == ([1, 2, 3, 4], 4)
    await scene.settle(keeps_last=False)
    assert (scene.answering.sequences, scene.counted) == ([1, 2, 3, 4, 5, 6], 6)


async def test_the_ack_is_sent_when_no_message_comes() -> None:
    scene = Scene()
    await scene.settle(2)
    await scene.settler.answer_kept()
    await scene.settler.answer_kept()
    assert (scene.answering.sequences, scene.counted, len(scene.reports.of(Answered))) == ([1, 2], 2, 1)


async def test_a_message_of_a_dead_letter_is_answered_at_once() -> None:
    scene = Scene()
    scene.in_hand.take([of := delivery(1)])
    await scene.settler.settle([of], (), [reject(of)], keeps_last=True)
    assert scene.answering.sequences == [1]
    assert scene.answering.sent[0][1] != ACK


async def test_a_kept_ack_is_not_sent_into_another_stream_or_without_ownership() -> None:
    for forget in (InHand.disown, InHand.drop):
        scene = Scene()
        await scene.settle(2)
        forget(scene.in_hand)
        await scene.settler.answer_kept()
        await scene.settle(keeps_last=False)
        assert 2 not in scene.answering.sequences


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("settle"), st.integers(1, 3), st.booleans()),
        st.sampled_from([("missed",), ("check",), ("away",), ("back",)]),
    ),
    max_size=30,
)


@given(STEPS)
def test_whatever_happens_each_message_is_answered_once_and_counted_once(steps: list[tuple[object, ...]]) -> None:
    async def play() -> None:
        scene = Scene()
        for step, *more in [*steps, ("back",), ("missed",), ("check",)]:
            match step:
                case "settle":
                    await scene.settle(int(str(more[0])), keeps_last=bool(more[1]))
                case "missed":
                    await scene.settler.answer_kept()
                case "check":
                    await scene.settler.answer_owed()
                case _:
                    scene.answering.is_there = step == "back"
            assert scene.counted == len(scene.answering.sent)
        assert sorted(scene.answering.sequences) == list(range(1, scene.number + 1))

    run(play)
