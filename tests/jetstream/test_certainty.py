"""When it is certain that an answer reaches the stream that its message came from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.jetstream.certainty import UNWATCHED, Certainty

if TYPE_CHECKING:
    from collections.abc import Callable


class Scene:
    """One logger's certainty, and the connection and the clock that it looks at."""

    def __init__(self) -> None:
        self.life, self.now = 1, 1000.0
        self.certainty = Certainty(lambda: self.life, lambda: self.now)

    def connect_again(self) -> None:
        self.life += 1

    def wait(self, seconds: float = 1.1 * UNWATCHED) -> None:
        self.now += seconds

    def look(self) -> None:
        self.certainty.begin_check()

    def found(self) -> None:
        self.certainty.end_check()

    def doubt(self) -> None:
        self.certainty.doubt()

    def hear(self) -> None:
        self.certainty.watched()

    def ask(self) -> None:
        self.certainty.gap()

    @property
    def sure(self) -> tuple[bool, bool, bool]:
        """Of what has come; of answers, and of answers while a request is outstanding."""
        certainty = self.certainty
        return certainty.of_deliveries, certainty.of_answers(watched=False), certainty.of_answers(watched=True)


STEPS: list[Callable[[Scene], None]] = [
    Scene.connect_again,
    Scene.wait,
    Scene.look,
    Scene.found,
    Scene.doubt,
    Scene.hear,
    Scene.ask,
]


@pytest.mark.parametrize(
    ("steps", "sure"),
    [
        ("", (False, False, False)),
        ("look", (False, False, False)),
        ("look found", (True, True, True)),
        ("look connect_again found", (False, False, False)),
        ("look doubt found", (False, False, False)),
        ("look ask found", (False, True, True)),
        ("look found connect_again", (False, False, False)),
        ("look found connect_again look found", (True, True, True)),
        ("look found doubt", (False, False, False)),
        ("look found ask", (False, True, True)),
        ("look found wait", (True, False, True)),
        ("look found wait hear", (True, True, True)),
        ("look found wait ask", (False, False, False)),
        ("look found wait hear ask", (False, True, True)),
        ("look found wait look found", (True, True, True)),
        ("look wait found", (True, True, True)),
    ],
)
def test_what_makes_uncertain_and_certain_again(steps: str, sure: tuple[bool, bool, bool]) -> None:
    scene = Scene()
    for step in steps.split():
        getattr(scene, step)()
    assert scene.sure == sure


@given(st.lists(st.sampled_from(STEPS), max_size=30), st.sampled_from([Scene.connect_again, Scene.doubt]))
def test_whatever_was_before_a_new_connection_and_a_doubt_end_every_certainty_until_the_next_look(
    steps: list[Callable[[Scene], None]], end: Callable[[Scene], None]
) -> None:
    scene = Scene()
    for step in steps:
        step(scene)
    end(scene)
    assert scene.sure == (False, False, False)
    for step in steps:
        if step is not Scene.look:
            step(scene)
    assert scene.sure == (False, False, False), "nothing but a look that began afterwards helps"
    scene.look()
    scene.found()
    assert scene.sure == (True, True, True)
