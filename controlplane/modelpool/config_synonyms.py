"""Keys of other programs' config files, and what becomes of each here. PURE.

They stand in the file beside ours, in the objects that they stood in there. Each is one of ours by
another name, or is known to have no effect, with the reason; both are remarked upon. Environment
variables of those programs are here, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .catalog.model import did_you_mean, printable
from .catalog.variables import is_filled, template
from .config_checks import Issue

MB_PER_GB = 1000
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|d)")
# Where a whole file of theirs is one object.
WRAPPER = "model_system"


@dataclass(frozen=True)
class Synonym:
    """What becomes of a key: it is ``key`` of ours, after ``read``, or has no effect, and
    ``why_not`` says why; that is then so for all inside it that is not listed itself. With
    ``is_merged`` several of them may say a part of ``key`` each."""

    key: str = ""
    read: Callable[[Any], Any] | None = None
    why_not: str = ""
    may_be_filled: bool = False
    is_merged: bool = False


def _megabytes(value: Any) -> int:
    """Of gigabytes."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError("should be a number of GB")
    return round(value * MB_PER_GB)


def _seconds(value: Any) -> float:
    """Of a number, or of a text with a unit: 30s, 500ms, 1h."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    found = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise ValueError("should be a number of seconds, or one with a unit: 500ms, 30s, 5m, 1h")
    return float(found[1]) * _UNITS[found[2]]


_MODEL_KEYS = {"name", "aliases", "capabilities", "context_window", "cost_per_token"}
_COST_KEYS = {"cost_per_image"}
TOKENS_OF_A_PRICE = 1_000_000


def _providers(value: Any) -> dict[str, Any]:
    """Of ``api_backends``: keys of providers, whose values come from variables only."""
    if not isinstance(value, Mapping) or not all(isinstance(v, Mapping) for v in value.values()):
        raise ValueError("should be an object of providers")
    return {
        _PROVIDER_NAMES.get(str(name), str(name)): _provider(str(name), v)
        for name, v in value.items()
    }


_PROVIDER_NAMES = {"claude": "anthropic", "gemini": "google"}


def _provider(name: str, about: Mapping[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for key, value in about.items():
        if key == "api_key":
            told |= _key(value)
        elif key in ("base_url", "api_base", "endpoint"):
            told["base_url"] = value
        elif key == "models" and isinstance(value, list):
            told["models"] = [_remote_model(name, model) for model in value]
        else:
            raise ValueError(f"{name} has {printable(str(key))}, which is unknown")
    return told


def _key(value: Any) -> dict[str, str]:
    """The variable that it comes from; one that stands in the file is left out."""
    found = _IS_VARIABLE.fullmatch(str(template(value)))
    return {} if found is None else {"api_key_variable": found[1]}


_IS_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_OPEN_KEY = "a key does not belong in this file; write ${NAME}, or use providers with api_key_file"


def _open_keys(value: Mapping[str, Any], shown: str) -> Iterator[str]:
    for name, about in value.items():
        if "api_key" in about and not _key(about["api_key"]):
            yield f"{printable(f'{shown}.{name}')}.api_key has no effect: {_OPEN_KEY}"


def _remote_model(provider: str, model: Any) -> Any:
    if not isinstance(model, Mapping):
        return model
    unknown = sorted(map(str, model.keys() - _MODEL_KEYS - _COST_KEYS))
    if unknown:
        raise ValueError(f"{provider} has a model with {printable(unknown[0])}, which is unknown")
    told = {key: model[key] for key in ("name", "aliases", "capabilities") if key in model}
    if "context_window" in model:
        told["context_length"] = model["context_window"]
    prices: dict[str, float] = {}
    if "cost_per_token" in model:
        cost = round(_cost(model["cost_per_token"]) * TOKENS_OF_A_PRICE, 6)
        prices |= dict.fromkeys(("input", "output"), cost)
    if "cost_per_image" in model:
        prices["image"] = _cost(model["cost_per_image"])
    return told | ({"prices": prices} if prices else {})


def _cost(value: Any) -> float:
    """YAML takes 2e-06 for a text."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"has a cost that is no number: {value!r}") from None


def _selection(value: Any) -> dict[str, Any]:
    """Of ``selection``: how ``auto`` chooses. Its one algorithm is ours with these weights."""
    if not isinstance(value, Mapping):
        raise ValueError("should be an object with algorithm, weights, constraints")
    told = dict(value)
    algorithm = told.pop("algorithm", "multi_criteria")
    if algorithm != "multi_criteria":
        raise ValueError("algorithm should be multi_criteria; see strategy of routing")
    return told


_NO_SUCH_ENGINE = "engines other than those of `poolctl engines` are not there yet"
_SAVED = Synonym(why_not="every change is in the database of state_dir before it is answered")
_WARMED = Synonym(why_not="models that say warmup, and warmup_models, are loaded at the start")
_FOUND_THERE = Synonym(why_not="what a server of Ollama has is found there: see docs/ollama.md")
_NO_SWITCH = Synonym(why_not="models are switched by who asks, with POST /api/v1/models/switch")

SYNONYMS: Mapping[str, Synonym] = {
    "max_memory_gb": Synonym("memory_limit_mb", _megabytes),
    "maxLoadedModels": Synonym("max_concurrent_models"),
    "preload_models": Synonym("warmup_models"),
    "enable_warmup": _WARMED,
    "pool_config.max_memory_gb": Synonym("memory_limit_mb", _megabytes),
    "pool_config.max_concurrent_models": Synonym("max_concurrent_models"),
    "pool_config.eviction_policy": Synonym("eviction_policy"),
    "pool_config.enable_warmup": _WARMED,
    "pool_config.enable_speculative_loading": Synonym("enable_speculative_loading"),
    "pool_config.preload_threshold": Synonym("preload_threshold"),
    "registry.auto_discover": Synonym("watch_discovery_paths"),
    "registry.auto_discover_models": Synonym("watch_discovery_paths"),
    "registry.discovery_paths": Synonym("discovery_paths"),
    "registry.discovery_interval": Synonym("discovery_interval_seconds", _seconds),
    "registry.health_check_interval": Synonym("beat_seconds", _seconds),
    "registry.cache_ttl": Synonym(why_not="what is known of a file counts until the file changes"),
    "registry.sync_strategy": Synonym(why_not="pools do not know each other yet"),
    "routing": Synonym("routing", is_merged=True),
    "selection": Synonym("routing", _selection, is_merged=True),
    "defaultProvider": Synonym(why_not="a request names a model, or auto, which chooses one"),
    "parallel_engine": Synonym(
        why_not="engines batch by themselves; how many requests they get at a time is"
        " concurrency_limit, and memory_limit_mb counts for all of them"
    ),
    "backends.ollama.endpoint": Synonym("ollama_base_url"),
    "backends.ollama.endpoints": Synonym("ollama_base_urls"),
    "backends.ollama.models": _FOUND_THERE,
    "backends.ollama.timeout_ms": Synonym(
        why_not="how long a stream may be silent is each model's option timeout_seconds"
    ),
    "backends": Synonym(why_not=_NO_SUCH_ENGINE),
    "ollama.endpoint": Synonym("ollama_base_url"),
    "ollama.models": _FOUND_THERE,
    "coreml": Synonym(why_not="what CoreML computes with is an option of its models"),
    "api_backends": Synonym("providers", _providers, may_be_filled=True),
    "hot_swap": Synonym(why_not="there are no swaps that validate yet; see versions and switch"),
    "monitoring.health_check_interval": Synonym("check_interval_seconds", _seconds),
    "monitoring.metrics_interval": Synonym(why_not="metrics are made when they are asked for"),
    "monitoring.alert_thresholds": Synonym(
        why_not="alerts are Prometheus' business: its rules are in configs/prometheus"
    ),
    "autoLoadDefault": Synonym(why_not="what is to be loaded at the start is in warmup_models"),
    "enablePersistence": _SAVED,
    "persistencePath": _SAVED,
    "autoSaveInterval": _SAVED,
    "enablePerformanceTracking": Synonym(why_not="use is always measured: GET /statistics"),
    "enableAutoSwitch": _NO_SWITCH,
    "autoSwitchThreshold": _NO_SWITCH,
}

# Environment variables: ours by another name.
BORROWED: Mapping[str, str] = {
    "MODEL_MANAGER_MAX_LOADED": "max_concurrent_models",
    "MODEL_KEEPALIVE_MINUTES": "default_ttl_minutes",
    "EXTERNAL_MODELS_DIR": "external_models_dir",
    "ENABLE_GGUF_MODELS": "enable_gguf_models",
}
# Those that have no effect, and why.
WITHOUT_EFFECT: Mapping[str, str] = {
    "ENABLE_SMART_SWITCHING": "this pool always loads and evicts on demand",
    "MODEL_MANAGER_PERSISTENCE_PATH": _SAVED.why_not,
    "MODEL_MANAGER_AUTO_LOAD_DEFAULT": SYNONYMS["autoLoadDefault"].why_not,
    "MODEL_MANAGER_ENABLE_PERFORMANCE_TRACKING": SYNONYMS["enablePerformanceTracking"].why_not,
}
# They are there for other programs as a rule, so that nothing is said of them at the start.
NOT_READ = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "CLAUDE_API_KEY", "LLAMA_CPP_BASE_URL")


@dataclass
class Understood:
    """A file's keys by our names.

    Attributes:
        data: the keys, those that are unknown included.
        spellings: for those of ours that had another name, that name.
        remarks: what is said of each that is not one of ours by our name.
        issues: what is wrong with them.
    """

    data: dict[Any, Any] = field(default_factory=dict)
    spellings: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)


def understood(data: Mapping[Any, Any]) -> Understood:
    """What a file says, by our names."""
    found = Understood({k: v for k, v in data.items() if not _is_foreign(k)})
    inner = data.get(WRAPPER)
    foreign = [("", k, v) for k, v in data.items() if _is_foreign(k) and k != WRAPPER]
    if isinstance(inner, Mapping):
        foreign += [(f"{WRAPPER}.", k, v) for k, v in inner.items()]
    elif WRAPPER in data:
        found.issues.append(Issue(WRAPPER, "should be an object"))
    for prefix, key, value in foreign:
        if isinstance(key, str):
            _take(key, value, prefix, found)
        else:
            found.issues.append(Issue(f"{prefix}{printable(str(key))}", "is unknown"))
    return found


def _is_foreign(key: Any) -> bool:
    return key == WRAPPER or any(path.split(".")[0] == key for path in SYNONYMS)


def _take(path: str, value: Any, prefix: str, found: Understood) -> None:
    shown = printable(f"{prefix}{path}")
    inside = [p for p in SYNONYMS if p.startswith(f"{path}.")]
    if inside and isinstance(value, Mapping):
        for key, each in value.items():
            _take(f"{path}.{key}", each, prefix, found)
        return
    synonym = next((SYNONYMS[p] for p in _outwards(path) if p in SYNONYMS), None)
    if synonym is None:
        parent = path.rpartition(".")[0]
        near = [p.rpartition(".")[2] for p in SYNONYMS if p.rpartition(".")[0] == parent]
        wrong = f"should be an object with {', '.join(_children(path))}" if inside else ""
        text = wrong or f"is unknown{did_you_mean(path.rpartition('.')[2], near)}"
        found.issues.append(Issue(shown, text))
    elif synonym.why_not:
        found.remarks.append(f"{shown} has no effect: {synonym.why_not}")
    else:
        _set(synonym, value, shown, found)


def _outwards(path: str) -> Iterator[str]:
    """Itself, then what it stands in. What is one of ours by another name has nothing inside."""
    yield path
    while "." in path:
        path = path.rpartition(".")[0]
        if path in SYNONYMS and SYNONYMS[path].why_not:
            yield path


def _children(path: str) -> list[str]:
    parts = (p.removeprefix(f"{path}.").split(".")[0] for p in SYNONYMS if p.startswith(f"{path}."))
    return list(dict.fromkeys(parts))


def _set(synonym: Synonym, value: Any, shown: str, found: Understood) -> None:
    key = synonym.key
    if synonym.read is not None:
        # What it is made into would not be known to come from a variable.
        if is_filled(value) and not synonym.may_be_filled:
            text = f"cannot come from a variable; {key} can"
            found.issues.append(Issue(shown, text))
            return
        try:
            given, value = value, synonym.read(value)
        except ValueError as e:
            found.issues.append(Issue(shown, str(e)))
            return
    if synonym.may_be_filled:
        found.remarks += _open_keys(given, shown)
    before = found.data.get(key)
    if synonym.is_merged and isinstance(before, Mapping) and isinstance(value, Mapping):
        merged = {**before, **value}
        if all(merged[name] == each for name, each in before.items()):
            found.data[key] = value = merged
    if key in found.data and found.data[key] != value:
        other = found.spellings.get(key, key)
        found.issues.append(Issue(shown, f"contradicts {other}: two names of one key"))
        return
    if key not in found.data:
        found.data[key] = value
        found.spellings[key] = shown
    if shown != key:
        found.remarks.append(f"{shown} is understood as {key}")
