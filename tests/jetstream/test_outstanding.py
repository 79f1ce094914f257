"""What is outstanding: exact while every request ends with a word of the server, and never negative."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from collector.jetstream.outstanding import Outstanding

# outstanding


@st.composite
def lives(draw: st.DrawFn) -> list[tuple[int, int, list[int]]]:
    """Draw requests: a batch, a size, and the sizes of the messages that come for each before it ends."""
    requests = []
    for _ in range(draw(st.integers(0, 6))):
        sizes = draw(st.lists(st.integers(1, 500), max_size=8))
        requests.append((len(sizes) + draw(st.integers(0, 5)), sum(sizes) + draw(st.integers(0, 500)), sizes))
    return requests


@given(requests=lives(), data=st.data())
def test_what_is_outstanding_is_exact_while_every_request_ends_with_a_word(
    requests: list[tuple[int, int, list[int]]], data: st.DataObject
) -> None:
    outstanding = Outstanding()
    for number, (batch, max_bytes, _) in enumerate(requests):
        outstanding.asked(str(number), batch, max_bytes)
    left = {str(number): (batch, size, list(sizes)) for number, (batch, size, sizes) in enumerate(requests)}
    while left:
        name = data.draw(st.sampled_from(sorted(left)))
        messages, max_bytes, sizes = left[name]
        if sizes:
            size = sizes.pop()
            outstanding.came(1, size)
            left[name] = (messages - 1, max_bytes - size, sizes)
        else:
            outstanding.ended(name, messages, max_bytes)
            del left[name]
        assert outstanding.messages == sum(one[0] for one in left.values())
        assert outstanding.bytes == sum(one[1] for one in left.values())
        assert set(outstanding.requests) == set(left)


WORDS = st.one_of(
    st.tuples(st.just("asked"), st.integers(0, 3), st.integers(1, 9), st.integers(1, 999)),
    st.tuples(st.just("came"), st.integers(0, 999)),
    st.tuples(st.just("ended"), st.integers(0, 3), st.integers(0, 20), st.integers(0, 2000)),
    st.tuples(st.just("ended_at_once"), st.integers(0, 3)),
    st.tuples(st.just("forget")),
)


@given(st.lists(WORDS))
def test_what_is_outstanding_is_never_negative_whatever_the_server_says(words: list[tuple[str | int, ...]]) -> None:
    outstanding = Outstanding()
    for number, (what, *numbers) in enumerate(words):
        name = f"{number}" if what == "asked" else str(numbers[0] if numbers else "")
        match what:
            case "asked":
                outstanding.asked(name, int(numbers[1]), int(numbers[2]))
            case "came":
                outstanding.came(1, int(numbers[0]))
            case "ended":
                outstanding.ended(name, int(numbers[1]), int(numbers[2]))
            case "ended_at_once":
                outstanding.ended_at_once(name)
            case _:
                outstanding.forget()
        assert outstanding.messages >= 0
        assert outstanding.bytes >= 0
        if not outstanding.requests:
            assert (outstanding.messages, outstanding.bytes) == (0, 0)
