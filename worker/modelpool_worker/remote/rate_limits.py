"""PURE. What a provider says of its limits, and until when it is not to be asked.

OpenAI's headers are ``x-ratelimit-{limit,remaining,reset}-NAME`` with spans of time; without a name
they are of requests (Together, OpenRouter), and Together's of tokens are ``x-tokenlimit-…``.
Anthropic's are ``anthropic-ratelimit-NAME-{limit,remaining,reset}`` with moments (RFC 3339).
``retry-after`` is seconds or a date (RFC 9110, 10.2.3).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

# A request waits so long in place of its client; beyond that the client is told to come again.
WAIT_SECONDS = 2.0
# Then one request finds out whether that still holds: somebody may have bought more.
LONGEST_BLOCK_SECONDS = 300.0
# Without a word of when, after one that was too much.
UNTOLD_SECONDS = 1.0
TOO_MUCH = frozenset({429, 503, 529})

_SPAN = re.compile(
    r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?"
)
_SECONDS = (86_400.0, 3600.0, 60.0, 1.0, 0.001)
_OPENAI = re.compile(r"x-ratelimit-(limit|remaining|reset)(?:-([a-z0-9_\-]+))?")
_TOKENS = re.compile(r"x-tokenlimit-(limit|remaining|reset)")
_ANTHROPIC = re.compile(r"anthropic-ratelimit-([a-z0-9\-]+)-(limit|remaining|reset)")


@dataclass(frozen=True)
class Limit:
    """One of a provider's limits, as it was last told. ``resets_at`` is in seconds since 1970;
    whatever was not told is None."""

    limit: float | None = None
    remaining: float | None = None
    resets_at: float | None = None

    def blocks_until(self, now: float) -> float | None:
        """When it lets something pass again; None: now."""
        is_used_up = self.remaining == 0 and (self.limit or 0) > 0
        if not is_used_up or self.resets_at is None or self.resets_at <= now:
            return None
        return self.resets_at


def limits(headers: Iterable[tuple[bytes, bytes]], now: float) -> dict[str, Limit]:
    """Those that an answer's headers tell, by name: ``requests``, ``tokens``, ``input-tokens``."""
    said: dict[str, dict[str, float]] = {}
    for raw_name, raw in headers:
        name, value = raw_name.decode("latin-1"), raw.decode("latin-1").strip()
        if found := _OPENAI.fullmatch(name):
            kind, what = found[1], found[2] or "requests"
        elif found := _TOKENS.fullmatch(name):
            kind, what = found[1], "tokens"
        elif found := _ANTHROPIC.fullmatch(name):
            what, kind = found.groups()
        else:
            continue
        number = _moment(value, now) if kind == "reset" else _number(value)
        if number is not None and number >= 0:  # some say -1 for "none"
            said.setdefault(what, {})["resets_at" if kind == "reset" else kind] = number
    return {name: Limit(**values) for name, values in sorted(said.items())}


def retry_after(headers: Iterable[tuple[bytes, bytes]], now: float) -> float | None:
    """Seconds from now on, at least 0; None where nothing readable is said."""
    fields = dict(headers)
    milliseconds = _number(fields.get(b"retry-after-ms", b"").decode("latin-1"))
    if milliseconds is not None:
        return max(0.0, milliseconds / 1000)
    text = fields.get(b"retry-after", b"").decode("latin-1").strip()
    seconds = _number(text)
    if seconds is not None:
        return max(0.0, seconds)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None


@dataclass
class RateLimits:
    """What is known of one provider's limits, for each of its models. Its link alone changes it.

    Attributes:
        known: by model, then by the limit's name.
        blocked: by model, until when nothing is sent for it; seconds since 1970.
        refused: requests that were not sent because of that.
    """

    known: dict[str, dict[str, Limit]]
    blocked: dict[str, float]
    refused: int = 0

    @classmethod
    def empty(cls) -> RateLimits:
        """Nothing is known yet."""
        return cls({}, {})

    def wait(self, model: str, now: float) -> float:
        """Seconds until something may be sent for the model."""
        until = self.blocked.get(model)
        if until is None:
            return 0.0
        if until <= now:
            del self.blocked[model]
            return 0.0
        return until - now

    def heard(
        self, model: str, status: int, headers: Iterable[tuple[bytes, bytes]], now: float
    ) -> float | None:
        """Take in what an answer says; after one that was too much the seconds until the next may
        be sent."""
        headers = list(headers)
        told = limits(headers, now)
        if told:
            self.known[model] = told
        resets = [at for at in (limit.blocks_until(now) for limit in told.values()) if at]
        until = max(resets, default=None)
        pause = None
        if status in TOO_MUCH:
            pause = retry_after(headers, now)
            if pause is None:
                pause = until - now if until is not None else UNTOLD_SECONDS
            until = now + pause
        if until is not None and until > now:
            self.blocked[model] = min(until, now + LONGEST_BLOCK_SECONDS)
        return pause

    def shown(self, now: float) -> dict[str, Any]:
        """For people, as JSON: each model's limits, and the seconds that it is blocked for."""
        models = sorted({*self.known, *self.blocked})
        return {model: self._shown(model, now) for model in models}

    def _shown(self, model: str, now: float) -> dict[str, Any]:
        known: Mapping[str, Limit] = self.known.get(model, {})
        shown = {name: _limit_shown(limit, now) for name, limit in known.items()}
        left = max(0.0, self.blocked.get(model, 0.0) - now)
        return {"limits": shown, "blocked_seconds": round(left, 3)}


def _limit_shown(limit: Limit, now: float) -> dict[str, Any]:
    reset = None if limit.resets_at is None else max(0.0, round(limit.resets_at - now, 3))
    return {"limit": limit.limit, "remaining": limit.remaining, "reset_seconds": reset}


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if number == number and abs(number) != float("inf") else None


def _moment(text: str, now: float) -> float | None:
    """A span, ``6m0s`` or ``12ms`` or bare seconds, or a moment, in milliseconds too."""
    number = _number(text)
    if number is not None:
        seconds = number / 1000 if number > 1e11 else number
        return seconds if seconds > 1e9 else now + seconds
    found = _SPAN.fullmatch(text)
    if found and any(found.groups()):
        parts = zip(found.groups(), _SECONDS, strict=True)
        return now + sum(float(part) * seconds for part, seconds in parts if part)
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return None
