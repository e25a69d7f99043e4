"""The command: runs the suites one after the other, says where it is, writes the report."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from bench import cold, idle, machine, relay, tokens
from bench.figures import BenchError, Row
from bench.processes import stop_all
from bench.report import Report, table
from bench.stage import Stage

SUITES: dict[str, Callable[[Stage], Iterator[Row]]] = {
    relay.SUITE: relay.run,
    tokens.SUITE: tokens.run,
    cold.SUITE: cold.run,
    idle.SUITE: idle.run,
}
# Of the whole run, over the suites in their order; what one leaves, the next ones get.
LIMIT_SECONDS = 300.0
TIME_IS_OVER = "the time of the whole run is over (--limit)"
SHARES = {relay.SUITE: 0.4, tokens.SUITE: 0.7, cold.SUITE: 0.85, idle.SUITE: 0.95}


def main(argv: Sequence[str] | None = None) -> int:
    """``python scripts/bench``. Returns 0, 1 if a suite could not be run, 130 if interrupted."""
    options = _arguments(argv)
    report = Report(machine.facts(), _said(options))
    began = time.monotonic()
    say = _speaker(began)
    try:
        with _unwinding_signals(options.limit):
            failed = _run(options, report, began, say)
    except KeyboardInterrupt:
        say("interrupted; ending what was started")
        return 130
    finally:
        stop_all()
    print(f"\n{table(report.rows)}\n" if report.rows else "")
    for note in report.notes:
        print(f"note: {note}")
    print(f"written: {report.write(options.out)}")
    return 1 if failed else 0


def _run(
    options: argparse.Namespace, report: Report, began: float, say: Callable[[str], None]
) -> bool:
    failed = False
    with tempfile.TemporaryDirectory(prefix="modelpool-bench-") as folder:
        stage = Stage(
            seconds=options.seconds,
            rounds=options.rounds,
            quick=options.quick,
            folder=Path(folder),
            cache=Path(tempfile.gettempdir()) / "modelpool-bench-models",
            deadline=0.0,
            say=say,
            notes=report.notes,
        )
        stage.note(machine.busy_warning())
        for name in options.only or SUITES:
            share = SHARES[idle.SUITE] if options.only else SHARES[name]
            stage.deadline = began + options.limit * share
            try:
                _check_time(began + options.limit)
                report.rows.extend(SUITES[name](stage))
            except BenchError as e:
                failed = True
                stage.note(f"{name}: not measured to its end: {e}")
    return failed


def _speaker(began: float) -> Callable[[str], None]:
    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:5.0f} s] {text}", file=sys.stderr, flush=True)

    return say


def _check_time(end: float) -> None:
    if time.monotonic() >= end:
        raise BenchError(TIME_IS_OVER)


@contextmanager
def _unwinding_signals(limit: float) -> Iterator[None]:
    """TERM and Ctrl-C unwind everything, once; a second one must not stop the cleaning up.

    After ``limit`` seconds the suite that still runs fails.
    """
    asked: list[int] = []

    def on_signal(number: int, _: FrameType | None) -> None:
        asked.append(number)
        if len(asked) == 1:
            raise KeyboardInterrupt

    def on_alarm(_: int, __: FrameType | None) -> None:
        raise BenchError(TIME_IS_OVER)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    handlers = (on_signal, on_signal, on_alarm)
    before = [signal.signal(n, handler) for n, handler in zip(numbers, handlers, strict=True)]
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench", description="Measure the pool against its targets. See docs/benchmarks.md."
    )
    parser.add_argument("--only", choices=[*SUITES], action="append", help="this suite; repeatable")
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="of one measurement (default %(default)s)"
    )
    parser.add_argument(
        "--rounds", type=int, default=3, help="each makes a pair of any two (default %(default)s)"
    )
    parser.add_argument("--quick", action="store_true", help="a tiny model: to see that it works")
    parser.add_argument("--out", type=Path, default=Path("bench-results"), help="folder for JSON")
    parser.add_argument(
        "--limit", type=float, default=LIMIT_SECONDS, help="seconds in all (default %(default)s)"
    )
    options = parser.parse_args(argv)
    if options.seconds <= 0 or options.rounds < 1:
        parser.error("--seconds and --rounds must be above 0")
    return options


def _said(options: argparse.Namespace) -> dict[str, object]:
    names = ("only", "seconds", "rounds", "quick", "limit")
    return {name: getattr(options, name) for name in names}
