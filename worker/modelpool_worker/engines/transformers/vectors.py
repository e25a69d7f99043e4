"""Vectors, scores and classes of texts, of batches that are padded on the right."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from modelpool_client.errors import LoadFailed

from .pooling import Module, Pooling
from .source import labels_of

Tokens = Sequence[int]


class TextVectors:
    """See ``contract.EmbeddingModel``.

    Args:
        pooling: how the tokens of a text become its vector.
        normalises: to a length of 1.
        layers: of the folder, that come after pooling.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        context_length: int,
        *,
        pooling: Pooling,
        normalises: bool,
        layers: Sequence[Callable[[Any], Any]] = (),
    ) -> None:
        self.context_length = context_length
        self.vocabulary_size: int = model.config.get_text_config().vocab_size
        self._model = model
        self._tokenizer = tokenizer
        self._pooling = pooling
        self._normalises = normalises
        self._layers = layers

    def encode(self, text: str) -> list[int]:
        """See there."""
        return list(self._tokenizer(text)["input_ids"])

    def embed(self, batch: Sequence[Tokens]) -> list[list[float]]:
        """See there."""
        with torch.inference_mode():
            inputs = _padded(batch, self._tokenizer, self._model.device)
            states = self._model(**inputs).last_hidden_state
            vectors = pooled(states, inputs["attention_mask"], self._pooling).float()
            for layer in self._layers:
                vectors = layer(vectors)
            if self._normalises:
                vectors = torch.nn.functional.normalize(vectors, dim=-1)
            return list(vectors.cpu().tolist())


def pooled(states: torch.Tensor, mask: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """One vector of those of each text's tokens.

    Args:
        states: (texts, tokens, width), padded on the right.
        mask: (texts, tokens), 1 where there is a token.
    """
    if pooling == "cls":
        return states[:, 0]
    if pooling == "last":
        return states[torch.arange(len(states), device=states.device), mask.sum(1) - 1]
    weights = mask.unsqueeze(-1).to(states.dtype)
    if pooling == "max":
        return states.masked_fill(weights == 0, -torch.inf).amax(1)
    return (states * weights).sum(1) / weights.sum(1).clamp(min=1)


class TextScores:
    """See ``contract.RerankModel``: the sigmoid of the one class, as sentence-transformers has it,
    unless the model says that it is to be told as it comes."""

    def __init__(self, model: Any, tokenizer: Any, context_length: int) -> None:
        self.context_length = context_length
        self._model = model
        self._tokenizer = tokenizer
        told = getattr(model.config, "sentence_transformers", None) or {}
        name = str(told.get("activation_fn", "")) if isinstance(told, Mapping) else ""
        self._is_raw = name.endswith("Identity")

    def encode_pair(self, query: str, document: str) -> list[int]:
        """See there."""
        return list(self._tokenizer(query, document)["input_ids"])

    def score(self, batch: Sequence[Tokens]) -> list[float]:
        """See there."""
        with torch.inference_mode():
            inputs = _padded(batch, self._tokenizer, self._model.device, pairs=True)
            scores = self._model(**inputs).logits[:, 0].float()
            return list((scores if self._is_raw else scores.sigmoid()).cpu().tolist())


class TextClasses:
    """See ``contract.ClassifyModel``."""

    def __init__(self, model: Any, tokenizer: Any, context_length: int) -> None:
        self.context_length = context_length
        self.labels: Sequence[str] = labels_of(model.config.to_dict())
        self.vocabulary_size: int = model.config.get_text_config().vocab_size
        self._model = model
        self._tokenizer = tokenizer
        self._is_each_by_itself = model.config.problem_type == "multi_label_classification"

    def encode(self, text: str) -> list[int]:
        """See there."""
        return list(self._tokenizer(text)["input_ids"])

    def classify(self, batch: Sequence[Tokens]) -> list[list[float]]:
        """See there."""
        with torch.inference_mode():
            scores = self._model(**_padded(batch, self._tokenizer, self._model.device)).logits
            scores = scores.float()
            by_itself = self._is_each_by_itself
            chances = scores.sigmoid() if by_itself else scores.softmax(-1)
            return list(chances.cpu().tolist())


def layer_of(module: Module) -> Callable[[Any], Any]:
    """A dense layer of sentence-transformers."""
    from safetensors.torch import load_file

    path = os.path.join(module.folder, "model.safetensors")
    try:
        weights = load_file(path)
        weight, bias = weights["linear.weight"].float(), weights.get("linear.bias")
    except Exception as e:
        text = f"{path}: is no dense layer of sentence-transformers: {e}"
        raise LoadFailed(text, code="bad_file", param="source", source="engine") from None
    activation = _ACTIVATIONS[module.activation]
    added = None if bias is None else bias.float()

    def layer(vectors: Any) -> Any:
        there = vectors.device
        moved = None if added is None else added.to(there)
        return activation(torch.nn.functional.linear(vectors, weight.to(there), moved))

    return layer


_ACTIVATIONS: Mapping[str, Callable[[Any], Any]] = {
    "Identity": lambda x: x,
    "Tanh": torch.tanh,
    "ReLU": torch.relu,
    "GELU": torch.nn.functional.gelu,
}


def _padded(
    batch: Sequence[Tokens], tokenizer: Any, device: Any, *, pairs: bool = False
) -> dict[str, Any]:
    """What a model wants of texts of different lengths."""
    width = max(map(len, batch))
    pad = tokenizer.pad_token_id or 0
    ids = [[*tokens, *[pad] * (width - len(tokens))] for tokens in batch]
    mask = [[1] * len(tokens) + [0] * (width - len(tokens)) for tokens in batch]
    found = {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}
    if pairs and "token_type_ids" in tokenizer.model_input_names:
        kinds = [_kinds(tokens, tokenizer, width) for tokens in batch]
        found["token_type_ids"] = torch.tensor(kinds)
    return {name: tensor.to(device) for name, tensor in found.items()}


def _kinds(tokens: Tokens, tokenizer: Any, width: int) -> list[int]:
    """0 for the query, to its separator, 1 for the document: those of BERT's kind are told."""
    separator = tokenizer.sep_token_id
    first = list(tokens).index(separator) + 1 if separator in tokens else len(tokens)
    return [0] * first + [1] * (len(tokens) - first) + [0] * (width - len(tokens))
