"""Memory of an open stream: what each of many that stay open takes in the process that relays."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack

from bench import names as n
from bench import usage, ways
from bench.figures import Row
from bench.hold import holding
from bench.stage import Stage
from bench.ways import Way

RELAYS = (n.NGINX, n.GATEWAY, n.FRONT)
# Opened in steps, each of which makes a sample.
STEPS = 5
PER_STEP, QUICK_PER_STEP = 100, 20
# Enough to go on while it is measured; slow enough to cost nothing.
TOKENS, TOKENS_PER_SECOND = 10_000, 0.5
SETTLE_SECONDS = 0.5


def run(stage: Stage) -> Iterator[Row]:
    """Open streams step by step and see what each step adds.

    Raises:
        BenchError: something did not start, or refused a stream.
    """
    with ExitStack() as stack:
        by_name = ways.start(stage, stack)
        for name in RELAYS:
            if name in by_name:
                yield _row(stage, name, by_name[name])


def _row(stage: Stage, name: str, way: Way) -> Row:
    per_step = QUICK_PER_STEP if stage.quick else PER_STEP
    stage.say(f"{n.PER_STREAM}: {name}, {STEPS * per_step} streams")
    samples, before = [], usage.own(way.pid)
    with holding(stage, way.port, way.slow_stream(TOKENS, TOKENS_PER_SECOND)) as holder:
        for _ in range(STEPS):
            holder.open(per_step)
            time.sleep(SETTLE_SECONDS)
            now = usage.own(way.pid)
            samples.append((now - before) / per_step / 1024)
            before = now
    return Row(n.MEMORY, n.PER_STREAM, name, "KiB", tuple(samples), ours=name != n.NGINX)
