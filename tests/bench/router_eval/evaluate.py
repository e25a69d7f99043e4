"""How good a router is: what it recovers of the gap between a weak and a strong model, how right
its confidence is, and how often it changes its mind for nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from random import Random
from statistics import fmean

from modelpool.routing.candidate import Candidate
from modelpool.routing.confidence import calibration_error
from modelpool.routing.decision import Decision, chances_for, decide
from modelpool.routing.features import Features, features_of
from modelpool.routing.policy import Policy, Strategy
from modelpool.routing.table import Table, table_of

from .items import Item
from .paraphrases import paraphrases
from .simulator import MODELS, STRONG, WEAK, Outcomes, outcomes

SHARES = 100


def pool() -> Table:
    """The simulated models as candidates; their skill is known as a prior, not by kind of work."""
    return table_of(
        Candidate(
            m.name,
            is_remote=True,
            quality=m.skill,
            parameters=m.parameters,
            context_tokens=32_768,
            output_price=m.price,
            first_token_ms=200.0,
            prompt_per_second=2000.0,
            output_per_second=m.tokens_per_second,
            reliability=0.99,
        )
        for m in MODELS
    )


def apgr(items: Sequence[Item], seen: Outcomes, wish: Sequence[float]) -> float:
    """The average share of the gap between weak and strong that is recovered, over all shares of
    requests for the strong one, given to those with the highest wish first."""
    order = sorted(range(len(items)), key=lambda i: -wish[i])
    gains = [0, *accumulate(seen.good[i][STRONG] - seen.good[i][WEAK] for i in order)]
    marks = [round(len(items) * k / SHARES) for k in range(SHARES + 1)]
    shares = [gains[mark] / gains[-1] if gains[-1] else 0.0 for mark in marks]
    return fmean((left + right) / 2 for left, right in pairwise(shares))


def wishes(features: Sequence[Features]) -> list[float]:
    """How much the router expects the strong model to be better: what a sweep of the weight of cost
    orders requests by."""
    table = pool()
    found = []
    for f in features:
        chance = chances_for(f)
        skills = table.skills(f.task.value)
        found.append(chance[skills[table.rows[STRONG]]] - chance[skills[table.rows[WEAK]]])
    return found


def interval(
    items: Sequence[Item], seen: Outcomes, wish: Sequence[float], rounds: int = 200
) -> tuple[float, float]:
    """Of ``apgr``, 95 %: whole families are drawn anew, for items of one are alike."""
    by_family: dict[str, list[int]] = defaultdict(list)
    for index, item in enumerate(items):
        by_family[item.family].append(index)
    names = sorted(by_family)
    random = Random(3)
    values = []
    for _ in range(rounds):
        drawn = [i for _ in names for i in by_family[random.choice(names)]]
        part = Outcomes([seen.good[i] for i in drawn], [seen.chance[i] for i in drawn])
        values.append(apgr([items[i] for i in drawn], part, [wish[i] for i in drawn]))
    values.sort()
    return values[int(0.025 * rounds)], values[int(0.975 * rounds) - 1]


@dataclass(frozen=True)
class Row:
    """A way to choose: the share of good answers, and dollars of 1,000 requests."""

    name: str
    quality: float
    cost: float


@dataclass(frozen=True)
class Report:
    """What an evaluation found.

    Attributes:
        apgr: by name of the wish: of the router, prompt length, chance, and the oracle, which knows
            the probabilities.
        calibration: of the stated confidence, the expected calibration error.
        flips: the share of paraphrases for which another model is chosen.
        regret: good answers a request less than an oracle that knows each outcome.
    """

    items: int
    apgr: dict[str, float]
    apgr_interval: tuple[float, float]
    apgr_by_language: dict[str, float]
    correlation: float
    task_accuracy: float
    calibration: float
    brier: float
    flips: float
    regret: float
    rows: tuple[Row, ...]
    curve: dict[str, tuple[float, ...]]
    by_family: dict[str, tuple[float, float, float]]
    confidences: tuple[tuple[float, int], ...]


def evaluate(items: Sequence[Item], seed: int = 7) -> Report:
    """Of the router as it stands, on these items."""
    seen = outcomes(items, seed)
    features = [features_of({"prompt": item.prompt}) for item in items]
    table = pool()
    chosen = [decide(f, table, policy=Policy(Strategy.BALANCED)) for f in features]
    wish = wishes(features)
    ways: dict[str, list[float]] = {
        "router": wish,
        "difficulty alone": [f.difficulty for f in features],
        "prompt length": [float(len(item.prompt)) for item in items],
        "oracle": [c[STRONG] - c[WEAK] for c in seen.chance],
    }
    languages = sorted({item.language for item in items})
    stated = [(d.confidence, seen.good[i][d.model_id or ""]) for i, d in enumerate(chosen)]
    return Report(
        items=len(items),
        apgr={
            **{name: apgr(items, seen, values) for name, values in ways.items()},
            "random": fmean(apgr(items, seen, values) for values in _at_random(len(items))),
        },
        apgr_interval=interval(items, seen, wish),
        apgr_by_language={lang: _of_language(items, seen, wish, lang) for lang in languages},
        correlation=_correlation([i.difficulty for i in items], [f.difficulty for f in features]),
        task_accuracy=fmean(f.task.value == i.task for f, i in zip(features, items, strict=True)),
        calibration=calibration_error(stated),
        brier=fmean((p - o) ** 2 for p, o in stated),
        flips=flips(items, chosen, table),
        regret=fmean(
            max(o.values()) - o[d.model_id or ""] for o, d in zip(seen.good, chosen, strict=True)
        ),
        rows=_rows(seen, features, table),
        curve={
            **{name: _curve(seen, values) for name, values in ways.items()},
            "random": tuple(
                map(fmean, zip(*(_curve(seen, v) for v in _at_random(len(items))), strict=True))
            ),
        },
        by_family=_by_family(items, features),
        confidences=tuple(stated),
    )


def _at_random(count: int, draws: int = 20) -> list[list[float]]:
    random = Random(5)
    return [[random.random() for _ in range(count)] for _ in range(draws)]


def flips(items: Sequence[Item], chosen: Sequence[Decision], table: Table) -> float:
    """The share of paraphrases for which another model is chosen than for the original."""
    changed = total = 0
    for item, decision in zip(items, chosen, strict=True):
        for text in paraphrases(item):
            other = decide(features_of({"prompt": text}), table)
            changed += other.model_id != decision.model_id
            total += 1
    return changed / total


def _of_language(
    items: Sequence[Item], seen: Outcomes, wish: Sequence[float], language: str
) -> float:
    rows = [i for i, item in enumerate(items) if item.language == language]
    part = Outcomes([seen.good[i] for i in rows], [seen.chance[i] for i in rows])
    return apgr([items[i] for i in rows], part, [wish[i] for i in rows])


def _rows(seen: Outcomes, features: Sequence[Features], table: Table) -> tuple[Row, ...]:
    price = {m.name: m.price for m in MODELS}

    def row(name: str, models: Sequence[str]) -> Row:
        quality = fmean(o[m] for o, m in zip(seen.good, models, strict=True))
        dollars = [
            f.answer_tokens * price[m] / 1_000_000 for f, m in zip(features, models, strict=True)
        ]
        return Row(name, quality, 1000 * fmean(dollars))

    random = Random(9)
    names = [m.name for m in MODELS]
    found = [row(f"always {name}", [name] * len(features)) for name in names]
    found.append(row("random", [random.choice(names) for _ in features]))
    for strategy in Strategy:
        models = [decide(f, table, policy=Policy(strategy)).model_id or "" for f in features]
        found.append(row(strategy.value, models))
    best = [min(names, key=lambda n, o=o: (-o[n], price[n])) for o in seen.good]  # type: ignore[misc]
    found.append(row("oracle", best))
    return tuple(found)


def _curve(seen: Outcomes, wish: Sequence[float]) -> tuple[float, ...]:
    """Good answers at each tenth of requests for the strong model."""
    order = sorted(range(len(wish)), key=lambda i: -wish[i])
    weak = sum(o[WEAK] for o in seen.good)
    values = []
    for tenth in range(11):
        part = order[: round(len(order) * tenth / 10)]
        gain = sum(seen.good[i][STRONG] - seen.good[i][WEAK] for i in part)
        values.append((weak + gain) / len(order))
    return tuple(values)


def _by_family(
    items: Sequence[Item], features: Sequence[Features]
) -> dict[str, tuple[float, float, float]]:
    found: dict[str, list[tuple[float, float, bool]]] = defaultdict(list)
    for item, f in zip(items, features, strict=True):
        found[item.family].append((item.difficulty, f.difficulty, f.task.value == item.task))
    return {
        name: (
            fmean(d for d, _, _ in rows),
            fmean(s for _, s, _ in rows),
            _correlation([d for d, _, _ in rows], [s for _, s, _ in rows]),
        )
        for name, rows in found.items()
    }


def _correlation(xs: Sequence[float], ys: Sequence[float]) -> float:
    mx, my = fmean(xs), fmean(ys)
    sx = sum((x - mx) ** 2 for x in xs)
    sy = sum((y - my) ** 2 for y in ys)
    if sx < 1e-12 or sy < 1e-12:
        return 0.0
    return sum((x - mx) * (y - my) for x, y in zip(xs, ys, strict=True)) / (sx * sy) ** 0.5
