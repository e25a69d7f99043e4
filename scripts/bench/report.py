"""What comes out: a table for people, a JSON file for comparisons over time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.figures import BenchError, Row, Spread, row_of
from bench.targets import Target, targets_of
from bench.verdicts import Outcome, Verdict, judge

HEADINGS = ("suite", "figure", "system", "paired with (95 %)", "median (min-max)", "target", "")
Cells = tuple[str, ...]


@dataclass
class Report:
    """Rows and remarks of one run, and the machine that it was made on."""

    machine: dict[str, Any]
    options: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    date: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values, verdicts included."""
        return {
            "date": self.date,
            "machine": self.machine,
            "options": self.options,
            "rows": [row.as_dict() | _verdicts(row) for row in self.rows],
            "notes": self.notes,
        }

    @property
    def is_conclusive(self) -> bool:
        """No row with a target is too noisy for a verdict."""
        return all(v.outcome is not Outcome.TOO_NOISY for r in self.rows for _, v in judged(r))


def judged(row: Row) -> Iterator[tuple[Target, Verdict]]:
    """What is wanted of a row, each with the verdict."""
    for target in targets_of(row):
        yield target, judge(row, target)


def _verdicts(row: Row) -> dict[str, Any]:
    found = [{"target": t.text(row.unit), "verdict": v.text} for t, v in judged(row)]
    return {"targets": found} if found else {}


def write(report: Report, folder: Path) -> Path:
    """Date the report and write its JSON file, named after the time."""
    now = datetime.now().astimezone()
    report.date = now.isoformat(timespec="seconds")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{now:%Y-%m-%d-%H%M%S}.json"
    path.write_text(json.dumps(report.as_dict(), indent=2) + "\n", encoding="utf-8")
    return path


def read(path: Path) -> Report:
    """The report that a run has written.

    Raises:
        BenchError: there is none.
    """
    try:
        return report_of(json.loads(path.read_text(encoding="utf-8")))
    except OSError as e:
        raise BenchError(f"{path}: {e.strerror or e}; name a file that a run has written") from e
    except (KeyError, TypeError, ValueError) as e:
        raise BenchError(f"{path} is no result of this benchmark ({e!r}); run it anew") from e


def report_of(data: Mapping[str, Any]) -> Report:
    """PURE. The report that ``as_dict`` made that of.

    Raises:
        KeyError, TypeError, ValueError: it made it not.
    """
    rows = [row_of(row) for row in data["rows"]]
    about = (dict(data["machine"]), dict(data["options"]))
    return Report(*about, rows, [str(note) for note in data["notes"]], str(data["date"]))


def table(rows: Sequence[Row]) -> str:
    """PURE. Aligned columns; what repeats from the line above is left out."""
    return aligned(HEADINGS, [line for row in rows for line in lines(row)])


def lines(row: Row) -> Iterator[Cells]:
    """PURE. A line for the row, and more where it is held against several or has several targets.

    How it compares comes before what it is: the latter says more about the machine.
    """
    unit = f" {row.unit}" if row.unit else ""
    verdicts = list(judged(row))
    compared = {(v.name, v.kind): v.text(row.samples, unit) for v in row.versus}
    absolute = Spread.of(row.samples).text(unit)
    wanted = {(t.rival, t.kind): (t.text(row.unit), v.text) for t, v in verdicts}
    places = [*compared, *(place for place in wanted if place not in compared)]
    if not places:
        yield (row.suite, row.figure, row.system, "", absolute, "", "")
    for i, place in enumerate(places):
        target = wanted.get(place, ("", ""))
        shown = absolute if i == 0 else ""
        yield (row.suite, row.figure, row.system, compared.get(place, ""), shown, *target)


def aligned(headings: Cells, cells: Sequence[Cells]) -> str:
    """PURE. Columns of a common width; what repeats from the line above is left out."""
    widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
    shown = [headings, tuple("-" * width for width in widths)]
    above: Cells = ("", "", "")
    for line in cells:
        depth = next((i for i in range(3) if line[i] != above[i]), 3)
        shown.append((*[""] * depth, *line[depth:]))
        above = line
    return "\n".join(_aligned(line, widths) for line in shown)


def _aligned(line: Cells, widths: Sequence[int]) -> str:
    cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
    return "  ".join(cells).rstrip()
