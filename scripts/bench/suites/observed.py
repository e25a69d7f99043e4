"""What it costs the gateway that requests are looked at: usage and request log, traces, access log,
each on top of the one before, held against a pool that keeps none of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

from bench import engine, usage, wrk
from bench import names as n
from bench.figures import Row
from bench.messages import HOST
from bench.pool import BenchPool, fake_entry
from bench.processes import Child, free_ports, module, wait_for_port
from bench.stage import Against, Samples, Stage
from bench.ways import PLAIN, Way, warm_up


def run(stage: Stage) -> Iterator[Row]:
    """The same pool, real fronts and all, kept in each way; asked in turn, in every round.

    Raises:
        BenchError: something did not start, or answered wrongly.
    """
    if not wrk.is_installed():
        stage.note(wrk.INSTALL_HINT)
    with ExitStack() as stack:
        ways = _start(stage, stack)
        yield from _requests(stage, ways)


def _start(stage: Stage, stack: ExitStack) -> Mapping[str, Way]:
    stage.say("starting a pool for each way")
    plugins = stage.folder / "plugin"
    engine.plug_in(plugins)
    entry = fake_entry(PLAIN) | {"engine": engine.PLAIN_NAME}
    ways = {}
    for number, (name, settings) in enumerate(_settings(_collector(stage, stack)).items()):
        home = f"observed-{number}"
        pool = BenchPool(stage.folder, home, [entry], search=[plugins], **settings)
        stack.enter_context(pool).load(PLAIN)
        ways[name] = Way(pool.port, PLAIN, pool.pid)
        warm_up(ways[name])
    return ways


def _collector(stage: Stage, stack: ExitStack) -> int:
    """The port of what takes traces, whatever they say."""
    [port] = free_ports(1)
    collector = Child(module("bench.canned", port), stage.log("collector"), talks=True)
    stack.enter_context(collector).line(20)
    wait_for_port(port, collector, 10)
    return port


def _settings(collector: int) -> Mapping[str, Mapping[str, Any]]:
    """PURE. Of each pool. Usage is always kept: workers tell of requests where one of the others
    wants to hear of them."""
    traced = {"traces": "otlp", "traces_endpoint": f"http://{HOST}:{collector}/v1/traces"}
    return {
        n.UNOBSERVED: {"request_log": "off"},
        n.FACTS: {"request_log": "facts"},
        n.TRACED: {"request_log": "facts", **traced},
        n.LOGGED: {"request_log": "facts", **traced, "access_log": "json"},
    }


def _requests(stage: Stage, ways: Mapping[str, Way]) -> Iterator[Row]:
    spent: dict[str, list[float]] = {name: [] for name in ways}

    def measure(name: str, way: Way) -> float:
        before = usage.processor_seconds(way.pid)
        done = wrk.requests(way.port, way.plain, n.CONNECTIONS, stage.seconds)
        # What is written and sent later is not in it, or in that of the next round.
        spent[name].append((usage.processor_seconds(way.pid) - before) / done.answers * 1e6)
        return done.per_second

    rates = stage.paired(n.REQUESTS, {name: partial(measure, name, w) for name, w in ways.items()})
    costs = Samples({name: tuple(values) for name, values in spent.items()}, rates.conditions)
    for figure, samples, unit in ((n.REQUESTS, rates, "/s"), (n.PER_REQUEST, costs, "µs")):
        for name in ways:
            against: list[Against] = [] if name == n.UNOBSERVED else [(n.UNOBSERVED, "ratio")]
            yield samples.row((n.OBSERVED, figure), name, unit, against)
