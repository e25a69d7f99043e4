"""Graphs that read texts: embeddings, scores of pairs, classes; by what the files beside say."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelpool_client.errors import LoadFailed

from modelpool_worker.engines.tokenizer_folder import FolderTokenizer, read_json

TOKEN_INPUTS = ("input_ids", "attention_mask")
MORE_INPUTS = ("token_type_ids", "position_ids")
# Outputs that are vectors of whole texts, already pooled; the first that is there counts.
POOLED = ("sentence_embedding", "sentence_embeddings", "text_embeds", "embeddings", "embedding")
HIDDEN = ("last_hidden_state", "token_embeddings", "hidden_states")
LOGITS = ("logits", "scores", "score")
# sentence-transformers' names of how the tokens of a text become one vector.
POOLINGS: Mapping[str, str] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "last",
}
DEFAULT_POOLING = "mean"
DEFAULT_CONTEXT = 512
CLASSIFIER = "ForSequenceClassification"


@dataclass(frozen=True)
class TextGraph:
    """What a graph that reads texts is for.

    Attributes:
        output: the one that is wanted.
        purpose: ``embeddings``, ``rerank`` or ``classify``.
        is_pooled: the output is a vector for each text.
        labels: of classes.
    """

    output: str
    purpose: str
    is_pooled: bool = True
    labels: tuple[str, ...] = ()


def text_graph(
    inputs: Sequence[str], outputs: Mapping[str, int], config: Mapping[str, Any]
) -> TextGraph | None:
    """PURE. By the names of its inputs, the dimensions of its outputs and its ``config.json``; None
    for one that reads none."""
    if not set(TOKEN_INPUTS) <= set(inputs) <= {*TOKEN_INPUTS, *MORE_INPUTS}:
        return None
    kinds = [str(a) for a in config.get("architectures") or ()]
    scores = next((n for n in LOGITS if outputs.get(n, 0) in (1, 2)), None)
    if scores is not None and (not kinds or any(k.endswith(CLASSIFIER) for k in kinds)):
        labels = config.get("id2label") or {}
        names = tuple(str(labels[k]) for k in sorted(labels, key=int))
        count = len(names) or int(config.get("num_labels") or 0)
        if count == 1 or outputs[scores] == 1:
            return TextGraph(scores, "rerank")
        return TextGraph(scores, "classify", labels=names)
    pooled = next((n for n in POOLED if outputs.get(n) == 2), None)
    if pooled is not None:
        return TextGraph(pooled, "embeddings")
    hidden = next((n for n in HIDDEN if outputs.get(n) == 3), None)
    return None if hidden is None else TextGraph(hidden, "embeddings", is_pooled=False)


def pooling_of(folder: str) -> tuple[str, bool]:
    """How the model was meant to pool, and whether its vectors are of length one: as
    sentence-transformers' files beside it say."""
    said = read_json(os.path.join(folder, "1_Pooling", "config.json"))
    pooling = said.get("pooling_mode") or next((p for k, p in POOLINGS.items() if said.get(k)), "")
    has_modules = os.path.exists(os.path.join(folder, "modules.json"))
    normalizes = os.path.isdir(os.path.join(folder, "2_Normalize")) or not has_modules
    return (pooling if pooling in POOLINGS.values() else DEFAULT_POOLING), normalizes


class OnnxTexts:
    """``EmbeddingModel``, ``RerankModel`` or ``ClassifyModel``, as ``graph`` says."""

    def __init__(
        self,
        session: Any,
        graph: TextGraph,
        tokenizer: FolderTokenizer,
        folder: str,
        options: Mapping[str, Any],
    ) -> None:
        import numpy as np

        self._np = np
        self._session = session
        self._graph = graph
        self._tokenizer = tokenizer
        self._types = {node.name: node.type for node in session.get_inputs()}
        pooling, normalizes = pooling_of(folder)
        self._pooling = options.get("pooling_type", pooling)
        self._normalizes = options.get("normalize", normalizes)
        config = read_json(os.path.join(folder, "config.json"))
        self._pad = int(config.get("pad_token_id") or 0)
        # RoBERTa and its kin count positions from behind the padding's.
        offset = self._pad + 1 if config.get("model_type") in _OFFSET_POSITIONS else 0
        known = config.get("max_position_embeddings")
        told = known - offset if isinstance(known, int) else DEFAULT_CONTEXT
        longest = min(told, tokenizer.longest or told)
        self.context_length = min(longest, options.get("context_length", longest))
        self.labels = graph.labels
        self.vocabulary_size = int(config.get("vocab_size") or tokenizer.size)
        alone = tokenizer.encode("")
        self._separator = alone[-1] if alone else None

    def encode(self, text: str) -> list[int]:
        """See ``EmbeddingModel``."""
        return self._tokenizer.encode(text)

    def encode_pair(self, query: str, document: str) -> list[int]:
        """See ``RerankModel``."""
        return self._tokenizer.encode_pair(query, document)

    def embed(self, batch: Sequence[Sequence[int]]) -> Sequence[Sequence[float]]:
        """See ``EmbeddingModel``."""
        np = self._np
        found, mask = self._run(batch)
        vectors = found if self._graph.is_pooled else self._pooled(found, mask)
        if self._normalizes:
            lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
            vectors = vectors / np.maximum(lengths, 1e-12)
        return list(vectors.tolist())

    def score(self, batch: Sequence[Sequence[int]]) -> Sequence[float]:
        """See ``RerankModel``: a chance from 0 to 1."""
        logits, _ = self._run(batch)
        return list((1 / (1 + self._np.exp(-logits.reshape(len(batch))))).tolist())

    def classify(self, batch: Sequence[Sequence[int]]) -> Sequence[Sequence[float]]:
        """See ``ClassifyModel``."""
        logits, _ = self._run(batch)
        if len(self.labels) != logits.shape[1]:
            self.labels = tuple(f"LABEL_{i}" for i in range(logits.shape[1]))
        powers = self._np.exp(logits - logits.max(axis=1, keepdims=True))
        return list((powers / powers.sum(axis=1, keepdims=True)).tolist())

    def _run(self, batch: Sequence[Sequence[int]]) -> tuple[Any, Any]:
        """The output in 32-bit floats, and which tokens are none of the padding."""
        np, longest = self._np, max(map(len, batch))
        ids = np.full((len(batch), longest), self._pad, dtype=np.int64)
        mask = np.zeros_like(ids)
        kinds = np.zeros_like(ids)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
            kinds[row, : len(tokens)] = self._kinds(tokens)
        positions = np.maximum(mask.cumsum(axis=1) - 1, 0)
        given = dict(zip((*TOKEN_INPUTS, *MORE_INPUTS), (ids, mask, kinds, positions), strict=True))
        typed = {n: given[n].astype(_DTYPES.get(t, np.int64)) for n, t in self._types.items()}
        (found,) = self._session.run([self._graph.output], typed)
        return found.astype(np.float32), mask

    def _kinds(self, tokens: Sequence[int]) -> list[int]:
        """0 for the first text with its separator, 1 for the second; texts alone have the last
        separator only."""
        first = tokens.index(self._separator) if self._separator in tokens else len(tokens)
        return [int(at > first) for at in range(len(tokens))]

    def _pooled(self, hidden: Any, mask: Any) -> Any:
        np = self._np
        if self._pooling == "cls":
            return hidden[:, 0]
        if self._pooling == "last":
            return hidden[np.arange(len(hidden)), mask.sum(axis=1) - 1]
        wide = mask[:, :, None].astype(hidden.dtype)
        if self._pooling == "max":
            return np.where(wide > 0, hidden, -np.inf).max(axis=1)
        return (hidden * wide).sum(axis=1) / np.maximum(wide.sum(axis=1), 1e-9)


_OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert", "mpnet")
_DTYPES = {"tensor(int32)": "<i4", "tensor(int64)": "<i8", "tensor(float)": "<f4"}


def folder_of(path: str) -> str | None:
    """Where the tokenizer of a graph lies: beside it, or one folder up where an export has it."""
    beside = os.path.dirname(os.path.abspath(path))
    above = os.path.dirname(beside) if os.path.basename(beside) == "onnx" else beside
    return next(
        (f for f in (beside, above) if os.path.exists(os.path.join(f, "tokenizer.json"))), None
    )


def text_model(
    session: Any, path: str, options: Mapping[str, Any]
) -> tuple[TextGraph, OnnxTexts] | None:
    """The graph as a model of texts, where it and what lies beside it is one.

    Raises:
        LoadFailed: ``bad_file``, ``missing_dependency``: the tokenizer cannot be used.
    """
    folder = folder_of(path)
    if folder is None:
        return None
    config = read_json(os.path.join(folder, "config.json"))
    inputs = [node.name for node in session.get_inputs()]
    outputs = {node.name: len(node.shape) for node in session.get_outputs()}
    try:
        graph = text_graph(inputs, outputs, config)
    except (TypeError, ValueError) as e:
        text = f"{folder}/config.json is damaged: {e}"
        raise LoadFailed(text, code="bad_file", param="source", source="engine") from None
    if graph is None:
        return None
    return graph, OnnxTexts(session, graph, FolderTokenizer(folder), folder, options)
