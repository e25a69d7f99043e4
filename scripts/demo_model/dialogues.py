"""Dialogues made of facts: the fixed ones that the model must pass, and endless random ones."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from demo_model.facts import UNKNOWN, Fact, casual
from demo_model.made_up import made_up_question
from demo_model.rephrase import random_system_prompt, rephrase

# Mostly one and two turns, a few long ones: a model that never saw a long history loses the thread.
_TURN_COUNTS = (1, 1, 1, 1, 2, 2, 2, 3, 4, 12)
_SYSTEM_SHARE = 0.3
_FOLLOW_UP_SHARE = 0.3
_CLEAN_SHARE = 0.5
_REVISION_SHARE = 0.15
_MADE_UP_SHARE = 0.03

EXAM_SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "Answer briefly.",
    "You are a friendly assistant. Be concise.",
    "You are the assistant of the model pool. Answer in one sentence.",
    "You are a precise expert. Always answer in English.",
)


@dataclass(frozen=True, slots=True)
class Turn:
    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Dialogue:
    """Questions and answers in turn; an empty ``system`` means no system message."""

    turns: tuple[Turn, ...]
    system: str = ""

    @property
    def answer(self) -> str:
        return self.turns[-1].answer

    def messages(self) -> list[dict[str, str]]:
        """What a client sends to get the last answer."""
        messages = [{"role": "system", "content": self.system}] if self.system else []
        for turn in self.turns:
            messages.append({"role": "user", "content": turn.question})
            messages.append({"role": "assistant", "content": turn.answer})
        return messages[:-1]


def exam(facts: Sequence[Fact]) -> dict[str, list[Dialogue]]:
    """Every wording of every fact: alone, under a system prompt, and as a second question.

    ``casual`` asks each fact's first wording as people type it, and ``follow-up`` each follow-up
    after some other fact of its topic.
    """
    turns = [Turn(wording, fact.answer) for fact in facts for wording in fact.wordings]
    prompts = EXAM_SYSTEM_PROMPTS
    return {
        "single": [Dialogue((turn,)) for turn in turns],
        "casual": [Dialogue((Turn(casual(f.wordings[0]), f.answer),)) for f in facts],
        "system": [Dialogue((turn,), prompts[i % len(prompts)]) for i, turn in enumerate(turns)],
        "two-turn": [Dialogue((_far(turns, i), turn)) for i, turn in enumerate(turns)],
        "follow-up": list(_follow_ups(facts)),
    }


def _far(turns: Sequence[Turn], index: int) -> Turn:
    """Some other turn, always the same, from anywhere in the list."""
    return turns[(index * 617 + 251) % len(turns)]


def _follow_ups(facts: Sequence[Fact]) -> Iterator[Dialogue]:
    for index, fact in enumerate(facts):
        others = _others(facts, fact)
        for number, question in enumerate(fact.follow_ups):
            before = others[(index * 31 + number) % len(others)]
            opening = Turn(before.wordings[0], before.answer)
            yield Dialogue((opening, Turn(question, fact.answer)))


def _others(facts: Iterable[Fact], fact: Fact) -> list[Fact]:
    return [other for other in facts if other.topic == fact.topic and other is not fact]


class DialogueSource:
    """Endless random dialogues; each round asks every wording once, in a random order."""

    def __init__(self, facts: Sequence[Fact], never: Iterable[str], seed: int) -> None:
        """``never`` are wordings that must not be made, not even by chance."""
        self._random = random.Random(seed)
        self._questions = [(fact, wording) for fact in facts for wording in fact.wordings]
        self._follow_ups = _by_topic(facts)
        [self._fallback] = [fact for fact in facts if fact.topic == UNKNOWN]
        self._never = {casual(wording) for wording in never}
        self._queue: list[tuple[Fact, str]] = []
        self._revision: list[Dialogue] = []

    def revise(self, missed: Iterable[Dialogue]) -> None:
        """From now on, also ask these every now and then, in place of earlier ones."""
        self._revision = list(missed)

    def dialogue(self) -> Dialogue:
        """The next one: of one or more turns, with or without a system prompt."""
        if self._revision and self._chance(_REVISION_SHARE):
            return self._random.choice(self._revision)
        system = random_system_prompt(self._random) if self._chance(_SYSTEM_SHARE) else ""
        turns: list[Turn] = []
        topic = ""
        for _ in range(self._random.choice(_TURN_COUNTS)):
            topic, turn = self._turn(topic)
            turns.append(turn)
        return Dialogue(tuple(turns), system)

    def _turn(self, topic: str) -> tuple[str, Turn]:
        follow_ups = self._follow_ups.get(topic)
        if follow_ups and self._chance(_FOLLOW_UP_SHARE):
            return topic, self._random.choice(follow_ups)
        if self._chance(_MADE_UP_SHARE):
            return UNKNOWN, Turn(made_up_question(self._random), self._fallback.answer)
        fact, wording = self._next_question()
        return fact.topic, Turn(self._spoken(wording), fact.answer)

    def _next_question(self) -> tuple[Fact, str]:
        if not self._queue:
            self._queue = self._random.sample(self._questions, len(self._questions))
        return self._queue.pop()

    def _spoken(self, wording: str) -> str:
        if self._chance(_CLEAN_SHARE):
            return wording
        spoken = rephrase(wording, self._random)
        return wording if casual(spoken) in self._never else spoken

    def _chance(self, share: float) -> bool:
        return self._random.random() < share


def _by_topic(facts: Iterable[Fact]) -> dict[str, list[Turn]]:
    turns: dict[str, list[Turn]] = {}
    for fact in facts:
        for question in fact.follow_ups:
            turns.setdefault(fact.topic, []).append(Turn(question, fact.answer))
    return turns
