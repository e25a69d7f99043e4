"""Embeddings, reranking and classes: texts of several requests computed in one batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from modelpool_client.errors import ContextLengthExceeded, InvalidRequest
from modelpool_client.http1.exchange import Exchange
from modelpool_client.surfaces.embeddings import coded
from modelpool_client.surfaces.routes import CLASSIFY_PATH, EMBEDDINGS_PATH, RERANK_PATH

from modelpool_worker.batching.lengths import groups_of
from modelpool_worker.batching.queue import priority_of
from modelpool_worker.batching.runner import Batcher

from .contract import ClassifyModel, EmbeddingModel, RerankModel
from .surface import Batches, Work
from .text_request import check_tokens

Tokens = Sequence[int]
Result = TypeVar("Result")


class _Calls(Generic[Result]):
    """What computes batches of texts, with texts of like lengths in one call; its meter.

    Attributes:
        steps: calls.
        busy: texts that are computed now.
    """

    def __init__(self, compute: Callable[[Sequence[Tokens]], Sequence[Result]]) -> None:
        self.steps = self.busy = 0
        self._compute = compute

    def __call__(self, batch: Sequence[Tokens]) -> Sequence[Result]:
        self.busy = len(batch)
        try:
            results: dict[int, Result] = {}
            for group in groups_of([len(tokens) for tokens in batch]):
                self.steps += 1
                found = self._compute([batch[i] for i in group])
                results |= dict(zip(group, found, strict=True))
            return [results[i] for i in range(len(batch))]
        finally:
            self.busy = 0


class EmbeddingSurface:
    """``/v1/embeddings``"""

    work = "embeddings"

    def __init__(self, name: str, model: EmbeddingModel, batches: Batches, work: Work) -> None:
        self._name = name
        self._model = model
        self._work = work
        self.meter: _Calls[Sequence[float]] = _Calls(model.embed)
        self._batcher: Batcher[Tokens, Sequence[float]] = batches.batcher(self.meter, "embed")
        self.routes = {EMBEDDINGS_PATH: self.embed}

    async def embed(self, exchange: Exchange, body: Mapping[str, Any]) -> None:
        """Answer a request."""
        tokens = await self._work.prepare(_encoded, self._model, _inputs(body["input"]))
        vectors = await self._batcher.submit(tokens, priority_of(body.get("priority")))
        is_coded = body.get("encoding_format") == "base64"
        data = await self._work.prepare(_told_vectors, vectors, is_coded)
        usage = _usage(tokens)
        answer = {"object": "list", "data": data, "model": self._name, "usage": usage}
        exchange.send_json(200, answer)


class RerankSurface:
    """``/v1/rerank``, in the words of Jina and of TEI."""

    work = "rerank"

    def __init__(self, name: str, model: RerankModel, batches: Batches, work: Work) -> None:
        self._name = name
        self._model = model
        self._work = work
        self.meter: _Calls[float] = _Calls(model.score)
        self._batcher: Batcher[Tokens, float] = batches.batcher(self.meter, "score")
        self.routes = {RERANK_PATH: self.rerank}

    async def rerank(self, exchange: Exchange, body: Mapping[str, Any]) -> None:
        """Answer a request: best first."""
        is_tei = "texts" in body
        documents: Sequence[str] = body["texts" if is_tei else "documents"]
        tokens = await self._work.prepare(self._pairs, body["query"], documents)
        scores = await self._batcher.submit(tokens, priority_of(body.get("priority")))
        order = sorted(range(len(scores)), key=lambda i: -scores[i])
        order = order[: body.get("top_n") or len(order)]
        if is_tei:
            more = [{"text": documents[i]} if body.get("return_text") else {} for i in order]
            ranked = [
                {"index": i, "score": float(scores[i]), **text}
                for i, text in zip(order, more, strict=True)
            ]
            exchange.send_json(200, ranked)
            return
        results = [{"index": i, "relevance_score": float(scores[i])} for i in order]
        answer = {"model": self._name, "object": "list", "usage": _usage(tokens)}
        exchange.send_json(200, {**answer, "results": results})

    def _pairs(self, query: str, documents: Sequence[str]) -> list[Tokens]:
        pairs = [self._model.encode_pair(query, document) for document in documents]
        return _checked(pairs, self._model.context_length, "documents")


class ClassifySurface:
    """``/v1/classify``, in vLLM's words."""

    work = "classification"

    def __init__(self, name: str, model: ClassifyModel, batches: Batches, work: Work) -> None:
        self._name = name
        self._model = model
        self._work = work
        self.meter: _Calls[Sequence[float]] = _Calls(model.classify)
        self._batcher: Batcher[Tokens, Sequence[float]] = batches.batcher(self.meter, "classify")
        self.routes = {CLASSIFY_PATH: self.classify}

    async def classify(self, exchange: Exchange, body: Mapping[str, Any]) -> None:
        """Answer a request."""
        tokens = await self._work.prepare(_encoded, self._model, _inputs(body["input"]))
        found = await self._batcher.submit(tokens, priority_of(body.get("priority")))
        data = [self._class(i, [float(p) for p in probs]) for i, probs in enumerate(found)]
        head = {"object": "list", "created": int(time.time()), "model": self._name}
        exchange.send_json(200, {**head, "data": data, "usage": _usage(tokens)})

    def _class(self, index: int, probs: list[float]) -> dict[str, Any]:
        label = self._model.labels[probs.index(max(probs))]
        return {"index": index, "label": label, "probs": probs, "num_classes": len(probs)}


def _inputs(given: Any) -> list[str | Tokens]:
    """A text, tokens, or a list of either, as a list of them.

    Raises:
        InvalidRequest: it is written in a way of llama.cpp's.
    """
    items = [given] if isinstance(given, str | dict) or isinstance(given[0], int) else given
    for item in items:
        is_tokens = isinstance(item, list) and all(isinstance(token, int) for token in item)
        if not isinstance(item, str) and not is_tokens:
            text = "input must be a text, tokens, or a list of either with this engine"
            raise InvalidRequest(text, param="input", source="engine")
    return list(items)


def _encoded(model: EmbeddingModel | ClassifyModel, inputs: Sequence[str | Tokens]) -> list[Tokens]:
    size: int | None = getattr(model, "vocabulary_size", None)
    for item in inputs:
        if not isinstance(item, str):
            check_tokens(item, size, "input")
    tokens = [model.encode(item) if isinstance(item, str) else item for item in inputs]
    return _checked(tokens, model.context_length, "input")


def _checked(several: Sequence[Tokens], limit: int, param: str) -> list[Tokens]:
    for i, tokens in enumerate(several):
        if len(tokens) > limit:
            text = f"{param}[{i}] has {len(tokens)} tokens, over the context size, which is {limit}"
            details = {"prompt_tokens": len(tokens), "context_length": limit}
            raise ContextLengthExceeded(text, param=param, source="engine", details=details)
    return list(several)


def _told_vectors(vectors: Sequence[Sequence[float]], is_coded: bool) -> list[dict[str, Any]]:
    told = []
    for i, vector in enumerate(vectors):
        numbers = list(map(float, vector))
        embedding = coded(numbers) if is_coded else numbers
        told.append({"object": "embedding", "index": i, "embedding": embedding})
    return told


def _usage(several: Sequence[Tokens]) -> dict[str, int]:
    count = sum(map(len, several))
    return {"prompt_tokens": count, "total_tokens": count}
