"""PURE. What servers of Ollama have, as entries of the catalog."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelpool_client.surfaces.names import answers_to

from modelpool.catalog.model import Model

from .servers import ENGINE

LATEST = ":latest"
# In an entry's metadata: what is known of it there, and that it was found, not registered.
METADATA = "ollama_server"
# Of Ollama's words for what a model can do, ours.
CAPABILITIES: Mapping[str, tuple[str, ...]] = {
    "completion": ("chat", "completion", "streaming", "json_mode", "json_schema"),
    "embedding": ("embeddings",),
    "tools": ("tools",),
    "insert": ("infill",),
    "vision": ("vision",),
    "audio": ("audio",),
    "thinking": ("thinking",),
}


def description(listed: Mapping[str, Any], shown: Mapping[str, Any]) -> dict[str, Any]:
    """A model by what ``/api/tags`` and ``/api/show`` say, as the package ``ollama`` has it."""
    details = {**(listed.get("details") or {}), **(shown.get("details") or {})}
    info = shown.get("modelinfo") or shown.get("model_info") or {}
    architecture = str(info.get("general.architecture") or details.get("family") or "")
    told = shown.get("capabilities")
    context = info.get(f"{architecture}.context_length")
    return {
        "name": str(listed.get("model") or listed.get("name")),
        "digest": str(listed.get("digest") or ""),
        "size": int(listed.get("size") or 0),
        "architecture": architecture,
        "quantization": str(details.get("quantization_level") or ""),
        "parameter_size": str(details.get("parameter_size") or ""),
        "context_length": context if isinstance(context, int) and context > 0 else None,
        # Versions before 0.6.4 do not say.
        "capabilities": [str(word) for word in told] if told else [],
    }


def is_remote(name: str) -> bool:
    """One that Ollama's own service computes."""
    tag = name.rpartition(":")[2]
    return tag == "cloud" or tag.endswith("-cloud")


def plain_name(name: str) -> str:
    """As people write it."""
    return name.removesuffix(LATEST)


def entry_of(described: Mapping[str, Any], model_id: str, *, is_found: bool) -> dict[str, Any]:
    """An entry of the catalog."""
    words = [w for c in described["capabilities"] for w in CAPABILITIES.get(c, ())]
    kept = {"digest": described["digest"], "parameter_size": described["parameter_size"]}
    entry = {
        "model_id": model_id,
        "engine": ENGINE,
        "source": plain_name(described["name"]),
        "capabilities": words,
        "context_length": described["context_length"],
        "size_bytes": described["size"] or None,
        "architecture": described["architecture"] or None,
        "quantization": described["quantization"] or None,
        "metadata": {METADATA: {**kept, "is_found": is_found}},
    }
    return {key: value for key, value in entry.items() if value not in (None, [])}


@dataclass(frozen=True)
class Plan:
    """What follows for the catalog: entries to register, ids to remove, each with why."""

    put: Sequence[Mapping[str, Any]] = ()
    drop: Sequence[tuple[str, str]] = ()


def planned(found: Sequence[Mapping[str, Any]], models: Iterable[Model]) -> Plan:
    """What the servers have, held against the catalog: what is not there yet is to be, and what
    was found once and is nowhere any more is to go, once all servers have answered. What a user
    registered, or changed, stays."""
    known = list(models)
    here = {plain_name(m.source) for m in known if m.engine == ENGINE}
    names = [name for model in known for name in model.names]
    put: list[dict[str, Any]] = []
    there: set[str] = set()
    for described in (each for server in found for each in server["models"]):
        name = plain_name(described["name"])
        is_new = name not in here and name not in there
        there.add(name)
        if not is_new or "size" not in described or is_remote(described["name"]):
            continue
        ids = [name, f"{ENGINE}:{name}"]
        model_id = next((i for i in ids if not answers_to(names, i)), None)
        if model_id is None:
            continue
        others = (f"{ENGINE}:{name}", f"{ENGINE}_{name}")
        aliases = [a for a in others if a != model_id and not answers_to(names, a)]
        names += [model_id, *aliases]
        put.append({**entry_of(described, model_id, is_found=True), "aliases": aliases})
    if not found or any(server["error"] for server in found):
        return Plan(put)
    gone = [
        (m.model_id, f"no server of Ollama has {m.source} any more")
        for m in known
        if m.engine == ENGINE and _was_found(m) and plain_name(m.source) not in there
    ]
    return Plan(put, gone)


def _was_found(model: Model) -> bool:
    kept = model.metadata.get(METADATA)
    return isinstance(kept, Mapping) and kept.get("is_found") is True


def known_digests(models: Iterable[Model]) -> list[tuple[str, str]]:
    """Name and digest of the models that need not be asked about again."""
    found = []
    for model in models:
        kept = model.metadata.get(METADATA)
        if model.engine == ENGINE and isinstance(kept, Mapping) and kept.get("digest"):
            last = model.source.rpartition("/")[2]
            full = model.source if ":" in last else f"{model.source}{LATEST}"
            found.append((full, str(kept["digest"])))
    return found
