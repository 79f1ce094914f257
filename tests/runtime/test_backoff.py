"""How long is waited before the next try."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from collector.runtime.backoff import exponential


@given(attempt=st.integers(1, 20_000), initial=st.floats(0.01, 5), factor=st.floats(1, 100))
def test_a_wait_doubles_up_to_its_cap_with_a_little_at_random_on_top(
    attempt: int, initial: float, factor: float
) -> None:
    cap = initial * factor
    least = min(cap, initial * 2 ** min(attempt - 1, 64))
    assert least <= exponential(initial, cap)(attempt) <= least + initial / 4


def test_two_replicas_do_not_wait_equally_long_even_at_the_cap() -> None:
    curve = exponential(0.1, 2.0)
    assert len({curve(50) for _ in range(10)}) > 1
