"""PURE. LM Studio's settings as keys of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from modelpool.converters.base import BadSettings, Conversion, Draft, Found, literal

DEFAULT_PORT = 1234
ALL_LAYERS = 999
# Fields that say nothing here, by the end of their names: why, and what there is.
WITHOUT_EFFECT: Mapping[str, str] = {
    "llama.keepModelInMemory": "pages are not locked; what the pool needs is not given to others",
    "llama.useFp16ForKVCache": "the types of the KV cache are cache_type_k and cache_type_v",
    "llama.autoFit": "as many layers as fit are on the GPU where gpu_layers says nothing",
    "offloadKVCacheToGpu": "the KV cache is where its layers are",
    "gpuSplitConfig": "over which devices a model is split is said by its devices and its option"
    " tensor_split",
    "gpuStrictVramCap": "budgets of devices are said in device_memory_mb",
    "numExperts": "as many experts are asked as the file says",
    "maxExpertLayersOffload": "experts are where their layers are (gpu_layers)",
    "contextOverflowPolicy": "nothing is cut off a prompt: one that is too long is an error",
    "promptTemplate": "the template is the file's own; another is said by chat_template",
    "tools": "tools come with each request",
    "structured": "a schema comes with each request (response_format)",
    "speculativeDecoding.maxTokensToDraft": "it is the option draft_max, beside a draft_model",
    "speculativeDecoding.minDraftLengthToConsider": "it is draft_min, beside a draft_model",
    "speculativeDecoding.minContinueDraftingProbability": "it is draft_p_min, beside a draft_model",
    "speculativeDecoding.numReuseTokens": "the draft model keeps what it has read",
    "speculativeDecoding.numDraftTokensExact": "it is of MLX; draft_max beside a draft_model",
    "reasoning.parsing": "what a model thought is found by its chat template",
    "llama.cpuThreads": "threads are the option threads, for prompt and answer",
}
Put = Callable[["_Model", Any], None]


@dataclass(frozen=True)
class Settings:
    """What was read.

    Attributes:
        app: settings.json.
        server: of its HTTP server.
        models: what is kept for each model, by ``publisher/repo/file.gguf.json``.
        index: names that its API has for files.
        folder: of the models.
        found: the models in it.
    """

    app: Mapping[str, Any]
    server: Mapping[str, Any]
    models: Mapping[str, Mapping[str, Any]]
    index: Mapping[str, Any]
    folder: str
    found: tuple[Found, ...] = ()


@dataclass
class _Model:
    """One that something is said of."""

    found: Found
    place: str
    draft: Draft
    options: dict[str, Any] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)
    system_prompt: str = ""


def converted(settings: Settings) -> Conversion:
    """Our config file, and what has to be said about it.

    Raises:
        BadSettings: a value of another kind than LM Studio writes.
    """
    draft = Draft()
    draft.config["discovery_paths"] = [{"source": "lm_studio", "path": literal(settings.folder)}]
    _server(draft, settings.server)
    _app(draft, settings.app)
    names = _names(settings.index)
    by_path = {_below(settings.folder, found.source): found for found in settings.found}
    models = []
    for file, said in settings.models.items():
        path = file.removesuffix(".json")
        found = by_path.get(path)
        if not any(_fields(said, part, file) for part in ("load", "operation")):
            continue
        if found is None:
            draft.remark(
                f"model {path}",
                "no GGUF file in the folder of models is called so (a hub's, MLX, or it is gone):"
                " once it is in the catalog, poolctl options MODEL KEY=VALUE",
            )
            continue
        models.append(_entry(draft, found, path, said, names.get(path, "")))
    if models:
        draft.config["models"] = models
    _tell_names(draft, settings, names, by_path)
    return draft.done()


def _below(folder: str, path: str) -> str:
    at = PurePath(path)
    return str(at.relative_to(folder) if at.is_relative_to(folder) else at)


def _server(draft: Draft, server: Mapping[str, Any]) -> None:
    port = server.get("port", DEFAULT_PORT)
    if server:
        draft.remark(
            "server.port",
            f"the pool is asked at 8050, not {port}: tell your tools http://127.0.0.1:8050/v1, or"
            f" add port: {port} and quit LM Studio",
        )
    if (host := server.get("networkInterface")) not in (None, "127.0.0.1", "localhost"):
        draft.remark(
            "server.networkInterface",
            f"{host}: the pool listens on loopback only, for it asks nobody for a key yet; let a"
            " proxy in front of it do that (docs/proxies.md)",
        )
    if server.get("cors"):
        draft.config["allowed_origins"] = ["*"]
    if server.get("justInTimeModelLoading") is False:
        draft.remark(
            "server.justInTimeModelLoading", "a request for a model that is not loaded loads it"
        )
    known = {"port", "networkInterface", "cors", "justInTimeModelLoading"}
    for key in server.keys() - known:
        draft.remark(f"server.{key}", "has no counterpart here")


def _app(draft: Draft, app: Mapping[str, Any]) -> None:
    """Of settings.json what concerns models; the rest is of the program's own windows."""
    developer = app.get("developer")
    developer = developer if isinstance(developer, Mapping) else {}
    ttl = developer.get("jitModelTTL", app.get("jitModelTTL"))
    if isinstance(ttl, Mapping):
        seconds = ttl.get("ttlSeconds", 3600) if ttl.get("enabled", True) else 0
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or seconds < 0:
            raise BadSettings(f"settings.json: jitModelTTL has {seconds!r} seconds")
        draft.config["default_ttl_minutes"] = draft.minutes(seconds)
    only_last = developer.get(
        "unloadPreviousJITModelOnLoad", app.get("unloadPreviousJITModelOnLoad")
    )
    if only_last:
        draft.remark(
            "settings.unloadPreviousJITModelOnLoad",
            "here as many are loaded as there is memory for; to have it as there, add"
            " max_concurrent_models: 1",
        )
    if (guard := app.get("modelLoadingGuardrails")) is not None:
        mode = guard.get("mode") if isinstance(guard, Mapping) else guard
        draft.remark(
            "settings.modelLoadingGuardrails",
            f"{mode}: how much memory models may take is memory_limit_mb and device_memory_mb",
        )
    if (context := app.get("defaultContextLength")) is not None:
        value = context.get("value") if isinstance(context, Mapping) else context
        draft.remark(
            "settings.defaultContextLength",
            f"{value}: it is said of each model, poolctl options MODEL context_length={value};"
            " where nothing is said the pool chooses by memory",
        )
    draft.remark("settings.json", "all else in it is of LM Studio's windows, and was left out")


def _names(index: Mapping[str, Any]) -> dict[str, str]:
    """What its API calls each file."""
    entries = index.get("models")
    found = {}
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, Mapping):
            path, name = entry.get("indexedModelIdentifier"), entry.get("defaultIdentifier")
            if isinstance(path, str) and isinstance(name, str):
                found[path] = name
    return found


def _tell_names(
    draft: Draft,
    settings: Settings,
    names: Mapping[str, str],
    by_path: Mapping[str, Found],
) -> None:
    """Tools go on asking by the names that they know."""
    own = {entry["model_id"]: entry for entry in draft.config.get("models", ())}
    ids = {found.model_id for found in settings.found}
    for path, name in names.items():
        found = by_path.get(path)
        if found is None or name in ids or found.model_id in own:
            continue
        aliases = draft.config.setdefault("aliases", {})
        aliases.setdefault(name, found.model_id)


def _entry(
    draft: Draft, found: Found, path: str, said: Mapping[str, Any], name: str
) -> dict[str, Any]:
    model = _Model(found, f"model {path}", draft)
    for part in ("load", "operation"):
        for key, value in _fields(said, part, path):
            _take(model, key, value)
    is_shared = model.options.get("kv_unified", False)
    if "context_length" in model.options and "parallel" not in model.options and not is_shared:
        model.options["parallel"] = 1
        draft.remark(
            f"{model.place}: llm.load.contextLength",
            "gets one request at a time, so that its context takes the memory that it took; raise"
            " parallel for more, each with a context of its own",
        )
    entry: dict[str, Any] = {
        "model_id": found.model_id,
        "engine": "gguf",
        "source": literal(found.source),
    }
    if name and name != found.model_id:
        entry["aliases"] = [name]
    if options := {**found.options, **model.options}:
        entry["options"] = literal(options)
    request = {"defaults": literal(model.defaults)} if model.defaults else {}
    if model.system_prompt:
        request["system_prompt"] = literal(model.system_prompt)
    if request:
        entry["request"] = request
    if said.get("preset"):
        draft.remark(
            f"{model.place}: preset",
            f"{said['preset']}: its presets are not read; make one with poolctl preset set",
        )
    return entry


def _fields(said: Mapping[str, Any], part: str, path: str) -> list[tuple[str, Any]]:
    section = said.get(part) or {}
    fields = section.get("fields") if isinstance(section, Mapping) else None
    if fields is None:
        return []
    try:
        return [(str(each["key"]), each["value"]) for each in fields]
    except (KeyError, TypeError):
        raise BadSettings(f"{path}.json: {part}.fields should hold keys and values") from None


def _take(model: _Model, key: str, value: Any) -> None:
    if isinstance(value, Mapping) and "checked" in value:
        if not value["checked"]:  # said nowhere
            return
        value = value.get("value")
    bare = key
    for scope in ("llm.load.", "embedding.load.", "llm.prediction.", "load."):
        bare = bare.removeprefix(scope)
    put = _FIELDS.get(bare)
    place = f"{model.place}: {key}"
    if put is not None:
        try:
            put(model, value)
        except (TypeError, ValueError):
            raise BadSettings(f"{place} should not be {value!r}") from None
    elif bare in WITHOUT_EFFECT:
        model.draft.remark(place, f"has no effect: {WITHOUT_EFFECT[bare]}")
    else:
        model.draft.remark(place, "has no counterpart here; nothing was done about it")


def _option(name: str, kind: Callable[[Any], Any]) -> Put:
    def put(model: _Model, value: Any) -> None:
        model.options[name] = kind(value)

    return put


def _default(name: str, kind: Callable[[Any], Any]) -> Put:
    def put(model: _Model, value: Any) -> None:
        model.defaults[name] = kind(value)

    return put


def _whole(value: Any) -> int:
    if isinstance(value, bool) or int(value) != value:
        raise ValueError(value)
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(value)
    return value


def _seed(model: _Model, value: Any) -> None:
    if _whole(value) >= 0:
        model.options["seed"] = value


def _ratio(model: _Model, value: Any) -> None:
    if value in ("max", "off") or value in (0, 1):
        model.options["gpu_layers"] = 0 if value in ("off", 0) else ALL_LAYERS
    elif value != "auto":
        share = _number(value)
        model.draft.remark(
            f"{model.place}: llm.load.llama.acceleration.offloadRatio",
            f"{share}: a number of layers is said here (gpu_layers), not a share; left out, as many"
            " are on the GPU as fit",
        )


def _draft_model(model: _Model, value: Any) -> None:
    if value:
        model.draft.remark(
            f"{model.place}: llm.prediction.speculativeDecoding.draftModel",
            f"{value} is a name, and draft_model wants the path of its file",
        )


def _system_prompt(model: _Model, value: Any) -> None:
    model.system_prompt = str(value)


def _stops(value: Any) -> list[str]:
    return [str(each) for each in value]


def _thinks(model: _Model, value: Any) -> None:
    model.options["reasoning"] = bool(value)


_FIELDS: Mapping[str, Put] = {
    "contextLength": _option("context_length", _whole),
    "numParallelSessions": _option("parallel", _whole),
    "seed": _seed,
    "llama.acceleration.offloadRatio": _ratio,
    "llama.cpuThreadPoolSize": _option("threads", _whole),
    "llama.evalBatchSize": _option("batch_size", _whole),
    "llama.flashAttention": _option("flash_attention", lambda v: "on" if v else "off"),
    "llama.ropeFrequencyBase": _option("rope_freq_base", _number),
    "llama.ropeFrequencyScale": _option("rope_freq_scale", _number),
    "llama.tryMmap": _option("mmap", bool),
    "llama.useUnifiedKvCache": _option("kv_unified", bool),
    "llama.kCacheQuantizationType": _option("cache_type_k", str),
    "llama.vCacheQuantizationType": _option("cache_type_v", str),
    "temperature": _option("temperature", _number),
    "maxPredictedTokens": _default("max_tokens", _whole),
    "stopStrings": _default("stop", _stops),
    "topKSampling": _default("top_k", _whole),
    "topPSampling": _default("top_p", _number),
    "minPSampling": _default("min_p", _number),
    "repeatPenalty": _default("repeat_penalty", _number),
    "llama.frequencyPenalty": _default("frequency_penalty", _number),
    "llama.presencePenalty": _default("presence_penalty", _number),
    "llama.xtcProbability": _default("xtc_probability", _number),
    "llama.xtcThreshold": _default("xtc_threshold", _number),
    "llama.locallyTypicalSampling": _default("typical_p", _number),
    "systemPrompt": _system_prompt,
    "reasoning.enableThinking": _thinks,
    "speculativeDecoding.draftModel": _draft_model,
}
