"""OpenAI's API (reference of 2026-11: chat, completions, embeddings, responses, audio, images), as
strict as the real one: unknown parameters and a missing model are 400."""

from __future__ import annotations

import json
from typing import Any

from .server import KEY, Answer, Asked

MODELS = (
    *("gpt-4o", "gpt-4o-mini", "o3", "o4-mini"),
    *("text-embedding-3-small", "tts-1", "whisper-1", "gpt-image-1"),
)
CHAT = frozenset(
    {"model", "messages", "stream", "stream_options", "temperature", "top_p", "n", "max_tokens"}
    | {"max_completion_tokens", "stop", "seed", "presence_penalty", "frequency_penalty", "user"}
    | {"logit_bias", "logprobs", "top_logprobs", "tools", "tool_choice", "parallel_tool_calls"}
    | {"response_format", "reasoning_effort", "metadata", "store", "service_tier", "verbosity"}
    | {"web_search_options", "prediction", "modalities", "audio", "safety_identifier"}
    | {"prompt_cache_key", "prompt_cache_retention", "functions", "function_call"}
)
TEXT = frozenset(
    {"model", "prompt", "stream", "stream_options", "temperature", "top_p", "n", "max_tokens"}
    | {"stop", "seed", "presence_penalty", "frequency_penalty", "user", "logit_bias", "logprobs"}
    | {"echo", "best_of", "suffix"}
)
EMBEDDINGS = frozenset({"model", "input", "encoding_format", "dimensions", "user"})
RESPONSES = frozenset({"model", "input", "stream", "store", "instructions", "max_output_tokens"})
SPEECH = frozenset({"model", "input", "voice", "response_format", "speed", "instructions"})
IMAGES = frozenset({"model", "prompt", "n", "size", "quality", "background", "output_format"})


class OpenAIApi:
    """Repeats what it is told.

    Attributes:
        prefix: where its API begins.
        key: the one that it takes.
    """

    def __init__(self, prefix: str = "/v1", key: str = KEY) -> None:
        self.prefix = prefix
        self.key = key
        self.models = list(MODELS)

    def answer(self, asked: Asked) -> Answer:
        if asked.headers.get("authorization") != f"Bearer {self.key}":
            return self.refuses_key(asked)
        path = asked.path.removeprefix(self.prefix)
        if asked.method == "GET" and path == "/models":
            data = [{"id": name, "object": "model", "owned_by": "openai"} for name in self.models]
            return Answer(body={"object": "list", "data": data})
        handler = getattr(self, HANDLERS.get(path, ""), None)
        if asked.method != "POST" or handler is None:
            text = f"Invalid URL ({asked.method} {asked.path})"
            return self.error(404, text)
        answer: Answer = handler(asked)
        return answer

    def refuses_key(self, asked: Asked) -> Answer:
        given = asked.headers.get("authorization", "").removeprefix("Bearer ")
        text = f"Incorrect API key provided: {given[:8]}***********{given[-4:]}."
        return self.error(401, text, code="invalid_api_key")

    def error(self, status: int, message: str, **more: Any) -> Answer:
        kind = "invalid_request_error"
        error = {"message": message, "type": kind, "param": None, "code": None, **more}
        return Answer(status, {"error": error})

    def checked(self, asked: Asked, known: frozenset[str]) -> Answer | None:
        body = asked.json
        unknown = sorted(body.keys() - known)
        if unknown:
            return self.error(400, f"Unrecognized request argument supplied: {unknown[0]}")
        if "model" not in body:
            return self.error(400, "you must provide a model parameter")
        if body["model"] not in self.models:
            text = f"The model `{body['model']}` does not exist or you do not have access to it."
            return self.error(404, text, code="model_not_found")
        if body.get("stream_options") and not body.get("stream"):
            return self.error(400, "The 'stream_options' parameter needs 'stream'")
        return None

    def chat(self, asked: Asked) -> Answer:
        if problem := self.checked(asked, CHAT):
            return problem
        body = asked.json
        said = body["messages"][-1]["content"]
        text = said if isinstance(said, str) else "".join(p.get("text", "") for p in said)
        usage = counts(text)
        if not body.get("stream"):
            message = {"role": "assistant", "content": text, "refusal": None}
            choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
            return Answer(
                body=head(body, "chat.completion") | {"choices": [choice], "usage": usage}
            )
        deltas = [{"role": "assistant", "content": ""}]
        deltas += [{"content": word} for word in words(text)]
        chunks = [choice_chunk(body, delta) for delta in deltas]
        chunks.append(choice_chunk(body, {}, "stop"))
        if (body.get("stream_options") or {}).get("include_usage"):
            last = head(body, "chat.completion.chunk") | {"choices": [], "usage": usage}
            chunks.append(last)
        return Answer(pieces=[*map(event, chunks), b"data: [DONE]\n\n"])

    def text(self, asked: Asked) -> Answer:
        if problem := self.checked(asked, TEXT):
            return problem
        body = asked.json
        choice = {"index": 0, "text": body["prompt"], "logprobs": None, "finish_reason": "stop"}
        told = head(body, "text_completion") | {"choices": [choice]}
        if body.get("stream"):
            return Answer(pieces=[event(told), b"data: [DONE]\n\n"])  # as if it told no tokens
        return Answer(body=told | {"usage": counts(body["prompt"])})

    def embeddings(self, asked: Asked) -> Answer:
        if problem := self.checked(asked, EMBEDDINGS):
            return problem
        body = asked.json
        inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
        data = [
            {"object": "embedding", "index": i, "embedding": [float(len(text)), 1.0]}
            for i, text in enumerate(inputs)
        ]
        usage = {"prompt_tokens": len(inputs), "total_tokens": len(inputs)}
        return Answer(body={"object": "list", "data": data, "model": body["model"], "usage": usage})

    def responses(self, asked: Asked) -> Answer:
        if problem := self.checked(asked, RESPONSES):
            return problem
        body = asked.json
        told = {"id": "resp_1", "object": "response", "model": body["model"], "output": []}
        if not body.get("stream"):
            return Answer(body=told | {"status": "completed"})
        events = [("response.created", told), ("response.completed", told)]
        pieces = [
            f"event: {kind}\n".encode() + event({"type": kind, "response": value})
            for kind, value in events
        ]
        return Answer(pieces=pieces)

    def speech(self, asked: Asked) -> Answer:
        if problem := self.checked(asked, SPEECH):
            return problem
        sound = b"RIFF" + asked.json["input"].encode() * 100
        return Answer(body=sound, headers={"content-type": "audio/wav"})

    def images(self, asked: Asked) -> Answer:
        if problem := self.checked(asked, IMAGES):
            return problem
        return Answer(body={"created": 1, "data": [{"b64_json": "aGk="}]})

    def transcription(self, asked: Asked) -> Answer:
        if b'name="model"\r\n\r\nwhisper-1\r\n' not in asked.body:
            return self.error(400, "you must provide a model parameter")
        return Answer(body={"text": "heard"})


HANDLERS = {
    "/chat/completions": "chat",
    "/completions": "text",
    "/embeddings": "embeddings",
    "/responses": "responses",
    "/audio/speech": "speech",
    "/audio/transcriptions": "transcription",
    "/images/generations": "images",
}


def words(text: str) -> list[str]:
    return [word if i == 0 else f" {word}" for i, word in enumerate(text.split(" "))]


def counts(text: str) -> dict[str, int]:
    size = len(text.split())
    return {"prompt_tokens": size, "completion_tokens": size, "total_tokens": 2 * size}


def head(body: dict[str, Any], kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": f"{body['model']}-2024"}


def choice_chunk(
    body: dict[str, Any], delta: dict[str, Any], reason: str | None = None
) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    return head(body, "chat.completion.chunk") | {"choices": [choice]}


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"
