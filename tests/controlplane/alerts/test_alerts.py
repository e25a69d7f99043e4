"""The alerts of a pool: what outlives a restart, what is published, and what costs and silences
say."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from modelpool.alerts.alerts import ALERTS, SILENCES, Alerts
from modelpool.alerts.costs import LOOK_SECONDS, Costs, began_at
from modelpool.alerts.evaluate import Sample
from modelpool.alerts.settings import AlertsSettings
from modelpool.alerts.silences import LONGEST_SECONDS, new_silence
from modelpool.catalog.errors import StoreError
from modelpool.catalog.usage_rows import UsageTotal
from modelpool_client.errors import InvalidRequest, NotFound

M = (("model", "m"),)
SAID = {
    "built_in": False,
    "rules": {
        "High": {
            "signal": "error_rate",
            "above": 0.1,
            "for_seconds": 0,
            "keep_firing_for_seconds": 60,
        }
    },
}


class Sampler:
    """What is measured."""

    def __init__(self) -> None:
        self.found: dict[str, list[Sample]] = {}

    async def look(self, rules: object, now: float) -> Mapping[str, list[Sample]]:
        return self.found


class Deliveries:
    """What targets were told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    async def configure(self, targets: object) -> None: ...

    def tell(self, alerts: Collection[Any]) -> None:
        self.told += [alert.status.value for alert in alerts]


class Store:
    """Documents, in memory. ``is_broken``: it refuses."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, Any]] = {ALERTS: {}, SILENCES: {}}
        self.is_broken = False
        self.writes = 0

    async def documents(self, kind: str) -> dict[str, Any]:
        return dict(self.kept[kind])

    async def write_documents(
        self, kind: str, put: Mapping[str, Any], drop: Collection[str] = ()
    ) -> None:
        if self.is_broken:
            raise StoreError(Path("pool.db"), "is full")
        self.writes += 1
        self.kept[kind] |= put
        for key in drop:
            self.kept[kind].pop(key, None)


class Scene:
    """A manager, and those that come after it. Its settings may be exchanged."""

    def __init__(self) -> None:
        self.settings = AlertsSettings.model_validate(SAID)
        self.store = Store()
        self.now = 1000.0
        self.is_logged = True
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.restart()

    def restart(self) -> None:
        self.sampler, self.deliveries = Sampler(), Deliveries()
        self.alerts = Alerts(
            lambda: self.settings,
            cast(Any, self.sampler),
            cast(Any, self.deliveries),
            self.store,
            lambda name, **data: self.events.append((name, data)),
            lambda: self.now,
            lambda: self.is_logged,
        )
        asyncio.run(self.alerts.open())

    def step(self, at: float, value: float | None = None) -> None:
        self.now = at
        self.sampler.found = {"High": [] if value is None else [Sample(value, M, 100)]}
        asyncio.run(self.alerts.reconcile())

    def silence(self, minutes: float = 10, **matchers: str) -> str:
        ends_at = self.now + minutes * 60
        return asyncio.run(self.alerts.silence(matchers, ends_at, "why")).silence_id

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.events]


def test_what_fires_is_an_event_and_is_told() -> None:
    scene = Scene()
    scene.step(1000, 0.5)
    (name, data) = scene.events[0]
    assert (name, data["alert"], data["severity"]) == ("alert-firing", "High", "warning")
    assert data["labels"] == {"model": "m"}
    assert data["is_silenced"] is False
    assert "50 %" in data["reason"]
    scene.step(1100)
    assert scene.names == ["alert-firing", "alert-resolved"]
    assert scene.deliveries.told == ["firing", "resolved"]
    assert [shown.alert.status.value for shown in scene.alerts.shown()] == ["resolved"]


def test_a_restart_keeps_silences_and_what_fires_and_tells_nothing_twice() -> None:
    scene = Scene()
    scene.step(1000, 0.5)
    silence = scene.silence(model="n")
    scene.now = 1500  # the manager was away for long
    scene.restart()
    assert [s.silence_id for s in scene.alerts.silences] == [silence]
    scene.step(1501, 0.5)
    scene.step(1520)
    assert scene.deliveries.told == [], "it was told before"
    scene.step(1600)
    assert scene.deliveries.told == ["resolved"]
    assert scene.names == ["alert-firing", "alert-silenced", "alert-resolved"]
    assert scene.store.kept[ALERTS] == {}


def test_nothing_is_measured_yet_after_a_restart_and_that_resolves_nothing_at_once() -> None:
    scene = Scene()
    scene.step(1000, 0.5)
    scene.now = 9000
    scene.restart()
    scene.step(9001)
    assert scene.deliveries.told == []
    scene.step(9061)
    assert scene.deliveries.told == ["resolved"]


def test_what_another_version_has_stored_is_dropped() -> None:
    scene = Scene()
    scene.store.kept[ALERTS] = {"x": {"rule": "High"}, "y": {"labels": 3}}
    scene.store.kept[SILENCES] = {"z": {"until": 3}}
    scene.restart()
    assert scene.alerts.shown() == []
    assert scene.store.kept == {ALERTS: {}, SILENCES: {}}


def test_what_stays_as_it_is_is_written_once() -> None:
    scene = Scene()
    for i in range(20):
        scene.step(1000 + 5.0 * i, 0.5 + i / 100)
    assert scene.store.writes == 1


def test_a_store_that_refuses_stops_no_alert_and_is_tried_again() -> None:
    scene = Scene()
    scene.store.is_broken = True
    scene.step(1000, 0.5)
    assert scene.deliveries.told == ["firing"]
    with pytest.raises(StoreError):
        scene.silence(model="m")
    assert scene.alerts.silences == [], "what is not written down does not count"
    scene.store.is_broken = False
    scene.step(1005, 0.5)
    assert len(scene.store.kept[ALERTS]) == 1


def test_silences_end_by_themselves_and_before_their_time() -> None:
    scene = Scene()
    first, second = scene.silence(5, alertname="Hi*"), scene.silence(20, model="m")
    scene.step(1001, 0.5)
    assert scene.deliveries.told == []
    assert [s.silence and s.silence.silence_id for s in scene.alerts.shown()] == [second]
    assert scene.events[-1][1]["is_silenced"] is True
    scene.step(1400, 0.5)
    assert [s.silence_id for s in scene.alerts.silences] == [second]
    assert set(scene.store.kept[SILENCES]) == {second}
    asyncio.run(scene.alerts.end_silence(second))
    scene.step(1405, 0.5)
    assert scene.deliveries.told == ["firing"]
    for gone in (first, second, "x"):
        with pytest.raises(NotFound, match="GET /alerts lists them"):
            asyncio.run(scene.alerts.end_silence(gone))
    assert scene.names.count("alert-unsilenced") == 1


@pytest.mark.parametrize(
    ("matchers", "ends_at", "comment", "text"),
    [
        ({}, 1100.0, "", "matchers should name what is silenced"),
        ({"modl": "m"}, 1100.0, "", "matchers.modl is no label"),
        ({"model": ""}, 1100.0, "", "matchers.model should be a pattern"),
        ({"model": "m" * 1001}, 1100.0, "", "matchers.model should be a pattern"),
        ({"severity": "bad"}, 1100.0, "", "'bad' fits no severity; there are info, warning, crit"),
        ({"model": "m"}, 1000.0, "", "should end later than now"),
        ({"model": "m"}, 1001.0 + LONGEST_SECONDS, "", "should end within a year"),
        ({"model": "m"}, 1100.0, "c" * 1001, "comment is longer"),
    ],
)
def test_a_silence_that_is_none_is_refused(
    matchers: Mapping[str, str], ends_at: float, comment: str, text: str
) -> None:
    with pytest.raises(InvalidRequest, match=text):
        new_silence("s", matchers, ends_at, 1000.0, comment)


def test_rules_that_see_nothing_say_so() -> None:
    scene = Scene()
    (rule,) = scene.alerts.rules
    assert scene.alerts.blind(rule) == ""
    scene.is_logged = False
    assert "request_log is off" in scene.alerts.blind(rule)


def test_a_rule_that_the_configuration_drops_is_resolved() -> None:
    scene = Scene()
    scene.step(1000, 0.5)
    scene.settings = AlertsSettings.model_validate({"enabled": False})
    scene.step(1005, 0.5)
    assert scene.deliveries.told == ["firing", "resolved"]
    assert scene.events[-1][1]["reason"].endswith("its rule is gone")


# -- costs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signal", "now", "began"),
    [
        ("cost_day", "2026-05-31T23:59:59", "2026-05-31"),
        ("cost_day", "2026-06-01T00:00:00", "2026-06-01"),
        ("cost_month", "2026-05-31T23:59:59", "2026-05-01"),
        ("cost_month", "2026-06-01T00:00:00", "2026-06-01"),
    ],
)
def test_days_and_months_begin_in_utc(signal: str, now: str, began: str) -> None:
    times = [datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() for text in (now, began)]
    assert began_at(signal, times[0]) == times[1]


class Usage:
    def __init__(self) -> None:
        self.asked: list[object] = []
        self.is_broken = False

    async def usage_totals(self, by: object, since: object, *_: object) -> list[UsageTotal]:
        if self.is_broken:
            raise StoreError(Path("pool.db"), "is locked")
        self.asked.append(since)
        return [UsageTotal("m", None, None, 0, 0, 0, 0, 0, 0, 0.0, 2.5, "USD")]


def test_the_store_is_asked_seldom_anew_at_midnight_and_not_without_a_rule() -> None:
    usage = Usage()
    costs = Costs(cast(Any, usage))

    def look(*wanted: str, at: float) -> int:
        asyncio.run(costs.look(wanted, at))
        return len(usage.asked)

    day = 86_400.0 * 20_000
    assert look(at=day) == 0
    assert look("cost_day", at=day + 3600) == 1
    assert look("cost_day", at=day + 3600 + LOOK_SECONDS - 1) == 1
    assert look("cost_day", at=day + 3600 + LOOK_SECONDS) == 2
    assert usage.asked[-1] == day // 3600
    assert look("cost_day", at=day + 86_399) == 3
    assert look("cost_day", at=day + 86_400) == 4
    assert costs.of("cost_day") == [("m", "USD", 2.5)]
    usage.is_broken = True
    assert look("cost_day", at=day + 90_000) == 4
    assert costs.of("cost_day") == [("m", "USD", 2.5)], "the last that was known"
    assert look(at=day + 90_001) == 4
    assert costs.of("cost_day") == []
