"""``python -m chaos``: random steps on a real pool, and a look at every rule after each.

Prints what it did, and how many of each. Exit status: 0, or 1 when a rule did not hold; the last
line then says how to make the same steps again.
"""

from __future__ import annotations

import argparse
import itertools
import random
import signal
import sys

from chaos.driver import KINDS, Broken, Tally, run
from chaos.finale import FINALE
from chaos.plan import plan
from chaos.rules import AT_ONCE, SETTLING

STEPS = 100
SEEDS = 4


def main() -> int:
    """See the module."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is ended, too
    options = parsed()
    if options.rules:
        for rule in (*AT_ONCE, *SETTLING, *FINALE):
            print(f"{rule.__name__}: {' '.join((rule.__doc__ or '').split())}")
        return 0
    seeds = options.seed or [random.SystemRandom().randrange(10_000) for _ in range(SEEDS)]
    if options.plan:
        for seed in seeds:
            print(*itertools.islice(plan(KINDS, seed), options.steps), sep="\n")
        return 0
    total = Tally()
    try:
        for seed in seeds:
            print(f"seed {seed}", flush=True)
            total += run(seed, options.steps, tell)
    except Broken as e:
        print(f"BROKEN {e}")
        return 1
    print(f"every rule held; seeds {', '.join(map(str, seeds))}")
    print(*total.lines(), sep="\n")
    return 0


def tell(line: str) -> None:
    """At once: whoever watches wants to see where it is."""
    print(line, flush=True)


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seed", type=int, action="append", help="may be given several times")
    parser.add_argument("--steps", type=int, default=STEPS, help="for each seed")
    parser.add_argument("--plan", action="store_true", help="only print the steps")
    parser.add_argument("--rules", action="store_true", help="only print the rules")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
