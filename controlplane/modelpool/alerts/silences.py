"""PURE. Silences: alerts of which nobody is told for a while."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any

from modelpool_client.errors import InvalidRequest

from .rules import SEVERITIES

ALERT_NAME, SEVERITY, MODEL, CURRENCY = "alertname", "severity", "model", "currency"
MATCHED = (ALERT_NAME, MODEL, SEVERITY, CURRENCY)
# Whoever means longer had better change the rule.
LONGEST_SECONDS = 366 * 86_400
LONGEST_TEXT = 1000


@dataclass(frozen=True)
class Silence:
    """Quiet for all alerts whose labels fit every pattern of ``matchers``, until ``ends_at``.
    Times are seconds since 1970."""

    silence_id: str
    matchers: Mapping[str, str]
    created_at: float
    ends_at: float
    comment: str = ""

    def fits(self, labels: Mapping[str, str]) -> bool:
        """Does it quieten an alert with those labels?"""
        return all(fnmatchcase(labels.get(k, ""), p) for k, p in self.matchers.items())

    def is_over(self, now: float) -> bool:
        """Has it ended?"""
        return now >= self.ends_at

    def stored(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self) | {"matchers": dict(self.matchers)}


def silence_of(stored: Mapping[str, Any]) -> Silence:
    """What was stored."""
    return Silence(**stored)


def silenced_by(
    silences: Iterable[Silence], labels: Mapping[str, str], now: float
) -> Silence | None:
    """The one that lasts longest of those that quieten an alert; None: it is told."""
    fitting = [s for s in silences if not s.is_over(now) and s.fits(labels)]
    return max(fitting, key=lambda s: s.ends_at, default=None)


def new_silence(
    silence_id: str, matchers: Mapping[str, str], ends_at: float, now: float, comment: str = ""
) -> Silence:
    """A silence from now on.

    Raises:
        InvalidRequest: it would silence nothing, or never end.
    """
    if not matchers:
        text = f"matchers should name what is silenced, by {', '.join(MATCHED)}; alertname '*': all"
        raise InvalidRequest(text, param="matchers")
    for name, pattern in matchers.items():
        if name not in MATCHED:
            text = f"matchers.{name[:60]} is no label of alerts; there are {', '.join(MATCHED)}"
            raise InvalidRequest(text, param="matchers")
        if not pattern or len(pattern) > LONGEST_TEXT:
            raise InvalidRequest(f"matchers.{name} should be a pattern", param="matchers")
        if name == SEVERITY and not any(fnmatchcase(known, pattern) for known in SEVERITIES):
            known = ", ".join(SEVERITIES)
            text = f"matchers.severity {pattern[:60]!r} fits no severity; there are {known}"
            raise InvalidRequest(text, param="matchers")
    if len(comment) > LONGEST_TEXT:
        raise InvalidRequest(f"comment is longer than {LONGEST_TEXT}", param="comment")
    if ends_at <= now:
        raise InvalidRequest("a silence should end later than now", param="ends_at")
    if ends_at > now + LONGEST_SECONDS:
        raise InvalidRequest("a silence should end within a year", param="ends_at")
    return Silence(silence_id, dict(matchers), now, ends_at, comment)
