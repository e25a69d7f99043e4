"""What comes out: a table for people, a JSON file for comparisons over time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.figures import Row

HEADINGS = ("suite", "figure", "system", "median (min-max)", "paired with", "target")


@dataclass
class Report:
    """Rows and remarks of one run, and the machine that it was made on."""

    machine: dict[str, Any]
    options: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_dict(self, when: datetime) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return {
            "date": when.isoformat(timespec="seconds"),
            "machine": self.machine,
            "options": self.options,
            "rows": [row.as_dict() for row in self.rows],
            "notes": self.notes,
        }

    def write(self, folder: Path) -> Path:
        """Write the JSON file, named after the time."""
        now = datetime.now().astimezone()
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{now:%Y-%m-%d-%H%M%S}.json"
        path.write_text(json.dumps(self.as_dict(now), indent=2) + "\n", encoding="utf-8")
        return path


def table(rows: Sequence[Row]) -> str:
    """Aligned columns; what repeats from the line above is left out."""
    lines = [row.cells() for row in rows]
    widths = [max(map(len, column)) for column in zip(HEADINGS, *lines, strict=True)]
    shown = [HEADINGS, tuple("-" * width for width in widths)]
    above: tuple[str, ...] = ("", "")
    for line in lines:
        suite = "" if line[0] == above[0] else line[0]
        figure = "" if line[:2] == above[:2] else line[1]
        shown.append((suite, figure, *line[2:]))
        above = line
    return "\n".join(_aligned(line, widths) for line in shown)


def _aligned(line: tuple[str, ...], widths: Sequence[int]) -> str:
    cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
    return "  ".join(cells).rstrip()
