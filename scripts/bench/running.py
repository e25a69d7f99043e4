"""A run: the suites one after the other, within the time, with what is said on the way."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from bench import machine
from bench.figures import BenchError
from bench.processes import stop_all
from bench.report import Report
from bench.stage import Stage
from bench.suites import SUITES
from bench.verdicts import BUSY_SHARE

TIME_IS_OVER = "the time of the whole run is over (--limit)"
OPTIONS = ("only", "seconds", "rounds", "quick", "limit")


def run(options: argparse.Namespace) -> tuple[Report, bool]:
    """The report, and whether every suite was measured to its end. All that was started is ended.

    Raises:
        KeyboardInterrupt: somebody wanted it to end.
    """
    report = Report(machine.facts(), {name: getattr(options, name) for name in OPTIONS})
    began = time.monotonic()
    try:
        with _unwinding_signals(options.limit):
            is_whole = _suites(options, report, began, _speaker(began))
    finally:
        stop_all()
    return report, is_whole


def _suites(
    options: argparse.Namespace, report: Report, began: float, say: Callable[[str], None]
) -> bool:
    is_whole = True
    for name in options.only or [name for name, suite in SUITES.items() if suite.by_default]:
        # A folder each, for several start the same things.
        with tempfile.TemporaryDirectory(prefix="modelpool-bench-") as folder:
            stage = Stage(
                seconds=options.seconds,
                rounds=options.rounds,
                quick=options.quick,
                folder=Path(folder),
                cache=Path(tempfile.gettempdir()) / "modelpool-bench-models",
                deadline=began + options.limit * (1.0 if options.only else SUITES[name].until),
                say=say,
                notes=report.notes,
            )
            stage.note(_busy_warning(machine.busy_share()))
            try:
                _check_time(began + options.limit)
                report.rows.extend(SUITES[name].run(stage))
            except BenchError as e:
                is_whole = False
                stage.note(f"{name}: not measured to its end: {e}")
    return is_whole


def _busy_warning(share: float) -> str:
    if share <= BUSY_SHARE:
        return ""
    return f"the machine was busy ({share:.0%} of its cores) before anything of ours was started"


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
