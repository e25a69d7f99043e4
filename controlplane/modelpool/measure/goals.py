"""PURE: what is measured for a goal, and how fast that was."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .candidates import Goal
from .requests import Form, Workload
from .samples import Batch


@dataclass(frozen=True)
class Measure:
    """Requests at a time, tokens of prompt and answer, and what of the outcome counts: more is
    better. Short ones: it is repeated often, and compared with one right beside it."""

    streams: int
    prompt_tokens: int
    output_tokens: int
    speed: Callable[[Batch], float]

    def workload(self, form: Form) -> Workload:
        """What each request is like."""
        return Workload(form, self.prompt_tokens, self.output_tokens)


def _first_token(batch: Batch) -> float:
    return 1 / statistics.median(s.first_token_seconds for s in batch.samples)


def _one_stream(batch: Batch) -> float:
    return statistics.median(s.output_per_second for s in batch.samples)


def _many_streams(batch: Batch) -> float:
    return batch.output_per_second


MEASURES: Mapping[Goal, Measure] = {
    "first-token": Measure(1, 256, 2, _first_token),
    "one-stream": Measure(1, 32, 48, _one_stream),
    "many-streams": Measure(8, 64, 24, _many_streams),
}
