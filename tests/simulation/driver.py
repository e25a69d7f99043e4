"""Runs a seed: the same one makes the same steps, delays and faults, and leaves the same trace."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import logging
import random
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from support.virtual_time import Standstill, VirtualLoop

from simulation import finale
from simulation.rules import Broken, check
from simulation.steps import PATCHES, STEPS, Step
from simulation.world import NAMES, World

LAST_LINES = 30


@dataclass
class Report:
    """What a seed did. ``digest`` stands for the whole of its trace."""

    seed: int
    steps: int = 0
    seconds: float = 0.0  # simulated
    digest: str = ""
    counts: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)


class SeedFailed(Exception):
    """A rule did not hold: which, after how many steps, and the end of the trace."""

    def __init__(
        self, seed: int, step: int, why: Broken | Standstill, lines: Sequence[str]
    ) -> None:
        super().__init__(f"seed {seed}, step {step}: {why}")
        self.seed = seed
        self.step = step
        self.rule = why.rule if isinstance(why, Broken) else "time_goes_on"
        self.why = str(why)
        self.lines = tuple(lines)


class Trace:
    """Every step and event, with its time; only the last lines are kept."""

    def __init__(self, tell: Callable[[str], None] | None = None) -> None:
        self._hash = hashlib.sha256()
        self._tell = tell
        self.lines: deque[str] = deque(maxlen=LAST_LINES)

    def add(self, text: str) -> None:
        line = f"{asyncio.get_running_loop().time():12.4f} {text}"
        self._hash.update(line.encode())
        self.lines.append(line)
        if self._tell is not None:
            self._tell(line)

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()[:16]


def draw_config(lots: random.Random) -> dict[str, Any]:
    """Each seed has a pool of its own: roomy or tight, patient or not."""
    live = {key: lots.choice(values) for key, values in PATCHES.items()}
    return {
        **live,
        "max_concurrent_models": lots.choice((1, 2, 3, 4)),
        "memory_limit_mb": lots.choice((650, 700, 1000)),
        "port_range": {"start": 8051, "end": 8051 + lots.choice((5, 6, 9))},
        "warmup_models": lots.choice(([], ["warm"])),
        "load_wait_seconds": 300,
        "beat_seconds": 30,
        "orphan_seconds": lots.choice((60, 600)),
        "load_stall_seconds": lots.choice((100, 300)),
    }


def draw_weights(lots: random.Random) -> list[int]:
    """Each seed leaves out some kinds of steps and makes more of others, so that those that get in
    each other's way are also seen alone."""
    return [step.weight * lots.choice((0, 1, 1, 1, 3)) for step in STEPS]


NEEDED = ("manager_starts", "manager_goes_on", "time_passes", "request")


def run(
    seed: int,
    steps: int,
    tell: Callable[[str], None] | None = None,
    *,
    has_finale: bool = True,
) -> Report:
    """All steps of a seed and, with ``has_finale``, its end; every rule is checked after each.

    Raises:
        SeedFailed: a rule does not hold.
    """
    report, trace = Report(seed), Trace(tell)
    loop = VirtualLoop()
    with undisturbed(), _uncollected():
        try:
            loop.run_until_complete(_played(seed, steps, report, trace, has_finale))
        except (Broken, Standstill) as e:
            raise SeedFailed(seed, report.steps, e, trace.lines) from None
        finally:
            report.digest = trace.digest
            loop.abandon()
    return report


def shortest(failure: SeedFailed) -> int:
    """The fewest steps of its seed after which the same rule is broken: the end of a simulation,
    which follows the last step, may show in few what the steps show late."""
    steps = 1
    while steps < failure.step:
        try:
            run(failure.seed, steps)
        except SeedFailed as e:
            if e.rule == failure.rule:
                return e.step
        steps *= 2
    return failure.step


async def _played(seed: int, steps: int, report: Report, trace: Trace, has_finale: bool) -> None:
    lots = random.Random(seed)
    world = World(lots, trace.add, **draw_config(lots))
    weights = draw_weights(lots)
    weights = [
        w or s.weight if s.name in NEEDED else w for w, s in zip(weights, STEPS, strict=True)
    ]
    watch_loop(world)
    await settled(world)
    for number in range(1, steps + 1):
        report.steps = number
        chosen, drawn = _deal(world, lots, weights)
        report.counts[chosen.name] += 1
        trace.add(f"-- {number} {chosen.name} {' '.join(map(str, drawn))}")
        await take(world, chosen, drawn)
    if has_finale:
        await finale.play(world, trace.add, lambda: settled(world))
    report.seconds = world.now()
    report.events = world.counts


def _deal(world: World, lots: random.Random, weights: list[int]) -> tuple[Step, tuple[Any, ...]]:
    while True:
        chosen = lots.choices(STEPS, weights)[0]
        drawn = chosen.draw(world, lots)
        if drawn is not None:
            return chosen, drawn


async def take(world: World, chosen: Step, drawn: tuple[Any, ...]) -> None:
    """Make a step, let everything happen that follows at once, and look at every rule.

    Raises:
        Broken: a rule does not hold.
    """
    await chosen.act(world, *drawn)
    await settled(world)


async def settled(world: World) -> None:
    """Until nothing is left to do in this moment; then every rule is looked at."""
    await asyncio.sleep(0)
    while not world.loop.is_quiet:  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(0)
    world.tidy()
    check(world)


def watch_loop(world: World) -> None:
    """What nobody caught is a bug."""

    def on_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        world.bugs.append(RuntimeError(f"{context['message']}: {context.get('exception')!r}"))

    world.loop.set_exception_handler(on_error)


async def _inline(function: Any, *args: Any) -> Any:
    return function(*args)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Virtual time knows nothing of threads; and faults make much noise."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with mock.patch("asyncio.to_thread", _inline):
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """The pauses of the collector cost a good part of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
        gc.collect()


__all__ = ["NAMES", "Report", "SeedFailed", "run"]
