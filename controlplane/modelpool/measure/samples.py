"""PURE: what one answer says of the speed of a model, read from its bytes and when they came."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelpool_client.errors import EngineFailed

Timed = tuple[float, bytes]

_NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Sample:
    """One request. Times are seconds from its sending.

    Attributes:
        first_token_seconds: until the first of the text; of what is no text, until the end.
        seconds: until the end.
        prompt_tokens, output_tokens: as the engine counts them, of all texts together; 0 where it
            does not.
        prompt_per_second: tokens of the prompt that were read in a second: as the engine says, else
            all of them over the time to the first token.
        output_per_second: tokens after the first, over the time that they took.
    """

    first_token_seconds: float
    seconds: float
    prompt_tokens: int
    output_tokens: int
    prompt_per_second: float
    output_per_second: float


@dataclass(frozen=True)
class Batch:
    """Some requests that were sent at once, and how long it took until the last was answered."""

    samples: Sequence[Sample]
    seconds: float

    @property
    def output_per_second(self) -> float:
        """Of all of them together."""
        return sum(s.output_tokens for s in self.samples) / self.seconds

    @property
    def prompt_per_second(self) -> float:
        """Tokens that were read, of all of them together; 0 where the engine counts none."""
        return sum(s.prompt_tokens for s in self.samples) / self.seconds


def read_stream(pieces: Sequence[Timed], began: float) -> Sample:
    """The stream of a chat or a text completion, with its usage.

    Args:
        pieces: what came, each with when it did, in seconds of the clock of ``began``.

    Raises:
        EngineFailed: it holds no text, or no count of its tokens.
    """
    first: float | None = None
    last, usage, timings = began, _NOTHING, _NOTHING
    for at, event in _events(pieces):
        if "error" in event:
            raise EngineFailed(f"the model answered with an error: {str(event['error'])[:300]}")
        if first is None and _has_text(event):
            first = at
        usage, timings, last = event.get("usage") or usage, event.get("timings") or timings, at
    output = _count(usage, "completion_tokens")
    if first is None or output < 1:
        raise EngineFailed("the model answered without text, or without a count of its tokens")
    prompt, waited = _count(usage, "prompt_tokens"), max(first - began, 1e-9)
    return Sample(
        waited,
        last - began,
        prompt,
        output,
        _rate(timings, "prompt_per_second") or prompt / waited,
        (output - 1) / max(last - first, 1e-9) if output > 1 else 0.0,
    )


# Under which key the results of these stand.
RESULTS = {"embeddings": "data", "rerank": "results"}


def read_results(pieces: Sequence[Timed], began: float, form: str, texts: int) -> Sample:
    """The answer to a request to embed or to rank so many texts.

    Raises:
        EngineFailed: it is none, or has not one result for each text.
    """
    try:
        answer = json.loads(b"".join(piece for _, piece in pieces))
    except ValueError:
        raise EngineFailed("the model answered with no JSON") from None
    results = answer.get(RESULTS[form]) if isinstance(answer, dict) else None
    if not isinstance(results, list) or len(results) != texts:
        found = len(results) if isinstance(results, list) else "no"
        raise EngineFailed(f"the model gave {found} results for {texts} texts")
    seconds = pieces[-1][0] - began
    return Sample(seconds, seconds, _count(answer.get("usage"), "prompt_tokens"), 0, 0.0, 0.0)


def _count(usage: Any, key: str) -> int:
    """0 for what is no count."""
    found = usage.get(key) if isinstance(usage, Mapping) else None
    return found if isinstance(found, int) and found > 0 else 0


def _rate(timings: Any, key: str) -> float | None:
    """A plug-in's engine may say anything: None for what is no rate."""
    found = timings.get(key) if isinstance(timings, Mapping) else None
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        return None
    return float(found) if math.isfinite(found) and found > 0 else None


def _events(pieces: Sequence[Timed]) -> Iterator[tuple[float, Mapping[str, Any]]]:
    """Each object of a stream of server-sent events, with when the end of it came."""
    rest = b""
    for at, piece in pieces:
        *whole, rest = (rest + piece).replace(b"\r\n", b"\n").split(b"\n")
        for line in whole:
            data = line.removeprefix(b"data:").strip()
            if line.startswith(b"data:") and data != b"[DONE]":
                try:
                    event = json.loads(data)
                except ValueError:
                    raise EngineFailed(f"the model streamed no JSON: {data[:200]!r}") from None
                if isinstance(event, dict):
                    yield at, event


def _has_text(event: Mapping[str, Any]) -> bool:
    choices = event.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        delta = choice.get("delta") or {}
        if choice.get("text") or delta.get("content") or delta.get("reasoning_content"):
            return True
    return False
