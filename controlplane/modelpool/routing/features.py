"""PURE: what a request needs: kind of work, difficulty, capabilities, context, length of answer.

They are made once for a request, in time that does not grow with its length, and do not depend on
any model.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .asked import Asked, read
from .difficulty import Complexity, complexity_of, difficulty_of, measures, reasons_of
from .signals import Signals, read_prompt
from .tasks import Task, task_of

# Words of an answer where nothing else is said: by kind of work, at difficulty 0 and 1.
ANSWER_TOKENS: Mapping[Task, tuple[int, int]] = {
    Task.CODE_GENERATION: (150, 1200),
    Task.CODE_ANALYSIS: (150, 800),
    Task.MATH: (60, 900),
    Task.REASONING: (120, 900),
    Task.QUESTION_ANSWERING: (40, 500),
    Task.TEXT_ANALYSIS: (20, 300),
    Task.SUMMARY: (80, 300),
    Task.CREATIVE_WRITING: (200, 1200),
    Task.DATA_ANALYSIS: (80, 700),
    Task.PLANNING: (250, 1500),
    Task.EMBEDDING: (0, 0),
    Task.RANKING: (0, 0),
    Task.MODERATION: (1, 1),
}
USUAL_ANSWER = (60, 500)
# Of the material, what a translation or a corrected text is.
AS_LONG = frozenset({Task.TRANSLATION, Task.EDITING})
# A turn of so few words goes on with what was asked before, and is about as hard.
FOLLOW_UP_WORDS = 12
FOLLOW_UP = 0.85
# Which of the turns before counts.
_NOTHING_NEW = frozenset({Task.CONVERSATION, Task.QUESTION_ANSWERING})


@dataclass(frozen=True)
class Features:
    """What a request needs.

    Attributes:
        difficulty: 0 to 1; ``complexity`` is the word for it.
        language: ISO 639-1, or empty where it is not known.
        needs: capabilities without which a model cannot answer it.
        prompt_tokens, answer_tokens: estimates; the answer's is a limit where one was said.
        measures: what difficulty and reasons come from, each 0 to 1.
    """

    task: Task
    difficulty: float
    complexity: Complexity
    language: str
    needs: frozenset[str]
    prompt_tokens: int
    answer_tokens: int
    measures: Mapping[str, float]

    @functools.cached_property
    def reasons(self) -> tuple[str, ...]:
        """Why it is as hard as it is, in words."""
        return reasons_of(self.measures)

    @property
    def context_tokens(self) -> int:
        """That prompt and answer take together."""
        return self.prompt_tokens + self.answer_tokens


def features_of(request: Asked | Mapping[str, Any], surface: str = "chat") -> Features:
    """Of a request as read, or of its body."""
    asked = request if isinstance(request, Asked) else read(request, surface)
    task, difficulty, measured, signals = _judge(asked)
    if asked.earlier and signals.words <= FOLLOW_UP_WORDS and not asked.pictures:
        before = Asked(text=asked.earlier[-1], tools=asked.tools, surface=asked.surface)
        former, former_difficulty, former_measures, _ = _judge(before)
        if FOLLOW_UP * former_difficulty > difficulty and _goes_on(task, signals):
            difficulty, measured = FOLLOW_UP * former_difficulty, former_measures
            task = former if task in _NOTHING_NEW else task
    return Features(
        task=task,
        difficulty=difficulty,
        complexity=complexity_of(difficulty),
        language=signals.language,
        needs=_needs(asked),
        prompt_tokens=asked.tokens,
        answer_tokens=_answer_tokens(asked, task, difficulty, signals),
        measures=measured,
    )


def _judge(asked: Asked) -> tuple[Task, float, Mapping[str, float], Signals]:
    reading = read_prompt(asked)
    task = task_of(asked, reading)
    measured = measures(reading, task, asked)
    return task, difficulty_of(reading.signals, task, measured), measured, reading.signals


def _goes_on(task: Task, signals: Signals) -> bool:
    """Thanks and greetings do not, they have no content."""
    return signals.content > 0 or signals.depth > 0 or signals.questions > 0


def _needs(asked: Asked) -> frozenset[str]:
    needs = {asked.surface} if asked.surface else set()
    if asked.pictures and asked.surface in ("chat", "completion"):
        needs.add("vision")
    if asked.sounds and asked.surface in ("chat", "completion"):
        needs.add("audio")
    if asked.tools:
        needs.add("tools")
    if asked.schema_fields:
        needs.add("json_schema")
    elif asked.wants_json:
        needs.add("json_mode")
    if asked.wants_logprobs:
        needs.add("logprobs")
    return frozenset(needs)


def _answer_tokens(asked: Asked, task: Task, difficulty: float, signals: Signals) -> int:
    least, most = ANSWER_TOKENS.get(task, USUAL_ANSWER)
    tokens = least + (most - least) * difficulty
    if signals.size_asked:
        tokens = signals.size_asked * 1.4
    elif task in AS_LONG:
        tokens = max(least, signals.material * 1.5)
    elif signals.options:
        tokens = min(tokens, 60)
    return min(round(tokens), asked.max_tokens) if asked.max_tokens else round(tokens)
