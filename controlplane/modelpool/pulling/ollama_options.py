"""What a model of Ollama brings with it, as load options and as rules of requests. PURE, and
without what asks a registry: the manager reads what a store on this machine says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from modelpool_client.errors import InvalidRequest
from modelpool_client.surfaces.ollama.parameters import RENAMED
from modelpool_client.surfaces.ollama.tables import OPTIONS as OF_REQUESTS
from modelpool_client.surfaces.schema import check, whole

from modelpool.catalog.request_rules import MAX_PROMPT

# By our names of load options.
OPTIONS: Mapping[str, str] = {
    "num_ctx": "context_length",
    "num_batch": "batch_size",
    "num_gpu": "gpu_layers",
    "num_thread": "threads",
    "seed": "seed",
    "temperature": "temperature",
    "use_mmap": "mmap",
}
# Of these, those that are true or false; the others are numbers.
SWITCHES = frozenset({"use_mmap"})
# Parameters that requests fill in where they do not say them.
DEFAULTS = OF_REQUESTS.keys() - OPTIONS.keys()
# Numbers of which those below 1 say that there is no limit.
LIMITS = frozenset({"num_predict"})


def options_of(params: object) -> dict[str, Any]:
    """Those of the parameters that are load options, by our names."""
    said = params if isinstance(params, Mapping) else {}
    return {OPTIONS[k]: v for k, v in said.items() if k in OPTIONS and _is_of_its_kind(k, v)}


def request_of(said: Mapping[str, Any]) -> dict[str, Any]:
    """The rest of its parameters and what it is told first, as an entry's ``request`` has it.

    Args:
        said: ``params``, and ``system`` as text.
    """
    params, system = said.get("params"), said.get("system")
    defaults = {
        RENAMED.get(name, name): whole(OF_REQUESTS[name], value)
        for name, value in (params.items() if isinstance(params, Mapping) else ())
        if name in DEFAULTS and _is_of_its_kind(name, value) and value != []
    }
    rules: dict[str, Any] = {"defaults": defaults} if defaults else {}
    if isinstance(system, str) and system.strip() and len(system) <= MAX_PROMPT:
        rules["system_prompt"] = system
    return rules


def is_applied(name: str, value: object) -> bool:
    """Whether something follows from that parameter here."""
    return name in OPTIONS.keys() | DEFAULTS and _is_of_its_kind(name, value)


def _is_of_its_kind(name: str, value: object) -> bool:
    """What a registry says is not what an engine should refuse after hours of fetching, nor why a
    request is refused that never said it."""
    if isinstance(value, float) and not math.isfinite(value):
        return False
    if name in DEFAULTS:
        return _is_default(name, value)
    if name in SWITCHES:
        return isinstance(value, bool)
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_default(name: str, value: object) -> bool:
    if value == "" or (isinstance(value, list) and not all(value)):
        return False
    if name in LIMITS and isinstance(value, int | float) and value < 1:
        return False
    try:
        check(OF_REQUESTS[name], value)
    except InvalidRequest:
        return False
    return True
