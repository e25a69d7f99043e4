"""PURE: what models are asked in order to measure them.

Each prompt begins with words of its own, so that no engine answers it from a cache of prompts; what
comes after it is sampled, for text that repeats itself would make guessing engines look good.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from modelpool_client.errors import NotSupported
from modelpool_client.surfaces.routes import CHAT_PATH, EMBEDDINGS_PATH, RERANK_PATH, TEXT_PATH

from modelpool.catalog.model import Model
from modelpool.providers.entries import PROVIDER_TYPE

Form = Literal["chat", "completion", "embeddings", "rerank"]

WRITING: tuple[Form, ...] = ("chat", "completion")
PATHS: Mapping[Form, str] = {
    "chat": CHAT_PATH,
    "completion": TEXT_PATH,
    "embeddings": EMBEDDINGS_PATH,
    "rerank": RERANK_PATH,
}
# A prompt as assistants get them, and an answer that is long enough for a rate; the same as in
# ``make bench``, so that figures can be held against its.
PROMPT_TOKENS = 256
OUTPUT_TOKENS = 64
# Of a context prompt and answer take no more than that, for what the template adds comes on top.
SHARE_OF_CONTEXT = 0.5
# Before it is known how many tokens a word is; few enough for any context.
FIRST_WORDS = 24
# A text to embed or to rank, as passages of documents are; a query is shorter.
TEXT_TOKENS = 128
QUERY_WORDS = 8
MOST_TEXTS = 256
TEMPERATURE = 0.8
TEXT = (
    "river stone market window garden letter morning engine bridge winter paper mountain story "
    "music kitchen harbour forest teacher silver question summer travel number village dinner "
    "corner picture shadow island history weather doctor signal bottle candle finger"
)
WORDS = tuple(TEXT.split())


@dataclass(frozen=True)
class Workload:
    """What a request is like.

    Attributes:
        prompt_tokens: about as many as the prompt is to have.
        output_tokens: at most; engines that can are told not to end before.
        words: of the prompt; how many tokens they are is seen by asking, see ``fitted``.
        texts: in one request, where they are embedded or ranked; each is as long as a prompt.
    """

    form: Form
    prompt_tokens: int = PROMPT_TOKENS
    output_tokens: int = OUTPUT_TOKENS
    words: int = FIRST_WORDS
    texts: int = 1

    @classmethod
    def of(cls, form: Form) -> Workload:
        """What models that are asked so are usually asked."""
        return cls(form) if form in WRITING else cls(form, TEXT_TOKENS)

    @property
    def path(self) -> str:
        return PATHS[self.form]

    @property
    def is_text(self) -> bool:
        return self.form in WRITING

    def fitted(self, found: int, context: int | None) -> Workload:
        """With as many words as make ``prompt_tokens``, and no more than the context has room for;
        ``found`` is how many tokens its prompt, or each of its texts, has now."""
        room = int((context or 1 << 20) * SHARE_OF_CONTEXT)
        output = max(2, min(self.output_tokens, room // 2))
        wanted = min(self.prompt_tokens, room - output)
        words = int(self.words * wanted / found) if found else self.words
        return replace(self, words=max(1, words), output_tokens=output)

    def body(self, number: int) -> bytes:
        """The request with that number; two have no beginning in common."""
        return json.dumps(_BODIES[self.form](self, number)).encode()


def check_is_here(model: Model) -> None:
    """What is measured and tuned is this machine.

    Raises:
        NotSupported: the model is at a provider.
    """
    if model.served_by or model.model_type == PROVIDER_TYPE:
        text = f"{model.model_id} computes at a provider, whose speed is nothing of this machine's"
        raise NotSupported(f"{text}: its requests are in GET /statistics")


def form_of(capabilities: Sequence[str]) -> Form:
    """How a model with these is asked; one of which nothing is known, for a chat.

    Raises:
        NotSupported: it makes neither text nor numbers of texts.
    """
    for form in PATHS:
        if form in capabilities:
            return form
    if not capabilities:
        return "chat"
    text = f"models that chat, complete, embed or rank are measured, not {', '.join(capabilities)}"
    raise NotSupported(text)


def _text(words: int, number: int) -> str:
    chosen = (WORDS[(number * 7 + n * (n + number)) % len(WORDS)] for n in range(max(1, words)))
    return f"{number} {' '.join(chosen)}"


def _sampling(workload: Workload, number: int) -> dict[str, Any]:
    return {
        "max_tokens": workload.output_tokens,
        "temperature": TEMPERATURE,
        "seed": number,
        "ignore_eos": True,
        "cache_prompt": False,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def _chat(workload: Workload, number: int) -> dict[str, Any]:
    message = {"role": "user", "content": _text(workload.words, number)}
    return {"messages": [message], **_sampling(workload, number)}


def _completion(workload: Workload, number: int) -> dict[str, Any]:
    return {"prompt": _text(workload.words, number), **_sampling(workload, number)}


def _embeddings(workload: Workload, number: int) -> dict[str, Any]:
    return {"input": _texts(workload, number)}


def _rerank(workload: Workload, number: int) -> dict[str, Any]:
    return {"query": _text(QUERY_WORDS, number), "documents": _texts(workload, number)}


def _texts(workload: Workload, number: int) -> list[str]:
    return [_text(workload.words, number * MOST_TEXTS + n) for n in range(workload.texts)]


_BODIES = {
    "chat": _chat,
    "completion": _completion,
    "embeddings": _embeddings,
    "rerank": _rerank,
}
