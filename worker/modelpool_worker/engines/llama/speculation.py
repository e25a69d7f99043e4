"""Speculative decoding in llama.cpp: cheap guesses at the next tokens, which the model checks all
at once. What it answers stays the same; whether it is sooner there depends on how many guesses are
right, and a wrong one costs what checking it took (``make bench``, suite *speculation*)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelpool_client.errors import LoadFailed
from modelpool_client.surfaces.schema import Schema

from modelpool_worker.engines.gguf import read_header

NONE = "none"
DRAFT_MODEL, SPEC_TYPE = "draft_model", "spec_type"
# llama.cpp's --spec-type, as far as it takes no model: by which the text so far is searched.
SPEC_TYPES = (NONE, "ngram-simple", "ngram-map-k", "ngram-map-k4v", "ngram-mod", "ngram-cache")
BOUNDS = ("draft_max", "draft_min", "draft_p_min")

OPTIONS: Mapping[str, Schema] = {
    DRAFT_MODEL: {
        "type": "string",
        "minLength": 1,
        "description": "absolute path of a small GGUF model with the same vocabulary, which "
        "proposes tokens (speculative decoding)",
    },
    SPEC_TYPE: {
        "type": "string",
        "enum": SPEC_TYPES,
        "description": "propose tokens from the text so far (speculative decoding without a draft "
        f"model, or before it), for texts that repeat themselves; default: {NONE}",
        "default": NONE,
        "tuning": {
            "goals": ("one-stream",),
            "settings": tuple({SPEC_TYPE: name} for name in ("ngram-simple", "ngram-mod")),
        },
    },
    "draft_max": {
        "type": "integer",
        "minimum": 1,
        "maximum": 256,
        "description": "tokens proposed at once; default: llama.cpp's, 3 by a draft model, 48 or "
        "64 from the text",
    },
    "draft_min": {
        "type": "integer",
        "minimum": 0,
        "maximum": 256,
        "description": "fewer are not proposed; by a draft model and ngram-mod",
    },
    "draft_p_min": {
        "type": "number",
        "minimum": 0,
        "maximum": 1,
        "description": "a draft model proposes no token that it holds less probable; default: 0",
    },
}


def contradiction(options: Mapping[str, Any]) -> tuple[str, str] | None:
    """The option that is wrong beside the others, and why."""
    path, kind = options.get(DRAFT_MODEL), options.get(SPEC_TYPE, NONE)
    if path is None and kind == NONE:
        lone = next((name for name in BOUNDS if name in options), None)
        if lone is not None:
            return lone, f"says how much is proposed; say by what: {DRAFT_MODEL} or {SPEC_TYPE}"
    if path is None and "draft_p_min" in options:
        return "draft_p_min", f"is for a {DRAFT_MODEL}"
    if options.get("draft_min", 0) > options.get("draft_max", options.get("draft_min", 0)):
        return "draft_min", "must not be more than draft_max"
    return None


def is_wanted(options: Mapping[str, Any]) -> bool:
    """Is anything to be proposed?"""
    return DRAFT_MODEL in options or options.get(SPEC_TYPE, NONE) != NONE


def set_speculation(library: Any, p: Any, options: Mapping[str, Any]) -> None:
    """Of llama.cpp's parameters those for speculation; the rest must be there.

    Raises:
        LoadFailed: code ``bad_file``: the draft model cannot be read.
    """
    if not is_wanted(options):
        return
    kind, path = options.get(SPEC_TYPE, NONE), options.get(DRAFT_MODEL)
    names = [kind] if kind != NONE else []
    if path is not None:
        read_header(path)
        names.append("draft-simple")
        _set_draft_model(p, path, options)
    p.speculative.types = [_type(library, name) for name in names]
    if kind == "ngram-mod":
        _fill(p.speculative.ngram_mod, options, n_max="draft_max", n_min="draft_min")
    elif kind.startswith("ngram-") and kind != "ngram-cache":
        _fill(getattr(p.speculative, kind.replace("-", "_")), options, size_m="draft_max")


def _set_draft_model(p: Any, path: str, options: Mapping[str, Any]) -> None:
    draft = p.speculative.draft
    draft.mparams.path = path
    for ours, theirs in ((draft.cpuparams, p.cpuparams), (draft.cpuparams_batch, p.cpuparams)):
        ours.n_threads = theirs.n_threads
    draft.cache_type_k, draft.cache_type_v = p.cache_type_k, p.cache_type_v
    if "gpu_layers" in options:
        draft.n_gpu_layers = options["gpu_layers"]
    _fill(draft, options, n_max="draft_max", n_min="draft_min", p_min="draft_p_min")


def _fill(target: Any, options: Mapping[str, Any], **names: str) -> None:
    for attribute, option in names.items():
        if option in options:
            setattr(target, attribute, options[option])


def _type(library: Any, name: str) -> Any:
    kinds = library.common_speculative_type
    return getattr(kinds, f"COMMON_SPECULATIVE_TYPE_{name.replace('-', '_').upper()}")


def check_in_force(options: Mapping[str, Any], slots: list[dict[str, Any]]) -> None:
    """llama.cpp goes on without a draft model that does not fit, and says so in its log only.

    Raises:
        LoadFailed: code ``bad_config``: nothing is proposed in ``slots``, as the server tells them.
    """
    if not is_wanted(options) or all(slot.get("speculative") for slot in slots):
        return
    name = DRAFT_MODEL if DRAFT_MODEL in options else SPEC_TYPE
    why = "is refused by llama.cpp for this model; its last words are in the worker's log"
    if name == DRAFT_MODEL:
        why = (
            f"{options[name]} does not fit this model: it must have the same vocabulary "
            "(llama.cpp's own reason is in the worker's log)"
        )
    param = f"options.{name}"
    raise LoadFailed(f"llama.cpp: {param} {why}", code="bad_config", param=param, source="engine")
