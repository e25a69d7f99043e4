"""Servers that speak OpenAI's API in ways of their own, as their documentation of 2026-11 tells: a
model for each way. Requests are refused for what the real one refuses."""

from __future__ import annotations

import json
from typing import Any

from .openai import OpenAIApi, choice_chunk, event, head
from .server import KEY, Answer, Asked

USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
DONE = b"data: [DONE]\n\n"


class PeculiarApi(OpenAIApi):
    """Each model answers ``told``, in its own way."""

    def __init__(self) -> None:
        super().__init__()
        self.models = list(WAYS)

    def chat(self, asked: Asked) -> Answer:
        return WAYS[asked.json["model"]](self, asked.json)

    def images(self, asked: Asked) -> Answer:
        return reasons(self, {"max_tokens": 0})


def answer(
    body: dict[str, Any],
    message: dict[str, Any],
    usage: dict[str, Any],
    deltas: list[dict[str, Any]] | None = None,
    reason: str = "stop",
    **more: Any,
) -> Answer:
    """Whole, or as a stream whose last chunk tells its tokens."""
    if not body.get("stream"):
        said = {"role": "assistant", **message}
        choice = {"index": 0, "message": said, "finish_reason": reason, **more}
        return Answer(body=head(body, "chat.completion") | {"choices": [choice], "usage": usage})
    chunks = [choice_chunk(body, delta) for delta in deltas or [message]]
    last = choice_chunk(body, {}, reason)
    last["choices"][0] |= more
    return Answer(pieces=[*map(event, [*chunks, last | {"usage": usage}]), DONE])


def reasons(api: OpenAIApi, body: dict[str, Any]) -> Answer:
    """OpenAI's models that reason (platform.openai.com/docs/guides/reasoning)."""
    if "max_tokens" in body:
        text = "Unsupported parameter: 'max_tokens' is not supported with this model. Use"
        text += " 'max_completion_tokens' instead."
        return api.error(400, text, param="max_tokens", code="unsupported_parameter")
    return answer(body, {"content": "told"}, USAGE)


def only_responses(api: OpenAIApi, body: dict[str, Any]) -> Answer:
    text = "This model is only supported in v1/responses and not in v1/chat/completions."
    return api.error(404, text, param="model")


def in_parts(api: OpenAIApi, body: dict[str, Any]) -> Answer:
    """Mistral's models that reason (docs.mistral.ai/capabilities/reasoning)."""
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    parts = [thought, {"type": "text", "text": "told"}]
    deltas = [{"content": [thought]}, {"content": "to"}]
    deltas.append({"content": [{"type": "text", "text": "ld"}]})
    return answer(body, {"content": parts}, USAGE, deltas)


def signs(api: OpenAIApi, body: dict[str, Any]) -> Answer:
    """Google's (ai.google.dev/gemini-api/docs/thought-signatures): calls come with a signature and
    want it back; thoughts count in the total alone, which every chunk of a stream tells."""
    for message in body["messages"]:
        for call in (message.get("tool_calls") or ())[:1]:
            signature = call.get("extra_content", {}).get("google", {}).get("thought_signature")
            if signature not in ("signed", "skip_thought_signature_validator"):
                text = "Function call is missing a thought_signature in functionCall parts."
                return Answer(400, [{"error": {"code": 400, "message": text}}])
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 12}
    if body.get("tools") and body["messages"][-1]["role"] == "user":
        function = {"name": "weather", "arguments": "{}"}
        call = {"index": 0, "id": "call-1", "type": "function", "function": function}
        call["extra_content"] = {"google": {"thought_signature": "signed"}}
        return answer(body, {"tool_calls": [call]}, usage, reason="tool_calls")
    made = answer(body, {"content": "told"}, usage)
    if made.pieces is not None:
        first = choice_chunk(body, {"content": "told"}) | {"usage": usage}
        made.pieces = [event(first), *made.pieces[1:]]
    return made


def counts_in_its_own_words(api: OpenAIApi, body: dict[str, Any]) -> Answer:
    """DeepSeek's (api-docs.deepseek.com/guides/kv_cache): signs of life, and what was cached."""
    usage = {**USAGE, "prompt_cache_hit_tokens": 2, "prompt_cache_miss_tokens": 3}
    made = answer(body, {"content": "told", "reasoning_content": "hm"}, usage)
    if made.pieces is not None:
        made.pieces = [b": keep-alive\n\n", *made.pieces]
        return made
    return Answer(body=b"\n\n\n" + made.data)


def counts_twice(api: OpenAIApi, body: dict[str, Any]) -> Answer:
    """Groq's: tokens in its own field and in OpenAI's."""
    made = answer(body, {"content": "told", "reasoning": "hm"}, USAGE)
    if made.pieces is not None:
        own = {**choice_chunk(body, {}), "x_groq": {"id": "1", "usage": USAGE}}
        made.pieces = [*made.pieces[:1], event(own), *made.pieces[1:]]
    return made


def fails_at_its_end(api: OpenAIApi, body: dict[str, Any]) -> Answer:
    """OpenRouter's (openrouter.ai/docs/api/reference/errors-and-debugging)."""
    error = {"code": 502, "message": "the provider disconnected"}
    return answer(body, {"content": "to"}, USAGE, reason="error", error=error)


def has_no_room_left(api: OpenAIApi, body: dict[str, Any]) -> Answer:
    """DeepSeek's word for it."""
    return answer(body, {"content": "to"}, USAGE, reason="insufficient_system_resource")


def makes_no_sense(api: OpenAIApi, body: dict[str, Any]) -> Answer:
    strange: Any = "seven"
    made = answer(body, {"content": "told"}, USAGE)
    if made.pieces is not None:
        chunk = choice_chunk(body, {})
        chunk["choices"][0]["delta"] = strange
        return Answer(pieces=[event(chunk), DONE])
    made.body["choices"][0]["message"] = strange
    return made


WAYS = {
    "reasons": reasons,
    "only-responses": only_responses,
    "parts": in_parts,
    "signs": signs,
    "signs-too": signs,
    "deepseek": counts_in_its_own_words,
    "groq": counts_twice,
    "fails": fails_at_its_end,
    "full": has_no_room_left,
    "strange": makes_no_sense,
}


class AzureApi(OpenAIApi):
    """Azure's (learn.microsoft.com/azure/ai-services/openai/reference): a deployment in the path,
    the version in the query, the key in a header of its own, and there is no list of models."""

    def answer(self, asked: Asked) -> Answer:
        if asked.headers.get("api-key") != KEY:
            text = "Access denied due to invalid subscription key or wrong API endpoint."
            return Answer(401, {"error": {"code": "401", "message": text}})
        path, _, query = asked.path.partition("?")
        known = path == "/openai/deployments/gpt-4o/chat/completions"
        if not known or query != "api-version=2024-10-21":
            return Answer(404, {"error": {"code": "404", "message": "Resource not found"}})
        made = self.chat(asked)
        if made.pieces is not None:
            filtered = {"choices": [], "id": "", "model": "", "prompt_filter_results": []}
            made.pieces = [b"data: " + json.dumps(filtered).encode() + b"\n\n", *made.pieces]
        return made
