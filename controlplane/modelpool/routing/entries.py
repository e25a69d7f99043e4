"""PURE: catalog entries as candidates: what an entry, its profile and its use say of a model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from modelpool_client.capabilities import WRITES_NONE, WRITES_TEXT

from modelpool.catalog.model import Model
from modelpool.catalog.profiles import Profile
from modelpool.providers.entries import PROVIDER_TYPE

from .candidate import SPECIAL_TASKS, Candidate

BILLION = 1_000_000_000
MB = 1_000_000
# "70b", "8x7b", "30b-a3b": in names, where files say nothing.
_SIZE = re.compile(r"(?<![a-z0-9.])(?:(\d{1,2})x)?(\d{1,4}(?:\.\d{1,2})?)b(?![a-z0-9])")
_ACTIVE = re.compile(r"(?<![a-z0-9])a(\d{1,3}(?:\.\d)?)b(?![a-z0-9])")
_MILLIONS = re.compile(r"(?<![a-z0-9.])(\d{2,4})m(?![a-z0-9])")
# Of a mixture of experts whose active part no name tells: two of eight, and what all share.
USUALLY_ACTIVE = 0.28
_BITS = re.compile(r"(?:i?q|int|w|fp|bf|f)[-_]?(\d{1,2})|(\d)[-_]?bit")
# Bytes of scales and of what is left in more bits, for weights in few.
WITH_SCALES = 0.5
_MADE_FOR: Mapping[str, re.Pattern[str]] = {
    "code": re.compile(r"(?<![a-z])(?:code|coder|codestral|starcoder|codellama|devstral)"),
    "math": re.compile(r"(?<![a-z])(?:math|mathstral|numina)"),
    "reasoning": re.compile(r"(?<![a-z])(?:reason|thinking|qwq|r1(?![0-9])|magistral)"),
    "translation": re.compile(r"(?<![a-z])(?:translate|nllb|madlad|opus-mt)"),
}
# As by so many requests that went as usual: a few alone say little.
PRIOR_REQUESTS, PRIOR_RELIABILITY = 20, 0.99
LEAST_REQUESTS = 5


@dataclass(frozen=True, slots=True)
class Use:
    """How a model was used: requests, those that failed, seconds of one on average."""

    requests: int = 0
    failed: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Live:
    """How a model is at this moment, see ``Candidate``."""

    is_hot: bool = False
    fits_now: bool = True
    in_flight: int = 0
    queued: int = 0
    places: int | None = None
    why_unavailable: str = ""
    load_seconds: float | None = None


NO_USE, COLD = Use(), Live()


def answers(model: Model) -> bool:
    """Whether requests can be for it: the entry of a provider stands for all its models."""
    return model.model_type != PROVIDER_TYPE


def candidate_of(model: Model, profile: Profile | None = None, use: Use = NO_USE) -> Candidate:
    """What lasts from one request to the next; ``with_live`` adds the rest.

    Args:
        profile: the newest of it.
    """
    level = profile.level(1) if profile is not None else None
    first = level.first_token_ms if level is not None else None
    reading = level.prompt_per_second if level is not None else None
    writing = level.output_per_second if level is not None else None
    size, active = sizes(model)
    prices = model.prices
    is_used = use.requests >= LEAST_REQUESTS
    return Candidate(
        model_id=model.model_id,
        engine=model.served_by or model.engine,
        is_remote=bool(model.served_by),
        capabilities=capabilities_of(model),
        quality=_share(model.metadata.get("quality")),
        parameters=size,
        active_parameters=active,
        bits=bits_of_weights(model.quantization),
        skills=_skills(model.metadata.get("skills")),
        made_for=made_for(model),
        context_tokens=model.context_length,
        latency_ms=1000 * use.seconds if is_used and writing is None else None,
        first_token_ms=first.median if first is not None else None,
        prompt_per_second=reading.median if reading is not None else None,
        output_per_second=writing.median if writing is not None else None,
        load_seconds=profile.load_seconds if profile is not None else None,
        input_price=_number(prices.get("input")),
        output_price=_number(prices.get("output")),
        reliability=reliability_of_use(use) if is_used else None,
        memory_bytes=memory_of(model),
    )


def with_live(candidate: Candidate, live: Live) -> Candidate:
    """How it is now, beside what lasts."""
    return replace(
        candidate,
        is_hot=live.is_hot,
        fits_now=live.fits_now,
        in_flight=live.in_flight,
        queued=live.queued,
        places=live.places or candidate.places,
        is_available=not live.why_unavailable,
        why_unavailable=live.why_unavailable,
        load_seconds=candidate.load_seconds if live.load_seconds is None else live.load_seconds,
    )


def reliability_of_use(use: Use) -> float:
    """The share of requests that went well, drawn to what is usual."""
    well = use.requests - use.failed + PRIOR_REQUESTS * PRIOR_RELIABILITY
    return well / (use.requests + PRIOR_REQUESTS)


def capabilities_of(model: Model) -> frozenset[str]:
    """What may be asked of it. One that writes text, or of which nothing is known, chats and goes
    on with texts, unless that is denied: engines have a chat template of their own."""
    known = frozenset(model.capabilities)
    if known & WRITES_TEXT or not known & WRITES_NONE:
        known |= {"chat", "completion"}
    return known - frozenset(model.denied_capabilities)


def sizes(model: Model) -> tuple[float | None, float | None]:
    """Billions of parameters, all and active; active is None where all are, or nothing is known."""
    name = model.model_id.casefold().replace("_", "-").replace(":", "-").replace("/", "-")
    counted = model.facts.get("parameter_count")
    found = _SIZE.search(name)
    active = _ACTIVE.search(name)
    size: float | None = None
    if isinstance(counted, int) and counted > 0:
        size = counted / BILLION
    elif found is not None:
        size = float(found[2]) * int(found[1] or 1)
    elif (small := _MILLIONS.search(name)) is not None:
        size = float(small[1]) / 1000
    if size is None:
        return None, None
    if active is not None:
        return size, min(size, float(active[1]))
    is_mixture = found is not None and found[1] is not None
    return size, size * USUALLY_ACTIVE if is_mixture else None


def bits_of_weights(quantization: str | None) -> float | None:
    """Of ``Q4_K_M``, ``4bit``, ``BF16`` …: about how many a weight takes."""
    found = _BITS.search(quantization.casefold()) if quantization else None
    if found is None:
        return None
    bits = float(found[1] or found[2])
    if not 1 <= bits <= 64:
        return None
    return bits + WITH_SCALES if bits < 8 else bits


def made_for(model: Model) -> frozenset[str]:
    """By its tags and type, else by its name; and whoever thinks first reasons better."""
    said = {word.casefold() for word in (*model.tags, model.model_type)}
    found = {kind for kind in SPECIAL_TASKS if kind in said}
    if not found:
        name = model.model_id.casefold()
        found = {kind for kind, pattern in _MADE_FOR.items() if pattern.search(name)}
    return frozenset(found | ({"reasoning"} if "thinking" in model.capabilities else set()))


def memory_of(model: Model) -> int | None:
    """About what a load takes of the host, in bytes; None for what computes elsewhere."""
    if model.served_by:
        return None
    return int(model.memory_mb * MB) if model.memory_mb is not None else model.size_bytes


def _skills(value: Any) -> dict[str, float]:
    """By kind of work, as somebody declared them; what is no share is passed over."""
    if not isinstance(value, Mapping):
        return {}
    found = {str(task): _share(skill) for task, skill in value.items()}
    return {task: skill for task, skill in found.items() if skill is not None}


def _share(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value <= 1 else None


def _number(value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and value >= 0 else 0.0
