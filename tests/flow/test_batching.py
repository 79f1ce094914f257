"""When a batch is full, what is in hand, and what JetStream is told: the pure parts of a pipeline."""

from __future__ import annotations

import gc

from hypothesis import given
from hypothesis import strategies as st

from collector.flow.batching import BatchPolicy, OpenBatch
from collector.flow.in_hand import MESSAGE, InHand
from collector.flow.settlement import ACK, settle
from collector.model import Decoded, Delivery, Entry, Reason, Rejected, Trigger
from tests.support.fakes import decoded, delivery, entry, reject, unopened

# batches


@given(
    sizes=st.lists(st.tuples(st.integers(1, 12), st.integers(0, 50)), max_size=60),
    entries=st.integers(1, 30),
    max_bytes=st.integers(1, 200),
)
def test_batches_keep_every_delivery_whole_once_and_in_order(
    sizes: list[tuple[int, int]], entries: int, max_bytes: int
) -> None:
    open_batches = [OpenBatch(1, policy := BatchPolicy(entries, max_bytes))]
    came = [decoded(sequence, count, b"x" * size) for sequence, (count, size) in enumerate(sizes, 1)]
    for one in came:
        if open_batches[-1].full:
            open_batches.append(OpenBatch(open_batches[-1].id + 1, policy))
        open_batches[-1].add(one)
    batches = [open_batch.take() for open_batch in open_batches if open_batch]

    assert [one for batch in batches for one in batch.deliveries] == [one.deliveries[0] for one in came]
    assert [one for batch in batches for one in batch.entries] == [entry for one in came for entry in one.entries]
    assert [batch.id for batch in batches] == list(range(1, len(batches) + 1))
    for batch in batches:
        assert batch.bytes == sum(one.size for one in batch.deliveries)
        last = len([one for one in batch.entries if one.delivery == batch.deliveries[-1]])
        assert len(batch.entries) - last < entries
        assert batch.bytes - batch.deliveries[-1].size < max_bytes
        if batch.trigger is Trigger.ENTRIES:
            assert len(batch.entries) >= entries
        elif batch.trigger is Trigger.BYTES:
            assert batch.bytes >= max_bytes


def test_rejects_fill_a_batch_as_entries_do() -> None:
    open_batch = OpenBatch(1, BatchPolicy(2, 1000))
    open_batch.add(unopened(delivery(1)))
    assert open_batch.room == 1
    open_batch.add(unopened(delivery(2)))
    assert open_batch.full is Trigger.ENTRIES
    assert [one.delivery.sequence for one in open_batch.take().rejects] == [1, 2]


def test_a_draft_that_was_offered_and_is_full_by_the_time_it_is_taken_left_because_it_was_full() -> None:
    open_batch = OpenBatch(1, BatchPolicy(2, 1000))
    open_batch.add(decoded(1))
    open_batch.offered = Trigger.AGE
    open_batch.add(decoded(2))
    assert open_batch.take().trigger is Trigger.ENTRIES


def test_a_draft_that_was_taken_holds_nothing() -> None:
    """A logger that nothing comes from any more would keep its last batch in memory."""
    open_batch = OpenBatch(1, BatchPolicy(2, 1000))
    open_batch.add(decoded(1))
    batch = open_batch.take()
    assert (len(batch.entries), open_batch.taken, bool(open_batch)) == (1, True, False)
    assert gc.get_referrers(batch.entries) == [batch]


@given(st.integers(1, 300), st.integers(0, 10_000), st.integers(0, 10_000), st.integers(1, 300))
def test_whatever_is_taken_apart_has_the_size_and_weight_that_it_had_together(
    count: int, size: int, weight: int, cut: int
) -> None:
    """What an account seems to use for ever keeps out every message that is let in only while it uses nothing."""
    several = [decoded(number) for number in range(count)]
    whole = Decoded([one.deliveries[0] for one in several], [one.entries[0] for one in several], [], size, weight)
    first, rest = whole.cut(cut)
    for parts in (whole.singly(), [first] if rest is None else [first, *rest.singly()]):
        assert [delivery for part in parts for delivery in part.deliveries] == whole.deliveries
        assert [entry for part in parts for entry in part.entries] == whole.entries
        assert (sum(part.size for part in parts), sum(part.weight for part in parts)) == (size, weight)


# in hand


def test_each_hand_over_of_a_message_is_in_hand_on_its_own() -> None:
    first, again = delivery(1, b"abc"), delivery(1, b"abc", delivered=2)
    in_hand = InHand()
    in_hand.take([first, again])
    assert (len(in_hand), in_hand.bytes) == (2, 6 + 2 * MESSAGE)
    in_hand.release([first])
    assert in_hand.all() == [again]


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 8))))
def test_what_is_in_hand_is_what_was_taken_and_not_released(steps: list[tuple[bool, int]]) -> None:
    in_hand, model = InHand(), dict[int, Delivery]()
    for taken, sequence in steps:
        one = delivery(sequence, b"x" * sequence)
        if taken:
            in_hand.take([one])
            model.setdefault(sequence, one)
        else:
            in_hand.release([one])
            model.pop(sequence, None)
        assert (in_hand.all(), in_hand.bytes) == (list(model.values()), sum(model) + len(model) * MESSAGE)


def test_what_was_disowned_may_not_be_answered_and_is_in_hand_to_be_given_back() -> None:
    old, new = delivery(1, b"old"), delivery(2, b"new")
    in_hand = InHand()
    in_hand.take([old])
    answers = [(old.reply, ACK), (new.reply, ACK)]
    assert in_hand.owned(answers) == answers
    in_hand.disown()
    in_hand.take([new])
    assert in_hand.owned(answers) == [(new.reply, ACK)]
    assert (in_hand.all(), in_hand.bytes) == ([old, new], 6 + 2 * MESSAGE)


def test_what_was_disowned_and_is_handed_over_again_under_the_same_reply_may_be_answered() -> None:
    """A durable made anew counts from 1: were nothing acked before, its replies are those of the old one."""
    one = delivery(1)
    in_hand = InHand()
    in_hand.take([one])
    in_hand.disown()
    assert in_hand.owned([(one.reply, ACK)]) == []
    in_hand.take([one])
    assert in_hand.owned([(one.reply, ACK)]) == [(one.reply, ACK)]


# settlement


@given(
    bundles=st.lists(st.lists(st.booleans(), min_size=0, max_size=4), max_size=8),
    reason=st.sampled_from(Reason),
)
def test_each_delivery_is_answered_once_and_terminated_only_if_nothing_of_it_is_stored(
    bundles: list[list[bool]], reason: Reason
) -> None:
    """A bundle is a list of entries, each of which is stored or not."""
    deliveries = [delivery(sequence) for sequence in range(1, len(bundles) + 1)]
    written: list[Entry] = []
    rejects: list[Rejected] = []
    for one, stored in zip(deliveries, bundles, strict=True):
        written += [entry(one, position) for position, well in enumerate(stored) if well]
        rejects += [reject(one, position, reason) for position, well in enumerate(stored) if not well]

    answers = settle(deliveries, written, rejects)

    assert [reply for reply, _ in answers] == [one.reply for one in deliveries]
    term = b"+TERM " + reason.value.encode()
    assert [answer for _, answer in answers] == [term if stored and not any(stored) else ACK for stored in bundles]
