"""PURE. What engines answer, told to Ollama's clients: whole, or a line for each piece."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any

from modelpool_client.errors import EngineFailed, ModelPoolError
from modelpool_client.surfaces.ollama.tables import EMBED
from modelpool_client.surfaces.ollama.times import rfc3339
from modelpool_client.surfaces.routes import TEXT_PATH
from modelpool_client.surfaces.text_events import TextEvents, quoted
from modelpool_client.surfaces.translation import Told

NDJSON = b"application/x-ndjson"
# Ends that are told as they are; Ollama's own words know no filter.
_OWN_ENDS = frozenset({"content_filter", "length"})

# A vector whose squared length is this near to 1 needs no scaling: what float32 makes of it.
_UNIT_ERROR = 1e-3
# Made once: json.dumps with separators makes an encoder for every call.
_ENCODER = json.JSONEncoder(separators=(",", ":"))


class Shape(StrEnum):
    """Where an answer has its text."""

    CHAT = "chat"
    GENERATE = "generate"


def error_body(error: ModelPoolError) -> dict[str, Any]:
    """The body of every error; code and source are in its headers."""
    return {"error": error.message}


def error_line(error: ModelPoolError) -> bytes:
    """The same within a stream, whose last line it is."""
    return line(error_body(error))


def line(value: Any) -> bytes:
    """One line of a stream."""
    return _ENCODER.encode(value).encode() + b"\n"


class Generation:
    """The translation of one chat or generate; see ``Translation``."""

    def __init__(
        self, told: Told, shape: Shape, model: str | None, top: int, clock: Callable[[], int]
    ) -> None:
        """``top``: alternatives to each token that the client asked for."""
        self.told = told
        self._shape = shape
        self._model = model
        self._top = top
        self._clock = clock
        self._began = clock()
        self._first: int | None = None  # when the first text came
        self._finish: str | None = None
        self._facts: dict[str, Any] = {}  # usage and timings
        self._calls = ToolCalls()
        # What a line of nothing but text has after its time.
        said = _ENCODER.encode({**self._said("", "", []), "done": False})
        self._texts = TextEvents(said[1:] + "\n")

    @property
    def stream_type(self) -> bytes:
        return NDJSON

    def whole(self, answer: dict[str, Any]) -> dict[str, Any]:
        """The body of an answer that is not streamed.

        Raises:
            EngineFailed: it is no answer, or calls a tool with what is no JSON object.
        """
        self._note(answer)
        choices = answer.get("choices") or []
        if not choices:
            raise EngineFailed("the engine's answer has no choices", source="engine")
        choice = choices[0]
        message = choice if self.told.path == TEXT_PATH else choice.get("message") or {}
        self._finish = choice.get("finish_reason")
        self._calls.add(message.get("tool_calls") or ())
        calls = self._calls.complete(cut=self._finish == "length")
        said = self._said(self._text(message), _thinking(message), calls)
        body = self._line(said, done=True) | self._done_reason() | self._metrics()
        return body | self._logprobs(choice)

    def begin(self) -> bytes:
        return b""

    def chunk(self, chunk: dict[str, Any]) -> bytes:
        """A line, unless there is nothing for the client in it; calls of tools come in the end."""
        self._note(chunk)
        choices = chunk.get("choices") or []
        if not choices:
            return b""
        choice = choices[0]
        self._finish = choice.get("finish_reason") or self._finish
        delta = choice if self.told.path == TEXT_PATH else choice.get("delta") or {}
        self._calls.add(delta.get("tool_calls") or ())
        text, thinking, logprobs = self._text(delta), _thinking(delta), self._logprobs(choice)
        if not (text or thinking or logprobs):
            return b""
        if self._first is None:
            self._first = self._clock()
        return line(self._line(self._said(text, thinking, []), done=False) | logprobs)

    def text(self, text: str) -> bytes:
        """See ``TellsTexts``."""
        if not text:
            return b""
        if self._first is None:
            self._first = self._clock()
        head = f'{{"model":{quoted(self._model or "")},"created_at":"{rfc3339(self._clock())}",'
        return (head + self._texts.of(text)).encode()

    def end(self) -> bytes:
        """The calls of tools, and the line that is done; an error's if a call is no JSON object."""
        try:
            calls = self._calls.complete(cut=self._finish == "length")
        except EngineFailed as e:
            return self.failed(e)
        called = self._line(self._said("", "", calls), done=False)
        last = self._line(self._said("", "", []), done=True)
        last |= self._done_reason() | self._metrics()
        return (line(called) if calls else b"") + line(last)

    def failed(self, error: ModelPoolError) -> bytes:
        return error_line(error)

    def ping(self) -> bytes:
        return line(self._line(self._said("", "", []), done=False))

    def _note(self, answer: Mapping[str, Any]) -> None:
        self._model = self._model or answer.get("model")
        for name in ("usage", "timings"):
            if found := answer.get(name):
                self._facts[name] = found

    def _text(self, part: Mapping[str, Any]) -> str:
        return part.get("text" if self.told.path == TEXT_PATH else "content") or ""

    def _said(self, text: str, thinking: str, calls: list[dict[str, Any]]) -> dict[str, Any]:
        more: dict[str, Any] = {"thinking": thinking} if thinking else {}
        if calls:
            more["tool_calls"] = calls
        if self._shape is Shape.CHAT:
            return {"message": {"role": "assistant", "content": text, **more}}
        return {"response": text, **more}

    def _line(self, said: dict[str, Any], *, done: bool) -> dict[str, Any]:
        head = {"model": self._model or "", "created_at": rfc3339(self._clock())}
        return {**head, **said, "done": done}

    def _done_reason(self) -> dict[str, Any]:
        return {"done_reason": self._finish if self._finish in _OWN_ENDS else "stop"}

    def _metrics(self) -> dict[str, Any]:
        usage, timings = self._facts.get("usage") or {}, self._facts.get("timings") or {}
        return metrics(usage, timings, self._began, self._first, self._clock())

    def _logprobs(self, choice: Mapping[str, Any]) -> dict[str, Any]:
        found = token_logprobs(choice.get("logprobs") or {}, self._top)
        return {"logprobs": found} if found else {}


class Embedding:
    """The translation of one embed, or of an embeddings as Ollama had it before; never a stream."""

    def __init__(
        self,
        told: Told,
        path: str,
        model: str | None,
        dimensions: float | None,
        clock: Callable[[], int],
    ) -> None:
        self.told = told
        self._path = path
        self._model = model
        self._dimensions = int(dimensions or 0)
        self._clock = clock
        self._began = clock()

    @property
    def stream_type(self) -> bytes:
        return NDJSON

    def whole(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Unit vectors for embed, in the order of the inputs; for embeddings the engine's own.

        Raises:
            EngineFailed: it is no answer.
        """
        found = sorted(answer.get("data") or [], key=lambda item: item.get("index", 0))
        if len(found) != len(self.told.body["input"]):
            text = f"the engine gave {len(found)} embeddings for {len(self.told.body['input'])}"
            raise EngineFailed(text, source="engine")
        vectors = [item["embedding"] for item in found]
        if self._path != EMBED:
            return {"embedding": vectors[0]}
        body = {
            "model": self._model or answer.get("model") or "",
            "embeddings": [unit_vector(v, self._dimensions) for v in vectors],
            "total_duration": max(0, self._clock() - self._began),
            "load_duration": 0,
        }
        tokens = (answer.get("usage") or {}).get("prompt_tokens")
        return body if tokens is None else {**body, "prompt_eval_count": tokens}

    def begin(self) -> bytes:
        return b""

    def chunk(self, chunk: dict[str, Any]) -> bytes:
        return b""

    def end(self) -> bytes:
        return b""

    def failed(self, error: ModelPoolError) -> bytes:
        return error_line(error)

    def ping(self) -> bytes:
        return b""


class ToolCalls:
    """The calls of one answer, whole or put together from the pieces of a stream."""

    def __init__(self) -> None:
        self._calls: dict[int, dict[str, str]] = {}  # id, name and arguments, by index

    def add(self, parts: Sequence[Mapping[str, Any]]) -> None:
        """Pieces have an index; the calls of a whole answer follow one another."""
        for part in parts:
            index = part.get("index")
            call = self._calls.setdefault(
                len(self._calls) if index is None else index, {"id": "", "name": "", "text": ""}
            )
            function = part.get("function") or {}
            call["id"] = call["id"] or part.get("id") or ""
            call["name"] += function.get("name") or ""
            call["text"] += function.get("arguments") or ""

    def complete(self, *, cut: bool) -> list[dict[str, Any]]:
        """Those whose arguments are an object; none at all are ``{}``.

        Args:
            cut: the answer ended for its length, and its last call may be unfinished.

        Raises:
            EngineFailed: arguments are something else, and were not cut.
        """
        found = []
        for index, call in sorted(self._calls.items()):
            arguments = _object(call["text"])
            if arguments is not None:
                function = {"index": index, "name": call["name"], "arguments": arguments}
                found.append({**({"id": call["id"]} if call["id"] else {}), "function": function})
            elif not cut:
                text = f"the model called {call['name'][:64]!r} with what is no JSON object"
                raise EngineFailed(f"{text}: {call['text'][:200]}", source="engine")
        return found


def metrics(
    usage: Mapping[str, Any],
    timings: Mapping[str, Any],
    began: int,
    first: int | None,
    ended: int,
) -> dict[str, int]:
    """Counts of tokens and durations in nanoseconds.

    Durations are llama.cpp's where it tells them; what is left of the total then is the load, which
    includes all waiting. Else the prompt took until the first text (``first``), if that was seen.
    """
    total = max(0, ended - began)
    if timings:
        prompt = _ns(timings.get("prompt_ms"))
        generation = _ns(timings.get("predicted_ms"))
        load = max(0, total - prompt - generation)
    else:
        prompt = max(0, (first if first is not None else began) - began)
        generation, load = total - min(prompt, total), 0
    cached = (timings.get("cache_n") or 0) + (timings.get("prompt_n") or 0)
    return {
        "total_duration": total,
        "load_duration": load,
        "prompt_eval_count": usage.get("prompt_tokens") or cached,
        "prompt_eval_duration": prompt,
        "eval_count": usage.get("completion_tokens") or timings.get("predicted_n") or 0,
        "eval_duration": generation,
    }


def token_logprobs(found: Mapping[str, Any], top: int) -> list[dict[str, Any]]:
    """Of OpenAI's chat, whose shape llama.cpp's text completions have, too, or of text completions
    as OpenAI has them; ``top`` alternatives to each."""
    if content := found.get("content"):
        return [_token(t, t.get("top_logprobs") or [], top) for t in content]
    tokens = found.get("tokens") or []
    values = found.get("token_logprobs") or []
    others = found.get("top_logprobs") or [None] * len(tokens)
    return [
        _token(
            {"token": token, "logprob": value},
            [{"token": t, "logprob": v} for t, v in (other or {}).items()],
            top,
        )
        for token, value, other in zip(tokens, values, others, strict=False)
        if value is not None
    ]


def unit_vector(vector: list[float], dimensions: int) -> list[float]:
    """The first ``dimensions`` numbers, all of them if 0, scaled to length 1; what is as long, as
    it is."""
    kept = vector[:dimensions] if dimensions else vector
    square = sum(x * x for x in kept)
    if square == 0 or abs(square - 1) <= _UNIT_ERROR:
        return kept
    length = math.sqrt(square)
    return [x / length for x in kept]


def _token(
    token: Mapping[str, Any], others: Sequence[Mapping[str, Any]], top: int
) -> dict[str, Any]:
    own = {k: token[k] for k in ("token", "logprob", "bytes") if token.get(k) is not None}
    return {**own, "top_logprobs": [_token(t, (), 0) for t in others[:top]]} if top else own


def _thinking(message: Mapping[str, Any]) -> str:
    """``reasoning_content`` is llama.cpp's name of it, ``reasoning`` vLLM's."""
    return message.get("reasoning_content") or message.get("reasoning") or ""


def _object(text: str) -> dict[str, Any] | None:
    if not text.strip():
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _ns(milliseconds: float | None) -> int:
    return max(0, round((milliseconds or 0) * 1e6))
