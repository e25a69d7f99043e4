"""PURE: how fast a model was here, under which conditions, and whether that still holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelpool.measure.statistics import Spread

# Of each model; a profile a week for half a year.
KEPT = 26
SAME = 0.03


@dataclass(frozen=True)
class Conditions:
    """What figures hold for.

    Attributes:
        options: with which the worker was started, the tuned ones and those chosen by memory
            included.
        fingerprint: of the model's files; empty where it has none.
        engine, engine_version, modelpool: names and versions.
        cores: of the processor that the pool may use.
        host_load: what waited for the processor before the measurement, the average of a minute.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: str = ""
    engine: str = ""
    engine_version: str = ""
    modelpool: str = ""
    cores: int = 0
    host_load: float = 0.0


@dataclass(frozen=True)
class Level:
    """Figures at so many requests at a time; those that the kind of model does not have are None.

    Attributes:
        texts: in each request, where they are embedded or ranked; else 0.
        first_token_ms: of each stream.
        prompt_per_second: tokens of the prompt, of each stream.
        output_per_second: tokens after the first, of all streams together.
        texts_per_second: embedded or ranked, of all requests together.
        tokens_per_second: of these texts.
        latency_ms: of each request, to its end.
    """

    streams: int
    first_token_ms: Spread | None = None
    prompt_per_second: Spread | None = None
    output_per_second: Spread | None = None
    texts_per_second: Spread | None = None
    latency_ms: Spread | None = None
    tokens_per_second: Spread | None = None
    texts: int = 0


@dataclass(frozen=True)
class Profile:
    """One measurement of a model.

    Attributes:
        at: seconds since 1970.
        form: how it was asked: chat, completion, embeddings or rerank.
        prompt_tokens, output_tokens: of one request, as the engine counts them; of one text, where
            they are embedded or ranked.
        load_seconds: of the load of the worker that was measured; None where it was not seen.
        memory_bytes: the most that the worker took, by device.
    """

    at: float
    form: str
    levels: tuple[Level, ...]
    conditions: Conditions
    prompt_tokens: int = 0
    output_tokens: int = 0
    requests: int = 0
    failed: int = 0
    load_seconds: float | None = None
    memory_bytes: Mapping[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Profile:
        """The reverse of ``as_dict`` for data of our own."""
        levels = tuple(_level(level) for level in data["levels"])
        conditions = Conditions(**data["conditions"])
        return cls(**{**data, "levels": levels, "conditions": conditions})

    def level(self, streams: int, texts: int = 0) -> Level | None:
        """Its figures at so many requests at a time, of so many texts."""
        at = (streams, texts)
        return next((each for each in self.levels if (each.streams, each.texts) == at), None)


FIGURES = tuple(f.name for f in dataclasses.fields(Level) if f.name not in ("streams", "texts"))


def _level(data: Mapping[str, Any]) -> Level:
    figures = {name: Spread.from_dict(data.get(name)) for name in FIGURES}
    return Level(data["streams"], **figures, texts=data.get("texts", 0))


def stale_reason(then: Conditions, now: Conditions) -> str:
    """Why figures do not hold any more, in words; empty where they do."""
    return "; ".join(_differences(then, now))


def _differences(then: Conditions, now: Conditions) -> Iterator[str]:
    if then.fingerprint != now.fingerprint:
        yield "the model's files were replaced"
    if then.engine != now.engine:
        yield f"the engine is {now.engine}, was {then.engine}"
    elif then.engine_version != now.engine_version:
        yield f"{now.engine} is {now.engine_version or '?'}, was {then.engine_version or '?'}"
    for name in sorted(then.options.keys() | now.options.keys()):
        was, is_now = then.options.get(name), now.options.get(name)
        if was != is_now:
            yield f"option {name} is {_shown(is_now)}, was {_shown(was)}"
    if then.cores != now.cores:
        yield f"there are {now.cores} cores, were {then.cores}"


def _shown(value: Any) -> str:
    return "not set" if value is None else str(value)


def compared(before: Profile, now: Profile) -> list[dict[str, Any]]:
    """Each figure that both have: the medians, and ``change`` (0.1: a tenth more). ``is_noise``
    where the ranges of both overlap, or the medians are less than ``SAME`` apart."""
    rows = []
    for level in now.levels:
        former = before.level(level.streams, level.texts)
        for name in FIGURES:
            old: Spread | None = getattr(former, name, None)
            new: Spread | None = getattr(level, name)
            if old is not None and new is not None and old.median:
                at = {"streams": level.streams, "texts": level.texts}
                rows.append({**at, "figure": name, **_change(old, new)})
    return rows


def _change(old: Spread, new: Spread) -> dict[str, Any]:
    share = new.median / old.median - 1
    is_noise = abs(share) < SAME or (old.low <= new.high and new.low <= old.high)
    return {"before": old.median, "now": new.median, "change": share, "is_noise": is_noise}


def with_profile(history: Sequence[Profile], profile: Profile) -> tuple[Profile, ...]:
    """The history with one more, the newest first; the oldest go."""
    return (profile, *history)[:KEPT]


def in_words_of_m2(profile: Profile, iso: str | None) -> dict[str, Any]:
    """The figures by the names that the model manager of M2 gives them: latencies in ms, memory in
    MB, tokens or texts a second of one stream."""
    first = profile.levels[0]
    latency = first.latency_ms
    speed = first.output_per_second or first.texts_per_second
    return {
        "averageLatency": latency.median if latency is not None else None,
        "tokensPerSecond": speed.median if speed is not None else None,
        "totalInferences": profile.requests,
        "successRate": 1 - profile.failed / profile.requests if profile.requests else 0.0,
        "lastBenchmarked": iso,
        "memoryUsage": round(sum(profile.memory_bytes.values()) / 1e6, 1),
    }
