"""Which model is found best, and what is said of the others."""

from __future__ import annotations

from dataclasses import replace

from modelpool.catalog.find_best import MB, Facts, Findings, Wanted, find_best, read_wanted
from modelpool.catalog.model import Model

BIG = Model("org/big", "e", "x", size_bytes=9000 * MB, capabilities=("chat",), tags=("code",))
SMALL = replace(BIG, model_id="org/small", size_bytes=2000 * MB, tags=())
VECTORS = replace(SMALL, model_id="vectors", capabilities=("embeddings",))
FACTS = {
    BIG.model_id: Facts(10_000 * MB, latency_ms=700, latency_source="profile"),
    SMALL.model_id: Facts(2500 * MB, is_loaded=True, latency_ms=200, latency_source="profile"),
    VECTORS.model_id: Facts(2500 * MB),
}


def found(wanted: Wanted) -> Findings:
    return find_best((BIG, SMALL, VECTORS), wanted, lambda model: FACTS[model.model_id])


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
