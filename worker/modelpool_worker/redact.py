"""PURE. What is secret is taken out of what a client and an engine said, before it is shown to a
person who looks for a fault.

Texts are read as they are, JSON or not, whole or cut: what is known is how keys are called, and
what the keys of well-known services look like.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

REDACTED = "[redacted]"
# Headers that carry a key, or say who somebody is; not those that only name what is asked.
_SECRET_HEADER = re.compile(
    r"(?!(?:idempotency|sec-websocket)-key\Z)"
    r"(?:.*[-_])?(?:authorization|cookie|token|secret|passw(?:or)?d|credentials?|signature"
    r"|(?:api)?key)",
    re.IGNORECASE,
)
# Of these names an answer has none: "token" stands in every list of probabilities.
_NAMES = (
    r"(?:[a-z0-9]+[_-])*(?:api[_-]?key|apikey|authorization|passw(?:or)?d|passphrase|secret"
    r"|(?:access|auth|api|refresh|bearer|session|id)[_-]?token|private[_-]?key|credentials?)"
)
_VALUE = re.compile(rf'("{_NAMES}"\s*:\s*")(?:[^"\\]|\\.)*(?:\\\Z)?', re.IGNORECASE | re.DOTALL)
# In JSON that is a text within JSON, as the arguments of a tool's call are.
_INNER_VALUE = re.compile(
    rf'(\\"{_NAMES}\\"\s*:\s*\\")(?:[^"\\]|\\[^"\\]|\\\\(?:[^\\]|\\.))*(?:\\+\Z)?',
    re.IGNORECASE | re.DOTALL,
)
# In an address, and in a form.
_PARAMETER = re.compile(
    rf"((?:\A|[?&;]|\\u0026)(?:{_NAMES}|(?:[a-z0-9]+[_-])*(?:key|token|sig|signature))=)"
    r"[^\s&;\"'<>\\#]+",
    re.IGNORECASE,
)
_PASSWORD = re.compile(r"(://[^\s/?#@:\"'\\]*:)[^\s/?#@\"'\\]+(?=@)")
_KEYS = re.compile(
    r"\b(?:sk|pk|rk)-[A-Za-z0-9_-]{16,}"  # OpenAI, Anthropic and many like them
    r"|\bhf_[A-Za-z0-9]{16,}|\bgh[opsur]_[A-Za-z0-9]{16,}|\bgithub_pat_\w{20,}"
    r"|\bxox[abeoprs]-[A-Za-z0-9-]{10,}|\bAIza[A-Za-z0-9_-]{30,}|\bAKIA[A-Z0-9]{12,}"
    r"|\bgsk_[A-Za-z0-9]{16,}|\bnvapi-[A-Za-z0-9_-]{16,}|\bglpat-[A-Za-z0-9_-]{16,}"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"  # a signed token (JWT)
    r"|(?<=\bBearer )[A-Za-z0-9._~+/=-]{8,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    re.DOTALL,
)


# What stands before the secret itself is their first group.
_NAMED = (_VALUE, _INNER_VALUE, _PARAMETER, _PASSWORD)
_DATA = "data:"  # of an event; what Ollama streams are lines of nothing but JSON


def redacted(text: str) -> str:
    """The text with ``[redacted]`` in the place of whatever looks like a key or password."""
    for values in _NAMED:
        text = values.sub(rf"\g<1>{REDACTED}", text)
    return _KEYS.sub(REDACTED, text)


def redacted_stream(text: str) -> str:
    """The same of an answer in pieces, one a line, over which a key may be spread."""
    lines = text.split("\n")
    documents: dict[int, Any] = {}
    pieces: dict[tuple[str, ...], list[_Piece]] = {}
    for number, line in enumerate(lines):
        try:
            documents[number] = document = json.loads(line.removeprefix(_DATA))
            for path, holder, place in _texts(document):
                pieces.setdefault(path, []).append(_Piece(number, holder, place))
        except (ValueError, RecursionError):  # a comment, or cut off
            continue
    changed = set[int]()
    for those in pieces.values():
        changed.update(_without_spread(those))
    for number in changed:
        start = _DATA + " " if lines[number].startswith(_DATA) else ""
        lines[number] = start + json.dumps(documents[number], separators=(",", ":"))
    return redacted("\n".join(lines))


@dataclass
class _Piece:
    """A text in a line of a stream: what holds it, and where."""

    line: int
    holder: Any
    place: Any

    @property
    def text(self) -> str:
        return str(self.holder[self.place])


def _texts(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Each text of a document: where it is, what holds it, and its place in that. What is numbered,
    as choices and calls of tools are, is where its number says."""
    if isinstance(node, dict):
        places: Iterable[tuple[Any, Any]] = node.items()
    else:
        places = enumerate(node) if isinstance(node, list) else ()
    for place, child in places:
        if isinstance(child, str):
            yield (*path, str(place)), node, place
        else:
            number = child.get("index", place) if isinstance(child, dict) else place
            yield from _texts(child, (*path, str(number)))


def _without_spread(pieces: list[_Piece]) -> Iterator[int]:
    """Take out what is secret in those texts, one after the other; in which lines that was."""
    if len({piece.text for piece in pieces}) < 2:  # a name or a time, which all lines hold
        return
    left = deque(_secrets("".join(piece.text for piece in pieces)))
    start = 0
    for piece in pieces:
        text, kept, at = piece.text, "", 0
        end = start + len(text)
        while left and left[0][0] < end:
            low, high = left[0]
            kept += text[at : max(low - start, 0)] + (REDACTED if low >= start else "")
            at = min(high, end) - start
            if high > end:  # the rest of it is in the next ones
                break
            left.popleft()
        if at:
            piece.holder[piece.place] = kept + text[at:]
            yield piece.line
        start = end


def _secrets(text: str) -> list[tuple[int, int]]:
    """From where to where something is secret, in order, apart from one another."""
    found = [(m.end(1), m.end()) for values in _NAMED for m in values.finditer(text)]
    found += [m.span() for m in _KEYS.finditer(text)]
    apart: list[tuple[int, int]] = []
    for low, high in sorted(span for span in found if span[0] < span[1]):
        if apart and low <= apart[-1][1]:
            apart[-1] = (apart[-1][0], max(high, apart[-1][1]))
        else:
            apart.append((low, high))
    return apart


def redacted_headers(headers: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    """Names in lower case and values as texts, those that carry keys without them."""
    pairs = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)
    return tuple(
        (name, REDACTED if _SECRET_HEADER.fullmatch(name) else redacted(value))
        for name, value in pairs
    )
