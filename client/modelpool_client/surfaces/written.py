"""PURE. Vectors that are told on as their engine has written them: to write a number anew takes six
times as long as to read it, and vectors have hundreds."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

_VECTOR = re.compile(rb'"embedding":\s*(\[[^\[\]"{}]*\])')
# How a place for a vector is written: a string that nobody says.
_PLACE, _PLACE_WRITTEN = "\0", '"\\u0000"'
# Made once: json.dumps makes an encoder for every call that wants anything special.
_ENCODER = json.JSONEncoder(ensure_ascii=False)


class Written:
    """Vectors, each the very list that was read, and the JSON of it."""

    def __init__(self, vectors: Sequence[Any] = (), texts: Sequence[str] = ()) -> None:
        self._vectors = vectors  # as long as they are there, their ids are theirs
        self._texts = {id(each): text for each, text in zip(vectors, texts, strict=True)}

    def encode(self, answer: Any) -> bytes:
        """An answer as JSON, each of these vectors in it as it was."""
        texts: list[str] = []
        parts = _ENCODER.encode(self._with_places(answer, texts)).split(_PLACE_WRITTEN)
        if len(parts) != len(texts) + 1:  # somebody does say it
            return _ENCODER.encode(answer).encode()
        woven = [parts[0]]
        for text, part in zip(texts, parts[1:], strict=True):
            woven += (text, part)
        return "".join(woven).encode()

    def _with_places(self, value: Any, texts: list[str]) -> Any:
        if (text := self._texts.get(id(value))) is not None:
            texts.append(text)
            return _PLACE
        if isinstance(value, dict):
            return {key: self._with_places(each, texts) for key, each in value.items()}
        if isinstance(value, list) and value and isinstance(value[0], (list, dict)):
            return [self._with_places(each, texts) for each in value]
        return value


def read(answer: bytes) -> tuple[Any, Written]:
    """What an answer with embeddings in OpenAI's shape says, and its vectors as they are written;
    none where it is not clear where they stand.

    Raises:
        ValueError: it is no JSON.
    """
    told = json.loads(answer)
    data = told.get("data") if isinstance(told, dict) else None
    texts = _VECTOR.findall(answer)
    if not isinstance(data, list) or len(texts) != len(data):
        return told, Written()
    vectors = [each.get("embedding") if isinstance(each, dict) else None for each in data]
    if not all(isinstance(vector, list) for vector in vectors):
        return told, Written()
    return told, Written(vectors, [text.decode() for text in texts])
