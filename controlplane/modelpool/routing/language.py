"""PURE: the language of a text, by its script and its words of grammar."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from .words import FUNCTION_WORDS

UNKNOWN = ""
# Of so many words a text shows its language.
ENOUGH = 150
# A smaller share of words of grammar is no language that is known here.
LEAST_SHARE = 0.12

_OF_LANGUAGE: Mapping[str, frozenset[str]] = {
    language: frozenset(text.split()) for language, text in FUNCTION_WORDS.items()
}
_LANGUAGES_OF: Mapping[str, tuple[str, ...]] = {
    word: tuple(name for name, words in _OF_LANGUAGE.items() if word in words)
    for word in frozenset().union(*_OF_LANGUAGE.values())
}
_EVERY: frozenset[str] = frozenset(_LANGUAGES_OF)

_LETTER = re.compile(r"[^\W\d_]")
_BEYOND_LATIN = re.compile("[\u0370-\u1fff\u3040-\ud7af]")
_SCRIPTS = (
    ("ja", re.compile("[\u3040-\u30ff]")),
    ("ko", re.compile("[\uac00-\ud7af\u1100-\u11ff]")),
    ("zh", re.compile("[\u4e00-\u9fff\u3400-\u4dbf]")),
    ("ru", re.compile("[\u0400-\u04ff]")),
    ("ar", re.compile("[\u0600-\u06ff]")),
    ("he", re.compile("[\u0590-\u05ff]")),
    ("hi", re.compile("[\u0900-\u097f]")),
    ("th", re.compile("[\u0e00-\u0e7f]")),
    ("el", re.compile("[\u0370-\u03ff]")),
)
# Of these a text may hold some in another language: names, formulas.
_SHARE_OF_SCRIPT = 0.2


def language_of(text: str, words: Sequence[str]) -> str:
    """As ISO 639-1, or empty where it is not known.

    Args:
        words: of the text, plain.
    """
    if not text.isascii() and _BEYOND_LATIN.search(text):
        script = _script_of(text[:600])
        if script:
            return script
    met: dict[tuple[str, ...], int] = {}
    for names in map(_LANGUAGES_OF.get, words[:ENOUGH]):
        if names is not None:
            met[names] = met.get(names, 0) + 1
    votes: dict[str, float] = {}
    for names, times in met.items():
        for name in names:
            votes[name] = votes.get(name, 0.0) + times / len(names)
    if not votes:
        return UNKNOWN
    best = max(votes, key=lambda name: (votes[name], name == "en", name))
    return best if votes[best] >= LEAST_SHARE * min(len(words), ENOUGH) else UNKNOWN


def _script_of(text: str) -> str:
    letters = len(_LETTER.findall(text)) or 1
    for language, pattern in _SCRIPTS:
        if len(pattern.findall(text)) >= _SHARE_OF_SCRIPT * letters:
            return language
    return UNKNOWN


def grammar_of(language: str) -> frozenset[str]:
    """Words of grammar of a language; of all, where it is not known."""
    return _OF_LANGUAGE.get(language, _EVERY)
