"""Which model is found best, and what is said of the others."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from modelpool.catalog.find_best import BestFinder, Facts, Findings, Wanted, read_wanted
from modelpool.catalog.model import Model
from modelpool.catalog.search import MB, weight_of

BIG = Model("org/big", "e", "x", size_bytes=9000 * MB, capabilities=("chat",), tags=("code",))
SMALL = replace(BIG, model_id="org/small", size_bytes=2000 * MB, tags=())
VECTORS = replace(SMALL, model_id="vectors", capabilities=("embeddings",))
FACTS = {
    BIG.model_id: Facts(10_000 * MB, latency_ms=700, latency_source="profile"),
    SMALL.model_id: Facts(2500 * MB, is_loaded=True, latency_ms=200, latency_source="profile"),
    VECTORS.model_id: Facts(2500 * MB),
}


KNOWN = {name for name, facts in FACTS.items() if facts.is_loaded or facts.latency_ms is not None}


def found(wanted: Wanted) -> Findings:
    finder = BestFinder(wanted, lambda model, _: FACTS[model.model_id], KNOWN)
    finder.look(finder.in_order((BIG, SMALL, VECTORS)))
    return finder.findings((BIG, SMALL, VECTORS))


def best(wanted: Wanted) -> str | None:
    candidate = found(wanted).best
    return candidate.model.model_id if candidate is not None else None


def test_the_largest_that_meets_the_conditions_is_best() -> None:
    assert best(Wanted("llm")) == "org/big"
    assert best(Wanted("llm", max_memory_bytes=8000 * MB)) == "org/small"
    assert best(Wanted("llm", max_latency_ms=500)) == "org/small"
    assert best(Wanted("embedding")) == "vectors"
    assert best(Wanted(required_capabilities=("code_generation",))) == "org/big"
    assert best(Wanted(required_capabilities=("chat_completion",), repository="org")) == "org/big"
    assert best(Wanted("llm", tags=("none",))) is None


def test_each_that_is_not_found_is_told_why() -> None:
    findings = found(Wanted("llm", 8000 * MB))
    assert findings.excluded == {
        "org/big": ("needs 10,000 MB, more than 8,000",),
        "vectors": ("its type is general, not llm",),
    }
    assert findings.best is not None
    assert findings.best.reasons == ("needs 2,500 MB", "takes 200 ms (profile)", "is loaded")


def test_who_was_not_measured_comes_after_those_that_were() -> None:
    findings = found(Wanted(max_latency_ms=800))
    assert findings.best is not None
    assert findings.best.model is BIG
    assert [c.model.model_id for c in findings.runners_up] == ["org/small", "vectors"]
    assert "its latency is not known: nothing was measured yet" in findings.runners_up[1].reasons


def test_the_least_memory_is_read_as_the_most() -> None:
    wanted, warnings = read_wanted({"min_memory_gb": 8.0})
    assert wanted.max_memory_bytes == 8000 * MB
    assert warnings == ["min_memory_gb is read as a maximum: 8 GB; write max_memory_gb"]
    assert read_wanted({"min_memory_gb": 8, "max_memory_gb": 4})[0].max_memory_bytes == 4000 * MB


@pytest.mark.parametrize("seed", range(30))
def test_whoever_looks_no_longer_than_needed_finds_what_a_look_at_all_finds(seed: int) -> None:
    dice = Random(seed)
    models = [
        Model(f"m{i:02}", "e", "x", size_bytes=dice.choice((None, MB, 2 * MB, 3 * MB)))
        for i in range(60)
    ]
    facts = {
        m.model_id: Facts(
            dice.randrange(9) * MB, dice.random() < 0.1, dice.choice((None, None, 5.0, 50.0))
        )
        for m in models
    }
    told = {n for n, known in facts.items() if known.is_loaded or known.latency_ms is not None}
    wanted = Wanted(
        max_memory_bytes=dice.choice((None, 4 * MB)), max_latency_ms=dice.choice((None, 20.0))
    )
    models.sort(key=weight_of, reverse=True)

    def facts_of(model: Model, _: bool) -> Facts:
        return facts[model.model_id]

    def best_of(looks: int) -> list[str]:
        finder = BestFinder(wanted, facts_of, told)
        ordered = list(finder.in_order(models))
        for i in range(0, len(ordered), looks):
            if finder.look(ordered[i : i + looks]):
                break
        findings = finder.findings()
        assert findings.best is not None
        return [c.model.model_id for c in (findings.best, *findings.runners_up)]

    def rank(model: Model) -> tuple[object, ...]:
        known = facts[model.model_id]
        slow = float("inf") if known.latency_ms is None else known.latency_ms
        is_unsure = wanted.max_latency_ms is not None and known.latency_ms is None
        return (is_unsure, -weight_of(model), not known.is_loaded, slow, model.model_id)

    def is_possible(model: Model) -> bool:
        known, most = facts[model.model_id], wanted.max_latency_ms
        fits = wanted.max_memory_bytes is None or (known.memory_bytes or 0) <= 4 * MB
        return fits and (most is None or known.latency_ms is None or known.latency_ms <= most)

    everything = [m.model_id for m in sorted(filter(is_possible, models), key=rank)][:4]
    assert best_of(7) == best_of(1000) == everything


def test_of_models_that_are_alike_it_is_looked_at_few() -> None:
    """As those whose size nobody knows."""
    models = [Model(f"m{i:04}", "e", "x") for i in range(1000)]
    asked = []

    def facts_of(model: Model, needs_memory: bool) -> Facts:
        asked.append(model)
        return Facts(MB if needs_memory else None, model.model_id == "m0500")

    finder = BestFinder(Wanted(max_memory_bytes=2 * MB), facts_of, {"m0500"})
    assert finder.look(finder.in_order(models))
    findings = finder.findings()
    assert findings.best is not None
    ids = [c.model.model_id for c in (findings.best, *findings.runners_up)]
    assert ids == ["m0500", "m0000", "m0001", "m0002"]
    assert len(asked) < 20
