"""PURE. The options with which a model that was found is run from the first: what its layout keeps
beside it, as its own program would use that, and the projector that goes with it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from modelpool.catalog.entry_schema import GGUF_ENGINES
from modelpool.discovery.companions import Belonging, fitting_draft
from modelpool.discovery.findings import Finding
from modelpool.pulling.go_templates import applied
from modelpool.pulling.ollama_options import options_of, request_of

OLLAMA = "ollama"
# Kinds of companions that a model is run with unless the configuration says otherwise.
ATTACHED = ("projector", "draft")


def attached(
    finding: Finding, companions: Sequence[Belonging], attach: Collection[str]
) -> dict[str, Any]:
    """The companions that a model is run with where nobody says so: they make it able to do more,
    or sooner, and change none of its answers. llama.cpp drafts for no model with a projector."""
    projector = next((c.path for c in companions if c.kind == "projector"), None)
    if projector is not None and ("projector" in attach or projector in _of_store(finding)):
        return {"mmproj": projector}
    draft = fitting_draft(finding, companions) if "draft" in attach else None
    return {} if draft is None else {"draft_model": draft}


def _of_store(finding: Finding) -> Collection[str]:
    projectors: Collection[str] = finding.companions.get("projector", ())
    return projectors


def found_options(
    finding: Finding,
    engine: str,
    companions: Sequence[Belonging],
    attach: Collection[str] = ATTACHED,
) -> dict[str, Any]:
    """Options of ``engine`` for what was found; none for one that reads no GGUF."""
    if engine not in GGUF_ENGINES:
        return {}
    options = attached(finding, companions, attach)
    said = _of_ollama(finding)
    if said is None:
        return options
    options |= options_of(said.get("params"))
    # Of a folder nobody says which adapter is wanted; a manifest does.
    if adapters := finding.companions.get("adapter"):
        options["lora"] = [{"path": path} for path in adapters]
    if isinstance(template := said.get("template"), str) and (info := finding.info) is not None:
        given, _ = applied(template, has_own=info.has_chat_template)
        options |= {"chat_template": given} if given else {}
    return options


def found_request(finding: Finding, engine: str) -> dict[str, Any]:
    """What its layout says of requests, as an entry has it."""
    said = _of_ollama(finding)
    return {} if said is None or engine not in GGUF_ENGINES else request_of(said)


def _of_ollama(finding: Finding) -> Mapping[str, Any] | None:
    """What its manifest names, of the name that the model is called by."""
    names = finding.facts.get(OLLAMA)
    if not isinstance(names, Mapping):
        return None
    said = names.get(f"{finding.name}:{finding.tag}")
    return said if isinstance(said, Mapping) else None
