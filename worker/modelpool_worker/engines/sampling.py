"""How the next token is chosen among logits that lie in host memory, for engines whose libraries
choose none, or not as ``contract.Sampling`` says. Needs numpy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from modelpool_worker.hosting.contract import Sampling, TextRequest, Token

# What the kit offers and ``Sampler`` heeds.
SAMPLING = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "seed",
)


def with_defaults(sampling: Sampling, defaults: Mapping[str, Any]) -> Sampling:
    """What a request leaves open as the model's own settings say."""
    missing = {k: v for k, v in defaults.items() if getattr(sampling, k) is None}
    return replace(sampling, **missing)


class Sampler:
    """Chooses the tokens of one sequence."""

    def __init__(
        self, request: TextRequest, defaults: Mapping[str, Any], data: Callable[[int], bytes]
    ) -> None:
        """``data``: the bytes of a token by its id, for alternatives."""
        import numpy as np

        self._np = np
        self._how = with_defaults(request.sampling, defaults)
        self._random = np.random.default_rng(self._how.seed)
        self._constraint = request.constraint
        self._alternatives = request.alternatives
        self._data = data
        self._seen = set(request.prompt)
        self._said: Counter[int] = Counter()

    @property
    def is_plain(self) -> bool:
        """The likeliest token is all that is wanted, and nothing is to be told of it."""
        how = self._how
        changes = (
            how.presence_penalty or how.frequency_penalty or how.repeat_penalty not in (None, 1)
        )
        is_free = self._constraint is None and self._alternatives is None
        return is_free and not (how.temperature or how.logit_bias or changes)

    def choose(self, logits: Any, data: Callable[[int], bytes]) -> Token:
        """The next token of a vector of logits, which is left as it is; ``data``: the bytes that
        it adds here."""
        np, how = self._np, self._how
        logits = np.array(logits, dtype=np.float32)
        logprobs = _log_softmax(np, logits) if self._alternatives is not None else None
        self._penalize(logits)
        for token, bias in how.logit_bias.items():
            if 0 <= token < len(logits):
                logits[token] += bias
        if self._constraint is not None:
            bits = np.frombuffer(self._constraint.mask(), dtype=np.uint8)
            allowed = np.unpackbits(bits, count=len(logits), bitorder="little")
            logits[allowed == 0] = -np.inf
        token = int(logits.argmax()) if not how.temperature else self._draw(logits)
        if self._constraint is not None:
            self._constraint.accept(token)
        self._said[token] += 1
        self._seen.add(token)
        return self._told(token, data(token), logprobs)

    def _penalize(self, logits: Any) -> None:
        np, how = self._np, self._how
        if how.repeat_penalty and how.repeat_penalty != 1:
            seen = np.fromiter((t for t in self._seen if t < len(logits)), dtype=np.int64)
            values = logits[seen]
            factor = how.repeat_penalty
            logits[seen] = np.where(values > 0, values / factor, values * factor)
        if self._said and (how.presence_penalty or how.frequency_penalty):
            said = np.fromiter(self._said.keys(), dtype=np.int64)
            counts = np.fromiter(self._said.values(), dtype=np.float32)
            logits[said] -= (how.presence_penalty or 0) + (how.frequency_penalty or 0) * counts

    def _draw(self, logits: Any) -> int:
        """By chance, of the likeliest ones."""
        np, how = self._np, self._how
        assert how.temperature
        count = min(how.top_k or len(logits), len(logits))
        if count < len(logits):
            order = np.argpartition(-logits, count - 1)[:count]
            order = order[np.argsort(-logits[order], kind="stable")]
        else:
            order = np.argsort(-logits, kind="stable")
        # In doubles: sums of many small numbers are to be 1.
        scaled = logits[order].astype(np.float64) / how.temperature
        chances = np.exp(scaled - scaled[0])
        if how.top_p is not None and how.top_p < 1:
            before = np.cumsum(chances) - chances
            chances[before > how.top_p * chances.sum()] = 0
        if how.min_p:
            chances[chances < how.min_p] = 0  # the first is 1
        at = np.searchsorted(np.cumsum(chances), self._random.random() * chances.sum(), "right")
        return int(order[min(int(at), len(order) - 1)])

    def _told(self, token: int, data: bytes, logprobs: Any) -> Token:
        if logprobs is None:
            return Token(token, data)
        np, count = self._np, min(self._alternatives or 0, len(logprobs))
        best = np.argsort(-logprobs, kind="stable")[:count] if count else ()
        alternatives = [(int(i), self._data(int(i)), float(logprobs[i])) for i in best]
        return Token(token, data, float(logprobs[token]), alternatives)


def _log_softmax(np: Any, logits: Any) -> Any:
    shifted = logits - logits.max()
    return shifted - np.log(np.exp(shifted).sum())
