"""PURE. The bodies of Ollama's API that are about models: which there are, run, and come."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelpool_client.capabilities import WRITES_NONE, WRITES_TEXT
from modelpool_client.errors import InvalidRequest
from modelpool_client.surfaces.names import LATEST, other_spelling
from modelpool_client.surfaces.ollama.answers import line
from modelpool_client.surfaces.ollama.times import FOREVER_NS, rfc3339
from modelpool_client.surfaces.schema import Schema, check, nullable

# Whose API this is: clients hold features back from older ones.
API_VERSION = "0.33.0"
# What clients look for at ``/``.
ROOT_TEXT = "Ollama is running"

_NAMED: Mapping[str, Schema] = {
    "model": nullable({"type": "string"}),
    "name": nullable({"type": "string", "description": "model, as it was called before"}),
}
_FLAG: Schema = nullable({"type": "boolean"})
MANAGEMENT_BODIES: Mapping[str, Schema] = {
    "/api/show": {"type": "object", "properties": {**_NAMED, "verbose": _FLAG}},
    "/api/pull": {"type": "object", "properties": {**_NAMED, "stream": _FLAG}},
    "/api/delete": {"type": "object", "properties": _NAMED},
    "/api/copy": {
        "type": "object",
        "required": ["source", "destination"],
        "properties": {
            "source": {"type": "string", "minLength": 1},
            "destination": {"type": "string", "minLength": 1},
        },
    },
}

# Options of a model by Ollama's names of them.
_PARAMETERS = {"context_length": "num_ctx", "temperature": "temperature", "seed": "seed"}
# Capabilities of ours by Ollama's names of them, in its order.
_CAPABILITIES: Mapping[str, tuple[str, ...]] = {
    "completion": ("chat", "completion"),
    "vision": ("vision",),
    "audio": ("audio",),
    "embedding": ("embeddings",),
    "image": ("image_generation",),
    "tools": ("tools",),
    "insert": ("infill",),
    "thinking": ("thinking",),
}


@dataclass(frozen=True)
class Details:
    """What is known of a model's file; clients show it.

    Attributes:
        format: such as ``gguf``.
        family: its architecture, such as ``llama``.
        parameters: how many there are; 0: unknown.
        quantization: such as ``Q4_K_M``.
        context_length: tokens that it was trained with; 0: unknown.
        embedding_length: numbers of one embedding; 0: unknown.
    """

    format: str = ""
    family: str = ""
    parameters: int = 0
    quantization: str = ""
    context_length: int = 0
    embedding_length: int = 0

    def body(self) -> dict[str, Any]:
        """The ``details`` of any answer."""
        lengths = {
            "context_length": self.context_length,
            "embedding_length": self.embedding_length,
        }
        return {
            "parent_model": "",
            "format": self.format,
            "family": self.family,
            "families": [self.family] if self.family else [],
            "parameter_size": parameter_size(self.parameters) if self.parameters else "",
            "quantization_level": self.quantization,
            **{name: value for name, value in lengths.items() if value},
        }


@dataclass(frozen=True)
class Listed:
    """A model, or one of its aliases, that can be asked for.

    Attributes:
        name: an id of ours; clients are given it with a tag, which ``:latest`` stands for.
        size: bytes of its files.
        modified_ns: since 1970.
        digest: of its content, hexadecimal. Clients tell models apart by it: where none is known,
            one of name, size and time stands for it.
        capabilities: in our words.
    """

    name: str
    size: int = 0
    modified_ns: int = 0
    digest: str = ""
    details: Details = field(default_factory=Details)
    capabilities: tuple[str, ...] = ()

    def body(self) -> dict[str, Any]:
        """Its entry of ``/api/tags``."""
        name = _tagged(self.name)
        return {
            "name": name,
            "model": name,
            "modified_at": rfc3339(self.modified_ns),
            "size": self.size,
            "digest": self.digest or _stand_in(self.name, self.size, self.modified_ns),
            "details": self.details.body(),
            "capabilities": capabilities(self.capabilities),
        }


@dataclass(frozen=True)
class Running:
    """A model that is loaded.

    Attributes:
        size: bytes of memory that it takes, devices' included.
        size_vram: those of devices; less than ``size`` reads as partly on the CPU.
        expires_ns: when it goes, since 1970, unless it is used; None: never.
        context_length: tokens of one request.
    """

    listed: Listed
    size: int = 0
    size_vram: int = 0
    expires_ns: int | None = None
    context_length: int = 0

    def body(self) -> dict[str, Any]:
        """Its entry of ``/api/ps``."""
        listed = self.listed.body()
        expires = FOREVER_NS if self.expires_ns is None else self.expires_ns
        return {
            **{name: listed[name] for name in ("name", "model", "digest", "details")},
            "size": self.size,
            "size_vram": self.size_vram,
            "expires_at": rfc3339(expires),
            "context_length": self.context_length,
        }


def asked_model(path: str, data: Mapping[str, Any]) -> str:
    """Which model a request is about, by either name of the key.

    Raises:
        InvalidRequest: by none, or ``data`` is no request for ``path``.
    """
    check(MANAGEMENT_BODIES[path], data)
    name = data.get("model") or data.get("name")
    if not isinstance(name, str):
        raise InvalidRequest("model is required", param="model")
    return name


def tags_body(models: Iterable[Listed]) -> dict[str, Any]:
    """``GET /api/tags``; the newest first, as Ollama has them."""
    newest = sorted(models, key=lambda m: (-m.modified_ns, m.name))
    return {"models": [m.body() for m in newest]}


def encoded_tags(entries: Iterable[bytes]) -> bytes:
    """The same as JSON, for whoever keeps that of each entry, the newest first."""
    return b'{"models": [%b]}' % b", ".join(entries)


def ps_body(models: Iterable[Running]) -> dict[str, Any]:
    """``GET /api/ps``; who stays longest first, as Ollama has them."""

    def end(m: Running) -> int:
        return FOREVER_NS if m.expires_ns is None else m.expires_ns

    return {"models": [m.body() for m in sorted(models, key=lambda m: (-end(m), m.listed.name))]}


def show_body(
    model: Listed,
    *,
    template: str = "",
    parameters: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    license: str = "",
) -> dict[str, Any]:
    """``POST /api/show``.

    Args:
        template: the chat template.
        parameters: options of the instance by Ollama's names, such as ``num_ctx``; a list gives a
            line for each.
        metadata: more of the file's keys, such as ``llama.block_count``; those of ``details`` are
            added under the names that GGUF has for them.
    """
    lines = _parameter_lines(parameters or {})
    modelfile = [f"FROM {_tagged(model.name)}", *(f"PARAMETER {text}" for text in lines)]
    return {
        "license": license,
        "modelfile": "\n".join(modelfile),
        "parameters": "\n".join(lines),
        "template": template,
        "details": model.details.body(),
        "model_info": {**_model_info(model.details), **(metadata or {})},
        "capabilities": capabilities(model.capabilities),
        "modified_at": rfc3339(model.modified_ns),
    }


def parameters_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a model's ``options`` that Ollama has a name for, by that name."""
    return {_PARAMETERS[name]: value for name, value in options.items() if name in _PARAMETERS}


def version_body(version: str = API_VERSION) -> dict[str, Any]:
    """``GET /api/version``."""
    return {"version": version}


def pull_line(
    status: str,
    *,
    digest: str = "",
    total: int = 0,
    completed: int = 0,
) -> bytes:
    """A line of ``POST /api/pull``; without a stream, the last one's object is the body.

    Args:
        digest: of what comes, ``sha256:`` and hexadecimal.
        total: its bytes; 0: unknown.
        completed: how many of them are there.
    """
    facts = {"digest": digest, "total": total, "completed": completed}
    return line({"status": status, **{name: value for name, value in facts.items() if value}})


def pull_progress(digest: str, total: int, completed: int) -> bytes:
    """The line while a file comes, as often as one likes."""
    short = digest.removeprefix("sha256:")[:12]
    return pull_line(f"pulling {short}", digest=digest, total=total, completed=completed)


PULL_BEGINS = pull_line("pulling manifest")
PULL_ENDS = pull_line("success")


def capabilities(ours: Sequence[str]) -> list[str]:
    """Ollama's words for what a model can do; one of which nothing is known writes text."""
    found = [theirs for theirs, names in _CAPABILITIES.items() if not set(names).isdisjoint(ours)]
    writes = not WRITES_TEXT.isdisjoint(ours) or WRITES_NONE.isdisjoint(ours)
    return found if "completion" in found or not writes else ["completion", *found]


def parameter_size(count: int) -> str:
    """``8B``, ``8.3B``, ``494.03M`` or ``12K``, as Ollama writes numbers of parameters."""
    for unit, letter, digits in ((10**9, "B", 1), (10**6, "M", 2)):
        if count >= unit:
            return f"{count / unit:.{digits if count % unit else 0}f}{letter}"
    return f"{count / 1000:.0f}K" if count >= 1000 else str(count)


def _tagged(name: str) -> str:
    """With a tag: clients compare names with what a user wrote, ``:latest`` added."""
    has_tag = other_spelling(name) is None or name.endswith(LATEST)
    return name if has_tag else name + LATEST


def _stand_in(*facts: object) -> str:
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _model_info(details: Details) -> dict[str, Any]:
    family = details.family or "unknown"
    info = {
        "general.architecture": details.family,
        "general.parameter_count": details.parameters,
        f"{family}.context_length": details.context_length,
        f"{family}.embedding_length": details.embedding_length,
    }
    return {name: value for name, value in info.items() if value}


def _parameter_lines(parameters: Mapping[str, Any]) -> list[str]:
    """A name, padded to 30 as Ollama does, and a value each; text is quoted."""
    each = [
        (name, value)
        for name, values in parameters.items()
        for value in (values if isinstance(values, list) else [values])
    ]
    return [f"{name:<30} {_parameter(value)}" for name, value in each]


def _parameter(value: Any) -> str:
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(value).lower() if isinstance(value, bool) else str(value)
