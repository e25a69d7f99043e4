"""The relay: what stands between a client and an upstream that answers at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial

from bench import load, ways, wrk
from bench import names as n
from bench.figures import Row
from bench.stage import Against, Samples, Stage
from bench.ways import Way

# A stream is the same stream where plain answers are put together.
STREAMING = (n.UPSTREAM, n.NGINX, n.GATEWAY, n.FRONT, n.WHOLE)
RIVALS = (n.UPSTREAM, n.NGINX)
# Of one second the first requests of so many connections are half a percent, and wrk counts each
# as often as others would have been answered meanwhile.
SLOWEST_SECONDS = 2


def run(stage: Stage) -> Iterator[Row]:
    """Measure upstream, nginx, gateway and front in turn, in every round.

    Raises:
        BenchError: something did not start, or answered wrongly.
    """
    if not wrk.is_installed():
        stage.note(wrk.INSTALL_HINT)
    with ExitStack() as stack:
        by_name = ways.start(stage, stack)
        yield from _requests(stage, by_name)
        yield from _median(stage, by_name)
        yield from _slowest(stage, by_name)
        yield from _streams(stage, by_name)


def _requests(stage: Stage, by_name: Mapping[str, Way]) -> Iterator[Row]:
    def measure(way: Way) -> float:
        return wrk.requests(way.port, way.plain, n.CONNECTIONS, stage.seconds).per_second

    # Of a given time more rounds say more than longer ones.
    systems = {name: partial(measure, w) for name, w in by_name.items()}
    samples = stage.paired(n.REQUESTS, systems, 2 * stage.rounds)
    yield from _rows(samples, n.REQUESTS, "/s")


def _median(stage: Stage, by_name: Mapping[str, Way]) -> Iterator[Row]:
    def measure(way: Way) -> float:
        return wrk.requests(way.port, way.plain, 1, stage.seconds).median_seconds * 1000

    samples = stage.paired(n.MEDIAN, {name: partial(measure, w) for name, w in by_name.items()})
    yield from _rows(samples, n.MEDIAN, "ms", [(n.UPSTREAM, "added")])


def _slowest(stage: Stage, by_name: Mapping[str, Way]) -> Iterator[Row]:
    def measure(way: Way) -> float:
        seconds = SLOWEST_SECONDS * stage.seconds
        return wrk.requests(way.port, way.plain, n.CROWD, seconds).p99_seconds * 1000

    samples = stage.paired(n.SLOWEST, {name: partial(measure, w) for name, w in by_name.items()})
    yield from _rows(samples, n.SLOWEST, "ms")


def _streams(stage: Stage, by_name: Mapping[str, Way]) -> Iterator[Row]:
    def measure(way: Way) -> float:
        return load.run(way.port, way.stream, n.STREAMS_AT_A_TIME, stage.seconds).per_second

    systems = {name: partial(measure, by_name[name]) for name in STREAMING if name in by_name}
    yield from _rows(stage.paired(n.STREAMS, systems), n.STREAMS, "/s")


def _rows(
    samples: Samples, figure: str, unit: str, also: list[Against] | None = None
) -> Iterator[Row]:
    """Everything against nginx, or where it is not there against the upstream itself."""
    rival = n.NGINX if n.NGINX in samples.of else n.UPSTREAM
    for system in samples.of:
        against: list[Against] = [] if system == rival else [(rival, "ratio")]
        against += [] if system == n.UPSTREAM else also or []
        yield samples.row((n.RELAY, figure), system, unit, against, ours=system not in RIVALS)
