"""PURE. What is secret is taken out of what a client and an engine said, before it is shown to a
person who looks for a fault.

Texts are read as they are, JSON or not, whole or cut: what is known is how keys are called, and
what the keys of well-known services look like.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

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


def redacted(text: str) -> str:
    """The text with ``[redacted]`` in the place of whatever looks like a key or password."""
    for values in (_VALUE, _INNER_VALUE, _PARAMETER, _PASSWORD):
        text = values.sub(rf"\g<1>{REDACTED}", text)
    return _KEYS.sub(REDACTED, text)


def redacted_headers(headers: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    """Names in lower case and values as texts, those that carry keys without them."""
    pairs = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)
    return tuple(
        (name, REDACTED if _SECRET_HEADER.fullmatch(name) else redacted(value))
        for name, value in pairs
    )
