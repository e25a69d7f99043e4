"""Train the network on random dialogues; exams on the way say what needs more practice."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from demo_model.dialogues import Dialogue, DialogueSource
from demo_model.lessons import Batch, endless_batches, to_batch
from demo_model.network import Llama
from demo_model.tokenizer import DialogueTokenizer

_WARMUP_STEPS = 40
_LAST_RATE_SHARE = 0.01
_EXAMS_AT = (0.6, 0.75, 0.88)  # shares of the training
_REPORT_EVERY = 50  # steps
_EXAM_ROWS = 64
_SURE = 0.6  # above one half, so that rounding on another processor changes no answer


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how hard to train.

    The defaults are what it takes to pass the whole exam on two cores. ``seconds`` is a limit: a
    slow machine does fewer steps. ``rate`` is the highest learning rate.
    """

    steps: int = 1400
    seconds: float = 300.0
    tokens_per_step: int = 1600
    rate: float = 3e-3
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a training is: ``loss`` is a running mean, ``missed`` counts the latest exam's."""

    step: int
    steps: int
    loss: float
    tokens: int
    seconds: float
    missed: int | None

    def __str__(self) -> str:
        left = self.seconds / self.step * (self.steps - self.step)
        exam = "" if self.missed is None else f"  {self.missed} missed in the last exam"
        return (
            f"step {self.step:4}/{self.steps}  loss {self.loss:.4f}  "
            f"{self.tokens / self.seconds:,.0f} tokens/s  "
            f"{self.seconds:.0f} s, about {left:.0f} s left{exam}"
        )


class Trainer:
    """One training of one network, in place."""

    def __init__(
        self,
        network: Llama,
        tokenizer: DialogueTokenizer,
        source: DialogueSource,
        exam: Sequence[Dialogue],
        plan: Plan,
    ) -> None:
        self._network = network
        self._tokenizer = tokenizer
        self._source = source
        self._exam = exam
        self._plan = plan
        self._optimizer = torch.optim.AdamW(
            network.parameters(), lr=plan.rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True
        )
        self._exams_left = list(_EXAMS_AT)
        self._missed: int | None = None
        self._loss = math.nan
        self._tokens = 0

    def run(self, report: Callable[[Progress], None]) -> Progress:
        """Train to the end of the plan; ``report`` hears of it now and then."""
        plan, started = self._plan, time.monotonic()
        batches = endless_batches(self._tokenizer, self._source, plan.tokens_per_step, plan.seed)
        for step, batch in enumerate(batches, start=1):
            done = max(step / plan.steps, (time.monotonic() - started) / plan.seconds)
            self._learn(batch, plan.rate * _rate_share(step, done))
            self._maybe_examine(done)
            progress = self._progress(step, time.monotonic() - started)
            if step % _REPORT_EVERY == 0 or done >= 1:
                report(progress)
            if done >= 1:
                return progress
        raise AssertionError("the batches never end")

    def _learn(self, batch: Batch, rate: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        # Only answers need logits: the output layer is a good part of the work.
        scores = self._network.scores(self._network(batch.inputs)[batch.learned])
        loss = functional.cross_entropy(scores, batch.targets[batch.learned])
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self._network.parameters(), 1.0)
        self._optimizer.step()
        self._note(loss.item(), batch.inputs.numel())

    def _note(self, loss: float, tokens: int) -> None:
        self._loss = loss if math.isnan(self._loss) else 0.95 * self._loss + 0.05 * loss
        self._tokens += tokens

    def _maybe_examine(self, done: float) -> None:
        if self._exams_left and done >= self._exams_left[0]:
            self._exams_left.pop(0)
            missed = missed_dialogues(self._network, self._tokenizer, self._exam)
            self._source.revise(missed)
            self._missed = len(missed)

    def _progress(self, step: int, seconds: float) -> Progress:
        return Progress(step, self._plan.steps, self._loss, self._tokens, seconds, self._missed)


def _rate_share(step: int, done: float) -> float:
    """Up in a few steps, then down along a cosine."""
    falling = 0.5 * (1 + math.cos(math.pi * min(done, 1)))
    return min(1, step / _WARMUP_STEPS) * max(_LAST_RATE_SHARE, falling)


@torch.inference_mode()
def missed_dialogues(
    network: Llama, tokenizer: DialogueTokenizer, dialogues: Sequence[Dialogue]
) -> list[Dialogue]:
    """Those with an answer that is not surely right: each token of it must stand out."""
    missed: list[Dialogue] = []
    for at in range(0, len(dialogues), _EXAM_ROWS):
        group = dialogues[at : at + _EXAM_ROWS]
        batch = to_batch(tokenizer, group)
        chances = network.scores(network(batch.inputs)[batch.learned]).softmax(-1)
        right = chances.gather(1, batch.targets[batch.learned].unsqueeze(1)).squeeze(1)
        rows, _ = torch.where(batch.learned)
        unsure = set(rows[right < _SURE].tolist())
        missed += [group[row] for row in sorted(unsure)]
    return missed
