"""PURE: a model that might answer, by the facts that a choice needs; what is presumed without."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

# Where nothing at all is known of a model.
UNKNOWN_QUALITY = 0.5
UNKNOWN_REMOTE_QUALITY = 0.85
UNKNOWN_RELIABILITY = 0.97
# Quality of a model of one billion parameters, and what ten times as many add: with that, 8 and 70
# billion are 0.69 and 0.95, as in the example of the document that asked for this.
QUALITY_OF_ONE, QUALITY_OF_TENFOLD = 0.45, 0.27
BEST_QUALITY, LEAST_QUALITY = 0.99, 0.05
# What remote providers call their small models.
_SMALL = re.compile(r"(?<![a-z])(?:mini|nano|lite|flash|haiku|small|tiny|instant|8b|7b)(?![a-z])")
SMALL_REMOTE_QUALITY = 0.72
# What a model loses with its weights in so few bits; small ones lose more.
_LOST = ((6.5, 0.0), (5.5, 0.005), (4.5, 0.01), (3.8, 0.02), (2.8, 0.06), (0.0, 0.16))
# How much better, or worse, models that were made for something are.
SPECIAL, BESIDE_SPECIAL = 0.08, -0.04
SPECIAL_TASKS: Mapping[str, frozenset[str]] = {
    "code": frozenset({"code_generation", "code_analysis"}),
    "math": frozenset({"math", "data_analysis"}),
    "reasoning": frozenset({"math", "reasoning", "planning"}),
    "translation": frozenset({"translation"}),
    "creative": frozenset({"creative_writing"}),
}

# Speeds where none was measured: tokens a second of one billion parameters in 8 bits, and of remote
# ones; until the first token; bytes a second that are read at a load.
PRESUMED_OUTPUT, PRESUMED_REMOTE_OUTPUT = 40.0, 60.0
PRESUMED_FIRST_TOKEN_MS, PRESUMED_REMOTE_FIRST_TOKEN_MS = 100.0, 600.0
PRESUMED_PROMPT_FACTOR = 10.0
PRESUMED_LOAD_SECONDS, PRESUMED_LOAD_SECONDS_OF_ONE = 1.0, 0.7


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that might answer. None: not known; that never excludes it.

    Attributes:
        engine: what it runs on, or the provider.
        is_remote: it computes elsewhere.
        quality: 0 to 1, as declared or measured; else it is told by ``parameters`` and ``bits``.
        parameters, active_parameters: in billions; active ones where not all are used for a token.
        bits: of a weight, after quantisation.
        skills: by kind of work, where they are known to differ from ``quality``.
        made_for: what it was made for: keys of ``SPECIAL_TASKS``.
        context_tokens: that prompt and answer may take.
        latency_ms: of a whole request, where that alone is known.
        first_token_ms, prompt_per_second, output_per_second: as measured, of one request at a time.
        load_seconds: of a load.
        is_hot: it serves now.
        fits_now: it could be loaded now without unloading anything.
        is_available: False: it cannot be had at all, and ``why_unavailable`` says why.
        in_flight, queued: requests that it has, and that wait for it; ``places``: that it takes at
            a time.
        input_price, output_price: dollars of a million tokens; ``request_price``: of a request.
        reliability: share of requests that went well.
        memory_bytes: that its load takes.
    """

    model_id: str
    engine: str = ""
    is_remote: bool = False
    capabilities: frozenset[str] = frozenset({"chat", "completion"})
    quality: float | None = None
    parameters: float | None = None
    active_parameters: float | None = None
    bits: float | None = None
    skills: Mapping[str, float] = field(default_factory=dict)
    made_for: frozenset[str] = frozenset()
    context_tokens: int | None = None
    latency_ms: float | None = None
    first_token_ms: float | None = None
    prompt_per_second: float | None = None
    output_per_second: float | None = None
    load_seconds: float | None = None
    is_hot: bool = False
    fits_now: bool = True
    is_available: bool = True
    why_unavailable: str = ""
    in_flight: int = 0
    queued: int = 0
    places: int = 4
    input_price: float = 0.0
    output_price: float = 0.0
    request_price: float = 0.0
    reliability: float | None = None
    memory_bytes: int | None = None

    @property
    def is_timed(self) -> bool:
        """How long it takes was measured or declared."""
        return self.latency_ms is not None or self.output_per_second is not None


class IdleTiming(NamedTuple):
    """Milliseconds that a request alone takes, and those of the load before it where it is cold."""

    fixed: float
    per_prompt_token: float
    per_answer_token: float
    load: float


class Timing(NamedTuple):
    """Milliseconds that a request takes: ``fixed`` ones, and those of each token. ``wait``, which
    ``fixed`` includes, is for the load and for those before it."""

    fixed: float
    per_prompt_token: float
    per_answer_token: float
    wait: float = 0.0


def prior_quality(candidate: Candidate) -> float:
    """0 to 1: on the scale of difficulty, where it answers about half of all requests well."""
    if candidate.quality is not None:
        return min(BEST_QUALITY + 0.01, max(0.0, candidate.quality))
    size = _effective_parameters(candidate)
    if size is None:
        if not candidate.is_remote:
            return UNKNOWN_QUALITY
        is_small = _SMALL.search(candidate.model_id.casefold()) is not None
        return SMALL_REMOTE_QUALITY if is_small else UNKNOWN_REMOTE_QUALITY
    quality = QUALITY_OF_ONE + QUALITY_OF_TENFOLD * math.log10(max(size, 0.01))
    if candidate.bits is not None:
        lost = next(loss for bits, loss in _LOST if candidate.bits >= bits)
        quality -= lost * (1.5 if size < 4 else 1.0)
    return min(BEST_QUALITY, max(LEAST_QUALITY, quality))


def skill_of(candidate: Candidate, task: str, quality: float | None = None) -> float:
    """Its quality at a kind of work; ``quality`` is the prior one, where that is known already."""
    known = candidate.skills.get(task)
    if known is not None:
        return min(1.0, max(0.0, known))
    if quality is None:
        quality = prior_quality(candidate)
    if candidate.made_for:
        tasks = frozenset().union(*(SPECIAL_TASKS.get(m, frozenset()) for m in candidate.made_for))
        quality += SPECIAL if task in tasks else BESIDE_SPECIAL if tasks else 0.0
    return min(1.0, max(0.0, quality))


def idle_timing_of(candidate: Candidate) -> IdleTiming:
    """As measured or declared, else as presumed, whether it serves now or not."""
    c = candidate
    load = 0.0 if c.is_remote else 1000.0 * _load_seconds(c)
    if c.latency_ms is not None and c.output_per_second is None:
        return IdleTiming(c.latency_ms, 0.0, 0.0, load)
    output = c.output_per_second or _presumed_output(c)
    reading = c.prompt_per_second or output * PRESUMED_PROMPT_FACTOR
    presumed = PRESUMED_REMOTE_FIRST_TOKEN_MS if c.is_remote else PRESUMED_FIRST_TOKEN_MS
    fixed = presumed if c.first_token_ms is None else c.first_token_ms
    return IdleTiming(fixed, 1000.0 / reading, 1000.0 / output, load)


def timing_of(candidate: Candidate) -> Timing:
    """As it is now, with those that it serves and that wait for it."""
    c = candidate
    fixed, prompt, answer, load = idle_timing_of(c)
    wait = 0.0 if c.is_hot else load
    if not (c.in_flight or c.queued):
        return Timing(fixed + wait, prompt, answer, wait)
    places = max(1, c.places)
    ahead = max(0, c.in_flight + c.queued - places + 1)
    wait += ahead * (fixed + 200 * answer) / places
    # Those that are served at a time share what computes.
    slower = 1.0 if c.is_remote else 1.0 + 0.5 * min(c.in_flight, places) / places
    return Timing(fixed + wait, prompt * slower, answer * slower, wait)


def _effective_parameters(candidate: Candidate) -> float | None:
    """In billions. A mixture of experts is about as good as the geometric mean of both."""
    if candidate.parameters is None or candidate.parameters <= 0:
        return None
    active = candidate.active_parameters
    return math.sqrt(candidate.parameters * active) if active else candidate.parameters


def _presumed_output(candidate: Candidate) -> float:
    if candidate.is_remote:
        return PRESUMED_REMOTE_OUTPUT
    size = candidate.active_parameters or candidate.parameters or 4.0
    return PRESUMED_OUTPUT / max(0.1, size * (candidate.bits or 8.0) / 8)


def _load_seconds(candidate: Candidate) -> float:
    if candidate.load_seconds is not None:
        return candidate.load_seconds
    return PRESUMED_LOAD_SECONDS + PRESUMED_LOAD_SECONDS_OF_ONE * (candidate.parameters or 4.0)
