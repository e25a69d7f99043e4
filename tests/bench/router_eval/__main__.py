"""``scripts/router_eval``: how good the router is on requests of known difficulty; how quick."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import development, held_out, page, training
from .evaluate import evaluate
from .items import all_items
from .replay import replay

ROOT = Path(__file__).resolve().parents[3]
SETS = {
    "held out": held_out.FAMILIES,
    "development": development.FAMILIES,
    "training": training.FAMILIES,
}


def main() -> int:
    """See the module."""
    options = parsed()
    if options.what == "replay":
        return _replay(options.decisions, options.models, options.times)
    reports = {
        name: evaluate(all_items(families, count=options.count), options.seed)
        for name, families in SETS.items()
    }
    print(page.table(reports["held out"]))
    print()
    print(page.families(reports["held out"]))
    if options.write:
        folder = ROOT / "docs" / "router"
        folder.mkdir(exist_ok=True)
        main_report = reports.pop("held out")
        text = page.page(main_report, reports, "scripts/router_eval --write")
        (folder / "README.md").write_text(text)
        (folder / "recovered.svg").write_text(page.recovered(main_report))
        (folder / "calibration.svg").write_text(page.calibration(main_report))
    return 0


def _replay(decisions: int, models: int, times: int) -> int:
    found = replay(decisions, models, times=times)
    kinds = {
        f"of the processor, the best of {times}": found.best,
        "of the processor, the first time": found.cpu,
        "by the clock, others' work included": found.wall,
    }
    for name, times in kinds.items():
        shown = ", ".join(
            f"p{100 * q:g} {found.quantile(q, times):,.0f} µs" for q in (0.5, 0.9, 0.99)
        )
        print(f"{name}: {shown}")
    print(
        f"{found.decisions:,} decisions among {found.models:,} models; {found.none:,} found none, "
        f"{found.unexplained} unexplained"
    )
    return 1 if found.unexplained else 0


def parsed() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(prog="scripts/router_eval", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("evaluate", "replay"), default="evaluate")
    parser.add_argument("--count", type=int, default=40, help="requests of a family and language")
    parser.add_argument("--seed", type=int, default=7, help="of the outcomes")
    parser.add_argument("--write", action="store_true", help="make the page in docs/router/")
    parser.add_argument("--decisions", type=int, default=100_000, help="to replay")
    parser.add_argument("--times", type=int, default=3, help="each decision is made and timed")
    parser.add_argument("--models", type=int, default=1000, help="among which")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
