"""What a model can do, with what every method said of it."""

from __future__ import annotations

from modelpool.api.answers import Capabilities as View
from modelpool.api.answers import CapabilityDecision, CapabilityFinding, CapabilityProbe
from modelpool.catalog.capabilities import Decision, Finding, detect
from modelpool.catalog.model import Model
from modelpool.catalog.probe_results import ProbeResult
from modelpool.observe.events import iso
from modelpool.services import Services


async def capabilities_view(services: Services, model: Model) -> View:
    """By what is known now; its files are read only where nobody has done so yet."""
    if services.estimator.reading(model) is None:
        await services.describe(model.model_id)
        model = services.catalog.get(model.model_id)
    book, reading = services.capabilities, services.estimator.reading(model)
    digest = reading.files.digest if reading is not None else ""
    info = reading.info if reading is not None else None
    evidence = await book.evidence(model, info, digest)
    detected = detect(evidence)
    version = (await book.engine(model.engine)).version
    stale = book.stale(model, digest, version)
    return {
        "model_id": model.model_id,
        "capabilities": list(model.capabilities),
        "presumed": list(model.presumed_capabilities),
        "declared": list(evidence.declared),
        "found": [_decision(d) for d in detected.decisions if d.finding.is_able],
        "ruled_out": [_decision(d) for d in detected.decisions if not d.finding.is_able],
        "probes": [
            *(_probe(r, is_stale=False) for r in evidence.probes),
            *(_probe(r, is_stale=True) for r in stale),
        ],
    }


def _decision(decision: Decision) -> CapabilityDecision:
    finding = decision.finding
    return {
        "capability": finding.capability,
        "source": finding.source,
        "certainty": finding.certainty,
        "reason": finding.reason,
        "also": [_finding(f) for f in decision.others],
    }


def _finding(finding: Finding) -> CapabilityFinding:
    return {
        "source": finding.source,
        "is_able": finding.is_able,
        "certainty": finding.certainty,
        "reason": finding.reason,
    }


def _probe(result: ProbeResult, *, is_stale: bool) -> CapabilityProbe:
    return {
        "capability": result.capability,
        "outcome": result.outcome,
        "reason": result.reason,
        "milliseconds": result.milliseconds,
        "probed_at": iso(result.probed_at),
        "is_stale": is_stale,
    }
