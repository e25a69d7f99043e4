"""PURE. What becomes of every parameter of the Messages API; those that a table marks as ignored
follow from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from modelpool_client.surfaces.anthropic.tables import BODIES, COUNT_PATH, MESSAGES_PATH
from modelpool_client.surfaces.parameter_rules import Rule, ignored, own, told
from modelpool_client.surfaces.schema import Schema

_ELSEWHERE = ignored("means something at Anthropic's own service only")
_PROMPT: Mapping[str, Rule] = {
    "model": own("says which model"),
    "messages": own("what is said"),
    "system": own("what the model is told first"),
    "tools": told("tools"),
    "tool_choice": told("tool_choice"),
    "tool_choice.disable_parallel_tool_use": told("parallel_tool_calls"),
    "thinking": own("see its own parameters"),
    "thinking.type": told("chat_template_kwargs"),
    "thinking.display": own("omitted: thoughts are not shown"),
    "output_config": own("see its own parameters"),
    "output_config.effort": told("reasoning_effort", "chat_template_kwargs"),
    "output_config.format": told("response_format"),
}
_SAMPLING: Mapping[str, Rule] = {
    "max_tokens": told("max_tokens"),
    "stream": own("in pieces, as they are computed"),
    "temperature": told("temperature"),
    "top_p": told("top_p"),
    "top_k": told("top_k"),
    "stop_sequences": told("stop"),
    "metadata": own("see its own parameter"),
    "metadata.user_id": told("user"),
    "thinking.budget_tokens": told("thinking_budget_tokens"),
}


def _ignored(schema: Schema, where: str = "") -> Iterator[str]:
    for option in schema.get("anyOf", (schema,)):
        for name, inner in option.get("properties", {}).items():
            full = f"{where}.{name}" if where else name
            if inner.get("ignored"):
                yield full
            else:
                yield from _ignored(inner, full)
        if "items" in option:
            yield from _ignored(option["items"], where)


RULES: Mapping[str, Mapping[str, Rule]] = {
    MESSAGES_PATH: {
        **_PROMPT,
        **_SAMPLING,
        **dict.fromkeys(_ignored(BODIES[MESSAGES_PATH]), _ELSEWHERE),
    },
    COUNT_PATH: {**_PROMPT, **dict.fromkeys(_ignored(BODIES[COUNT_PATH]), _ELSEWHERE)},
}
