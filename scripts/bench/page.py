"""A page of results: tables and pictures, made from the JSON file of a run."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from bench.charts import Mark, Panel, bars, margins
from bench.figures import Row, Spread, number
from bench.processes import SCRIPTS
from bench.report import Report, judged, lines
from bench.targets import Target
from bench.verdicts import Outcome, Verdict, estimate_of

FOLDER = SCRIPTS.parent / "docs" / "benchmarks"
PAGE, RESULT, PICTURE_OF_TARGETS = "README.md", "results.json", "targets.svg"
Wanted = tuple[Row, Target, Verdict]
COLOURS = {Outcome.MET: "good", Outcome.NOT_MET: "bad", Outcome.TOO_NOISY: "unsure"}


def write(report: Report, folder: Path) -> Iterator[Path]:
    """Write page, pictures and the result they are of, which later runs are held against."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in render(report).items():
        path = folder / name
        path.write_text(text, encoding="utf-8")
        yield path


def render(report: Report) -> Mapping[str, str]:
    """PURE. Every file by its name."""
    suites = {suite: list(rows) for suite, rows in groupby(report.rows, key=lambda r: r.suite)}
    pictures = {f"{suite}.svg": bars(_panels(rows)) for suite, rows in suites.items()}
    wanted = [(row, target, verdict) for row in report.rows for target, verdict in judged(row)]
    if wanted:
        pictures[PICTURE_OF_TARGETS] = margins(_target_panels(wanted))
    data = json.dumps(report.as_dict(), indent=2) + "\n"
    return {PAGE: _page(report, suites, wanted), RESULT: data, **pictures}


def _page(
    report: Report,
    suites: Mapping[str, Sequence[Row]],
    wanted: Sequence[Wanted],
) -> str:
    parts = ["# Benchmark results", "", *_introduction(report)]
    if wanted:
        parts += ["## Targets", "", f"![margin to each target]({PICTURE_OF_TARGETS})", ""]
        parts += [*_targets(wanted), ""]
    for suite, rows in suites.items():
        parts += [f"## {suite}", "", f"![{suite}: every figure]({suite}.svg)", ""]
        parts += [*_table(rows), ""]
    if report.notes:
        parts += ["## Notes", "", *(f"- {note}" for note in report.notes), ""]
    return "\n".join(parts)


def _introduction(report: Report) -> Iterator[str]:
    machine = report.machine
    yield (
        f"Made by `python scripts/bench page` from the run of {report.date}; what is measured and "
        "how is in [benchmarks.md](../benchmarks.md). Whiskers go from the least to the greatest "
        "sample, intervals hold the true value with 95 % confidence."
    )
    yield ""
    yield (
        f"{machine.get('cpu')}, {machine.get('cores')} cores, {machine.get('memory_gib')} GiB, "
        f"{machine.get('system')}, {machine.get('python')}; "
        + ", ".join(f"{name} {v}" for name, v in _versions(machine))
        + f". Rounds: {report.options.get('rounds')} of {report.options.get('seconds')} s."
    )
    yield ""


def _versions(machine: Mapping[str, Mapping[str, str]]) -> Iterator[tuple[str, str]]:
    for kind in ("packages", "tools"):
        yield from machine.get(kind, {}).items()


def _targets(wanted: Sequence[Wanted]) -> Iterator[str]:
    yield "| figure | system | measured | target | |"
    yield "|---|---|---|---|---|"
    for row, target, verdict in wanted:
        text = (row.figure, row.system, _measured(row, target), target.text(row.unit), verdict.text)
        yield _markdown_line(text)


def _measured(row: Row, target: Target) -> str:
    versus = row.held_against(target.rival, target.kind)
    unit = f" {row.unit}" if row.unit else ""
    return versus.text(row.samples, unit) if versus else Spread.of(row.samples).text(unit)


def _table(rows: Sequence[Row]) -> Iterator[str]:
    yield "| figure | system | paired with (95 %) | median (min-max) |"
    yield "|---|---|---|---|"
    above = ("", "")
    for _, figure, system, compared, absolute, *_verdict in (c for r in rows for c in lines(r)):
        shown = ("" if figure == above[0] else figure, "" if (figure, system) == above else system)
        yield _markdown_line((*shown, compared, absolute))
        above = (figure, system)


def _markdown_line(cells: Sequence[str]) -> str:
    escaped = (cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells)
    return f"| {' | '.join(escaped)} |"


def _panels(rows: Sequence[Row]) -> list[Panel]:
    figures = groupby(rows, key=lambda row: row.figure)
    return [Panel(figure, [_bar(row) for row in of]) for figure, of in figures]


def _bar(row: Row) -> Mark:
    spread = Spread.of(row.samples)
    kind = "ours" if row.ours else "rival"
    shown = f"{number(spread.median)} {row.unit}"
    return Mark(row.system, spread.median, spread.low, spread.high, shown, kind)


def _target_panels(wanted: Sequence[Wanted]) -> list[Panel]:
    figures = groupby(wanted, key=lambda one: one[0].figure)
    return [Panel(figure, [_margin(*one) for one in of]) for figure, of in figures]


def _margin(row: Row, target: Target, verdict: Verdict) -> Mark:
    """How many times better than the limit; what is not above zero is as good as can be shown."""
    estimate = estimate_of(row, target)
    value, *ends = (_times_better(target, v) for v in (estimate.value, estimate.low, estimate.high))
    shown = f"{number(estimate.value)}, wanted {target.text(row.unit)}"
    return Mark(row.system, value, min(ends), max(ends), shown, COLOURS[verdict.outcome])


def _times_better(target: Target, value: float) -> float:
    if target.bound == ">=":
        return value / target.limit
    return target.limit / value if value > 0 else math.inf
