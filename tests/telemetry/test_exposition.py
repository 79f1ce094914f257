"""Tables of series, and their text as Prometheus's own parser reads it."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from collector.telemetry.exposition import Family, Histogram, Numbers, text_of

NAMESPACE = "beta"


def numbers(*labels: str, children: tuple[tuple[str, ...], ...] = ((),)) -> Numbers:
    return Numbers(Family("gauge", "size", "What it is", NAMESPACE, labels), children)


def samples(*families: Numbers | Histogram) -> dict[tuple[str, ...], float]:
    """Return values by name and the labels' values."""
    return {
        (sample.name, *[value for name, value in sample.labels.items() if name != "log_namespace"]): sample.value
        for family in text_string_to_metric_families(text_of(families).decode())
        for sample in family.samples
    }


def test_a_family_says_what_it_is_and_every_sample_whose() -> None:
    found = numbers("logger")
    found.start("a")
    found.set(2.5, "a")
    assert text_of([found]).decode() == (
        '# HELP size What it is\n# TYPE size gauge\nsize{log_namespace="beta",logger="a"} 2.5\n'
    )


def test_all_children_of_a_logger_start_at_0_and_go_together() -> None:
    found = numbers("logger", "reason", children=(("x",), ("y",)))
    for logger in ("a", "b"):
        found.start(logger)
    found.add(3, "a", "x")
    found.start("a")
    assert samples(found) == {
        ("size", "a", "x"): 3,
        ("size", "a", "y"): 0,
        ("size", "b", "x"): 0,
        ("size", "b", "y"): 0,
    }
    found.forget("a")
    assert samples(found) == {("size", "b", "x"): 0, ("size", "b", "y"): 0}


def test_what_is_said_of_a_child_that_is_gone_makes_no_new_one() -> None:
    found = numbers("logger")
    found.start("a")
    found.forget("a")
    found.add(1, "a")
    found.set(1, "a")
    assert samples(found) == {}


def test_the_values_of_labels_are_escaped() -> None:
    found, hostile = numbers("logger"), 'a"b\\c\nd'
    found.start(hostile)
    assert samples(found) == {("size", hostile): 0}


def test_very_large_and_very_small_values_are_read_as_they_were_set() -> None:
    found = numbers("logger")
    for value in (1e22, 1.8e9, 1e-9, True):
        found.start(str(value))
        found.set(value, str(value))
    assert set(samples(found).values()) == {1e22, 1.8e9, 1e-9, 1.0}


def test_a_histogram_counts_a_value_in_every_bucket_whose_bound_is_not_below_it() -> None:
    found = Histogram(Family("histogram", "size", "What it is", NAMESPACE, ("logger",)), (0.5, 1, 2_000_000))
    found.start("a")
    for value in (0.5, 0.7, 3_000_000):
        found.observe(value, "a")
    found.observe(1, "gone")
    assert samples(found) == {
        ("size_bucket", "a", "0.5"): 1,
        ("size_bucket", "a", "1.0"): 2,
        ("size_bucket", "a", "2e+06"): 2,
        ("size_bucket", "a", "+Inf"): 3,
        ("size_count", "a"): 3,
        ("size_sum", "a"): 3_000_001.2,
    }
    found.forget("a")
    assert samples(found) == {}
