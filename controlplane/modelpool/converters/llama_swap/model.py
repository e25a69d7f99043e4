"""PURE. A model of llama-swap as an entry of ours: a file for llama.cpp, or a command."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from modelpool.converters.base import BadSettings, Draft

from .llama_server import NotUnderstood, ServerCommand, is_llama_server, server_command
from .macros import filled, ours

HEALTH = "/health"
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0", "[::1]"})
VISIBLE = ("CUDA_VISIBLE_DEVICES",)
FILES = ("mmproj", "chat_template_file", "draft_model", "slot_save_path")
MOST_STOP_SECONDS = 60
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
# Servers that are known by their program: what they answer.
SERVERS: Mapping[str, tuple[str, ...]] = {
    "whisper-server": ("/v1/audio/transcriptions",),
    "sd-server": ("/v1/images/generations",),
}
# Parts of capabilities as llama-swap has them: ours, and what is answered.
INPUTS = {"image": "vision", "audio": "audio"}
OUTPUTS = {
    "audio": ("text_to_speech", "/v1/audio/speech"),
    "image": ("image_generation", "/v1/images/generations"),
}
NO_COUNTERPART: Mapping[str, str] = {
    "unlisted": "models are always listed",
    "timeouts": "what a client waits for is load_wait_seconds, and a server that stops answering is"
    " found by hang_seconds",
    "sendLoadingState": "streams that wait get comments in any case, which no client shows as text",
    "compat": "a WebSocket counts as any other work",
}
# A place of a command template of ours, in a text that has none.
_PLACE = re.compile(r"(?<!\$)\{(\w+)\}")


@dataclass
class ModelDraft:
    """A model as its file says it, with macros filled in.

    Attributes:
        folder: of the file.
    """

    name: str
    said: Mapping[str, Any]
    folder: Path
    environ: Mapping[str, str]
    arguments: list[str] = field(default_factory=list)

    @property
    def place(self) -> str:
        """Its own, for messages."""
        return f"models.{self.name}"

    def text(self, key: str) -> str:
        """A key's text; empty where it says nothing.

        Raises:
            BadSettings: it is none.
        """
        value = self.said.get(key)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise BadSettings(f"{self.place}.{key} should be a text, not {value!r}")
        return value

    def real(self, text: str, key: str) -> str:
        """A text with the variables of the environment, to look at."""
        return filled(text, self.environ, f"{self.place}.{key}")


def add_models(draft: Draft, models: Mapping[str, ModelDraft], stop_seconds: float | None) -> None:
    """All of them, and the program that runs those that are files for llama.cpp."""
    understood: dict[str, ServerCommand] = {}
    programs: dict[str, str] = {}
    for name, model in models.items():
        model.arguments = _arguments(model)
        program = model.real(model.arguments[0], "cmd")
        if not is_llama_server(program):
            continue
        try:
            rest = [model.real(each, "cmd") for each in model.arguments[1:]]
            command = server_command(rest)
            _refuse_variables(model)
        except NotUnderstood as e:
            draft.remark(f"{model.place}.cmd", f"stays a command: {e}")
        else:
            understood[name], programs[name] = command, program
    chosen = Counter(programs.values()).most_common(1)[0][0] if programs else ""
    for name, program in programs.items():
        if program != chosen:
            del understood[name]
            draft.remark(
                f"{models[name].place}.cmd",
                f"stays a command: it runs {program}, and engine llama-server is {chosen} here",
            )
    if chosen:
        draft.config["llama_server"] = ours(_as_written(models, programs, chosen))
    entries: list[dict[str, Any]] = []
    for name, model in models.items():
        entry = _common(draft, model)
        if (command_of := understood.get(name)) is not None:
            _of_file(draft, model, command_of, entry)
        elif not _of_command(draft, model, entry, stop_seconds):
            continue
        entries.append(_ordered(entry))
    draft.config["models"] = entries


def _as_written(models: Mapping[str, ModelDraft], programs: Mapping[str, str], chosen: str) -> str:
    """With the variable that it is named by, if it is; a path is one from the file's folder."""
    model = next(models[name] for name, program in programs.items() if program == chosen)
    is_name = "/" not in chosen or chosen.startswith("/")
    return model.arguments[0] if is_name else str(model.folder / chosen)


def _ordered(entry: Mapping[str, Any]) -> dict[str, Any]:
    first = ("model_id", "engine", "source")
    return {k: entry[k] for k in first} | {k: v for k, v in entry.items() if k not in first}


def _arguments(model: ModelDraft) -> list[str]:
    """As llama-swap splits them: lines that begin with # are none, and there is no shell."""
    lines = (line for line in model.text("cmd").split("\n") if not line.strip().startswith("#"))
    whole = "\n".join(re.sub(r"\\\s*$", " ", line) for line in lines)
    arguments = _split(whole, f"{model.place}.cmd")
    if not arguments:
        raise BadSettings(f"{model.place} has no cmd")
    return arguments


def _split(command: str, place: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError as e:
        raise BadSettings(f"{place} cannot be split into arguments: {e}") from None


def _refuse_variables(model: ModelDraft) -> None:
    """Of a file's engine only the devices can be said."""
    for name in _environment(model):
        if name not in VISIBLE:
            raise NotUnderstood(f"its env sets {name}, and only a command has an environment")
    if _devices(model) is None:
        raise NotUnderstood("its CUDA_VISIBLE_DEVICES names devices otherwise than by numbers")
    if model.text("cmdStop"):
        raise NotUnderstood("it has a cmdStop")
    if (path := urlsplit(_proxy(model)).path.rstrip("/")) or _port(model) == "elsewhere":
        raise NotUnderstood(f"its proxy is {path or _proxy(model)}")


def _environment(model: ModelDraft) -> dict[str, str]:
    given = model.said.get("env") or []
    if not isinstance(given, list) or not all(isinstance(e, str) and "=" in e for e in given):
        raise BadSettings(f"{model.place}.env should be a list of NAME=VALUE")
    return {name: value for name, _, value in (each.partition("=") for each in given)}


def _devices(model: ModelDraft) -> list[int] | None:
    """Numbers of CUDA's devices; none where nothing is said, None where they are no numbers."""
    text = model.real(_environment(model).get(VISIBLE[0], ""), "env")
    parts = [part.strip() for part in text.split(",") if part.strip()]
    return [int(part) for part in parts] if all(part.isdigit() for part in parts) else None


def _proxy(model: ModelDraft) -> str:
    return model.real(model.text("proxy"), "proxy").replace("${PORT}", "1")


def _port(model: ModelDraft) -> int | str | None:
    """On which the command listens: None for one that it is told, ``elsewhere`` where it is on
    another machine."""
    if not model.text("proxy"):
        return None
    parts = urlsplit(_proxy(model))
    if parts.hostname not in LOOPBACK:
        return "elsewhere"
    try:
        port = parts.port
    except ValueError:
        raise BadSettings(f"{model.place}.proxy has no port that can be one") from None
    return None if "${PORT}" in model.text("proxy") else port or 80


# -- what files and commands have in common ------------------------------------------------------


def _common(draft: Draft, model: ModelDraft) -> dict[str, Any]:
    entry: dict[str, Any] = {"model_id": model.name}
    if display := model.text("name"):
        entry["display_name"] = ours(display)
    _add_aliases(model, entry)
    _add_ttl(draft, model, entry)
    limit = model.said.get("concurrencyLimit") or 0
    if isinstance(limit, int) and limit > 0:
        entry["concurrency_limit"] = limit
    metadata = dict(model.said.get("metadata") or {})
    if description := model.text("description"):
        metadata["description"] = description
    if metadata:
        entry["metadata"] = ours(metadata)
    _add_capabilities(model, entry)
    _add_filters(draft, model, entry)
    for key, why in NO_COUNTERPART.items():
        if model.said.get(key):
            draft.remark(f"{model.place}.{key}", f"has no effect: {why}")
    for key in model.said.keys() - _KEYS - NO_COUNTERPART.keys():
        draft.remark(
            f"{model.place}.{key}",
            "is no key that this converter knows; nothing was done about it",
        )
    return entry


_KEYS = frozenset(
    {"cmd", "cmdStop", "proxy", "aliases", "env", "checkEndpoint", "ttl", "unloadTimeout"}
    | {"useModelName", "name", "description", "concurrencyLimit", "filters", "metadata"}
    | {"capabilities"}
)


def _add_aliases(model: ModelDraft, entry: dict[str, Any]) -> None:
    aliases = model.said.get("aliases") or []
    if not isinstance(aliases, list):
        raise BadSettings(f"{model.place}.aliases should be a list of names")
    by_id = _by_id(model)
    if named := [str(name) for name in aliases if str(name) not in by_id]:
        entry["aliases"] = named


def _add_ttl(draft: Draft, model: ModelDraft, entry: dict[str, Any]) -> None:
    ttl = model.said.get("ttl")
    if ttl is None or ttl == -1:
        return
    if isinstance(ttl, bool) or not isinstance(ttl, (int, float)) or ttl < 0:
        raise BadSettings(f"{model.place}.ttl should be a number of seconds, not {ttl!r}")
    entry["ttl_minutes"] = draft.minutes(ttl)


def _add_capabilities(model: ModelDraft, entry: dict[str, Any]) -> None:
    said = model.said.get("capabilities") or {}
    if not isinstance(said, Mapping):
        raise BadSettings(f"{model.place}.capabilities should be a mapping")
    words = [INPUTS[kind] for kind in said.get("in") or () if kind in INPUTS]
    words += [OUTPUTS[kind][0] for kind in said.get("out") or () if kind in OUTPUTS]
    words += ["tools"] if said.get("tools") else []
    words += ["rerank"] if said.get("reranker") else []
    if "text" in (said.get("out") or ()):
        words = ["chat", "completion", *words]
    if words:
        entry["capabilities"] = words
    if said.get("context"):
        entry["context_length"] = said["context"]


def _filters(model: ModelDraft) -> Mapping[str, Any]:
    filters = model.said.get("filters") or {}
    if not isinstance(filters, Mapping):
        raise BadSettings(f"{model.place}.filters should be a mapping")
    return filters


def _by_id(model: ModelDraft) -> Mapping[str, Any]:
    return _filters(model).get("setParamsByID") or {}


def rules(filters: Mapping[str, Any]) -> dict[str, Any]:
    """Filters as what is changed of requests."""
    found: dict[str, Any] = {}
    stripped = [name.strip() for name in str(filters.get("stripParams") or "").split(",")]
    if names := sorted({name for name in stripped if name} - {"model"}):
        found["strip"] = names
    given = filters.get("setParams") or {}
    if overrides := {k: v for k, v in given.items() if k != "model"}:
        found["overrides"] = ours(overrides)
    return found


def _add_filters(draft: Draft, model: ModelDraft, entry: dict[str, Any]) -> None:
    """Names of their own, each with other parameters, are virtual models."""
    filters = _filters(model)
    if found := rules(filters):
        entry["request"] = found
    for name, parameters in _by_id(model).items():
        own = {k: v for k, v in parameters.items() if k != "model"}
        if name == model.name:
            entry.setdefault("request", {})["defaults"] = ours(own)
            draft.remark(
                f"{model.place}.filters.setParamsByID.{name}",
                "are defaults here, of whatever name the model is asked by; a request may say more",
            )
        else:
            virtual = {"kind": "alias", "target": model.name, "request": {"overrides": ours(own)}}
            draft.config.setdefault("virtual_models", {})[name] = virtual
    for key in filters.keys() - {"stripParams", "setParams", "setParamsByID"}:
        draft.remark(
            f"{model.place}.filters.{key}",
            "is no key that this converter knows; nothing was done about it",
        )


# -- a file for llama.cpp ------------------------------------------------------------------------


def _of_file(
    draft: Draft, model: ModelDraft, command: ServerCommand, entry: dict[str, Any]
) -> None:
    options = dict(command.options)
    for name in FILES:
        if name in options:
            options[name] = _path(draft, model, options[name])
    for adapter in options.get("lora", ()):
        adapter["path"] = _path(draft, model, adapter["path"])
    entry["engine"] = "gguf"
    entry["source"] = _path(draft, model, command.source)
    entry["options"] = ours(options)
    if command.defaults:
        request = entry.setdefault("request", {})
        request["defaults"] = {**command.defaults, **request.get("defaults", {})}
    if command.capabilities:
        entry["capabilities"] = command.capabilities
    if devices := _devices(model):
        entry["devices"] = devices
    place = f"{model.place}.cmd"
    if command.is_alone:
        draft.remark(
            place,
            f"{model.name} gets one request at a time, so that its context takes the memory that it"
            " took; raise parallel for more, each with a context of its own",
        )
    if command.without_effect:
        flags = ", ".join(dict.fromkeys(command.without_effect))
        draft.remark(place, f"{flags}: without effect here, or so in any case")
    for key in ("useModelName", "checkEndpoint", "unloadTimeout"):
        if model.said.get(key):
            draft.remark(f"{model.place}.{key}", "has no effect: the pool runs llama.cpp itself")


def _path(draft: Draft, model: ModelDraft, path: str) -> str:
    if Path(path).is_absolute():
        return path
    draft.remark(
        f"{model.place}.cmd",
        f"{path} was taken as a path from the config file's folder; llama-swap takes it from where"
        " it is started",
    )
    return str(model.folder / path)


# -- a command -----------------------------------------------------------------------------------


def _of_command(
    draft: Draft, model: ModelDraft, entry: dict[str, Any], stop_seconds: float | None
) -> bool:
    port = _port(model)
    if port == "elsewhere":
        draft.remark(
            f"{model.place}.proxy",
            f"{_proxy(model)} is another machine, so the model is left out: name that server in"
            " providers (docs/remote.md)",
        )
        return False
    options: dict[str, Any] = {"command": [_argument(each) for each in model.arguments]}
    if isinstance(port, int):
        options["port"] = port
    endpoint = model.text("checkEndpoint") or HEALTH
    options["ready_path"] = "" if endpoint == "none" else endpoint
    if own := _environment(model):
        options["environment"] = {name: _argument(value) for name, value in own.items()}
    if name := model.text("useModelName"):
        options["model_name"] = ours(name)
    api = _api(draft, model, entry)
    options["api"] = api
    if prefix := urlsplit(_proxy(model)).path.rstrip("/"):
        options["paths"] = {path: prefix + path for path in api}
    _add_stop(draft, model, options, stop_seconds)
    entry |= {"engine": "command", "source": _source(model), "options": options}
    draft.remark(
        model.place,
        "is a command, so the pool cannot know how much memory it takes: say so in memory_mb, or"
        " it counts as what it is seen to take once it runs",
    )
    return True


def _argument(text: str) -> str:
    """An argument of ours: its port is filled in at the start, any other brace is one."""
    kept = _PLACE.sub(lambda m: "{{" + m[1] + "}}", text)
    return str(ours(kept.replace("${PORT}", "{port}")))


def _source(model: ModelDraft) -> str:
    """The file that the command is told, if it is; else its name."""
    is_python = re.fullmatch(r"python[0-9.]*(?:\.exe)?", Path(model.arguments[0]).name)
    # Python's -m is the name of a program.
    flags = ("--model",) if is_python else ("-m", "--model")
    named = (b for a, b in zip(model.arguments, model.arguments[1:], strict=False) if a in flags)
    return str(ours(next(named, model.name)))


def _api(draft: Draft, model: ModelDraft, entry: Mapping[str, Any]) -> list[str]:
    program = Path(model.real(model.arguments[0], "cmd")).name
    if program in SERVERS:
        return list(SERVERS[program])
    said = model.said.get("capabilities") or {}
    answered = [OUTPUTS[kind][1] for kind in said.get("out") or () if kind in OUTPUTS]
    if _has(model.arguments, ("--embedding", "--embeddings")):
        answered.append("/v1/embeddings")
    if said.get("reranker") or _has(model.arguments, ("--rerank", "--reranking")):
        answered.append("/v1/rerank")
    if answered and "text" not in (said.get("out") or ()):
        return answered
    draft.remark(
        model.place,
        "is taken for a server of chat and text: if it answers other APIs, say them in options.api"
        " (docs/engines.md)",
    )
    return [CHAT, TEXT, *answered]


def _has(arguments: Iterable[str], flags: tuple[str, ...]) -> bool:
    return any(argument in flags for argument in arguments)


def _add_stop(
    draft: Draft, model: ModelDraft, options: dict[str, Any], stop_seconds: float | None
) -> None:
    stop = model.text("cmdStop")
    if "${PID}" in stop:
        draft.remark(
            f"{model.place}.cmdStop",
            "names ${PID}, which no command here is told; the server gets a TERM, or the signal of"
            " options.stop_signal",
        )
    elif stop:
        options["stop_command"] = [
            _argument(each) for each in _split(stop, f"{model.place}.cmdStop")
        ]
    seconds = model.said.get("unloadTimeout") or stop_seconds
    if seconds:
        options["stop_seconds"] = min(seconds, MOST_STOP_SECONDS)
        if seconds > MOST_STOP_SECONDS:
            draft.remark(f"{model.place}.unloadTimeout", f"is {MOST_STOP_SECONDS} s at most here")
