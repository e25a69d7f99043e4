"""Makes the steps of a plan on a real pool, looks at every rule after each, and tells of it."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from chaos import faults, steps
from chaos.finale import FINALE
from chaos.plan import Step, plan
from chaos.rules import AT_ONCE, SETTLING, Sight
from chaos.world import World

SETTLE_SECONDS = 30.0
LOOK_SECONDS = 0.05
LOG_BYTES = 4000
KINDS = steps.KINDS
assert faults  # its steps are among them

Tell = Callable[[str], None]


class Broken(AssertionError):
    """A rule does not hold."""


@dataclass
class Tally:
    """How many of each."""

    steps: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    looks: int = 0
    events: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.steps + other.steps,
            self.outcomes + other.outcomes,
            self.looks + other.looks,
            self.events + other.events,
        )

    def lines(self) -> list[str]:
        """For people."""
        text = [f"{sum(self.steps.values())} steps, {self.looks} looks, {self.events} events"]
        text += [f"  {count:5} {kind}" for kind, count in sorted(self.steps.items())]
        text += ["what came of requests"]
        return text + [f"  {count:5} {what}" for what, count in sorted(self.outcomes.items())]


def run(seed: int, count: int, tell: Tell = print) -> Tally:
    """Make the first ``count`` steps of the seed's plan, and the end.

    Raises:
        Broken: a rule does not hold; the text says which, when, and how to see it again.
    """
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        world = World(Path(folder))
        try:
            world.start()
            for step in itertools.islice(plan(KINDS, seed), count):
                make(world, step, tally, tell)
            for part in FINALE:
                tell(f"  end {part.__name__}")
                part(world)
            check(world.last_sight(), AT_ONCE)
        except Exception as e:
            log = world.pool.log()[-LOG_BYTES:]
            again = f"make chaos SEED={seed} STEPS={count}"
            raise Broken(f"{e!r}\n{log}\nthe same steps again: {again}") from e
        finally:
            world.abandon()
            tally.outcomes = world.counts
            tally.events = len(world.watcher.moves) + len(world.watcher.nameless)
    return tally


def make(world: World, step: Step, tally: Tally, tell: Tell) -> None:
    """One step, and a look at every rule."""
    world.heal(step.number)
    began = time.monotonic()
    came_of_it = step.kind.act(world, step.number, **step.arguments)
    tell(f"{step}: {came_of_it} ({time.monotonic() - began:.1f} s)")
    tally.steps[step.kind.name] += 1
    end = time.monotonic() + SETTLE_SECONDS
    while True:
        sight = world.sight()
        tally.looks += 1
        check(sight, AT_ONCE)
        if not (complaints := said(sight, SETTLING)):
            return
        if time.monotonic() > end:
            raise Broken("; ".join(complaints))
        time.sleep(LOOK_SECONDS)


def said(sight: Sight, rules: list[Callable[[Sight], object]]) -> list[str]:
    """What breaks these rules, each with the rule's name."""
    return [f"{rule.__name__}: {text}" for rule in rules for text in rule(sight)]


def check(sight: Sight, rules: list[Callable[[Sight], object]]) -> None:
    """Raises Broken if one does not hold."""
    if complaints := said(sight, rules):
        raise Broken("; ".join(complaints))
