"""Tables of series, and their text as Prometheus's own parser reads it."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from collector.telemetry.exposition import Family, Histogram, LoggerNumbers, Metric, Numbers, chunks_of, text_of

NAMESPACE = "beta"
FAMILY = Family("histogram", "seconds", "How long it took", "beta", ("logger",))


def numbers(*labels: str, children: tuple[tuple[str, ...], ...] = ((),)) -> Numbers:
    return Numbers(Family("gauge", "size", "What it is", NAMESPACE, labels), children)


def of_loggers(*labels: str, children: tuple[tuple[str, ...], ...] = ((),)) -> LoggerNumbers:
    return LoggerNumbers(Family("gauge", "size", "What it is", NAMESPACE, ("logger", *labels)), children)


def samples(*families: Metric) -> dict[tuple[str, ...], float]:
    """Return values by name and the labels' values."""
    return {
        (sample.name, *[value for name, value in sample.labels.items() if name != "log_namespace"]): sample.value
        for family in text_string_to_metric_families(text_of(families).decode())
        for sample in family.samples
    }


def test_a_family_says_what_it_is_and_every_sample_whose() -> None:
    found = of_loggers()
    found.start("a")
    found.set(2.5, "a")
    assert text_of([found]).decode() == (
        '# HELP size What it is\n# TYPE size gauge\nsize{log_namespace="beta",logger="a"} 2.5\n'
    )


def test_all_children_of_a_logger_start_at_0_and_go_together() -> None:
    found = of_loggers("reason", children=(("x",), ("y",)))
    for logger in ("a", "b"):
        found.start(logger)
    found.add(3, "a", "x")
    found.add(5, "a", "a label that is not in the list")
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
    found = of_loggers()
    found.start("a")
    found.forget("a")
    found.add(1, "a")
    found.set(1, "a")
    assert samples(found) == {}


def test_the_values_of_labels_are_escaped() -> None:
    found, hostile = of_loggers(), 'a"b\\c\nd%s'
    found.start(hostile)
    assert samples(found) == {("size", hostile): 0}
    found.set(7, hostile)
    assert samples(found) == {("size", hostile): 7}


def test_very_large_and_very_small_values_are_read_as_they_were_set() -> None:
    found = of_loggers()
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


def test_a_child_of_no_logger_counts_beside_those_of_loggers() -> None:
    found = of_loggers("actor", children=(("pipeline",),))
    found.start_one("", "registry")
    found.start("a")
    found.add(2, "", "registry")
    assert samples(found) == {("size", "", "registry"): 2, ("size", "a", "pipeline"): 0}


def test_a_plain_table_has_the_children_that_it_is_given() -> None:
    found = numbers("kind")
    found.replace({("file",): 3, ("memory",): 4})
    assert samples(found) == {("size", "file"): 3, ("size", "memory"): 4}


def test_loggers_without_a_number_share_one_row() -> None:
    """A row for each of 10,000 loggers in each of 30 families would take a hundred MiB."""
    found, seconds = of_loggers("reason", children=(("x",), ("y",))), Histogram(FAMILY, (0.5, 1))
    for table in (found, seconds):
        for number in range(100):
            table.start(f"logger{number}")
        assert len({id(row) for row in table._rows.values()}) == 1
    found.add(0, "logger1", "x")
    found.add(1, "logger2", "x")
    seconds.observe(0.7, "logger3")
    for table in (found, seconds):
        assert len({id(row) for row in table._rows.values()}) == 2
    assert samples(found)["size", "logger2", "x"] == 1
    assert sum(samples(found).values()) == 1


def test_the_text_comes_in_pieces_that_do_not_grow_with_the_number_of_loggers() -> None:
    found = of_loggers()
    for number in range(10_000):
        found.start(f"logger{number}")
    chunks = list(chunks_of([found, found]))
    assert b"".join(chunks) == text_of([found, found])
    assert max(map(len, chunks)) < 70_000
    assert len(chunks) > 10
