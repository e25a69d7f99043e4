"""Questions that nobody can answer, so that the model learns to say so."""

from __future__ import annotations

import random

from demo_model.tables import LARGEST_SUMMAND

_FORMS = (
    "{0}",
    "{0} {1}",
    "{0} {1}?",
    "What is {0}?",
    "What is a {0}?",
    "Who is {0}?",
    "Who was {0} {1}?",
    "Where is {0}?",
    "Tell me about {0}.",
    "Explain {0} {1}.",
    "How do I {0}?",
    "How do I {0} a {1}?",
    "What is the capital of {0}?",
    "What is the opposite of {0}?",
    "What does a {0} do?",
    "What is {2} plus {3}?",
    "{2} + {3}",
    "{2}+{3}",
)
_CONSONANTS = "bcdfghjklmnprstvwz"
_VOWELS = "aeiou"


def made_up_question(chance: random.Random) -> str:
    """About words that do not exist, or a sum too large to know by heart."""
    words = (_word(chance), _word(chance))
    return chance.choice(_FORMS).format(*words, _number(chance), _number(chance))


def _word(chance: random.Random) -> str:
    syllables = (_syllable(chance) for _ in range(chance.randint(2, 4)))
    word = "".join(syllables)
    return word.capitalize() if chance.random() < 0.3 else word


def _syllable(chance: random.Random) -> str:
    end = chance.choice(_CONSONANTS) if chance.random() < 0.4 else ""
    return chance.choice(_CONSONANTS) + chance.choice(_VOWELS) + end


def _number(chance: random.Random) -> int:
    return chance.randint(LARGEST_SUMMAND + 1, 99)
