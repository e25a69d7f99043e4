"""What the fake engine hears, says, draws, tells apart and infers: nothing, in the right shape.

How long a recording is stands for what it says, how long a text for what it is about.
"""

from __future__ import annotations

import base64
import json
import re
import struct
import time
import zlib
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from modelpool_client.surfaces.routes import (
    CLASSIFY_PATH,
    IMAGE_EDITS_PATH,
    IMAGES_PATH,
    SPEECH_PATH,
    TRANSCRIPTIONS_PATH,
    TRANSLATIONS_PATH,
)

Answer: TypeAlias = tuple[str, bytes]  # Content-Type and body
RATE = 8000
LONG_WORDS = 5

# What an engine says of its tensors.
TENSORS_PATH = "/v2/models"
HONOURS: Mapping[str, tuple[str, ...]] = {
    TRANSCRIPTIONS_PATH: ("response_format",),
    TRANSLATIONS_PATH: ("response_format",),
    SPEECH_PATH: (),
    IMAGES_PATH: ("n",),
    IMAGE_EDITS_PATH: ("n",),
    CLASSIFY_PATH: (),
}


def is_answered(path: str) -> bool:
    """Is it one of these?"""
    return path in HONOURS or path == TENSORS_PATH or path.startswith("/v2/")


def answer(model_id: str, path: str, content_type: str, body: bytes) -> Answer:
    """To a request for one of ``HONOURS``, or for tensors."""
    return _ANSWERS.get(path, _same_tensors)(model_id, content_type, body)


def _tensors(model_id: str, content_type: str, body: bytes) -> Answer:
    """What there is of them, which is whatever comes."""
    told = [{"name": "x", "datatype": "FP32", "shape": [-1, -1]}]
    return _as_json({"inputs": told, "outputs": told})


def _same_tensors(model_id: str, content_type: str, body: bytes) -> Answer:
    """JSON tensors as they came."""
    data = json.loads(body)
    head = {"model_name": model_id, "model_version": "1"}
    return _as_json({**head, "id": data.get("id", ""), "outputs": data["inputs"]})


def _transcript(model_id: str, content_type: str, body: bytes) -> Answer:
    found = re.search(rb'name="file".*?\r\n\r\n(.*?)\r\n--', body, re.DOTALL)
    text = f"{len(found[1]) if found else 0} bytes"
    how = re.search(rb'name="response_format"\r\n\r\n(\w+)', body)
    if how is not None and how[1] in (b"text", b"srt", b"vtt"):
        return "text/plain; charset=utf-8", text.encode()
    return _as_json({"text": text, "usage": {"type": "duration", "seconds": 0}})


def _speech(model_id: str, content_type: str, body: bytes) -> Answer:
    samples = b"\0\0" * (RATE // 10 * len(json.loads(body)["input"].split()))
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    data = b"WAVE" + form + struct.pack("<4sI", b"data", len(samples)) + samples
    return "audio/wav", struct.pack("<4sI", b"RIFF", len(data)) + data


def _picture(model_id: str, content_type: str, body: bytes) -> Answer:
    data = json.loads(body)
    return _pictures(data.get("n") or 1)


def _edited(model_id: str, content_type: str, body: bytes) -> Answer:
    n = re.search(rb'name="n"\r\n\r\n(\d+)', body)
    return _pictures(int(n[1]) if n else 1)


def _pictures(n: int) -> Answer:
    data = [{"b64_json": base64.b64encode(_PNG).decode()} for _ in range(n)]
    return _as_json({"created": int(time.time()), "data": data})


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


# One grey pixel.
_PNG = (
    b"\x89PNG\r\n\x1a\n"
    + _chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    + _chunk(b"IDAT", zlib.compress(b"\0\x80"))
    + _chunk(b"IEND", b"")
)


def _classes(model_id: str, content_type: str, body: bytes) -> Answer:
    texts = json.loads(body)["input"]
    texts = [texts] if isinstance(texts, str) else texts
    words = [len(text.split()) for text in texts]
    data = [_class(i, n) for i, n in enumerate(words)]
    usage = {"prompt_tokens": sum(words), "total_tokens": sum(words)}
    head = {"id": "classify-fake", "object": "list", "created": int(time.time())}
    return _as_json({**head, "model": model_id, "data": data, "usage": usage})


def _class(index: int, words: int) -> dict[str, Any]:
    likely = 1 if words >= LONG_WORDS else 0
    probs = [0.1, 0.9] if likely else [0.9, 0.1]
    return {
        "index": index,
        "label": ("short", "long")[likely],
        "probs": probs,
        "num_classes": len(probs),
    }


def _as_json(value: Mapping[str, Any]) -> Answer:
    return "application/json", json.dumps(value).encode()


_ANSWERS: Mapping[str, Callable[[str, str, bytes], Answer]] = {
    TRANSCRIPTIONS_PATH: _transcript,
    TRANSLATIONS_PATH: _transcript,
    SPEECH_PATH: _speech,
    IMAGES_PATH: _picture,
    IMAGE_EDITS_PATH: _edited,
    CLASSIFY_PATH: _classes,
    TENSORS_PATH: _tensors,
}
