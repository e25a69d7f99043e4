"""PURE: which kind of work a request is.

What is there to see comes first: pictures, code, tables, tools. Words decide only among kinds that
have the same structure, and a kind that makes something must name what it makes.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from .asked import Asked
from .signals import WITHOUT_LISTS, Reading, Signals
from .words import ANY_TASK, FOREIGN_TASKS, INTO, TASK_BITS, Kind


class Task(StrEnum):
    """Kinds of work."""

    CODE_GENERATION = "code_generation"
    CODE_ANALYSIS = "code_analysis"
    MATH = "math"
    REASONING = "reasoning"
    QUESTION_ANSWERING = "question_answering"
    TEXT_ANALYSIS = "text_analysis"
    SUMMARY = "summary"
    TRANSLATION = "translation"
    EDITING = "editing"
    CREATIVE_WRITING = "creative_writing"
    DATA_ANALYSIS = "data_analysis"
    PLANNING = "planning"
    CONVERSATION = "conversation"
    TOOL_USE = "tool_use"
    IMAGE_ANALYSIS = "image_analysis"
    IMAGE_CLASSIFICATION = "image_classification"
    IMAGE_GENERATION = "image_generation"
    SPEECH_TRANSCRIPTION = "speech_transcription"
    SPEECH_SYNTHESIS = "speech_synthesis"
    EMBEDDING = "embedding"
    RANKING = "ranking"
    MODERATION = "moderation"


# What a surface that does one thing does.
OF_SURFACE: Mapping[str, Task] = {
    "embeddings": Task.EMBEDDING,
    "rerank": Task.RANKING,
    "moderation": Task.MODERATION,
    "classification": Task.TEXT_ANALYSIS,
    "speech_to_text": Task.SPEECH_TRANSCRIPTION,
    "text_to_speech": Task.SPEECH_SYNTHESIS,
    "image_generation": Task.IMAGE_GENERATION,
    "image_classification": Task.IMAGE_CLASSIFICATION,
    "infill": Task.CODE_GENERATION,
}

_TASKS = tuple((Task(name), bit) for name, bit in TASK_BITS.items())
# A word of the request counts less the later it stands, for who asks begins with what is wanted.
_FIRST = 12
# Words that name a kind of work must weigh so much.
_ENOUGH = 0.6


def task_of(asked: Asked, reading: Reading) -> Task:
    """Of the last thing that was said."""
    own = OF_SURFACE.get(asked.surface)
    if own is not None:
        return own
    signals = reading.signals
    if asked.pictures:
        return Task.IMAGE_ANALYSIS
    if asked.sounds and signals.words <= _FIRST:
        return Task.SPEECH_TRANSCRIPTION
    if signals.code_lines >= 2 or (signals.code_signs >= 4 and not signals.notation):
        makes = any(bits & Kind.MAKING for bits in reading.bits)
        return Task.CODE_GENERATION if makes else Task.CODE_ANALYSIS
    if asked.tools:
        return Task.TOOL_USE
    if signals.rows >= 3:
        return Task.DATA_ANALYSIS
    if _is_made_of_code(reading):
        return Task.CODE_GENERATION
    named = _named(reading)
    if named is not None:
        return named
    return _by_structure(signals)


def _is_made_of_code(reading: Reading) -> bool:
    """Something of a program is to be made: the verb stands near the beginning, or begins a
    sentence, and what it makes after it."""
    words = reading.words
    request = reading.parts.request
    if reading.signals.language in WITHOUT_LISTS:
        return any(hint in request for hint in FOREIGN_TASKS["code_generation"])
    kinds = reading.bits[: _FIRST + 20]
    first = next((i for i, bits in enumerate(kinds[:_FIRST]) if bits & Kind.MAKING), None)
    if first is not None and any(bits & Kind.CODE for bits in kinds[first + 1 :]):
        return True
    # Or two things of programs are named, and nothing is asked about them.
    named = {word for word, bits in zip(words, kinds, strict=False) if bits & Kind.CODE}
    return len(named) >= 2 and not reading.signals.questions


def _named(reading: Reading) -> Task | None:
    signals = reading.signals
    if signals.language in WITHOUT_LISTS:
        request = reading.parts.request
        for name, hints in FOREIGN_TASKS.items():
            if any(hint in request for hint in hints):
                return Task(name)
        return None
    weights: dict[Task, float] = {}
    distinct = dict(zip(reading.words[:60], reading.bits, strict=False))
    for index, bits in enumerate(distinct.values()):
        if not bits & ANY_TASK:
            continue
        for task, bit in _TASKS:
            if bits & bit:
                weights[task] = weights.get(task, 0.0) + (1.0 if index < _FIRST else 0.3)
    for before, bits in zip(reading.words[:39], reading.bits[1:40], strict=False):
        if bits & Kind.LANGUAGE and before in INTO:
            weights[Task.TRANSLATION] = weights.get(Task.TRANSLATION, 0.0) + 1.0
    if Task.MATH in weights:
        shown = signals.operators + signals.notation + signals.variables
        if not shown and signals.numbers < 2 and signals.depth < 6:
            del weights[Task.MATH]
    if Task.DATA_ANALYSIS in weights and not signals.rows and weights[Task.DATA_ANALYSIS] < 2:
        del weights[Task.DATA_ANALYSIS]
    # Of equals that which is named first.
    order = list(weights)
    best = max(weights, key=lambda t: (weights[t], -order.index(t)), default=None)
    return best if best is not None and weights[best] >= _ENOUGH else None


def _by_structure(signals: Signals) -> Task:
    if signals.operators >= 1 or signals.notation >= 2 or signals.is_sum:
        return Task.MATH
    if signals.numbers >= 2 and signals.questions and not signals.material:
        return Task.MATH
    if signals.logic >= 2 and signals.sentences >= 3:
        return Task.REASONING
    if signals.material >= 40 and not signals.options:
        return Task.TEXT_ANALYSIS
    if signals.questions or signals.options or signals.depth:
        return Task.QUESTION_ANSWERING
    return Task.CONVERSATION
