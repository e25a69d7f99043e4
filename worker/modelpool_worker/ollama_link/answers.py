"""PURE. What Ollama answers, told in OpenAI's words, or under the name that the client asked for.

Its streams are one JSON object a line. One that has failed ends with a line that holds an
``error``, under status 200; one that just ends has failed, too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from modelpool_client.http1.upstream_connection import BadReply
from modelpool_client.surfaces import sse

_SHOWN = 100
# What has one of these is never followed by more.
_ENDS = frozenset({"error", "embedding", "embeddings"})


class Telling(Protocol):
    """Makes an answer the client's, as its lines come.

    Attributes:
        is_done: the line that is the last has come, or an error, which ends it, too.
        kind: content type of what is told.
    """

    is_done: bool
    kind: bytes

    def line(self, line: bytes) -> bytes:
        """What is told for one line, which is not empty.

        Raises:
            BadReply: it is none.
        """
        ...


def failed(what: str) -> BadReply:
    """An error that says what Ollama did."""
    return BadReply(f"Ollama {what}")


class Own:
    """Ollama's own words, under the name that the client knows the model by."""

    kind = b"application/x-ndjson"

    def __init__(self, name: str, shown: str) -> None:
        self.is_done = False
        self._began = _model_key(name)
        self._begins = _model_key(shown)
        self._shown = shown

    def line(self, line: bytes) -> bytes:
        if line.startswith(self._began):
            line = self._begins + line[len(self._began) :]
            if b'"done":false' in line and b'"done":true' not in line:  # nearly always
                return line + b"\n"
        said = parsed(line)
        self.is_done = said.get("done") is True or not said.keys().isdisjoint(_ENDS)
        if "model" in said and said["model"] != self._shown:
            line = json.dumps({**said, "model": self._shown}, separators=(",", ":")).encode()
        return line + b"\n"


class Chunks:
    """Chunks of OpenAI's chat or text completions.

    ``head`` holds id, time and model; ``wants_usage``: a last chunk is to tell the tokens.
    """

    kind = sse.TYPE

    def __init__(self, head: Mapping[str, Any], *, is_chat: bool, wants_usage: bool) -> None:
        self.is_done = False
        self._is_chat = is_chat
        self._wants_usage = wants_usage
        name = "chat.completion.chunk" if is_chat else "text_completion"
        self._head = {**head, "object": name}
        self._calls = 0
        self._has_begun = False

    def line(self, line: bytes) -> bytes:
        said = parsed(line)
        if (error := error_of(said)) is not None:
            self.is_done = True
            return sse.event(error)
        return b"".join(map(sse.event, self._chunks(said))) + self._end(said)

    def _chunks(self, said: Mapping[str, Any]) -> list[dict[str, Any]]:
        part = self._part(said)
        found = []
        if part or "logprobs" in said:
            found.append(self._chunk(part, None, _logprobs(said)))
        if said.get("done") is True:
            found.append({**self._chunk({}, self._finish(said), None), "timings": timings_of(said)})
        return found

    def _part(self, said: Mapping[str, Any]) -> dict[str, Any]:
        if not self._is_chat:
            return {"text": said["response"]} if said.get("response") else {}
        message = said.get("message") or {}
        part: dict[str, Any] = {}
        if message.get("thinking"):
            part["reasoning_content"] = message["thinking"]
        if message.get("content"):
            part["content"] = message["content"]
        if calls := message.get("tool_calls"):
            part["tool_calls"] = [self._call(call) for call in calls]
        if not self._has_begun and (part or said.get("done") is True):
            self._has_begun = True
            part = {"role": "assistant", **part}
        return part

    def _call(self, call: Mapping[str, Any]) -> dict[str, Any]:
        index, function = self._calls, call.get("function") or {}
        self._calls += 1
        arguments = json.dumps(function.get("arguments") or {}, ensure_ascii=False)
        return {
            "index": index,
            "id": call.get("id") or f"call_{self._head['id'][-16:]}_{index}",
            "type": "function",
            "function": {"name": str(function.get("name") or ""), "arguments": arguments},
        }

    def _chunk(self, part: dict[str, Any], finish: str | None, logprobs: Any) -> dict[str, Any]:
        said = {"delta": part} if self._is_chat else {"text": "", **part}
        choice = {"index": 0, **said, "logprobs": logprobs, "finish_reason": finish}
        return {**self._head, "choices": [choice]}

    def _finish(self, said: Mapping[str, Any]) -> str:
        if self._calls:
            return "tool_calls"
        return "length" if said.get("done_reason") == "length" else "stop"

    def _end(self, said: Mapping[str, Any]) -> bytes:
        if said.get("done") is not True:
            return b""
        self.is_done = True
        usage = {**self._head, "choices": [], "usage": usage_of(said)}
        return (sse.event(usage) if self._wants_usage else b"") + b"data: " + sse.DONE + b"\n\n"


class Infill:
    """Events of llama.cpp's ``/infill``."""

    kind = sse.TYPE

    def __init__(self) -> None:
        self.is_done = False

    def line(self, line: bytes) -> bytes:
        said = parsed(line)
        if (error := error_of(said)) is not None:
            self.is_done = True
            return sse.event(error)
        self.is_done = said.get("done") is True
        told = {"index": 0, "content": said.get("response") or "", "stop": self.is_done}
        if found := _logprobs(said):
            told["completion_probabilities"] = found["content"]
        if self.is_done:
            told |= {
                "stop_type": "limit" if said.get("done_reason") == "length" else "eos",
                "tokens_evaluated": _count(said, "prompt_eval_count"),
                "tokens_predicted": _count(said, "eval_count"),
                "timings": timings_of(said),
            }
        return sse.event(told)


def parsed(line: bytes) -> dict[str, Any]:
    """One line.

    Raises:
        BadReply: it is no JSON object.
    """
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise failed(f"sent what is no JSON object: {line[:_SHOWN]!r}")
    return said


def error_of(said: Mapping[str, Any]) -> dict[str, Any] | None:
    """A line or a body that holds an error, in OpenAI's words; None for any other."""
    if "error" not in said:
        return None
    error = said["error"]
    text = error.get("message") if isinstance(error, Mapping) else error
    return {"error": {"message": f"Ollama: {text}", "type": "server_error"}}


def error_body(status: int, body: bytes) -> bytes:
    """The body of an answer that is an error, in OpenAI's words."""
    try:
        error = error_of(parsed(body))
    except BadReply:
        error = None
    text = body[: 2 * _SHOWN].decode(errors="replace").strip()
    told = error or {"error": {"message": f"Ollama answered {status}: {text}"}}
    return json.dumps(told).encode()


def embeddings(body: bytes, model: str, count: int) -> bytes:
    """An answer of ``/api/embed`` as OpenAI's.

    Raises:
        BadReply: it holds not just one vector for each of ``count`` texts.
    """
    said = parsed(body)
    vectors = said.get("embeddings")
    if not isinstance(vectors, list) or len(vectors) != count:
        have = len(vectors) if isinstance(vectors, list) else "no"
        raise failed(f"sent {have} vectors for {count} texts")
    tokens = _count(said, "prompt_eval_count")
    told = {
        "object": "list",
        "model": model,
        "data": [
            {"object": "embedding", "index": i, "embedding": v} for i, v in enumerate(vectors)
        ],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    return json.dumps(told, separators=(",", ":")).encode()


def usage_of(said: Mapping[str, Any]) -> dict[str, int]:
    """Of a last line, which leaves out what is 0."""
    prompt, given = _count(said, "prompt_eval_count"), _count(said, "eval_count")
    total = prompt + given
    return {"prompt_tokens": prompt, "completion_tokens": given, "total_tokens": total}


def timings_of(said: Mapping[str, Any]) -> dict[str, float]:
    """Of a last line, by llama.cpp's names; milliseconds."""
    return {
        "prompt_n": _count(said, "prompt_eval_count"),
        "prompt_ms": _count(said, "prompt_eval_duration") / 1e6,
        "predicted_n": _count(said, "eval_count"),
        "predicted_ms": _count(said, "eval_duration") / 1e6,
    }


def _logprobs(said: Mapping[str, Any]) -> dict[str, Any] | None:
    found: Sequence[Mapping[str, Any]] = said.get("logprobs") or ()
    return {"content": [_token(token) for token in found]} if found else None


def _token(token: Mapping[str, Any]) -> dict[str, Any]:
    def plain(one: Mapping[str, Any]) -> dict[str, Any]:
        text = str(one.get("token") or "")
        data = one.get("bytes") or list(text.encode())
        return {"token": text, "logprob": one.get("logprob"), "bytes": data}

    return {**plain(token), "top_logprobs": [plain(t) for t in token.get("top_logprobs") or ()]}


def _count(said: Mapping[str, Any], name: str) -> int:
    value = said.get(name)
    return value if isinstance(value, int) and value > 0 else 0


def _model_key(name: str) -> bytes:
    return b'{"model":' + json.dumps(name, ensure_ascii=False).encode() + b","
