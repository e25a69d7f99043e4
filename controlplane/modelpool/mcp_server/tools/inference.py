"""Tools that ask a model, which is loaded first: chat, embeddings, reranking, transcription."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeVar

from modelpool_client import _calls as calls
from modelpool_client._async_transport import AsyncTransport
from modelpool_client.errors import InvalidRequest
from modelpool_client.types import Reply, first_choice, unreadable
from pydantic import BaseModel, Field, ValidationError, model_validator

from modelpool.mcp_server.tools.contract import ARGUMENTS, ModelName, Tool, Unicode

# Answers are read by a model as a whole; who has more asks again, or the API under /v1.
MOST_TEXTS = 256
MOST_MESSAGES = 1024
IGNORED_HEADER = "x-modelpool-ignored"

T = TypeVar("T", bound=BaseModel)
Text = Annotated[Unicode, Field(min_length=1)]
Texts = Annotated[list[Text], Field(min_length=1, max_length=MOST_TEXTS)]


class Message(BaseModel):
    """One message of a conversation."""

    model_config = ARGUMENTS
    role: Literal["system", "user", "assistant"]
    content: Unicode


class ChatArguments(BaseModel):
    """What is said, and how the answer is to be; what is left out is up to the model."""

    model_config = ARGUMENTS
    model: ModelName
    prompt: Unicode | None = Field(None, description="What the user says; this or messages")
    system: Unicode | None = Field(None, description="With prompt: how the model is to behave")
    messages: Annotated[list[Message], Field(min_length=1, max_length=MOST_MESSAGES)] | None = (
        Field(None, description="A whole conversation; this or prompt")
    )
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    stop: Annotated[list[Unicode], Field(max_length=16)] | None = None
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] | None = None

    @model_validator(mode="after")
    def _says_it_once(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either prompt or messages")
        if self.messages is not None and self.system is not None:
            raise ValueError("system goes with prompt; in messages it is one of them")
        return self

    @property
    def conversation(self) -> list[dict[str, Any]]:
        """The messages."""
        if self.messages is not None:
            return [message.model_dump() for message in self.messages]
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        return [*system, {"role": "user", "content": self.prompt}]


class Usage(BaseModel):
    """Tokens, as the engine counted them."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None


class ChatResult(BaseModel):
    """A model's answer."""

    model: str = Field(description="The id of the model that answered")
    text: str
    reasoning: str | None = Field(description="What it thought before, where it tells that")
    finish_reason: str | None = Field(description="stop, or length: max_tokens or the context")
    usage: Usage
    ignored: list[str] = Field(description="Arguments that its engine does not know")


class EmbedArguments(BaseModel):
    """What is to be embedded."""

    model_config = ARGUMENTS
    model: ModelName
    texts: Texts
    dimensions: Annotated[int, Field(ge=1, le=1 << 16)] | None = Field(
        None, description="Only the first so many numbers, for models that were trained to that"
    )


class EmbedResult(BaseModel):
    """A vector a text, in their order."""

    model: str
    vectors: list[list[float]]
    dimensions: int
    usage: Usage


class RerankArguments(BaseModel):
    """What is looked for, and among what."""

    model_config = ARGUMENTS
    model: ModelName
    query: Text
    documents: Texts
    top_n: Annotated[int, Field(ge=1)] | None = Field(None, description="Tell only the best")


class Ranked(BaseModel):
    """A document by its place in what was asked, from 0."""

    index: int
    score: float


class RerankResult(BaseModel):
    """Documents, the best first."""

    model: str
    results: list[Ranked]


class TranscribeArguments(BaseModel):
    """Recorded speech."""

    model_config = ARGUMENTS
    model: ModelName
    audio: str = Field(min_length=1, description="The file, in base64")
    format: Literal["wav", "mp3", "flac", "ogg", "m4a", "webm"] = "wav"
    language: Annotated[str, Field(pattern="^[a-z]{2,3}$")] | None = Field(
        None, description="That is spoken, by its ISO 639 code"
    )
    prompt: Unicode | None = Field(None, description="Names and words that may be spoken")


class TranscribeResult(BaseModel):
    """What was said."""

    model: str
    text: str


async def _chat(pool: AsyncTransport, wanted: ChatArguments) -> ChatResult:
    options = wanted.model_dump(
        include={"max_tokens", "temperature", "top_p", "stop", "seed"}, exclude_none=True
    )
    call = calls.chat(wanted.model, wanted.conversation, False, options)
    async with pool.stream(call) as answer:
        document = calls.document(answer.headers, await answer.aread())
        ignored = answer.headers.get(IGNORED_HEADER, "")
    reply: Reply = call.parse(document)
    message = first_choice(reply.raw).get("message")
    return _made(
        ChatResult,
        model=_model(reply.raw, wanted.model),
        text=str(reply),
        reasoning=message.get("reasoning_content") if isinstance(message, Mapping) else None,
        finish_reason=reply.finish_reason,
        usage=dict(reply.usage),
        ignored=[name.strip() for name in ignored.split(",") if name.strip()],
    )


async def _embed(pool: AsyncTransport, wanted: EmbedArguments) -> EmbedResult:
    document = await pool.do(calls.embed(wanted.model, wanted.texts, wanted.dimensions))
    items = sorted(_items(document, "data"), key=lambda item: int(item.get("index", 0)))
    vectors = [item.get("embedding") for item in items]
    return _made(
        EmbedResult,
        model=_model(document, wanted.model),
        vectors=vectors,
        dimensions=len(vectors[0] or ()) if vectors else 0,
        usage=document.get("usage") or {},
    )


async def _rerank(pool: AsyncTransport, wanted: RerankArguments) -> RerankResult:
    document = await pool.do(
        calls.rerank(wanted.model, wanted.query, wanted.documents, wanted.top_n)
    )
    results = [
        {"index": item.get("index"), "score": item.get("relevance_score")}
        for item in _items(document, "results")
    ]
    return _made(RerankResult, model=_model(document, wanted.model), results=results)


async def _transcribe(pool: AsyncTransport, wanted: TranscribeArguments) -> TranscribeResult:
    try:
        audio = base64.b64decode(wanted.audio, validate=True)
    except (binascii.Error, ValueError) as e:
        raise InvalidRequest(f"audio must be base64: {e}", param="audio") from None
    said = wanted.model_dump(include={"language", "prompt"}, exclude_none=True)
    document = await pool.do(calls.transcribe(wanted.model, audio, f"audio.{wanted.format}", said))
    return _made(TranscribeResult, model=wanted.model, text=document.get("text"))


def _made(kind: type[T], **values: Any) -> T:
    """A result, of what a model's engine answered."""
    try:
        return kind.model_validate(values)
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise unreadable(f"the model's answer makes no sense: {where}: {first['msg']}") from None


def _model(document: Mapping[str, Any], asked: str) -> str:
    told = document.get("model")
    return told if isinstance(told, str) and told else asked


def _items(document: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = document.get(key)
    if not isinstance(found, list) or not all(isinstance(item, Mapping) for item in found):
        raise unreadable(f"the model's answer makes no sense: {key} must be a list of objects")
    return found


TOOLS = (
    Tool(
        "chat",
        "Ask a model",
        "A model's answer to a prompt or a conversation. A cold model is loaded first, which takes"
        " seconds to minutes.",
        ChatArguments,
        ChatResult,
        _chat,
        lambda result: result.text,
        may_load=True,
    ),
    Tool(
        "embed",
        "Embed texts",
        "A vector of numbers for each text, by a model with the capability embeddings.",
        EmbedArguments,
        EmbedResult,
        _embed,
        may_load=True,
    ),
    Tool(
        "rerank",
        "Rank documents",
        "How well each document answers a query, the best first, by a model with the capability"
        " rerank.",
        RerankArguments,
        RerankResult,
        _rerank,
        may_load=True,
    ),
    Tool(
        "transcribe",
        "Transcribe speech",
        "The text of recorded speech, by a model with the capability speech_to_text.",
        TranscribeArguments,
        TranscribeResult,
        _transcribe,
        lambda result: result.text,
        may_load=True,
    ),
)
