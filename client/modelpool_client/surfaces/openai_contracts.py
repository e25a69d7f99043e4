"""PURE. What OpenAI's routes look like, those of reranking, and llama.cpp's own."""

from __future__ import annotations

from typing import Any

from modelpool_client.surfaces import embeddings, media
from modelpool_client.surfaces.contract import (
    ANY_OBJECT,
    COUNT,
    EVENT_STREAM,
    TEXT,
    Contract,
    Description,
    constant,
    holds,
    listed,
)
from modelpool_client.surfaces.openai_bodies import BODIES, NEEDS
from modelpool_client.surfaces.parameter_rules import BASE
from modelpool_client.surfaces.routes import (
    CHAT_PATH,
    CHAT_TOKENS_PATH,
    CLASSIFY_PATH,
    EMBEDDINGS_PATH,
    IMAGE_EDITS_PATH,
    IMAGES_PATH,
    RERANK_PATH,
    SPEECH_PATH,
    TEXT_PATH,
    TRANSCRIPTIONS_PATH,
    TRANSLATIONS_PATH,
    VOICES_PATH,
)
from modelpool_client.surfaces.schema import Schema, nullable

# Ours is OpenAI's, with who failed and, where there are any, details.
ERROR: Schema = holds(
    error={
        "type": "object",
        "required": ["message", "type", "param", "code", "source"],
        "properties": {
            "message": TEXT,
            "type": TEXT,
            "param": nullable(TEXT),
            "code": TEXT,
            "source": constant("pool", "worker", "engine", "upstream"),
            "details": ANY_OBJECT,
        },
    }
)
_USAGE = holds(prompt_tokens=COUNT, completion_tokens=COUNT, total_tokens=COUNT)
_REASON = nullable(constant("stop", "length", "tool_calls", "content_filter"))
_MESSAGE = holds(role=constant("assistant"), content=nullable(TEXT))
_NUMBERS: Schema = {"anyOf": [listed({"type": "number"}), TEXT]}
_RELAYED: Schema = {"description": "as llama.cpp's server has it"}


def _needing(path: str) -> Schema:
    """The table, with what it leaves to code: parameters that need another one."""
    return {**BODIES[path], "allOf": [_need(name, other) for name, other in NEEDS[path].items()]}


def _need(name: str, other: str) -> dict[str, Any]:
    # 0 and {} ask for nothing, which needs nothing.
    given = {"required": [name], "properties": {name: {"not": {"enum": [None, 0, {}]}}}}
    true = {"required": [other], "properties": {other: {"const": True}}}
    return {"if": given, "then": true}


def _completion(kind: str, **choice: Schema) -> Schema:
    choices = listed(holds(index=COUNT, finish_reason=_REASON, **choice))
    return holds(
        id=TEXT, object=constant(kind), created=COUNT, model=TEXT, choices=choices, usage=_USAGE
    )


def _relayed(summary: str, *, streams: bool = False, is_read: bool = True) -> Contract:
    return Contract(
        _RELAYED,
        ANY_OBJECT if is_read else None,
        stream_type=EVENT_STREAM if streams else "",
        summary=summary,
    )


_PICTURES = holds(created=COUNT, data=listed(ANY_OBJECT))


# Of transcripts as text, subtitles.
_TRANSCRIPTS = ("text/plain", "text/vtt", "application/x-subrip")


def _form(table: Schema) -> Schema:
    """What the table says of files, said of their bytes."""
    binary = {"type": "string", "format": "binary", "minLength": 1}

    def told(schema: Schema) -> Schema:
        if "contentMediaType" in schema:
            return binary
        if "anyOf" in schema:
            return {"anyOf": [told(each) for each in schema["anyOf"]]}
        return {**schema, "items": told(schema["items"])} if "items" in schema else schema

    return {**table, "properties": {k: told(v) for k, v in table["properties"].items()}}


def _upload(summary: str, path: str, answer: Schema, other_types: tuple[str, ...] = ()) -> Contract:
    return Contract(
        answer,
        _form(media.BODIES[path]),
        other_types=other_types,
        request_type="multipart/form-data",
        stream_type=EVENT_STREAM,
        summary=summary,
        rules=BASE[path],
    )


DESCRIPTION = Description(
    ERROR,
    {
        CHAT_PATH: Contract(
            _completion("chat.completion", message=_MESSAGE),
            _needing(CHAT_PATH),
            stream_type=EVENT_STREAM,
            summary="Answer a chat, streamed if asked",
            rules=BASE[CHAT_PATH],
        ),
        TEXT_PATH: Contract(
            _completion("text_completion", text=TEXT),
            _needing(TEXT_PATH),
            stream_type=EVENT_STREAM,
            summary="Continue a text, streamed if asked",
            rules=BASE[TEXT_PATH],
        ),
        EMBEDDINGS_PATH: Contract(
            holds(
                object=constant("list"),
                data=listed(holds(object=constant("embedding"), index=COUNT, embedding=_NUMBERS)),
                model=TEXT,
                usage=holds(prompt_tokens=COUNT, total_tokens=COUNT),
            ),
            embeddings.BODIES[EMBEDDINGS_PATH],
            summary="Make vectors of texts",
            rules=embeddings.RULES[EMBEDDINGS_PATH],
        ),
        RERANK_PATH: Contract(
            {
                "anyOf": [
                    holds(results=listed(holds(index=COUNT, relevance_score={"type": "number"}))),
                    listed(holds(index=COUNT, score={"type": "number"})),
                ]
            },
            embeddings.BODIES[RERANK_PATH],
            summary="Say how well documents answer a query, the best first",
            rules=embeddings.RULES[RERANK_PATH],
        ),
        CLASSIFY_PATH: Contract(
            holds(data=listed(holds(index=COUNT, label=nullable(TEXT)))),
            media.BODIES[CLASSIFY_PATH],
            summary="Say which class texts are of",
            rules=BASE[CLASSIFY_PATH],
        ),
        TRANSCRIPTIONS_PATH: _upload(
            "Write down what is said", TRANSCRIPTIONS_PATH, holds(text=TEXT), _TRANSCRIPTS
        ),
        TRANSLATIONS_PATH: _upload(
            "Say in English what is said", TRANSLATIONS_PATH, holds(text=TEXT), _TRANSCRIPTS
        ),
        SPEECH_PATH: Contract(
            {},
            media.BODIES[SPEECH_PATH],
            answer_type="audio/*",
            stream_type=EVENT_STREAM,
            summary="Say a text",
            rules=BASE[SPEECH_PATH],
        ),
        VOICES_PATH: Contract(
            holds(voices=listed(TEXT)), summary="The names that voices of a model have"
        ),
        IMAGES_PATH: Contract(
            _PICTURES,
            media.BODIES[IMAGES_PATH],
            stream_type=EVENT_STREAM,
            summary="Make a picture",
            rules=BASE[IMAGES_PATH],
        ),
        IMAGE_EDITS_PATH: _upload("Change a picture", IMAGE_EDITS_PATH, _PICTURES),
        CHAT_TOKENS_PATH: _relayed("The number of tokens of a chat"),
        "/embedding": _relayed("llama.cpp's own embeddings"),
        "/completion": _relayed("llama.cpp's own completions, streamed if asked", streams=True),
        "/infill": _relayed("llama.cpp's own infill, streamed if asked", streams=True),
        "/apply-template": _relayed("What a chat is as a prompt"),
        "/tokenize": _relayed("The tokens of a text"),
        "/detokenize": _relayed("The text of tokens"),
        "/props": _relayed("llama.cpp's properties", is_read=False),
        "/slots": _relayed("llama.cpp's slots", is_read=False),
        "/lora-adapters": _relayed("llama.cpp's LoRA adapters", is_read=False),
    },
)
