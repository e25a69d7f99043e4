"""Machines that do not exist, for searches: what each option does to their speed is known."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping

from modelpool.measure.candidates import Dimension, Setting
from modelpool.measure.search import Done, Pair, Try, next_step

SPACE = (
    Dimension("threads", ((("threads", 1),), (("threads", 4),))),
    Dimension("batch_size", tuple((("batch_size", n),) for n in (64, 128, 512, 1024))),
    Dimension("cache", ((("cache_k", "q8_0"), ("cache_v", "q8_0")),)),
    Dimension("flash", ((("flash", "on"),), (("flash", "off"),))),
    Dimension("speculation", ((("spec", "ngram-simple"),), (("spec", "ngram-mod"),))),
)


class Machine:
    """``effects`` are factors of the speed, by option and value. Every measurement has noise of its
    own, and the machine's pace drifts, by steps between measurements."""

    def __init__(
        self,
        effects: Mapping[tuple[str, object], float],
        seed: int,
        noise: float = 0.05,
        drift: float = 0.02,
    ) -> None:
        self._effects = effects
        self._random = random.Random(seed)
        self._noise = noise
        self._drift = drift
        self._pace = 0.0

    def truth(self, setting: Setting) -> float:
        return math.prod(self._effects.get(option, 1.0) for option in setting)

    def measure(self, setting: Setting) -> float:
        self._pace += self._random.gauss(0, self._drift)
        return self.truth(setting) * math.exp(self._pace + self._random.gauss(0, self._noise))

    def pair(self, step: Try) -> Pair:
        order = (step.challenger, step.champion)
        speeds = {s: self.measure(s) for s in (order if step.challenger_first else order[::-1])}
        ratio = speeds[step.challenger] / speeds[step.champion]
        return Pair(step.challenger, step.champion, ratio, step.is_final)


def search(machine: Machine, pairs: int = 1000) -> tuple[Done, list[Pair]]:
    """To its end."""
    results: list[Pair] = []
    while True:
        step = next_step(SPACE, results, pairs_left=pairs - len(results))
        if isinstance(step, Done):
            return step, results
        results.append(machine.pair(step))
