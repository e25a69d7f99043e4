"""A byte-level BPE vocabulary learned from the facts, and dialogues as token ids."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain

from gguf_export import END_OF_TEXT, SPECIAL_TOKENS, TURN_END, TURN_START, Vocabulary
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from demo_model.dialogues import EXAM_SYSTEM_PROMPTS, Dialogue
from demo_model.facts import Fact, casual
from demo_model.rephrase import PHRASES


@dataclass(frozen=True, slots=True)
class EncodedDialogue:
    """``learned`` marks the ids that are part of an answer, its end included."""

    ids: list[int]
    learned: list[bool]


class DialogueTokenizer:
    """Encodes dialogues as the ChatML template of the file lays them out."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._encode = cache(self._encode_text)
        self._ids = tokenizer.get_vocab()
        self.padding = self._ids[END_OF_TEXT]

    @property
    def size(self) -> int:
        return len(self._ids)

    def vocabulary(self) -> Vocabulary:
        tokens = sorted(self._ids, key=self._ids.__getitem__)
        return Vocabulary(tokens, _merges(self._tokenizer))

    def encode(self, dialogue: Dialogue) -> EncodedDialogue:
        encoded = EncodedDialogue([], [])
        if dialogue.system:
            self._add_message(encoded, "system", dialogue.system)
        for turn in dialogue.turns:
            self._add_message(encoded, "user", turn.question)
            self._add_message(encoded, "assistant", turn.answer)
        return encoded

    def _add_message(self, encoded: EncodedDialogue, role: str, content: str) -> None:
        # Piece by piece is the same as all at once: BPE never joins across a line's end.
        head = [self._ids[TURN_START], *self._encode(role + "\n")]
        body = [*self._encode(content), self._ids[TURN_END]]
        line_end = self._encode("\n")
        encoded.ids.extend(chain(head, body, line_end))
        is_answer = role == "assistant"
        encoded.learned.extend([False] * len(head) + [is_answer] * len(body))
        encoded.learned.extend([False] * len(line_end))

    def _encode_text(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text).ids
        return ids


def train_tokenizer(facts: Sequence[Fact], size: int) -> DialogueTokenizer:
    """Learn at most ``size`` tokens from all that the facts and the rephrasing can say."""
    tokenizer = Tokenizer(models.BPE())
    # GPT-2's way to cut text into words, which GGUF calls "gpt-2".
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(facts), trainer)
    return DialogueTokenizer(tokenizer)


def _corpus(facts: Iterable[Fact]) -> Iterable[str]:
    yield from ("system\n", "user\n", "assistant\n", *EXAM_SYSTEM_PROMPTS, *PHRASES)
    for fact in facts:
        yield fact.answer
        for question in (*fact.wordings, *fact.follow_ups):
            yield from (question, casual(question))


def _merges(tokenizer: Tokenizer) -> list[str]:
    """The merges as GGUF spells them; they can be read only from the tokenizer's own JSON."""
    merges: list[list[str]] = json.loads(tokenizer.to_str())["model"]["merges"]
    return [" ".join(pair) for pair in merges]
