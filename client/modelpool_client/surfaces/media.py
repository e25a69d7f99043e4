"""PURE. Requests for what is heard, said, seen and told apart, in OpenAI's shape, classification in
vLLM's. Engines that have them are asked as the client asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from modelpool_client.surfaces.routes import (
    CLASSIFY_PATH,
    IMAGE_EDITS_PATH,
    IMAGES_PATH,
    SPEECH_PATH,
    TRANSCRIPTIONS_PATH,
    TRANSLATIONS_PATH,
)
from modelpool_client.surfaces.schema import Schema, nullable

MOST_INPUTS = 2048
_TEXT: Schema = {"type": "string", "minLength": 1}
_NAME: Schema = {"type": "string"}
_TEXTS: Schema = {"type": "array", "items": {"type": "string"}}
_FLAG: Schema = {"type": "boolean"}
_FILE: Schema = {
    "type": "object",
    "required": ["filename", "content_type", "size"],
    "properties": {"size": {"type": "integer", "minimum": 1}},
    "contentMediaType": "application/octet-stream",
}
_TRANSCRIPT = ["json", "text", "srt", "verbose_json", "vtt"]
_TEMPERATURE: Schema = {"type": "number", "minimum": 0, "maximum": 2}


def _one_of(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


def _table(required: Sequence[str], **properties: Schema) -> Schema:
    known = {k: v if k in required else nullable(v) for k, v in properties.items()}
    return {"type": "object", "required": list(required), "properties": known}


_PICTURE: Mapping[str, Schema] = {
    "model": _NAME,
    "n": {"type": "integer", "minimum": 1, "maximum": 10},
    "size": {"type": "string", "description": "WIDTHxHEIGHT in pixels, or auto"},
    "quality": _NAME,
    "style": _NAME,
    "background": _one_of("transparent", "opaque", "auto"),
    "output_format": _one_of("png", "jpeg", "webp"),
    "output_compression": {"type": "integer", "minimum": 0, "maximum": 100},
    "response_format": _one_of("url", "b64_json"),
    "partial_images": {"type": "integer", "minimum": 0, "maximum": 3},
    "stream": _FLAG,
    "moderation": _one_of("auto", "low"),
    "safety_identifier": _NAME,
    "user": _NAME,
}

BODIES: Mapping[str, Schema] = {
    TRANSCRIPTIONS_PATH: _table(
        ["file"],
        file=_FILE,
        model=_NAME,
        language=_NAME,
        languages=_TEXTS,
        prompt=_NAME,
        response_format=_one_of(*_TRANSCRIPT, "diarized_json"),
        temperature=_TEMPERATURE,
        timestamp_granularities={
            "type": "array",
            "items": _one_of("word", "segment"),
        },
        include=_TEXTS,
        stream=_FLAG,
        chunking_strategy=_NAME,
        keywords=_TEXTS,
        known_speaker_names=_TEXTS,
        known_speaker_references=_TEXTS,
    ),
    TRANSLATIONS_PATH: _table(
        ["file"],
        file=_FILE,
        model=_NAME,
        prompt=_NAME,
        response_format=_one_of(*_TRANSCRIPT),
        temperature=_TEMPERATURE,
    ),
    SPEECH_PATH: _table(
        ["input"],
        model=_NAME,
        input={**_TEXT, "maxLength": 1 << 16},
        voice={"anyOf": [_NAME, {"type": "object"}]},
        instructions=_NAME,
        response_format=_one_of("mp3", "opus", "aac", "flac", "wav", "pcm"),
        speed={"type": "number", "minimum": 0.25, "maximum": 4},
        stream_format=_one_of("sse", "audio"),
    ),
    IMAGES_PATH: _table(["prompt"], prompt=_TEXT, **_PICTURE),
    IMAGE_EDITS_PATH: _table(
        ["image", "prompt"],
        image={"anyOf": [_FILE, {"type": "array", "minItems": 1, "maxItems": 16, "items": _FILE}]},
        prompt=_TEXT,
        mask=_FILE,
        input_fidelity=_one_of("high", "low"),
        **_PICTURE,
    ),
    CLASSIFY_PATH: _table(
        ["input"],
        model=_NAME,
        input={
            "anyOf": [
                _TEXT,
                {"type": "array", "minItems": 1, "maxItems": MOST_INPUTS, "items": _TEXT},
            ]
        },
        user=_NAME,
    ),
}
