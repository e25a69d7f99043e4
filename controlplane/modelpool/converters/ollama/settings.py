"""PURE. Ollama's variables as keys of ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from modelpool_client.origins import read_origin_pattern

from modelpool.converters.base import BadSettings, Conversion, Draft, Found, literal, plain_number

PORT = 11434
UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
# What a client's keep_alive of 0 does is done with each request there.
AT_ONCE_SECONDS = 6.0
CACHE_TYPES = ("f16", "q8_0", "q4_0")
TRUE = frozenset({"1", "t", "true", "yes", "on"})
FALSE = frozenset({"0", "f", "false", "no", "off", ""})
# Options of every model: nothing of the pool says them for all.
PER_MODEL: Mapping[str, str] = {
    "OLLAMA_NUM_PARALLEL": "parallel",
    "OLLAMA_CONTEXT_LENGTH": "context_length",
    "OLLAMA_KV_CACHE_TYPE": "cache_type_k",
    "OLLAMA_FLASH_ATTENTION": "flash_attention",
}
WITHOUT_EFFECT: Mapping[str, str] = {
    "OLLAMA_NOPRUNE": "the pool removes nothing of Ollama's store",
    "OLLAMA_NOHISTORY": "poolctl chat has a history of its own",
    "OLLAMA_NO_CLOUD": "models of Ollama's cloud are left out in any case",
    "OLLAMA_REMOTES": "models of Ollama's cloud are left out in any case",
    "OLLAMA_MAX_TRANSFER_STREAMS": "pulls have their own limit: pull_max_mb_per_second",
    "OLLAMA_DEBUG_LOG_REQUESTS": "what is said is not written down; facts are: poolctl requests",
    "OLLAMA_MULTIUSER_CACHE": "each slot has a cache of its own in any case",
    "OLLAMA_NEW_ENGINE": "models are run by llama.cpp",
    "OLLAMA_NEW_ESTIMATES": "the pool has its own estimates, and measures",
    "OLLAMA_EDITOR": "it is of Ollama's own command line",
    "OLLAMA_API_KEY": "it is for Ollama's cloud, whose models are left out",
    "OLLAMA_AUTH": "it is for Ollama's cloud, whose models are left out",
    "OLLAMA_LLM_LIBRARY": "which build of llama.cpp runs is what is installed: poolctl engines",
    "OLLAMA_VULKAN": "which build of llama.cpp runs is what is installed: poolctl engines",
    "OLLAMA_IGPU_ENABLE": "which devices are used is said by a model's devices",
    "OLLAMA_INTEL_GPU": "which build of llama.cpp runs is what is installed: poolctl engines",
    "OLLAMA_GPU_OVERHEAD": "budgets of devices are said in device_memory_mb, as {cuda:0: 20000}",
    "OLLAMA_SCHED_SPREAD": "over which devices a model is split is said by its devices and its"
    " option tensor_split",
}
# Not Ollama's own, but set for it.
OTHERS = frozenset(
    {"CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"}
    | {"GGML_VK_VISIBLE_DEVICES", "HSA_OVERRIDE_GFX_VERSION"}
    | {"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"}
)
SAME = "is the same for the pool: set it where the pool is started"


@dataclass(frozen=True)
class Variable:
    """A variable's value, and where it is set."""

    value: str
    where: str


@dataclass(frozen=True)
class Settings:
    """What was read.

    Attributes:
        models: of the store; read only where a variable says something of every model.
        store: its folder; empty where there is none.
    """

    variables: Mapping[str, Variable]
    models: tuple[Found, ...] = ()
    store: str = ""


@dataclass
class _Reading:
    settings: Settings
    draft: Draft = field(default_factory=Draft)
    options: dict[str, Any] = field(default_factory=dict)


def is_of_ollama(name: str) -> bool:
    """Whether a variable of the environment says something to it."""
    return name.startswith("OLLAMA_")


def converted(settings: Settings) -> Conversion:
    """Our config file, and what has to be said about it.

    Raises:
        BadSettings: a value that Ollama would not take either.
    """
    reading = _Reading(settings)
    draft = reading.draft
    draft.config["ollama_port"] = PORT
    root: dict[str, Any] = {"source": "ollama"}
    if "OLLAMA_MODELS" in settings.variables:
        root["path"] = literal(settings.variables["OLLAMA_MODELS"].value)
    draft.config["discovery_paths"] = [root]
    for name, variable in settings.variables.items():
        read = _VARIABLES.get(name)
        if read is not None:
            read(reading, name, variable.value.strip())
        elif name in WITHOUT_EFFECT:
            draft.remark(name, f"has no effect: {WITHOUT_EFFECT[name]}")
        elif name.upper() in OTHERS:
            draft.remark(name, SAME)
        elif is_of_ollama(name) or name.startswith("LLAMA_ARG_"):
            draft.remark(
                name, "is no variable that this converter knows; nothing was done about it"
            )
        elif name != "PATH":
            draft.remark(name, f"is not Ollama's own; if models need it, it {SAME}")
    _port(reading)
    _of_every_model(reading)
    if not settings.store:
        draft.remark("OLLAMA_MODELS", "no store of Ollama is there; models are found once one is")
    return draft.done()


def _port(reading: _Reading) -> None:
    draft = reading.draft
    draft.remark(
        "OLLAMA_HOST",
        f"the pool answers on {draft.config['ollama_port']}, too, so that tools go on as they are:"
        " stop Ollama before the pool starts, or remove ollama_port",
    )


def _host(reading: _Reading, name: str, value: str) -> None:
    text = value.removeprefix("http://").removeprefix("https://").rstrip("/")
    host, _, port = (
        text.rpartition(":") if ":" in text and not text.endswith("]") else (text, "", "")
    )
    if port:
        if not port.isdigit() or not 0 < int(port) < 65_536:
            raise BadSettings(f"{name} has the port {port!r}")
        reading.draft.config["ollama_port"] = int(port)
    if host not in ("", "127.0.0.1", "localhost", "[::1]"):
        reading.draft.remark(
            name,
            f"{host}: the pool listens on loopback only, for it asks nobody for a key yet; let a"
            " proxy in front of it do that (docs/proxies.md)",
        )


def duration(text: str) -> float:
    """Seconds of Go's way to write durations, or of a plain number; below 0 is for ever.

    Raises:
        ValueError: it is neither.
    """
    sign, bare = (-1, text[1:]) if text.startswith("-") else (1, text)
    if re.fullmatch(r"\d+", bare):
        return sign * float(bare)
    parts = _PART.findall(bare)
    if not parts or "".join(number + unit for number, unit in parts) != bare:
        raise ValueError(f"{text!r} is no duration")
    return sign * sum(float(number) * UNITS[unit] for number, unit in parts)


def _seconds(name: str, value: str) -> float:
    try:
        return duration(value)
    except ValueError as e:
        raise BadSettings(f"{name}: {e}; write 5m, 24h, 300 or -1") from None


def _count(name: str, value: str) -> int:
    if not value.isdigit():
        raise BadSettings(f"{name} should be a whole number, not {value!r}")
    return int(value)


def _flag(name: str, value: str) -> bool:
    if value.lower() in TRUE | FALSE:
        return value.lower() in TRUE
    raise BadSettings(f"{name} should be 1 or 0, not {value!r}")


def _keep_alive(reading: _Reading, name: str, value: str) -> None:
    seconds = _seconds(name, value)
    if seconds == 0:
        reading.draft.config["grace_minutes"] = 0
        reading.draft.remark(
            name, "0, unloaded after each answer, is a few seconds here: a TTL of 0 is never"
        )
        seconds = AT_ONCE_SECONDS
    reading.draft.config["default_ttl_minutes"] = reading.draft.minutes(max(seconds, 0))


def _load_timeout(reading: _Reading, name: str, value: str) -> None:
    seconds = _seconds(name, value)
    if seconds > 0:
        reading.draft.config["load_stall_seconds"] = plain_number(seconds)
    else:
        reading.draft.remark(name, "a load without progress is given up some time (300 s) here")


def _number_of(key: str, least: str) -> Callable[[_Reading, str, str], None]:
    def read(reading: _Reading, name: str, value: str) -> None:
        count = _count(name, value)
        if count:
            reading.draft.config[key] = count
        else:
            reading.draft.remark(name, f"0: {least}")

    return read


def _debug(reading: _Reading, name: str, value: str) -> None:
    if (value.isdigit() and int(value) > 1) or _flag(name, value):
        reading.draft.config["log_level"] = "debug"


def _origins(reading: _Reading, name: str, value: str) -> None:
    kept = []
    for origin in filter(None, (each.strip() for each in value.split(","))):
        try:
            read_origin_pattern(origin)
        except ValueError as e:
            reading.draft.remark(name, f"{origin} {e}; pages of this machine may ask in any case")
        else:
            kept.append(origin)
    if kept:
        reading.draft.config["allowed_origins"] = kept


def _models(reading: _Reading, name: str, value: str) -> None:
    if not value.startswith(("/", "~")):
        raise BadSettings(f"{name} should be an absolute path, not {value!r}")


def _cache_type(reading: _Reading, name: str, value: str) -> None:
    if value.lower() not in CACHE_TYPES:
        raise BadSettings(f"{name} should be {', '.join(CACHE_TYPES)}, not {value!r}")
    reading.options |= {"cache_type_k": value.lower(), "cache_type_v": value.lower()}


def _flash_attention(reading: _Reading, name: str, value: str) -> None:
    reading.options["flash_attention"] = "on" if _flag(name, value) else "off"


def _per_model(option: str) -> Callable[[_Reading, str, str], None]:
    def read(reading: _Reading, name: str, value: str) -> None:
        if count := _count(name, value):
            reading.options[option] = count
        else:
            reading.draft.remark(name, "0: as many as there is memory for, as it is here")

    return read


_VARIABLES: Mapping[str, Callable[[_Reading, str, str], None]] = {
    "OLLAMA_HOST": _host,
    "OLLAMA_MODELS": _models,
    "OLLAMA_KEEP_ALIVE": _keep_alive,
    "OLLAMA_LOAD_TIMEOUT": _load_timeout,
    "OLLAMA_MAX_LOADED_MODELS": _number_of(
        "max_concurrent_models", "as many as there is memory for, 5 at most unless you say more"
    ),
    "OLLAMA_MAX_QUEUE": _number_of("max_waiting_requests", "nobody is turned away below 1000"),
    "OLLAMA_DEBUG": _debug,
    "OLLAMA_ORIGINS": _origins,
    "OLLAMA_NUM_PARALLEL": _per_model("parallel"),
    "OLLAMA_CONTEXT_LENGTH": _per_model("context_length"),
    "OLLAMA_KV_CACHE_TYPE": _cache_type,
    "OLLAMA_FLASH_ATTENTION": _flash_attention,
}


def _of_every_model(reading: _Reading) -> None:
    """An entry for each model that there is: those that are found later have the pool's own."""
    if not reading.options:
        return
    names = ", ".join(n for n in PER_MODEL if n in reading.settings.variables)
    options = reading.options
    if "context_length" in options and "parallel" not in options:
        options = {**options, "parallel": 1}  # Ollama's own, by which memory is counted
    reading.draft.config["models"] = [
        {
            "model_id": model.model_id,
            "engine": "gguf",
            "source": literal(model.source),
            **({"aliases": list(model.aliases)} if model.aliases else {}),
            "options": literal({**options, **model.options}),
            **({"request": literal(model.request)} if model.request else {}),
        }
        for model in reading.settings.models
    ]
    said = " ".join(f"{key}={value}" for key, value in options.items())
    reading.draft.remark(
        names,
        "is said of each model that is there now, by the file that it is: models that come later"
        f" need it said (poolctl options MODEL {said}), and one that Ollama pulls anew is another"
        " file, whose entry has to be removed",
    )
