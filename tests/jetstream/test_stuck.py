"""When messages are taken for stuck, and when their durable is made anew."""

from __future__ import annotations

import pytest

from collector.jetstream.stuck import AGAIN, LAPSE, SETTLED, SIGHTINGS, Sightings, Stuck, stuck_messages

SEEN = Stuck("made at 1", 7, 3)


@pytest.mark.parametrize(
    ("delivered_sequence", "ack_pending", "messages", "last_sequence", "stuck"),
    [
        (6, 0, 9, 10, 5),  # one of six was acked, four are to come, and the rest nobody works on
        (6, 5, 9, 10, 0),
        (6, 4, 9, 10, 1),
        (6, 0, 9, 15, 0),  # five were published meanwhile, and all delivered and acked at once: it hides
        (6, 0, 14, 15, 5),  # five were published meanwhile
        (10, 4, 9, 10, 5),
        (0, 0, 10, 10, 0),
        (0, 0, 0, 0, 0),
        (5, 1, 3, 10, 0),  # some were deleted
    ],
)
def test_messages_count_as_stuck_only_when_nothing_else_explains_them(
    delivered_sequence: int, ack_pending: int, messages: int, last_sequence: int, stuck: int
) -> None:
    found = stuck_messages(
        delivered_sequence=delivered_sequence, ack_pending=ack_pending, messages=messages, last_sequence=last_sequence
    )
    assert found == stuck


def seen(sightings: Sightings, *moments: float, what: Stuck = SEEN) -> list[float]:
    """Return the moments at which the durable is made anew."""
    return [moment for moment in moments if sightings.add("a", what, moment)]


def test_it_takes_several_sightings_of_the_same_over_some_seconds() -> None:
    assert seen(Sightings(), *range(20)) == [SETTLED]
    assert seen(Sightings(), *(number / 10 for number in range(SIGHTINGS))) == []


@pytest.mark.parametrize("pause", [LAPSE + 1, 3600.0])
def test_sightings_that_are_far_apart_are_no_row_however_many(pause: float) -> None:
    assert seen(Sightings(), *(number * pause for number in range(50))) == []


def test_a_reading_that_sees_nothing_ends_the_row() -> None:
    sightings = Sightings()
    for moment in range(0, 50, 2):
        assert seen(sightings, moment, moment + 1) == []
        sightings.over("a")
    assert seen(sightings, 50, 50 + SETTLED / 2, 50 + SETTLED) == [50 + SETTLED]


@pytest.mark.parametrize("other", [Stuck("made at 1", 8, 3), Stuck("made at 2", 7, 3)])
def test_another_oldest_message_or_another_durable_begins_anew(other: Stuck) -> None:
    sightings = Sightings()
    assert seen(sightings, 0, SETTLED - 1) == []
    assert seen(sightings, 10, what=other) == []
    assert seen(sightings, 11, 10 + SETTLED, what=other) == [10 + SETTLED]


def test_loggers_are_looked_at_one_by_one() -> None:
    sightings = Sightings()
    assert not any(sightings.add(key, SEEN, 100.0) for key in "abc")


def test_what_is_stuck_again_at_once_is_left_alone_for_a_while() -> None:
    sightings, again = Sightings(), Stuck("made at 2", SEEN.first_sequence, 3)
    assert seen(sightings, 0, 1, SETTLED) == [SETTLED]
    assert seen(sightings, *range(10, int(AGAIN)), what=again) == []
    assert seen(sightings, AGAIN + SETTLED, what=again) == [AGAIN + SETTLED]
