"""PURE. What of a model only the config file may say: what is run on this machine, and with what,
which servers are asked, with which key, and which models are paid for.

Whoever reaches the API could otherwise have any program started, any secret sent anywhere, or the
operator's money spent. An engine marks such options in their schemas with ``only_in_config``; one
that is asked with a key of the pool's says so itself (``asked_once``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .model import Model
from .parse_rules import Problem

KEY = "allow_commands_by_api"
CODE = "only_in_config"
# Also where an engine could not be asked for its schemas.
ALWAYS = frozenset(
    {"arguments", "command", "environment", "gpus", "image", "port", "program", "ready_log"}
    | {"slot_save_path"}
    | {"stop_command", "trust_remote_code", "volumes", "working_directory"}
    | {"api_key_file", "api_key_header", "api_key_variable", "base_url", "ca_file", "probe_path"}
    | {"discover", "models", "servers", "stream_url", "url"}
)
# Engines that are asked with a key, where they could not be asked.
BILLED = frozenset({"anthropic", "http", "openai"})


def untrusted(
    model: Model,
    schemas: Mapping[str, Mapping[str, Any]],
    known: Iterable[Model],
    *,
    is_billed: bool = False,
) -> list[Problem]:
    """What a client of the API may not say of the model.

    Args:
        schemas: of the engine's options, by their names.
        known: models that there are: one of the same engine and source with the very same may be
            said again, so that the rest of it can be changed, or a copy be made.
        is_billed: its engine asks servers that somebody pays for. Then the model must be one that a
            provider serves, which only the config file can have named.
    """
    said = _guarded(model, schemas)
    is_own = not model.served_by and (is_billed or model.engine in BILLED)
    if not said and not is_own:
        return []
    same = [m for m in known if (m.engine, m.source) == (model.engine, model.source)]
    if any(_guarded(m, schemas) == said and m.served_by == model.served_by for m in same):
        return []
    problems = [_problem(f"options.{name}", f"options.{name}") for name in sorted(said)]
    if is_own:
        what = f"a model of engine {model.engine}, which is asked with a key of the pool's,"
        problems.append(_problem("engine", what, "; name it in providers or models there"))
    return problems


def _problem(param: str, what: str, advice: str = "") -> Problem:
    why = f"can only be said in the config file, unless that says {KEY}: true"
    return Problem(param, f"{what} {why}{advice}", CODE)


def _guarded(model: Model, schemas: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    options = model.options
    return {
        name: value
        for name, value in options.items()
        if name in ALWAYS or schemas.get(name, {}).get("only_in_config")
    }
