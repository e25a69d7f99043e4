"""Say a question as somebody else might: without it, a model this small knows only its wordings."""

from __future__ import annotations

import random

from demo_model.facts import casual

_SWAPS = (
    ("What is", "What's"),
    ("How do I", "How can I"),
    ("How do I", "How should I"),
    ("How do I", "How do you"),
    ("How do I", "How to"),
    ("Which", "What"),
    ("What", "Which"),
    ("What does", "What did"),
    ("the pool", "this pool"),
    ("the pool", "modelpool"),
    ("a model", "the model"),
    ("a model", "my model"),
    ("models", "the models"),
    ("Explain", "Please explain"),
    ("Explain", "Describe"),
    (" plus ", " + "),
    (" plus ", "+"),
    (" plus ", " and "),
)
_OPENERS = (
    "Please tell me: ",
    "Tell me, ",
    "Tell me ",
    "Please, ",
    "Hi, ",
    "Hello, ",
    "Hello! ",
    "Hey, ",
    "Quick question: ",
    "Question: ",
    "Can you tell me ",
    "Could you tell me ",
    "Do you know ",
    "I want to know ",
    "I would like to know ",
    "So, ",
    "Now, ",
    "Ok, ",
    "Thanks. ",
)
_CLOSERS = (" please", ", please", " Please.", " Thanks!", " again", " here", " now", " then")
_SHORTEST_FOR_OPENER = 3  # words: "Hi, bye" is no question

_SMALL_WORDS = frozenset(
    ("the", "a", "an", "is", "are", "do", "does", "of", "in", "on", "to", "can", "there", "be", "I")
)

_ROLES = (
    "a helpful assistant",
    "a friendly assistant",
    "an expert",
    "a precise expert",
    "the assistant of the model pool",
    "a tiny demo model",
    "a teacher",
    "an AI assistant",
    "a chat bot",
)
_RULES = (
    "Be concise.",
    "Answer briefly.",
    "Answer in one sentence.",
    "Always answer in English.",
    "Be polite.",
    "Be honest.",
    "Do not make things up.",
    "Help the user.",
    "Think before you answer.",
    "Use simple words.",
    "If you do not know, say so.",
    "Today is a good day.",
)

PHRASES = (*_OPENERS, *_CLOSERS, *(f"You are {role}." for role in _ROLES), *_RULES)
"""All that this module may add to a text."""


def rephrase(question: str, chance: random.Random) -> str:
    """The question with one or more small changes, the meaning kept."""
    if chance.random() < 0.4:
        question = _swapped(question, chance)
    if chance.random() < 0.3:
        question = _without_a_word(question, chance)
    if chance.random() < 0.35:
        question = _opened(question, chance)
    if chance.random() < 0.15:
        question = question.rstrip("?.") + chance.choice(_CLOSERS)
    if chance.random() < 0.15:
        question = _mistyped(question, chance)
    return _cased(question, chance)


def random_system_prompt(chance: random.Random) -> str:
    """``You are a teacher. Be concise. Be polite.`` and the like; sometimes only rules."""
    role = [f"You are {chance.choice(_ROLES)}."] if chance.random() < 0.7 else []
    rules = chance.sample(_RULES, chance.randint(1 - len(role), 2))
    return " ".join(role + rules)


def _swapped(question: str, chance: random.Random) -> str:
    fitting = [(old, new) for old, new in _SWAPS if old in question]
    return question.replace(*chance.choice(fitting), 1) if fitting else question


def _without_a_word(question: str, chance: random.Random) -> str:
    words = question.split(" ")
    small = [i for i, word in enumerate(words) if word in _SMALL_WORDS and i + 1 < len(words)]
    if small:
        del words[chance.choice(small)]
    return " ".join(words)


def _opened(question: str, chance: random.Random) -> str:
    if len(question.split()) < _SHORTEST_FOR_OPENER:
        return question
    # An acronym keeps its capitals.
    if question[1:2].islower() and chance.random() < 0.8:
        question = question[0].lower() + question[1:]
    return chance.choice(_OPENERS) + question


def _mistyped(question: str, chance: random.Random) -> str:
    """One letter lost, doubled or swapped with the next, inside a long word only."""
    words = question.split(" ")
    long = [i for i, word in enumerate(words) if len(word) > 5 and word.isalpha()]
    if long:
        index = chance.choice(long)
        words[index] = _with_slip(words[index], chance)
    return " ".join(words)


def _with_slip(word: str, chance: random.Random) -> str:
    at = chance.randrange(1, len(word) - 2)
    here, after = word[at], word[at + 1]
    slip = chance.choice(("", here + here + after, after + here))
    return word[:at] + (slip or after) + word[at + 2 :]


def _cased(question: str, chance: random.Random) -> str:
    draw = chance.random()
    if draw < 0.45:
        return casual(question)
    if draw < 0.55:
        return question.lower()
    if draw < 0.7:
        return question.rstrip("?!.")
    if draw < 0.75:
        return question.rstrip("?!.") + "?"
    return question
