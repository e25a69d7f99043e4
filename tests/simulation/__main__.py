"""``python -m simulation``: a pool on virtual time, with every fault, one seed deciding everything.

Prints what happened, and how often. Exit status: 0, or 1 when a rule did not hold; the last line
then says how to make the same steps again.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from simulation import core as core_simulation
from simulation.driver import Report, SeedFailed, run, shortest
from simulation.rules import DESCRIBED

# Seeds and the steps of each: of the whole pool, and of the core alone.
POOL = (205, 500)
CORE = (200, 5_000)
PROGRESS_SECONDS = 10.0


def main() -> int:
    """See the module."""
    options = parsed()
    if options.rules:
        for rule in DESCRIBED:
            print(f"{rule.__name__}: {' '.join((rule.__doc__ or '').split())}")
        return 0
    usual = CORE if options.core else POOL
    count, steps = options.seeds or usual[0], options.steps or usual[1]
    seeds = range(options.first, options.first + count)
    if options.seed is not None:
        seeds = range(options.seed, options.seed + 1)
    if options.core:
        return core(seeds, steps)
    if options.seed is not None:
        return replay(options.seed, steps, trace=options.trace)
    return search(seeds, steps)


def replay(seed: int, steps: int, *, trace: bool) -> int:
    """One seed; with ``trace`` every step and event of it."""
    try:
        report = run(seed, steps, tell if trace else None)
    except SeedFailed as e:
        return show(e)
    print(f"seed {seed}, {report.steps} steps: every rule held; digest {report.digest}")
    return 0


def search(seeds: range, steps: int) -> int:
    """One seed after the other, until a rule does not hold."""
    total, began = Report(0), time.monotonic()
    said = began
    for number, seed in enumerate(seeds, 1):
        try:
            add(total, run(seed, steps))
        except SeedFailed as e:
            return show(e)
        if (now := time.monotonic()) - said > PROGRESS_SECONDS:
            said = now
            rate = total.steps / (now - began)
            tell(f"{number} of {len(seeds)} seeds, {total.steps:,} steps, {rate:.0f} steps/s")
    seconds = time.monotonic() - began
    print(f"every rule held; seeds {seeds.start} to {seeds.stop - 1}, {total.steps:,} steps")
    print(f"{total.seconds / 3600:.0f} hours of pool life in {seconds:.0f} s")
    print(f"{total.steps / seconds:.0f} steps/s")
    print("steps:", counted(total.counts))
    print("events:", counted(total.events))
    return 0


def core(seeds: range, steps: int) -> int:
    """The pure core alone, without an event loop."""
    events, began = Counter[str](), time.monotonic()
    said = began
    for number, seed in enumerate(seeds, 1):
        try:
            events += core_simulation.run(seed, steps)
        except core_simulation.Broken as e:
            print(f"BROKEN {e}")
            return 1
        if (now := time.monotonic()) - said > PROGRESS_SECONDS:
            said = now
            rate = number * steps / (now - began)
            tell(f"{number} of {len(seeds)} seeds, {number * steps:,} steps, {rate:,.0f} steps/s")
    seconds, total = time.monotonic() - began, len(seeds) * steps
    print(f"every rule held; seeds {seeds.start} to {seeds.stop - 1}, {total:,} steps of the core")
    print(f"{seconds:.0f} s, {total / seconds:,.0f} steps/s")
    print("events:", counted(events))
    return 0


def add(total: Report, report: Report) -> None:
    """Sum up."""
    total.steps += report.steps
    total.seconds += report.seconds
    total.counts += report.counts
    total.events += report.events


def counted(counts: Counter[str]) -> str:
    """The most frequent first."""
    return ", ".join(f"{name} {n:,}" for name, n in counts.most_common())


def show(failure: SeedFailed) -> int:
    """What broke, what came before it, and how to see it again."""
    print(*failure.lines, sep="\n")
    print(f"BROKEN {failure}")
    steps = shortest(failure)
    if steps < failure.step:
        print(f"the same rule is broken after {steps} steps already")
    print(f"again: scripts/simulate --seed {failure.seed} --steps {steps} --trace")
    return 1


def tell(line: str) -> None:
    """At once: whoever watches wants to see where it is."""
    print(line, flush=True)


def at_least_one(text: str) -> int:
    """A number of the command line; argparse tells what is wrong with others."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/simulate", description=__doc__)
    parser.add_argument("--seeds", type=at_least_one, help=f"how many to try: {POOL[0]}")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--steps", type=at_least_one, help=f"for each seed: {POOL[1]}")
    parser.add_argument("--seed", type=int, help="only this one")
    of_core = f"the pure core; {CORE[0]} seeds, {CORE[1]} steps"
    parser.add_argument("--core", action="store_true", help=of_core)
    parser.add_argument("--trace", action="store_true", help="with --seed: print what happens")
    parser.add_argument("--rules", action="store_true", help="only print the rules")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
