"""What is needed of durables, streams and the bucket: the tables, and the comparison with what is there."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transfer.difference import Remedy, with_remedy, without_risks
from transfer.jetstream.comparison import in_line
from transfer.jetstream.configurations import DurableConfig, DurableInfo, StreamConfig
from transfer.jetstream.durable_needs import ARCHIVED_ACK_WAIT, durable_needs
from transfer.jetstream.needs import compare_bucket, compare_durable, compare_stream, stream_needs, wanted_of
from transfer.names import Names

NAMES = Names("beta")
SECOND = 1_000_000_000
NEEDS = durable_needs()
MADE = {"max_waiting": 512} | wanted_of(NEEDS)
"""What nats-server says of a durable that was made as we make it."""
CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        "ack_wait": st.integers(1, 10_000 * SECOND),
        "max_deliver": st.integers(-1, 10),
        "backoff": st.lists(st.integers(1, SECOND), max_size=3),
        "max_ack_pending": st.integers(-1, 200_000),
        "filter_subject": st.sampled_from(["", "x"]),
        "filter_subjects": st.lists(st.sampled_from("xyz")),
        "headers_only": st.booleans(),
        "max_batch": st.integers(0, 10),
        "max_expires": st.integers(0, SECOND),
        "max_bytes": st.integers(0, 10),
        "inactive_threshold": st.integers(0, 100 * SECOND),
        "priority_policy": st.sampled_from(["none", "overflow", "pinned_client"]),
        "priority_groups": st.lists(st.sampled_from("AB")),
        "priority_timeout": st.integers(0, SECOND),
        "metadata": st.dictionaries(st.text(), st.text()),
        "something_new": st.integers(),
    },
)


def info(config: dict[str, object]) -> DurableInfo:
    return DurableInfo(stream_name="s", name="s", created="now", config=msgspec.convert(config, DurableConfig))


def test_what_is_made_is_as_needed() -> None:
    assert compare_durable(info(MADE), NAMES, "a", NEEDS) == ()
    assert compare_stream(StreamConfig(name="beta:logs:a", subjects=("beta.logs.a",)), NAMES, "a") == ()
    bucket = StreamConfig(subjects=("$KV.beta_logs.>",), retention="limits", discard="new", allow_direct=True)
    assert compare_bucket(bucket, NAMES) == ()


@given(CONFIGS)
def test_whatever_may_be_updated_is_as_needed_afterwards_and_nothing_else_is_touched(
    changes: dict[str, object],
) -> None:
    config = MADE | changes
    differences = compare_durable(info(config), NAMES, "a", NEEDS)
    assert {difference.remedy for difference in differences} <= {Remedy.UPDATE, Remedy.RISK}
    mended = in_line(config, differences)
    assert without_risks(compare_durable(info(mended), NAMES, "a", NEEDS)) == ()
    updated = {difference.field for difference in with_remedy(differences, Remedy.UPDATE)}
    assert {field: value for field, value in mended.items() if field not in updated} == {
        field: value for field, value in config.items() if field not in updated
    }


@given(st.floats(1, 3600), st.floats(1, 3600))
def test_two_who_want_different_ack_waits_come_to_rest(one: float, other: float) -> None:
    config, changes = MADE, 0
    for wanted in (one, other, one, other):
        needs = durable_needs(wanted)
        differences = without_risks(compare_durable(info(config), NAMES, "a", needs))
        changes += bool(differences)
        config = in_line(config, differences)
    assert changes <= 2
    assert info(config).ack_wait == pytest.approx(max(one, other, 30.0))


@pytest.mark.parametrize("need", [*NEEDS, *stream_needs("beta.logs.a")], ids=lambda need: f"{need.field}-{need.remedy}")
def test_each_row_says_why_and_whoever_has_to_act_is_told_how(need: object) -> None:
    assert need.why  # type: ignore[attr-defined]
    assert need.command or need.remedy is Remedy.UPDATE  # type: ignore[attr-defined]


def test_the_page_of_operations_names_every_row() -> None:
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    named = {"filter_subject": "filter_subject(s)", "filter_subjects": "filter_subject(s)", "pause_until": "paused"}
    for need in (*NEEDS, *stream_needs("beta.logs.a")):
        field = need.field.partition(".")[0]
        word = "priority groups" if field.startswith("priority") else named.get(field, f"`{field}`")
        assert word in page or f"{word.strip('`')}`" in page, need.field


@pytest.mark.parametrize(
    ("setting", "found", "changed_to"),
    [
        (30, ARCHIVED_ACK_WAIT, 30),
        (60, ARCHIVED_ACK_WAIT, 60),
        (3600, ARCHIVED_ACK_WAIT, 3600),
        (ARCHIVED_ACK_WAIT, 30, ARCHIVED_ACK_WAIT),
        (ARCHIVED_ACK_WAIT, ARCHIVED_ACK_WAIT, None),
        (30, 60, None),
    ],
)
def test_the_ack_wait_of_an_archived_logger_is_no_other_loggers(
    setting: float, found: float, changed_to: float | None
) -> None:
    durable = info({**MADE, "ack_wait": round(found * SECOND)})
    changes = with_remedy(compare_durable(durable, NAMES, "a", durable_needs(setting)), Remedy.UPDATE)
    assert [change.wanted for change in changes] == ([] if changed_to is None else [round(changed_to * SECOND)])
