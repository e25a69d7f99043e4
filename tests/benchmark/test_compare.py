"""A run against a stored one: what is beyond noise, in which direction, and what cannot be told."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench import cli, report
from bench.compare import Mark, compare, differences, table
from bench.figures import Row, Versus
from bench.report import Report
from hypothesis import given
from hypothesis import strategies as st

HERE = {"cpu": "one", "cores": 2, "system": "Linux"}
THERE = HERE | {"cpu": "another"}
RIVAL = (100.0, 101.0, 99.0, 100.0, 100.0)


def paired(samples: list[float], unit: str = "/s", ours: bool = True) -> Row:
    return Row("s", "f", "x", unit, tuple(samples), (Versus("nginx", RIVAL),), ours)


def own(samples: list[float], unit: str = "MB", system: str = "x") -> Row:
    return Row("s", "f", system, unit, tuple(samples))


def mark(then: Row, now: Row, machine: dict[str, object] | None = None) -> Mark:
    [change] = compare(Report(dict(HERE), {}, [then]), Report(machine or dict(HERE), {}, [now]))
    return change.mark


FIFTY, FORTY = [50.0, 50.5, 49.5, 50.2, 49.8], [40.0, 40.5, 39.5, 40.2, 39.8]
WIDE = [30.0, 60.0, 35.0, 55.0, 40.0]


@pytest.mark.parametrize(
    ("then", "now", "expected"),
    [
        (paired(FIFTY), paired(FORTY), Mark.WORSE),
        (paired(FORTY), paired(FIFTY), Mark.BETTER),
        (paired(FIFTY, "ms"), paired(FORTY, "ms"), Mark.BETTER),
        (paired(FORTY, "ms"), paired(FIFTY, "ms"), Mark.WORSE),
        (paired(FIFTY), paired(WIDE), Mark.SAME),
        (paired(FIFTY), paired([x * 0.97 for x in FIFTY]), Mark.SAME),
        (paired(FIFTY, ours=False), paired(FORTY, ours=False), Mark.NOT_OURS),
        (own([64.0, 64.0, 64.1]), own([80.0, 80.0, 80.1]), Mark.WORSE),
        (own([64.0]), own([80.0]), Mark.UNKNOWN),
        (own([0.0, 0.0, 0.1]), own([9.0, 9.0, 9.1]), Mark.WORSE),
    ],
)
def test_marks(then: Row, now: Row, expected: Mark) -> None:
    assert mark(then, now) is expected


def test_another_machine_is_compared_by_pairs_only() -> None:
    assert mark(own([64.0, 64.0, 64.1]), own([80.0, 80.0, 80.1]), THERE) is Mark.OTHER_MACHINE
    assert mark(paired(FIFTY), paired(FORTY), THERE) is Mark.WORSE


def test_a_faster_machine_changes_no_pairing() -> None:
    def twice(row: Row) -> Row:
        versus = Versus("nginx", tuple(2 * x for x in RIVAL))
        return Row(*row.key, row.unit, tuple(2 * x for x in row.samples), (versus,))

    assert mark(paired(FIFTY), twice(paired(FIFTY))) is Mark.SAME


def test_added_time_is_compared_as_a_difference() -> None:
    def added(samples: list[float]) -> Row:
        versus = Versus("upstream", (1.0, 1.0, 1.0), "added")
        return Row("s", "f", "x", "ms", tuple(samples), (versus,))

    assert mark(added([1.10, 1.11, 1.09]), added([1.30, 1.31, 1.29])) is Mark.WORSE
    # Less than nothing added is measured, too, now and then.
    assert mark(added([1.30, 1.31, 1.29]), added([0.99, 1.0, 0.98])) is Mark.BETTER


def test_rows_that_only_one_run_has_are_told() -> None:
    then, now = Report(HERE, {}, [own([1.0], system="a")]), Report(HERE, {}, [own([1.0])])
    assert [change.mark for change in compare(then, now)] == [Mark.NEW, Mark.GONE]
    assert "not measured now" in table(compare(then, now))


@given(st.lists(st.floats(1, 1e4), min_size=1, max_size=9))
def test_a_run_is_no_worse_than_itself(samples: list[float]) -> None:
    assert mark(own(samples), own(samples)) in (Mark.SAME, Mark.UNKNOWN)


@given(st.lists(st.floats(1, 1e4), min_size=2, max_size=9), st.lists(st.floats(1, 1e4), min_size=2))
def test_there_and_back_are_opposites(then: list[float], now: list[float]) -> None:
    there, back = mark(own(then), own(now)), mark(own(now), own(then))
    opposite = {Mark.WORSE: Mark.BETTER, Mark.BETTER: Mark.WORSE, Mark.SAME: Mark.SAME}
    assert back is opposite[there]


def test_what_differs_between_the_machines_is_said() -> None:
    assert list(differences(Report(HERE, {}), Report(THERE, {}))) == ["cpu: one then, another now"]


@pytest.mark.parametrize(
    ("samples", "code"), [(FORTY, cli.REGRESSION), (FIFTY, cli.OK), ([60.0] * 5, cli.OK)]
)
def test_the_exit_status_tells_of_a_regression(
    tmp_path: Path, samples: list[float], code: int
) -> None:
    files = [
        str(report.write(Report(dict(HERE), {}, [paired(values)]), tmp_path / name))
        for name, values in (("then", FIFTY), ("now", samples))
    ]
    assert cli.main(["compare", *files]) == code
