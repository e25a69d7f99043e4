"""Dialogues as batches of tensors."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from demo_model.dialogues import Dialogue, DialogueSource
from demo_model.tokenizer import DialogueTokenizer, EncodedDialogue

_SORTED_TOGETHER = 1024  # dialogues


@dataclass(frozen=True, slots=True)
class Batch:
    """``inputs`` and ``targets`` are ``(rows, length)``, the targets one token ahead.

    ``learned`` marks the targets that are part of an answer; the others are the user's words.
    """

    inputs: Tensor
    targets: Tensor
    learned: Tensor


def endless_batches(
    tokenizer: DialogueTokenizer, source: DialogueSource, tokens: int, seed: int
) -> Iterator[Batch]:
    """Batches of dialogues of about one length, so that little of a batch is padding."""
    chance = random.Random(seed)
    while True:
        encoded = [tokenizer.encode(source.dialogue()) for _ in range(_SORTED_TOGETHER)]
        encoded.sort(key=lambda row: len(row.ids))
        groups = list(_grouped(encoded, tokens))
        chance.shuffle(groups)
        yield from (_padded(group, tokenizer.padding) for group in groups)


def to_batch(tokenizer: DialogueTokenizer, dialogues: Iterable[Dialogue]) -> Batch:
    """All of these, in their order."""
    return _padded([tokenizer.encode(dialogue) for dialogue in dialogues], tokenizer.padding)


def _grouped(encoded: Iterable[EncodedDialogue], tokens: int) -> Iterator[list[EncodedDialogue]]:
    """Cut rows of growing length into groups of at most so many tokens, padding counted."""
    group: list[EncodedDialogue] = []
    for row in encoded:
        if group and len(row.ids) * (len(group) + 1) > tokens:
            yield group
            group = []
        group.append(row)
    yield group


def _padded(rows: Sequence[EncodedDialogue], padding: int) -> Batch:
    width = max(len(row.ids) for row in rows)
    ids = torch.tensor([row.ids + [padding] * (width - len(row.ids)) for row in rows])
    learned = [row.learned + [False] * (width - len(row.ids)) for row in rows]
    return Batch(ids[:, :-1], ids[:, 1:], torch.tensor(learned)[:, 1:])
