"""Ways from a client to an upstream that answers at once: through relays of others and of ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from bench import engine, nginx
from bench import names as n
from bench.figures import BenchError
from bench.messages import CHAT, Ask, call, chat_body, slow_body
from bench.pool import BenchPool, fake_entry
from bench.processes import Child, free_ports, module, wait_for_port
from bench.stage import Stage

# Engines that stop for whoever leaves are asked for plain answers; of others a front asks streams.
PLAIN, TOGETHER = "canned-plain", "canned-together"
# What comes and goes on real workers makes them post as often as this at most.
BEAT_SECONDS = 1.0
WARM_UPS = 20


@dataclass(frozen=True)
class Way:
    """Where to ask, and by which name; ``pid`` is the process that relays."""

    port: int
    model: str
    pid: int = 0

    @property
    def plain(self) -> Ask:
        """A request for an answer in one piece."""
        return Ask(chat_body(self.model, n.PUT_TOGETHER))

    @property
    def stream(self) -> Ask:
        """A request for a stream at full speed."""
        return Ask(chat_body(self.model, n.CHUNKS, stream=True))

    def slow_stream(self, tokens: int, per_second: float) -> Ask:
        """A request for a stream that stays open."""
        return Ask(slow_body(self.model, tokens, per_second))


def start(stage: Stage, stack: ExitStack) -> Mapping[str, Way]:
    """Start everything; every way by its system's name. nginx is left out where it is not.

    Raises:
        BenchError: something did not start, or answered wrongly.
    """
    stage.say("starting upstream, relays and pools")
    upstream = _upstream(stage, stack)
    ways = {n.UPSTREAM: Way(upstream, PLAIN)}
    if nginx.is_installed():
        [port] = free_ports(1)
        relay = stack.enter_context(nginx.start(stage.folder, port, upstream))
        ways[n.NGINX] = Way(port, PLAIN, nginx.worker_pid(relay))
    else:
        stage.note(nginx.INSTALL_HINT)
    ways |= _gateway(stage, stack) | _fronts(stage, stack)
    for way in ways.values():
        warm_up(way)
    return ways


def _upstream(stage: Stage, stack: ExitStack) -> int:
    [port] = free_ports(1)
    canned = Child(module("bench.canned", port), stage.log("upstream"), talks=True)
    stack.enter_context(canned).line(20)
    wait_for_port(port, canned, 10)
    return port


def _gateway(stage: Stage, stack: ExitStack) -> dict[str, Way]:
    """A manager before a worker that costs nothing."""
    entries = [fake_entry(PLAIN)]
    pool = BenchPool(stage.folder, "gateway", entries, stand_in=True, beat_seconds=BEAT_SECONDS)
    stack.enter_context(pool).load(PLAIN)
    return {n.GATEWAY: Way(pool.port, PLAIN, pool.pid)}


def _fronts(stage: Stage, stack: ExitStack) -> dict[str, Way]:
    """Real fronts before engine children that cost nothing, and the manager before them."""
    plugins = stage.folder / "plugin"
    engine.plug_in(plugins)
    engines = {PLAIN: engine.PLAIN_NAME, TOGETHER: engine.NAME}
    entries = [fake_entry(model) | {"engine": name} for model, name in engines.items()]
    pool = stack.enter_context(BenchPool(stage.folder, "whole", entries, search=[plugins]))
    ports = {model: pool.load(model) for model in engines}
    pids = {model: pool.front_pid(model) for model in engines}
    return {
        n.FRONT: Way(ports[PLAIN], PLAIN, pids[PLAIN]),
        n.WHOLE: Way(pool.port, PLAIN, pool.pid),
        n.FRONT_TOGETHER: Way(ports[TOGETHER], TOGETHER, pids[TOGETHER]),
        n.WHOLE_TOGETHER: Way(pool.port, TOGETHER, pool.pid),
    }


def warm_up(way: Way) -> None:
    """Ask it some times before it counts.

    Raises:
        BenchError: it answers wrongly.
    """
    for _ in range(WARM_UPS):
        status, answer = call(way.port, "POST", CHAT, json.loads(way.plain.body))
        if status != 200:
            raise BenchError(f"a wrong answer on port {way.port}: {status} {answer}")
