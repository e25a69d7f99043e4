"""The commands: ``bench`` measures, ``bench compare`` compares, ``bench page`` makes a page."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import compare, page, report, running
from bench.figures import BenchError
from bench.suites import SUITES

OK, FAILED, TOO_NOISY, INTERRUPTED = 0, 1, 3, 130
REGRESSION = 1
USAGE = 2
RESULTS = Path("bench-results")
NEWEST = f"JSON file of a run; default: the newest in {RESULTS}/"
# Of the whole run, over the suites in their order.
LIMIT_SECONDS = 1200.0


def main(argv: Sequence[str] | None = None) -> int:
    """``python scripts/bench``.

    Returns 0; 1 if a suite could not be run, or if a comparison finds something worse; 2 if a file
    cannot be read; 3 if a row is too noisy for a verdict; 130 if interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = COMMANDS.get(arguments[0]) if arguments else None
    try:
        return command(arguments[1:]) if command else measure(arguments)
    except BenchError as e:
        print(f"bench: {e}", file=sys.stderr)
        return USAGE


def measure(arguments: Sequence[str]) -> int:
    """Measure, and write the table and the JSON file."""
    options = _measure_options(arguments)
    try:
        result, is_whole = running.run(options)
    except KeyboardInterrupt:
        print("interrupted; what was started has ended", file=sys.stderr)
        return INTERRUPTED
    print(f"\n{report.table(result.rows)}\n" if result.rows else "")
    for note in result.notes:
        print(f"note: {note}")
    print(f"written: {report.write(result, options.out)}")
    if not is_whole:
        return FAILED
    return OK if result.is_conclusive else TOO_NOISY


def compare_runs(arguments: Sequence[str]) -> int:
    """Hold a run against a stored one."""
    parser = argparse.ArgumentParser(prog="bench compare", description=compare_runs.__doc__)
    parser.add_argument("then", type=Path, help="JSON file of the stored run")
    parser.add_argument("now", type=Path, nargs="?", help=NEWEST)
    options = parser.parse_args(arguments)
    then, now = report.read(options.then), report.read(options.now or _newest(RESULTS))
    changes = compare.compare(then, now)
    print(compare.table(changes))
    for difference in compare.differences(then, now):
        print(f"note: {difference}")
    regressions = [change for change in changes if change.is_regression]
    print(f"{len(regressions)} of {len(changes)} rows are worse beyond noise")
    return REGRESSION if regressions else OK


def make_page(arguments: Sequence[str]) -> int:
    """Write a page with pictures from the JSON file of a run."""
    parser = argparse.ArgumentParser(prog="bench page", description=make_page.__doc__)
    parser.add_argument("result", type=Path, nargs="?", help=NEWEST)
    parser.add_argument("--out", type=Path, default=page.FOLDER, help="default: %(default)s")
    options = parser.parse_args(arguments)
    for path in page.write(report.read(options.result or _newest(RESULTS)), options.out):
        print(f"written: {path}")
    return OK


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {"compare": compare_runs, "page": make_page}


def _newest(folder: Path) -> Path:
    files = sorted(folder.glob("*.json"))
    if not files:
        raise BenchError(f"no run in {folder}/; measure first (make bench), or name a file")
    return files[-1]


def _measure_options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench",
        description="Measure the pool against its targets. Also: bench compare, bench page. "
        "See docs/benchmarks.md.",
    )
    parser.add_argument("--only", choices=[*SUITES], action="append", help="this suite; repeatable")
    parser.add_argument(
        "--seconds", type=float, default=1.0, help="of one measurement (default %(default)s)"
    )
    parser.add_argument(
        "--rounds", type=int, default=7, help="each makes a pair of any two (default %(default)s)"
    )
    parser.add_argument("--quick", action="store_true", help="a tiny model: to see that it works")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for JSON")
    parser.add_argument(
        "--limit", type=float, default=LIMIT_SECONDS, help="seconds in all (default %(default)s)"
    )
    options = parser.parse_args(arguments)
    if options.seconds <= 0 or options.rounds < 1:
        parser.error("--seconds and --rounds must be above 0")
    return options
