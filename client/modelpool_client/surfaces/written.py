"""PURE. Vectors that are told on as their engine has written them: to write a number anew takes six
times as long as to read it, and vectors have hundreds."""

from __future__ import annotations

import json
import re
from typing import Any

_VECTOR = re.compile(rb'"embedding":\s*(\[[^\[\]"{}]*\])')
# How a place for a vector is written: a string that nobody says.
_PLACE, _PLACE_WRITTEN = "\0", '"\\u0000"'
# Made once: json.dumps makes an encoder for every call that wants anything special.
_ENCODER = json.JSONEncoder(ensure_ascii=False)


class Written(list[float]):
    """A vector, and the JSON that it was read from."""

    __slots__ = ("text",)

    def __init__(self, numbers: list[float], text: str) -> None:
        super().__init__(numbers)
        self.text = text


def read(answer: bytes) -> Any:
    """What an answer with embeddings in OpenAI's shape says, its vectors ``Written`` ones as far as
    it is clear where they stand.

    Raises:
        ValueError: it is no JSON.
    """
    told = json.loads(answer)
    data = told.get("data") if isinstance(told, dict) else None
    texts = _VECTOR.findall(answer)
    if not isinstance(data, list) or len(texts) != len(data):
        return told
    if not all(isinstance(each, dict) and isinstance(each.get("embedding"), list) for each in data):
        return told
    for each, text in zip(data, texts, strict=True):
        each["embedding"] = Written(each["embedding"], text.decode())
    return told


def encode(answer: Any) -> bytes:
    """An answer as JSON, each vector that is ``Written`` as it was."""
    texts: list[str] = []
    parts = _ENCODER.encode(_with_places(answer, texts)).split(_PLACE_WRITTEN)
    if len(parts) != len(texts) + 1:  # somebody does say it
        return _ENCODER.encode(answer).encode()
    woven = [parts[0]]
    for text, part in zip(texts, parts[1:], strict=True):
        woven += (text, part)
    return "".join(woven).encode()


def _with_places(value: Any, texts: list[str]) -> Any:
    if isinstance(value, Written):
        texts.append(value.text)
        return _PLACE
    if isinstance(value, dict):
        return {key: _with_places(each, texts) for key, each in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], (list, dict)):
        return [_with_places(each, texts) for each in value]
    return value
