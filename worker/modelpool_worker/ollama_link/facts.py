"""PURE. What a server of Ollama says of itself and of a model, whatever its version."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

Version = tuple[int, int, int]

# What has no /api/embed, and no /api/ps before 0.1.38.
OLDEST: Version = (0, 2, 6)
# What came when. A version that says no number, as one does that somebody built, has it all.
CAPABILITIES: Version = (0, 6, 4)
THINK: Version = (0, 9, 0)
THINK_LEVELS: Version = (0, 12, 0)
LOGPROBS: Version = (0, 12, 11)
NO_SILENT_CUT: Version = (0, 12, 4)
NEWEST: Version = (1 << 30, 0, 0)

# Ollama's default since 0.6.7; newer ones choose by the memory of the GPU.
DEFAULT_CONTEXT = 4096
_VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+)")


def version_of(text: str) -> Version:
    """``0.12.3-rc1`` as numbers; 0.0.0, and what is none, is newer than all."""
    found = _VERSION.match(text)
    if found is None:
        return NEWEST
    version = (int(found[1]), int(found[2]), int(found[3]))
    return version if any(version) else NEWEST


@dataclass(frozen=True)
class ModelFacts:
    """What ``/api/show`` says of a model.

    Attributes:
        capabilities: in Ollama's words.
        trained_context: in tokens; None where nobody says.
        parameters: those of its Modelfile.
        key_value_bytes: that a token of context takes in memory; 0 where that is not known.
    """

    capabilities: frozenset[str]
    trained_context: int | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    family: str = ""
    size: str = ""
    quantization: str = ""
    key_value_bytes: int = 0

    @property
    def is_embedding(self) -> bool:
        """It makes vectors, and no text."""
        return "embedding" in self.capabilities and "completion" not in self.capabilities


def model_facts(shown: Mapping[str, Any]) -> ModelFacts:
    """Of the body of an answer of ``/api/show``."""
    info = _mapping(shown.get("model_info"))
    details = _mapping(shown.get("details"))
    told = shown.get("capabilities")
    capabilities = frozenset(map(str, told)) if isinstance(told, list) else _guessed(shown, info)
    architecture = str(info.get("general.architecture") or details.get("family") or "")
    context = info.get(f"{architecture}.context_length")
    return ModelFacts(
        capabilities,
        context if isinstance(context, int) and context > 0 else None,
        _parameters(str(shown.get("parameters") or "")),
        architecture,
        str(details.get("parameter_size") or ""),
        str(details.get("quantization_level") or ""),
        _key_value_bytes(info, architecture),
    )


def _guessed(shown: Mapping[str, Any], info: Mapping[str, Any]) -> frozenset[str]:
    """Of a version that does not say."""
    architecture, template = info.get("general.architecture"), str(shown.get("template") or "")
    if f"{architecture}.pooling_type" in info or "bert" in str(architecture):
        return frozenset({"embedding"})
    found = {"completion"}
    found |= {"tools"} if ".Tools" in template else set()
    found |= {"insert"} if ".Suffix" in template else set()
    found |= {"vision"} if shown.get("projector_info") else set()
    return frozenset(found)


def _parameters(text: str) -> dict[str, str]:
    """Lines of a name and a value; of a name that stands there several times, the last."""
    lines = (line.split(None, 1) for line in text.splitlines())
    return {line[0]: line[1].strip().strip('"') for line in lines if len(line) == 2}


def _key_value_bytes(info: Mapping[str, Any], architecture: str) -> int:
    def number(name: str) -> int:
        value = info.get(f"{architecture}.{name}")
        return value if isinstance(value, int) else 0

    heads = number("attention.head_count")
    each = number("embedding_length") // heads if heads else 0
    width = (number("attention.key_length") or each) + (number("attention.value_length") or each)
    return 2 * number("block_count") * number("attention.head_count_kv") * width


def context_length_of(options: Mapping[str, Any], facts: ModelFacts) -> int:
    """Tokens that are always asked for, so that no version chooses its own: the option, else what
    the Modelfile says, else ``DEFAULT_CONTEXT``; never more than the model was trained for, unless
    somebody says so."""
    if told := options.get("context_length"):
        return int(told)
    own = facts.parameters.get("num_ctx", "")
    wanted = int(own) if own.isdigit() and int(own) else DEFAULT_CONTEXT
    return min(wanted, facts.trained_context or wanted)


def unable(capabilities: Collection[str], version: Version) -> dict[str, str]:
    """Parameters that a model cannot have there, and why."""
    found: dict[str, str] = {}
    if "tools" not in capabilities:
        for name in ("tools", "parallel_tool_calls"):
            found[name] = "Ollama says that the model cannot call tools"
    if "insert" not in capabilities:
        found["suffix"] = "Ollama says that the model cannot fill in"
    if "thinking" not in capabilities or version < THINK:
        for name in ("reasoning_effort", "think"):
            found[name] = "Ollama says that the model does not think"
    if version < LOGPROBS:
        for name in ("logprobs", "top_logprobs"):
            found[name] = "this version of Ollama tells no log probabilities: it does since 0.12.11"
    return found


@dataclass(frozen=True)
class Running:
    """A model that ``/api/ps`` says is loaded. ``context_length`` is None before 0.10.0."""

    size: int
    size_vram: int
    context_length: int | None = None


def running_of(body: Mapping[str, Any], name: str) -> Running | None:
    """How the model of that name runs; None: it does not."""
    for model in body.get("models") or ():
        if same_model(str(model.get("model") or model.get("name") or ""), name):
            context = model.get("context_length")
            return Running(
                max(0, int(model.get("size") or 0)),
                max(0, int(model.get("size_vram") or 0)),
                context if isinstance(context, int) and context > 0 else None,
            )
    return None


def same_model(one: str, other: str) -> bool:
    """``name`` means ``name:latest``; case does not count."""
    return _full(one) == _full(other)


def _full(name: str) -> str:
    last = name.rpartition("/")[2]
    return (name if ":" in last else f"{name}:latest").casefold()


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
