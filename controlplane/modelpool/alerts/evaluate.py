"""PURE. From rules, what was measured and the state so far to the new state, and to who is told
what. The words are Prometheus': pending, firing, resolved, silence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from .rules import Rule
from .signals import SIGNALS, Unit, shown
from .silences import ALERT_NAME, SEVERITY, Silence, silenced_by

# Of those that are over.
RESOLVED_KEPT = 100
RESOLVED_SECONDS = 86_400.0

Labels = tuple[tuple[str, str], ...]
Key = tuple[str, Labels]


class Status(StrEnum):
    """Where an alert stands."""

    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"


@dataclass(frozen=True)
class Sample:
    """A value of a rule's signal now.

    Attributes:
        labels: whose it is, as ``(("model", "qwen"),)``; empty: the pool's.
        count: what it was concluded from: requests in the window and the like.
        text: more about it, for people.
    """

    value: float
    labels: Labels = ()
    count: int = 1
    text: str = ""


@dataclass(frozen=True)
class Alert:
    """A rule that holds for something. Times are seconds since 1970.

    Attributes:
        value: when it was last seen to be too high.
        active_at: since when it is pending or firing.
        seen_at: when it was last seen.
        told_at: when targets were last told that it fires; None: they were not.
    """

    rule: str
    labels: Labels
    severity: str
    summary: str
    status: Status
    value: float
    reason: str
    active_at: float
    seen_at: float
    fired_at: float | None = None
    resolved_at: float | None = None
    told_at: float | None = None

    @property
    def key(self) -> Key:
        """What no two have in common."""
        return (self.rule, self.labels)

    @property
    def all_labels(self) -> dict[str, str]:
        """With its name and severity."""
        return {ALERT_NAME: self.rule, SEVERITY: self.severity, **dict(self.labels)}

    def stored(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            **vars(self),
            "labels": [list(pair) for pair in self.labels],
            "status": self.status.value,
        }


def alert_of(stored: Mapping[str, Any]) -> Alert:
    """What was stored."""
    labels = tuple((str(name), str(value)) for name, value in stored["labels"])
    return Alert(**{**stored, "labels": labels, "status": Status(stored["status"])})


@dataclass(frozen=True)
class State:
    """All that is remembered.

    Attributes:
        active: alerts that are pending or firing.
        resolved: those that are over, the newest first.
        silences: by their ids.
    """

    active: Mapping[Key, Alert] = field(default_factory=dict)
    resolved: tuple[Alert, ...] = ()
    silences: Mapping[str, Silence] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """What comes of one.

    Attributes:
        changed: alerts that began to fire, or were resolved.
        told: those that targets are to be told of, now or again.
    """

    state: State
    changed: tuple[Alert, ...] = ()
    told: tuple[Alert, ...] = ()


def evaluate(
    rules: Sequence[Rule],
    samples: Mapping[str, Sequence[Sample]],
    state: State,
    now: float,
    repeat_seconds: float = 0.0,
) -> Evaluation:
    """Once.

    An alert is pending while its rule holds, fires when that has lasted for ``for_seconds``, and is
    resolved when the rule has not held for ``keep_firing_for_seconds``, or is no more. What cannot
    be measured, and what too few requests say, does not hold.

    Args:
        samples: of each rule, by its name; what is missing was not measured.
        repeat_seconds: what fires on is told again after so long; 0: never.
    """
    active, changed = _active(rules, samples, state, now), []
    for key, alert in state.active.items():
        if key not in active and alert.status is Status.FIRING:
            is_gone = all(rule.name != alert.rule for rule in rules)
            reason = "its rule is gone" if is_gone else f"no longer so; it was: {alert.reason}"
            over = replace(alert, status=Status.RESOLVED, resolved_at=now, reason=reason)
            changed.append(over)
    resolved = (*changed, *state.resolved)
    before = state.active
    changed += [
        alert
        for key, alert in active.items()
        if alert.status is Status.FIRING
        and (key not in before or before[key].status is not Status.FIRING)
    ]
    silences = {k: s for k, s in state.silences.items() if not s.is_over(now)}
    told = [alert for alert in changed if _was_told(alert)]
    for key, alert in active.items():
        if _is_to_be_told(alert, silences, now, repeat_seconds):
            active[key] = replace(alert, told_at=now)
            told.append(active[key])
    kept = [a for a in resolved if now - (a.resolved_at or now) < RESOLVED_SECONDS]
    after = State(active, tuple(kept[:RESOLVED_KEPT]), silences)
    return Evaluation(after, tuple(changed), tuple(told))


def _active(
    rules: Sequence[Rule], samples: Mapping[str, Sequence[Sample]], state: State, now: float
) -> dict[Key, Alert]:
    """Those that are pending or fire now."""
    active: dict[Key, Alert] = {}
    for rule in rules:
        held = {s.labels: s for s in samples.get(rule.name, ()) if holds(rule, s)}
        for labels, sample in held.items():
            key = (rule.name, labels)
            active[key] = _seen(rule, sample, state.active.get(key), now)
        for key, alert in state.active.items():
            if alert.rule != rule.name or key in active or alert.status is not Status.FIRING:
                continue
            # A clock that was set back makes nothing last longer.
            seen_at = min(alert.seen_at, now)
            if now - seen_at < rule.keep_firing_for_seconds:
                active[key] = replace(
                    alert, seen_at=seen_at, severity=rule.severity, summary=rule.summary
                )
    return active


def _seen(rule: Rule, sample: Sample, before: Alert | None, now: float) -> Alert:
    """The rule holds."""
    active_at = now if before is None else min(before.active_at, now)
    is_firing = before is not None and before.status is Status.FIRING
    fires = is_firing or now - active_at >= rule.for_seconds
    return Alert(
        rule=rule.name,
        labels=sample.labels,
        severity=rule.severity,
        summary=rule.summary,
        status=Status.FIRING if fires else Status.PENDING,
        value=sample.value,
        reason=describe(rule, sample),
        active_at=active_at,
        seen_at=now,
        fired_at=before.fired_at if is_firing and before else now if fires else None,
        told_at=before.told_at if before is not None else None,
    )


def holds(rule: Rule, sample: Sample) -> bool:
    """Is there something to tell, and enough to say so?"""
    return sample.count >= rule.min_count and sample.value > rule.above


def describe(rule: Rule, sample: Sample) -> str:
    """The figures, in words."""
    signal = SIGNALS[rule.signal]
    if signal.unit is Unit.TRUTH:
        return sample.text or signal.text
    unit = dict(sample.labels).get("currency", "")
    value = f"{shown(sample.value, signal.unit)} {unit}".rstrip()
    limit = f"{shown(rule.above, signal.unit)} {unit}".rstrip()
    window = f" in {rule.window_seconds / 60:g} min" if signal.is_windowed else ""
    of = f" (of {sample.count} {signal.counted})" if signal.counted else ""
    more = f": {sample.text}" if sample.text else ""
    return f"{value} {signal.text}{window}{of}, above {limit}{more}"


def _is_to_be_told(
    alert: Alert, silences: Mapping[str, Silence], now: float, repeat_seconds: float
) -> bool:
    if alert.status is not Status.FIRING:
        return False
    is_told = alert.told_at is not None
    if is_told and (not repeat_seconds or 0 <= now - (alert.told_at or 0.0) < repeat_seconds):
        return False
    return silenced_by(silences.values(), alert.all_labels, now) is None


def _was_told(alert: Alert) -> bool:
    """Whoever heard that it fires is to hear of its end, silenced or not."""
    return alert.status is Status.RESOLVED and alert.told_at is not None
