"""The relay: what stands between a client and an upstream that answers at once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial

from bench import engine, load, nginx, wrk
from bench.figures import BenchError, Row
from bench.messages import CHAT, CHUNKS, call, chat_body
from bench.pool import BenchPool
from bench.processes import Child, free_ports, module, wait_for_port
from bench.stage import Samples, Stage

SUITE = "relay"
CONNECTIONS = 32
STREAMS = 8
MODEL = "canned"
UPSTREAM, NGINX, GATEWAY = "upstream itself", "nginx", "gateway"
FRONT, WHOLE = "worker front", "gateway + front"
# An engine always streams; a front puts the stream together for who wants no stream.
WHOLE_BODY = chat_body(MODEL, 16)
STREAM_BODY = chat_body(MODEL, CHUNKS, stream=True)

REQUESTS = f"requests/s, {CONNECTIONS} connections"
MEDIAN = "median of a request, 1 connection"
STREAM = f"streams/s, {CHUNKS} chunks, {STREAMS} at a time"


def run(stage: Stage) -> Iterator[Row]:
    """Measure upstream, nginx, gateway and front in turn, in every round.

    Raises:
        BenchError: something did not start, or answered wrongly.
    """
    if not wrk.is_installed():
        stage.note(wrk.INSTALL_HINT)
    with ExitStack() as stack:
        ports = _start(stage, stack)
        yield from _requests(stage, ports)
        yield from _median(stage, ports)
        yield from _streams(stage, ports)


def _start(stage: Stage, stack: ExitStack) -> dict[str, int]:
    """Start everything; the port of every system."""
    stage.say("relay: starting upstream, relays and pools")
    upstream, relay = free_ports(2)
    canned = Child(module("bench.canned", upstream), stage.log("upstream"), talks=True)
    stack.enter_context(canned).line(20)
    wait_for_port(upstream, canned, 10)
    ports = {UPSTREAM: upstream}
    if nginx.is_installed():
        stack.enter_context(nginx.start(stage.folder, relay, upstream))
        ports[NGINX] = relay
    else:
        stage.note(nginx.INSTALL_HINT)
    entry = {"model_id": MODEL, "engine": "fake", "source": "-"}
    gateway = BenchPool(stage.folder, "gateway", [entry], stand_in=True)
    stack.enter_context(gateway).load(MODEL)
    ports[GATEWAY] = gateway.port
    engine.plug_in(stage.folder / "plugin")
    search = [stage.folder / "plugin"]
    whole = BenchPool(stage.folder, "whole", [entry | {"engine": engine.NAME}], search=search)
    ports[FRONT] = stack.enter_context(whole).load(MODEL)
    ports[WHOLE] = whole.port
    for port in ports.values():
        _warm_up(port)
    return ports


def _warm_up(port: int) -> None:
    for _ in range(20):
        status, answer = call(port, "POST", CHAT, json.loads(WHOLE_BODY))
        if status != 200:
            raise BenchError(f"a wrong answer on port {port}: {status} {answer}")


def _requests(stage: Stage, ports: Mapping[str, int]) -> Iterator[Row]:
    def measure(port: int) -> float:
        return wrk.requests(port, WHOLE_BODY, CONNECTIONS, stage.seconds).per_second

    samples = stage.paired(REQUESTS, {n: partial(measure, p) for n, p in ports.items()})
    yield from _rows(samples, REQUESTS, "/s", NGINX, ">= 0.5x nginx")


def _streams(stage: Stage, ports: Mapping[str, int]) -> Iterator[Row]:
    def measure(port: int) -> float:
        return load.run(port, STREAM_BODY, STREAMS, stage.seconds).per_second

    samples = stage.paired(STREAM, {n: partial(measure, p) for n, p in ports.items()})
    yield from _rows(samples, STREAM, "/s", NGINX, ">= 0.9x nginx")


def _median(stage: Stage, ports: Mapping[str, int]) -> Iterator[Row]:
    def measure(port: int) -> float:
        return wrk.requests(port, WHOLE_BODY, 1, stage.seconds).median_seconds * 1000

    samples = stage.paired(MEDIAN, {n: partial(measure, p) for n, p in ports.items()})
    place = (SUITE, MEDIAN)
    for system in samples.of:
        against = "" if system == UPSTREAM else UPSTREAM
        target = "<= 0.3 ms added" if system == GATEWAY else ""
        yield samples.row(place, system, "ms", against, kind="added", target=target)


def _rows(samples: Samples, figure: str, unit: str, rival: str, target: str) -> Iterator[Row]:
    """Relays against the upstream, the gateway against its rival where that is there."""
    place = (SUITE, figure)
    for system in samples.of:
        if system == GATEWAY and rival in samples.of:
            yield samples.row(place, system, unit, rival, target=target)
        else:
            yield samples.row(place, system, unit, "" if system == UPSTREAM else UPSTREAM)
