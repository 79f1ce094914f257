"""The alarms of a replica: whoever is due in the same tick is woken in one turn of the event loop."""

from __future__ import annotations

from anyio import Event, current_time, fail_after

from collector.actors.alarms import Alarms


async def test_an_alarm_rings_soon_after_the_end_of_its_age() -> None:
    alarms, rang = Alarms(current_time), Event()
    begun = current_time()
    when = alarms.set(begun, 0.1, rang.set)
    assert begun + 0.1 <= when <= begun + 0.1 * 13 / 12
    with fail_after(10):
        await rang.wait()
    assert current_time() >= when - 0.002


async def test_those_of_one_tick_ring_in_one_turn() -> None:
    alarms, rung, all_rang = Alarms(current_time), list[int](), Event()

    def ring() -> None:
        rung.append(len(rung))
        if len(rung) == 50:
            all_rang.set()

    begun = current_time() // 1 + 0.001  # in the beginning of a tick
    due = [alarms.set(begun + 2 + number / 10_000, 0.32, ring) for number in range(50)]
    assert len(set(due)) == 1
    with fail_after(10):
        await all_rang.wait()
    assert len(rung) == 50


async def test_a_hundred_loggers_with_an_age_of_about_a_second_ring_in_few_turns() -> None:
    """Each replica has the same turns however few loggers it has: so they have to be few."""
    alarms, begun = Alarms(current_time), current_time()
    due = [alarms.set(begun + number / 100, 1 - number % 10 / 100, Event().set) for number in range(100)]
    assert len(set(due)) <= 20
