"""/alerts: what is wrong now, who is told, and silences."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body
from modelpool_client.errors import InvalidRequest, NotFound
from pydantic import BaseModel, ConfigDict, Field

from modelpool.alerts.alerts import Shown
from modelpool.alerts.evaluate import Status
from modelpool.alerts.messages import fingerprint
from modelpool.alerts.rules import Rule
from modelpool.alerts.sender import Sender
from modelpool.alerts.signals import SIGNALS
from modelpool.alerts.silences import Silence
from modelpool.api.answers import (
    AlertList,
    AlertRuleView,
    AlertTargetView,
    AlertTest,
    AlertView,
    SilenceView,
)
from modelpool.api.openapi import refuses
from modelpool.api.route import ApiRoute
from modelpool.api.times import seconds_of
from modelpool.catalog.errors import StoreError
from modelpool.observe.events import iso
from modelpool.services import Services


class SilenceBody(BaseModel):
    """What is silenced, and until when: ``ends_at`` or ``minutes`` from now. ``matchers`` are
    patterns of ``alertname``, ``model``, ``severity`` and ``currency``, which all have to fit."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    matchers: dict[str, str] = Field(description='As {"alertname": "Slow*", "model": "qwen"}')
    minutes: Annotated[float, Field(gt=0, le=527_040)] | None = None
    ends_at: str | None = Field(None, description="A time, as 2026-05-31T12:00:00Z")
    comment: str = Field("", description="Why, for others")


class TestBody(BaseModel):
    """Which target is tried; none: all."""

    model_config = ConfigDict(extra="forbid", strict=True)

    target: str | None = None


def routes(services: Services) -> APIRouter:
    """The routes of one pool."""
    router = APIRouter(tags=["alerts"], route_class=ApiRoute)
    alerts = services.alerts

    @router.get("/alerts")
    async def list_() -> AlertList:
        """Alerts that fire, are pending or were resolved within a day; silences, rules, and the
        targets that are told."""
        return {
            "enabled": services.pool.config.alerts.enabled,
            "alerts": [alert_view(shown) for shown in alerts.shown()],
            "silences": [silence_view(each) for each in alerts.silences],
            "rules": [rule_view(rule, alerts.blind(rule)) for rule in alerts.rules],
            "targets": [target_view(sender) for sender in alerts.targets],
        }

    @router.post("/alerts/test", responses=refuses(NotFound))
    async def test(body: Annotated[TestBody | None, Body()] = None) -> AlertTest:
        """Send a test message to a target, or to all, once and at once; what went wrong where, or
        that it arrived."""
        problems = await alerts.test(body.target if body is not None else None)
        return {
            "targets": [
                {"target": name, "arrived": not problem, "problem": problem}
                for name, problem in problems.items()
            ]
        }

    @router.post("/alerts/silences", status_code=201, responses=refuses(StoreError))
    async def silence(body: Annotated[SilenceBody, Body()]) -> SilenceView:
        """Have nobody told of some alerts for a while. They are evaluated and shown all the same,
        and a silence outlives a restart."""
        if (body.minutes is None) == (body.ends_at is None):
            raise InvalidRequest("a silence needs minutes or ends_at, one of them", param="minutes")
        if body.ends_at is not None:
            ends_at = seconds_of(body.ends_at, "ends_at")
        else:
            ends_at = services.pool.clock.wall() + (body.minutes or 0.0) * 60
        return silence_view(await alerts.silence(body.matchers, ends_at, body.comment))

    @router.delete("/alerts/silences/{silence_id}", responses=refuses(NotFound, StoreError))
    async def end_silence(silence_id: str) -> SilenceView:
        """End a silence before its time; what fires meanwhile is told then."""
        return silence_view(await alerts.end_silence(silence_id))

    return router


def alert_view(shown: Shown) -> AlertView:
    """PURE. An alert as the API shows it."""
    alert, silence = shown.alert, shown.silence
    is_quiet = silence is not None and alert.status is not Status.RESOLVED
    return {
        "alert": alert.rule,
        "status": alert.status.value,
        "severity": alert.severity,
        "labels": dict(alert.labels),
        "summary": alert.summary,
        "reason": alert.reason,
        "value": round(alert.value, 6),
        "active_at": iso(alert.active_at) or "",
        "fired_at": iso(alert.fired_at),
        "resolved_at": iso(alert.resolved_at),
        "told_at": iso(alert.told_at),
        "silenced_by": silence.silence_id if silence is not None and is_quiet else None,
        "fingerprint": fingerprint(alert.key),
    }


def silence_view(silence: Silence) -> SilenceView:
    """PURE. A silence as the API shows it."""
    return {
        "silence_id": silence.silence_id,
        "matchers": dict(silence.matchers),
        "created_at": iso(silence.created_at) or "",
        "ends_at": iso(silence.ends_at) or "",
        "comment": silence.comment,
    }


def rule_view(rule: Rule, blind: str) -> AlertRuleView:
    """PURE. A rule as the API shows it; ``blind``: why nothing is measured for it."""
    return {
        "name": rule.name,
        "signal": rule.signal,
        "unit": SIGNALS[rule.signal].unit.value,
        "above": rule.above,
        "window_seconds": rule.window_seconds if SIGNALS[rule.signal].is_windowed else None,
        "min_count": rule.min_count,
        "for_seconds": rule.for_seconds,
        "keep_firing_for_seconds": rule.keep_firing_for_seconds,
        "severity": rule.severity,
        "models": list(rule.models),
        "summary": rule.summary,
        "not_measured": blind or None,
    }


def target_view(sender: Sender) -> AlertTargetView:
    """A target as the API shows it: not where it is."""
    return {
        "name": sender.name,
        "kind": sender.settings.kind,
        "min_severity": sender.settings.min_severity,
        "send_resolved": sender.settings.send_resolved,
        "waiting": sender.waiting,
        "sent": sender.sent,
        "lost": sender.lost,
        "problem": sender.problem or None,
    }
