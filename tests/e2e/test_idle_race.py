"""Requests to worker ports race the end of the lease a thousand times: none is ever cut.

Each must end as a whole answer, as 503 ``worker_draining``, or without having been taken at all.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter

import aiohttp
import pytest

from e2e.conftest import MakePool
from e2e.helpers import chat, fake
from e2e.rawhttp import Connection, Outcome
from e2e.support import PoolProcess

RACES = 1000
SECONDS = 240.0
MODELS = 6
RIVALS = 3
LEASE, GRACE = 0.12, 0.04
# When a request is sent: mostly about the end of the grace period, where it can lose.
ENDS, LATE, JITTER = (LEASE, *[LEASE + GRACE] * 5), 0.01, 0.015
WORDS = 12
TEXT = " ".join(f"word{n}" for n in range(WORDS))
SCRIPT = {"tokens_per_second": 600}  # an answer takes 20 ms: long enough to be in the way
CLEAN = {"whole", "draining", "refused", "reset", "closed"}


class Race:
    """Counts what became of the requests; over after so many, or when the time is up."""

    def __init__(self, pool: PoolProcess, seed: int) -> None:
        self.pool = pool
        self.counts: Counter[str] = Counter()
        self.bad: list[Outcome] = []
        self.loads = 0
        self._choose = random.Random(seed)
        self._end = time.monotonic() + SECONDS

    @property
    def is_over(self) -> bool:
        return self.counts.total() >= RACES or time.monotonic() > self._end

    async def run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=30)
        async with aiohttp.ClientSession(self.pool.url, timeout=timeout) as session:
            await asyncio.gather(*(self._model(session, f"m{n}") for n in range(MODELS)))

    async def _model(self, session: aiohttp.ClientSession, model: str) -> None:
        while not self.is_over:
            async with session.get(f"/models/{model}/endpoint?wait=30") as answer:
                assert answer.status in (200, 409), await answer.text()
                port = (await answer.json()).get("port")
            if port is not None:  # else it left in that very moment
                self.loads += 1
                await self._rounds(model, port)

    async def _rounds(self, model: str, port: int) -> None:
        """Ask just when the lease ends, until the worker is gone."""
        rivals = [Connection(port, keep=number == 0) for number in range(RIVALS)]
        try:
            while not self.is_over:
                kinds = await asyncio.gather(*(self._ask(model, rival) for rival in rivals))
                if set(kinds) != {"whole"}:
                    return
        finally:
            for rival in rivals:
                rival.close()

    async def _ask(self, model: str, rival: Connection) -> str:
        end = self._choose.choice(ENDS)
        await asyncio.sleep(max(0.0, self._choose.gauss(end + LATE, JITTER)))
        stream = self._choose.random() < 0.5
        return self._note(await rival.ask(chat(model, TEXT, stream=stream)))

    def _note(self, outcome: Outcome) -> str:
        kind = verdict(outcome)
        self.counts[kind] += 1
        if kind not in CLEAN:
            self.bad.append(outcome)
        return kind


def verdict(outcome: Outcome) -> str:
    """What became of a request, in a word; one of ``CLEAN`` if all is well."""
    if outcome.kind != "whole":
        return outcome.kind
    if outcome.status == 200:
        is_all = all(f"word{n}".encode() in outcome.body for n in range(WORDS))
        ends = outcome.body.endswith((b"[DONE]\n\n", b"}"))
        return "whole" if is_all and ends else "incomplete"
    is_draining = outcome.status == 503 and outcome.code == "worker_draining"
    return "draining" if is_draining else f"{outcome.status} {outcome.code}"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1])
def test_no_request_to_a_worker_is_cut_by_an_idle_unload(make_pool: MakePool, seed: int) -> None:
    models = [fake(f"m{n}", options=SCRIPT) for n in range(MODELS)]
    pool = make_pool(
        *models,
        ports=30,
        default_ttl_minutes=LEASE / 60,
        grace_minutes=GRACE / 60,
        beat_seconds=0.2,
        log_level="info",
    )
    race = Race(pool, seed)
    asyncio.run(race.run())
    print(f"\n{dict(race.counts)} in {race.loads} loads")
    assert not race.bad, (race.counts, race.bad[:5])
    assert race.counts.total() >= RACES
    assert race.counts["whole"] > RACES / 4
    assert race.counts.total() > race.counts["whole"]  # some of them did lose
