"""PURE. Grammars of what can be said, in the JSpeech Grammar Format."""

from __future__ import annotations

import re
from collections.abc import Sequence

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_HEAD = re.compile(r"^\s*#JSGF[^;]*;|^\s*(?:grammar|import)\s[^;]*;", re.MULTILINE)
_IMPORT = re.compile(r"\bimport\b(?:\s|/\*.*?\*/|//[^\n]*)*<", re.DOTALL)
_RULE = re.compile(r"(?:\bpublic\s+)?<[^>]*>\s*=")
# Rules that are named, tags, weights, quotes and signs.
_SIGNS = re.compile(r"<[^>]*>|\{[^}]*\}|/[\d.eE+-]+/|[|()\[\]*+;\"]")
_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")


def is_grammar(text: str) -> bool:
    """Whether it says that it is one."""
    return text.lstrip("\ufeff \t\r\n").startswith("#JSGF")


def imports(text: str) -> bool:
    """Whether it wants files read: whoever can say a grammar must not choose them."""
    return _IMPORT.search(text) is not None


def phrase_words(phrase: str) -> list[str]:
    """Its words in small letters, without punctuation."""
    return [word.lower() for word in _WORD.findall(phrase)]


def of_phrases(phrases: Sequence[str]) -> str:
    """A grammar of one or more of the phrases, in any order."""
    each = " | ".join(" ".join(phrase_words(phrase)) for phrase in phrases)
    return f"#JSGF V1.0;\ngrammar phrases;\npublic <said> = ({each})+;\n"


def words_of(grammar: str) -> list[str]:
    """All words that can be said, each once."""
    text = _RULE.sub(" ", _HEAD.sub(" ", _COMMENT.sub(" ", grammar)))
    return list(dict.fromkeys(_SIGNS.sub(" ", text).split()))
