"""PURE. A command line of llama-server as a model's options.

Flags are those of llama.cpp's own documentation (tools/server/README.md, 2026-09). A command with a
flag that no option says stays a command: what is left out of it could be what lets it fit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from modelpool_client.surfaces.chat_template import PLAIN_TEMPLATES, names_a_template

PROGRAM = "llama-server"
SCALED = ("none", "linear", "yarn")


class NotUnderstood(ValueError):
    """Why the command cannot be told as options, for the end of a sentence."""


@dataclass
class ServerCommand:
    """What a command line says.

    Attributes:
        options: by our names; ``context_length`` is of one request.
        defaults: parameters of requests that say none.
        capabilities: of a model that is served for these alone; empty: for what it can do.
        context: tokens of all requests together, where it says so.
        is_alone: it says a context, and not for how many requests.
        without_jinja: the flag that says so; one of llama.cpp's named templates has none anyway.
        without_effect: flags that say what is so here in any case, or what is the pool's business.
    """

    source: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)
    capabilities: list[str] = field(default_factory=list)
    without_effect: list[str] = field(default_factory=list)
    context: int | None = None
    is_alone: bool = False
    without_jinja: str = ""


def is_llama_server(program: str) -> bool:
    """By its name, with or without a version behind it."""
    name = PurePosixPath(program.replace("\\", "/")).name.removesuffix(".exe")
    return name == PROGRAM or name.startswith(f"{PROGRAM}-")


def server_command(arguments: Sequence[str]) -> ServerCommand:
    """What the arguments behind the program say.

    Raises:
        NotUnderstood: with the flag.
    """
    said, rest = ServerCommand(), list(arguments)
    while rest:
        flag = rest.pop(0)
        read = _FLAGS.get(flag)
        if read is None:
            raise NotUnderstood(f"its {flag} is no option of a model")
        try:
            read(said, flag, rest)
        except IndexError:
            raise NotUnderstood(f"its {flag} lacks a value") from None
        except ValueError as e:
            raise NotUnderstood(f"its {flag} {e}") from None
    if not said.source:
        raise NotUnderstood("it names no file with -m")
    _settle_context(said)
    _settle_draft(said)
    if said.without_jinja and said.options.get("chat_template") not in PLAIN_TEMPLATES:
        raise NotUnderstood(f"its {said.without_jinja} is no option of a model")
    return said


def _settle_context(said: ServerCommand) -> None:
    """-c is for all requests together, context_length for each, unless they share it."""
    if said.context is None:
        return
    if said.options.get("kv_unified"):
        said.options["context_length"] = said.context
        return
    said.is_alone = "parallel" not in said.options
    slots = said.options.setdefault("parallel", 1)
    said.options["context_length"] = said.context // slots


def _settle_draft(said: ServerCommand) -> None:
    """How much is proposed says nothing where nobody proposes."""
    if "draft_model" not in said.options:
        for name in ("draft_max", "draft_min", "draft_p_min"):
            if said.options.pop(name, None) is not None:
                said.without_effect.append(name)


Read = Callable[[ServerCommand, str, list[str]], None]


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"should be a whole number, not {text!r}") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"should be a number, not {text!r}") from None


def _list_of_numbers(text: str) -> list[float]:
    return [_number(each) for each in text.replace("/", ",").split(",")]


def _option(name: str, value: Callable[[str], Any] = str) -> Read:
    def read(said: ServerCommand, flag: str, rest: list[str]) -> None:
        said.options[name] = value(rest.pop(0))

    return read


def _unless(nothing: float, name: str, value: Callable[[str], Any]) -> Read:
    """An option, of which one number says that nobody has said anything."""

    def read(said: ServerCommand, flag: str, rest: list[str]) -> None:
        found = value(rest.pop(0))
        if found != nothing:
            said.options[name] = found
        else:
            said.without_effect.append(flag)

    return read


def _default(name: str, value: Callable[[str], Any] = _number) -> Read:
    def read(said: ServerCommand, flag: str, rest: list[str]) -> None:
        said.defaults[name] = value(rest.pop(0))

    return read


def _switch(name: str, value: Any) -> Read:
    def read(said: ServerCommand, flag: str, rest: list[str]) -> None:
        said.options[name] = value

    return read


def _ignored(values: int = 0) -> Read:
    def read(said: ServerCommand, flag: str, rest: list[str]) -> None:
        for _ in range(values):
            rest.pop(0)
        said.without_effect.append(flag)

    return read


def _model(said: ServerCommand, flag: str, rest: list[str]) -> None:
    said.source = rest.pop(0)


def _context(said: ServerCommand, flag: str, rest: list[str]) -> None:
    said.context = _whole(rest.pop(0)) or None
    if said.context is None:
        raise ValueError("0, the whole context that it was trained with, is no number of tokens")


def _unified(said: ServerCommand, flag: str, rest: list[str]) -> None:
    said.options["kv_unified"] = "no-" not in flag


def _flash_attention(said: ServerCommand, flag: str, rest: list[str]) -> None:
    words = {"on": "on", "off": "off", "auto": "auto", "1": "on", "0": "off"}
    is_told = bool(rest) and rest[0] in words
    said.options["flash_attention"] = words[rest.pop(0)] if is_told else "on"


def _layers(said: ServerCommand, flag: str, rest: list[str]) -> None:
    text = rest.pop(0)
    if text == "auto":
        said.without_effect.append(flag)
        return
    count = 999 if text == "all" else _whole(text)
    said.options["gpu_layers"] = 999 if count < 0 else min(count, 10_000)


def _template(said: ServerCommand, flag: str, rest: list[str]) -> None:
    text = rest.pop(0)
    if "{" not in text and not names_a_template(text):
        raise ValueError(f"is {text!r}, and llama.cpp has no template of that name")
    said.options["chat_template"] = text


def _jinja(said: ServerCommand, flag: str, rest: list[str]) -> None:
    """It is so here in any case; of this flag and its reverse the last one counts."""
    said.without_jinja = ""
    said.without_effect.append(flag)


def _no_jinja(said: ServerCommand, flag: str, rest: list[str]) -> None:
    said.without_jinja = flag


def _budget(said: ServerCommand, flag: str, rest: list[str]) -> None:
    count = _whole(rest.pop(0))
    if count > 0:
        raise ValueError(f"of {count} tokens is no option: reasoning is on or off")
    if count == 0:
        said.options["reasoning"] = False
    else:
        said.without_effect.append(flag)


def _reasoning(said: ServerCommand, flag: str, rest: list[str]) -> None:
    word = rest.pop(0)
    if word not in ("on", "off", "auto"):
        raise ValueError(f"is {word!r}, not on, off or auto")
    if word == "auto":
        said.without_effect.append(flag)
    else:
        said.options["reasoning"] = word == "on"


def _lora(said: ServerCommand, flag: str, rest: list[str]) -> None:
    for path in rest.pop(0).split(","):
        said.options.setdefault("lora", []).append({"path": path})


def _scaled_lora(said: ServerCommand, flag: str, rest: list[str]) -> None:
    text = rest.pop(0)
    if rest and not rest[0].startswith("-"):  # as it was before commas
        text = f"{text}:{rest.pop(0)}"
    for each in text.split(","):
        path, _, scale = each.rpartition(":")
        if not path:
            raise ValueError(f"should be FILE:SCALE, not {each!r}")
        said.options.setdefault("lora", []).append({"path": path, "scale": _number(scale)})


def _rope_scaling(said: ServerCommand, flag: str, rest: list[str]) -> None:
    word = rest.pop(0)
    if word not in SCALED:
        raise ValueError(f"{word} is not one of {', '.join(SCALED)}")
    said.options["rope_scaling"] = word


def _rope_scale(said: ServerCommand, flag: str, rest: list[str]) -> None:
    factor = _number(rest.pop(0))
    if factor <= 0:
        raise ValueError("should be above 0")
    said.options["rope_freq_scale"] = round(1 / factor, 6)


def _embeds(said: ServerCommand, flag: str, rest: list[str]) -> None:
    said.capabilities = ["embeddings"]


def _ranks(said: ServerCommand, flag: str, rest: list[str]) -> None:
    said.capabilities = ["rerank"]
    said.options["pooling_type"] = "rank"


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ValueError(f"should be an object of JSON, not {text!r}")
    return value


def _most_tokens(said: ServerCommand, flag: str, rest: list[str]) -> None:
    count = _whole(rest.pop(0))
    if count > 0:
        said.defaults["max_tokens"] = count
    else:
        said.without_effect.append(flag)


# Those that say what an option says ...
_OPTIONS: Mapping[str, Read] = {
    "-m --model": _model,
    "-c --ctx-size": _context,
    "-np --parallel": _unless(-1, "parallel", _whole),
    "-kvu --kv-unified -no-kvu --no-kv-unified": _unified,
    "-t --threads": _unless(-1, "threads", _whole),
    "-b --batch-size": _option("batch_size", _whole),
    "-ub --ubatch-size": _option("micro_batch_size", _whole),
    "-fa --flash-attn": _flash_attention,
    "-ctk --cache-type-k": _option("cache_type_k"),
    "-ctv --cache-type-v": _option("cache_type_v"),
    "-ngl --gpu-layers --n-gpu-layers": _layers,
    "-ts --tensor-split": _option("tensor_split", _list_of_numbers),
    "-mm --mmproj": _option("mmproj"),
    "--slot-save-path": _option("slot_save_path"),
    "--sleep-idle-seconds": _unless(-1, "sleep_idle_seconds", _whole),
    "--chat-template": _template,
    "--chat-template-file": _option("chat_template_file"),
    "--reasoning-budget": _budget,
    "-rea --reasoning": _reasoning,
    "--pooling": _option("pooling_type"),
    "--embedding --embeddings": _embeds,
    "--rerank --reranking": _ranks,
    "-md --model-draft --spec-draft-model": _option("draft_model"),
    "--draft --draft-n --draft-max --spec-draft-n-max": _option("draft_max", _whole),
    "--draft-min --draft-n-min --spec-draft-n-min": _option("draft_min", _whole),
    "--draft-p-min --spec-draft-p-min": _option("draft_p_min", _number),
    "--lora": _lora,
    "--lora-scaled": _scaled_lora,
    "--rope-scaling": _rope_scaling,
    "--rope-scale": _rope_scale,
    "--rope-freq-base": _option("rope_freq_base", _number),
    "--rope-freq-scale": _option("rope_freq_scale", _number),
    "--yarn-orig-ctx": _unless(0, "yarn_original_context", _whole),
    "--yarn-ext-factor": _unless(-1, "yarn_extrapolation", _number),
    "--yarn-attn-factor": _option("yarn_attention_factor", _number),
    "--yarn-beta-slow": _option("yarn_beta_slow", _number),
    "--yarn-beta-fast": _option("yarn_beta_fast", _number),
    "--mmap": _switch("mmap", True),
    "--no-mmap": _switch("mmap", False),
    "-s --seed": _unless(-1, "seed", _whole),
    "--temp --temperature": _option("temperature", _number),
    # ... or a parameter of requests ...
    "--top-p": _default("top_p"),
    "--top-k": _default("top_k", _whole),
    "--min-p": _default("min_p"),
    "--repeat-penalty": _default("repeat_penalty"),
    "--repeat-last-n": _default("repeat_last_n", _whole),
    "--presence-penalty": _default("presence_penalty"),
    "--frequency-penalty": _default("frequency_penalty"),
    "--reasoning-format": _default("reasoning_format", str),
    "--chat-template-kwargs": _default("chat_template_kwargs", _object),
    "-n --predict --n-predict": _most_tokens,
    # ... and those that neither change what fits nor what is answered.
    "--jinja": _jinja,
    "--no-jinja": _no_jinja,
    "--metrics": _ignored(),
    "--slots": _ignored(),
    "--no-slots": _ignored(),
    "--props": _ignored(),
    "--no-webui": _ignored(),
    "--webui": _ignored(),
    "--no-ui": _ignored(),
    "-cb --cont-batching": _ignored(),
    "--cache-prompt": _ignored(),
    "--no-warmup": _ignored(),
    "--warmup": _ignored(),
    "--mlock": _ignored(),
    "--no-context-shift": _ignored(),
    "-v --verbose --log-verbose": _ignored(),
    "-lv --verbosity --log-verbosity": _ignored(1),
    "--log-disable": _ignored(),
    "--log-colors": _ignored(1),
    "--log-prefix": _ignored(),
    "--log-timestamps": _ignored(),
    "--log-file": _ignored(1),
    "--offline": _ignored(),
    "--host": _ignored(1),
    "--port": _ignored(1),
    "-a --alias": _ignored(1),
    "--api-key": _ignored(1),
    "-to --timeout": _ignored(1),
    "--threads-http": _ignored(1),
    "-tb --threads-batch": _ignored(1),
    "--cache-reuse": _ignored(1),
    "-cram --cache-ram": _ignored(1),
    "-sps --slot-prompt-similarity": _ignored(1),
    "--prio": _ignored(1),
    "--poll": _ignored(1),
}
_FLAGS: Mapping[str, Read] = {
    flag: read for flags, read in _OPTIONS.items() for flag in flags.split()
}
