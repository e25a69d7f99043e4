"""How the next token of each sequence is chosen from the scores of a step, by its own settings.

``transformers`` samples a batch with one set of settings and one random generator. Here each
sequence has its own, whoever else is in its batch; the library is then handed scores that leave no
choice, so that its greedy search takes what was chosen.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from modelpool_worker.hosting.contract import Sampling, TextRequest, Token, TokenSink

_SEEDS = 1 << 63


class Words(Protocol):
    """What a chooser has to know of a model's tokens."""

    @property
    def end_tokens(self) -> Collection[int]:
        """Those that end an answer."""
        ...

    def pieces(self) -> Callable[[int], bytes]:
        """What each token of one answer adds to its text, asked in their order."""
        ...

    def piece(self, token: int) -> bytes:
        """What a token adds that stands alone."""
        ...


def filled(sampling: Sampling, defaults: Mapping[str, Any]) -> Sampling:
    """With the model's own defaults where the request says nothing."""
    given = vars(sampling)
    more = {k: v for k, v in defaults.items() if given.get(k) is None}
    return Sampling(**{**given, **more})


class Choice:
    """One sequence: its settings, what it has chosen, and where its tokens go."""

    def __init__(
        self, request: TextRequest, defaults: Mapping[str, Any], words: Words, sink: TokenSink
    ) -> None:
        self.request = request
        self.sampling = filled(request.sampling, defaults)
        self.count = 0
        self.is_over = False
        self.has_failed = False
        self._words = words
        self._sink = sink
        self._piece = words.pieces()
        self._random = torch.Generator()
        seed = self.sampling.seed
        self._random.manual_seed(int.from_bytes(os.urandom(7)) if seed is None else seed % _SEEDS)
        self._counts: dict[int, int] = {}

    @property
    def is_plain(self) -> bool:
        """The likeliest token is all that it wants of a step."""
        s, request = self.sampling, self.request
        penalties = (s.presence_penalty, s.frequency_penalty, (s.repeat_penalty or 1) - 1)
        changed = s.logit_bias or any(penalties) or request.constraint
        return s.temperature == 0 and not changed and request.alternatives is None

    def take(self, scores: torch.Tensor) -> int:
        """Choose, and tell the token to whoever waits for it.

        Args:
            scores: float32 of shape (vocabulary,).

        Raises:
            Exception: of the constraint.
        """
        request, sampling = self.request, self.sampling
        changed = self._changed(scores)
        if request.constraint is not None:
            changed = masked(changed, request.constraint.mask())
        token = sampled(changed, sampling, self._random)
        if request.constraint is not None:
            request.constraint.accept(token)
        self._counts[token] = self._counts.get(token, 0) + 1
        self.tell(token, None if request.alternatives is None else scores)
        return token

    def tell(self, token: int, scores: torch.Tensor | None = None) -> None:
        """Have it told; with log probabilities if ``scores`` are given."""
        self.count += 1
        if token in self._words.end_tokens or self.count >= self.request.max_tokens:
            self.is_over = True
        if scores is None:
            self._sink.push(Token(token, self._piece(token)))
            return
        logprobs = torch.log_softmax(scores, dim=-1)
        best = logprobs.topk(min(self.request.alternatives or 0, len(logprobs)))
        alternatives = [
            (int(i), self._words.piece(int(i)), float(value))
            for value, i in zip(best.values, best.indices, strict=True)
        ]
        told = Token(token, self._piece(token), float(logprobs[token]), alternatives)
        self._sink.push(told)

    def fail(self, error: BaseException) -> None:
        """It went wrong; nothing more is wanted."""
        self.is_over = self.has_failed = True
        self._sink.fail(error)

    def _changed(self, scores: torch.Tensor) -> torch.Tensor:
        """With biases and penalties."""
        s = self.sampling
        repeat = s.repeat_penalty or 1.0
        presence, frequency = s.presence_penalty or 0.0, s.frequency_penalty or 0.0
        if not s.logit_bias and repeat == 1.0 and not (presence or frequency):
            return scores
        scores = scores.clone()
        if repeat != 1.0:
            seen = sorted({*self.request.prompt, *self._counts})
            told = scores[seen]
            scores[seen] = torch.where(told < 0, told * repeat, told / repeat)
        for token, count in self._counts.items():
            scores[token] -= presence + frequency * count
        for token, bias in s.logit_bias.items():
            if 0 <= token < len(scores):
                scores[token] += bias
        return scores


def masked(scores: torch.Tensor, mask: bytes) -> torch.Tensor:
    """Only those that a mask allows (see ``contract.Constraint``)."""
    bits = np.unpackbits(np.frombuffer(mask, np.uint8), bitorder="little")[: len(scores)]
    allowed = torch.from_numpy(bits.astype(bool)).to(scores.device)
    if len(allowed) < len(scores):
        allowed = torch.nn.functional.pad(allowed, (0, len(scores) - len(allowed)))
    return scores.masked_fill(~allowed, -torch.inf)


def sampled(scores: torch.Tensor, sampling: Sampling, random: torch.Generator) -> int:
    """A token by temperature, ``top_k``, ``top_p`` and ``min_p``, in this order."""
    temperature = 1.0 if sampling.temperature is None else sampling.temperature
    if temperature == 0:
        return int(scores.argmax())
    # In units of the best, so that a temperature near zero does not overflow.
    scores = (scores - scores.max()) / temperature
    top_p, min_p = sampling.top_p or 1.0, sampling.min_p or 0.0
    count = min(sampling.top_k or len(scores), len(scores))
    ids = None
    if count < len(scores):
        scores, ids = scores.topk(count)
    elif top_p < 1:
        scores, ids = scores.sort(descending=True)
    chances = torch.softmax(scores, dim=-1)
    if top_p < 1:
        before = chances.cumsum(-1) - chances
        chances = chances.masked_fill(before >= top_p, 0)
    if min_p > 0:
        chances = chances.masked_fill(chances < min_p * chances.max(), 0)
    # One number decides, drawn on the host, so that a seed does the same with any device.
    point = torch.rand((), generator=random, dtype=torch.float64)
    ladder = chances.double().cumsum(-1)
    height = (point * ladder[-1].cpu()).to(ladder.device)
    place = int(torch.searchsorted(ladder, height, right=True))
    place = min(place, int(chances.nonzero()[-1]))
    return place if ids is None else int(ids[place])


@dataclass
class Step:
    """The sequences of one step, in the order of the rows of its scores; None where nobody waits
    for a row any more."""

    rows: Sequence[Choice | None]
    end: int

    def decide(self, scores: torch.Tensor) -> torch.Tensor:
        """Choose for each row, tell, and give scores that leave no other choice.

        Args:
            scores: of shape (rows, vocabulary).
        """
        best = scores.argmax(dim=-1).tolist()
        chosen = [self._of_row(row, choice, scores, best) for row, choice in enumerate(self.rows)]
        decided = torch.zeros_like(scores)
        places = torch.tensor(chosen, device=scores.device)
        decided.scatter_(1, places.unsqueeze(1), 1.0)
        return decided

    def _of_row(
        self, row: int, choice: Choice | None, scores: torch.Tensor, best: Sequence[int]
    ) -> int:
        if choice is None or choice.is_over or choice.request.cancel.is_set:
            return self.end
        try:
            if choice.is_plain:
                choice.tell(best[row])
                return best[row]
            return choice.take(scores[row].float())
        except Exception as e:  # of one sequence; the others go on
            choice.fail(e)
            return self.end
