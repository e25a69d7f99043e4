"""What an entry of the catalog may hold: how each key is checked, and its piece of schema. PURE."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, get_args

from cronsim import CronSim, CronSimError
from modelpool_client.capabilities import word_of

from . import value_checks as values
from .model import Balance, id_problem
from .request_rules import RULES_SCHEMA, check_rules
from .value_checks import Check

MAX_MEMORY_MB = 10**9
MAX_REPLICAS = 16
ACTIONS = ("load", "unload")

ENGINE_SPELLINGS = {
    "claude": "anthropic",
    "gguf": "llama.cpp",
    "llama_cpp": "llama.cpp",
    "llamacpp": "llama.cpp",
    # The older documents write them in capitals, too.
    **{name: name for name in ("coreml", "mlx", "ollama", "onnx", "transformers", "vllm")},
}
BALANCES = get_args(Balance)
AUTO = "auto"
# All that load GGUF files, with the same options.
GGUF_ENGINES = frozenset({AUTO, "llama-server", "llama.cpp"})
# Engines whose source is always a path; names of models elsewhere mean nothing to them.
READ_FILES = frozenset(
    {"coreml", "faster-whisper", "kokoro", "llama-cpp-python", "mlx", "onnx", "piper"}
    | {"transformers"}
)
# Of an environment: a folder is called so.
ENVIRONMENT_NAME = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
# A least number, and the words that may stand in its place.
CONCURRENCY_LIMIT = {
    "type": ["integer", "string"],
    "minimum": 1,
    "pattern": "^(adaptive|unlimited)$",
}


@dataclass(frozen=True)
class Field:
    """How one key is checked, and its piece of JSON schema."""

    check: Check
    schema: Mapping[str, Any]


def _model_id(value: Any) -> str:
    problem = id_problem(value)
    if problem:
        raise ValueError(problem)
    return str(value)


def _engine(value: Any) -> str:
    name = values.text(value)
    return AUTO if name.casefold() == "gguf" else engine_name(name)


def _capability(value: Any) -> str:
    return word_of(values.text(value))


def _environment(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(ENVIRONMENT_NAME, value):
        raise ValueError("must be the name of an environment: letters, digits, '.', '-' and '_'")
    return value


def _device(value: Any) -> int | str:
    if isinstance(value, str):
        return values.text(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError('must be the number, the id ("cuda:0") or the UUID of a device')
    return value


def _appointment(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping) or set(value) != {"cron", "action"}:
        raise ValueError('must hold objects like {"cron": "0 8 * * mon-fri", "action": "load"}')
    values.choice(*ACTIONS)(value["action"])
    try:
        CronSim(values.text(value["cron"]), datetime(2026, 1, 1))
    except CronSimError as e:
        raise ValueError(f"has a bad cron expression, {value['cron']!r}: {e}") from None
    return {"cron": value["cron"], "action": value["action"]}


def _appointments(value: Any) -> tuple[dict[str, str], ...]:
    if not isinstance(value, (list, tuple)) or len(value) > values.MAX_ITEMS:
        raise ValueError(f"must be a list of at most {values.MAX_ITEMS} objects")
    return tuple(_appointment(each) for each in value)


def _number(low: float, high: float) -> Field:
    schema = {"type": ["number", "null"], "minimum": low, "maximum": high}
    return Field(values.optional(values.number(low, high)), schema)


def _integer(low: int) -> Field:
    return Field(
        values.optional(values.integer(low)), {"type": ["integer", "null"], "minimum": low}
    )


_COUNT = {"type": "integer", "minimum": 1, "maximum": MAX_REPLICAS}
_SCHEDULE = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["cron", "action"],
        "properties": {
            "cron": {"type": "string"},
            "action": {"type": "string", "enum": list(ACTIONS)},
        },
        "additionalProperties": False,
    },
}
_TEXT = Field(values.text, {"type": "string"})
_OPTIONAL_TEXT = Field(values.optional(values.text), {"type": ["string", "null"]})
_FLAG = Field(values.flag, {"type": "boolean"})
_OBJECT = {"type": "object"}
_TEXTS = {"type": "array", "items": {"type": "string"}}

FIELDS: Mapping[str, Field] = {
    "model_id": Field(_model_id, {"type": "string", "minLength": 1, "maxLength": 255}),
    "engine": Field(_engine, {"type": "string"}),
    "source": _TEXT,
    "display_name": _TEXT,
    "model_type": _TEXT,
    "options": Field(values.json_object, _OBJECT),
    "aliases": Field(values.several(_model_id), _TEXTS),
    "warmup": _FLAG,
    "pinned": _FLAG,
    "auto_unload": Field(values.optional(values.flag), {"type": ["boolean", "null"]}),
    "ttl_minutes": _number(0, values.MAX_INTEGER),
    "priority": Field(
        values.choice("high", "normal", "low"),
        {"type": "string", "enum": ["high", "normal", "low"]},
    ),
    "tags": Field(values.several(values.text), _TEXTS),
    "capabilities": Field(values.several(_capability), _TEXTS),
    "min_replicas": Field(values.integer(1, MAX_REPLICAS), _COUNT),
    "max_replicas": Field(values.integer(1, MAX_REPLICAS), _COUNT),
    "target_in_flight": _integer(1),
    "coalesce": Field(
        values.choice("deterministic", "identical", "off"),
        {"type": "string", "enum": ["deterministic", "identical", "off"]},
    ),
    "balance": Field(values.choice(*BALANCES), {"type": "string", "enum": list(BALANCES)}),
    "fallbacks": Field(values.several(values.text), _TEXTS),
    "concurrency_limit": Field(
        values.optional(values.integer_or("adaptive", "unlimited", low=1)),
        {**CONCURRENCY_LIMIT, "type": ["integer", "string", "null"]},
    ),
    "environment": Field(_environment, {"type": "string", "pattern": ENVIRONMENT_NAME}),
    "devices": Field(
        values.optional(values.several(_device)),
        {
            "type": ["array", "null"],
            "items": {"type": ["integer", "string"], "minimum": 0, "minLength": 1},
        },
    ),
    "schedule": Field(_appointments, _SCHEDULE),
    "memory_mb": _number(0, MAX_MEMORY_MB),
    "context_length": _integer(1),
    "size_bytes": _integer(0),
    "architecture": _OPTIONAL_TEXT,
    "quantization": _OPTIONAL_TEXT,
    "metadata": Field(values.json_object, _OBJECT),
    "served_by": _TEXT,
    "request": Field(check_rules, RULES_SCHEMA),
}


def engine_name(name: str) -> str:
    """Our name of an engine that the older documents may call otherwise."""
    return ENGINE_SPELLINGS.get(name.casefold(), name)


def model_entry_schema() -> dict[str, Any]:
    """JSON schema of one entry of ``models``, in our own spellings."""
    return {
        "type": "object",
        "required": ["model_id", "source"],
        "properties": {key: dict(f.schema) for key, f in FIELDS.items()},
    }
