"""What the config file may say of alerts, what it makes of our rules, and what is never shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from modelpool.alerts.rules import BUILT_IN, SEVERITIES
from modelpool.alerts.settings import AlertsSettings
from modelpool.alerts.signals import SIGNALS
from modelpool.alerts.windows import TEXT_SURFACES
from modelpool.config import ConfigError, PoolConfig, load_config, patched, refuse_new_secrets
from modelpool.config_checks import validated
from modelpool_client.errors import InvalidRequest
from modelpool_client.surfaces.routes import SURFACES

SECRET = "T0CEN-SECRET"


def alerts(**keys: Any) -> AlertsSettings:
    return AlertsSettings.model_validate(keys)


def names(settings: AlertsSettings) -> list[str]:
    return [rule.name for rule in settings.effective_rules]


def test_ours_are_on_and_can_be_switched_off() -> None:
    assert names(alerts()) == list(BUILT_IN)
    assert names(alerts(enabled=False)) == []
    assert names(alerts(built_in=False)) == []
    without = alerts(rules={"LongQueue": {"enabled": False}})
    assert names(without) == [name for name in BUILT_IN if name != "LongQueue"]


def test_own_rules_come_in_addition_and_change_ours_where_they_are_called_so() -> None:
    settings = alerts(
        rules={
            "HighErrorRate": {"above": 0.5, "models": ["a*"]},
            "Budget": {"signal": "cost_day", "above": 5, "severity": "critical"},
        }
    )
    rules = {rule.name: rule for rule in settings.effective_rules}
    changed, ours = rules["HighErrorRate"], BUILT_IN["HighErrorRate"]
    assert (changed.above, changed.models, changed.min_count) == (0.5, ("a*",), ours.min_count)
    assert (changed.is_about("abc"), changed.is_about("b")) == (True, False)
    assert rules["Budget"].severity == "critical"
    assert list(rules)[:-1] == list(BUILT_IN)


def test_one_of_ours_that_is_named_counts_though_the_others_do_not() -> None:
    settings = alerts(built_in=False, rules={"CrashLoop": {"above": 5}})
    (rule,) = settings.effective_rules
    assert (rule.signal, rule.above) == ("failures", 5)


def test_ours_are_sound() -> None:
    for name, rule in BUILT_IN.items():
        signal = SIGNALS[rule.signal]
        assert rule.name == name
        assert rule.severity in SEVERITIES
        assert rule.summary.endswith(".")
        # One of them has to keep it from flapping.
        assert rule.keep_firing_for_seconds >= 60
        assert not signal.counted or rule.min_count >= 20
    assert set(SURFACES) >= TEXT_SURFACES


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ({"rules": {"Own": {"above": 1}}}, "rules.Own needs signal and above"),
        ({"rules": {"Own": {"signal": "failed"}}}, "rules.Own needs signal and above"),
        ({"rules": {"Own": {"signal": "mood", "above": 1}}}, "is no signal; there are error_rate"),
        (
            {"rules": {"LongQueue": {"signal": "failed"}}},
            "rules.LongQueue is ours, and its signal is waiting",
        ),
        ({"rules": {"LongQueue": {"abov": 3}}}, "alerts.rules.LongQueue.abov is unknown"),
        ({"rules": {"LongQueue": {"severity": "bad"}}}, "severity should be 'info'"),
        ({"rules": {"LongQueue": {"window_seconds": 5}}}, "window_seconds should be"),
        ({"rules": {"no name": {"above": 3}}}, "alerts.rules.no name"),
        ({"rule": {}}, "alerts.rule is unknown; did you mean rules?"),
        ({"targets": {"a": {}}}, "should have one of url, url_variable and url_file"),
        ({"targets": {"a": {"url": "http://x", "url_file": "/y"}}}, "should have one of"),
        ({"targets": {"a": {"kind": "pager", "url": "http://x"}}}, "is no kind of target"),
        ({"targets": {"a": 3}}, "alerts.targets.a should be an object with kind, url"),
        (3, "alerts should be an object with enabled, built_in, rules, targets"),
    ],
)
def test_what_is_wrong_is_said(said: Any, text: str) -> None:
    config, issues = validated({"alerts": said})
    assert config is None
    assert text in "; ".join(f"{issue.key} {issue.message}" for issue in issues)


@pytest.mark.parametrize(
    "target",
    [
        {"url": f"http://user:{SECRET}@x/"},
        {"url": f"http://x/?key={SECRET}"},
        {"url": f"ftp://x/{SECRET}"},
        {"kind": "slack", "url": f"https://hooks.slack.com/services/{SECRET}"},
        {"url": f"https://x/{SECRET}", "url_variable": "X"},
        {"url": f"http://[/{SECRET}"},
    ],
)
def test_an_error_about_an_address_does_not_repeat_it(tmp_path: Path, target: Any) -> None:
    _, issues = validated({"alerts": {"targets": {"a": target}}})
    assert issues
    assert SECRET not in repr(issues)
    file = tmp_path / "pool.json"
    file.write_text(f'{{"alerts": {{"targets": {{"a": {{"url": "http://x/?{SECRET}"}}}}}}}}')
    with pytest.raises(ConfigError) as error:
        load_config(file)
    assert SECRET not in str(error.value)


def test_rules_change_while_the_pool_runs_and_targets_by_the_file_alone() -> None:
    said = {"targets": {"ops": {"url": "http://127.0.0.1:9/"}}}
    config = PoolConfig(alerts=alerts(**said))
    new = patched(config, {"alerts": {**said, "rules": {"LongQueue": {"above": 7}}}})
    refuse_new_secrets(new, (config,))
    assert {r.name: r.above for r in new.alerts.effective_rules}["LongQueue"] == 7
    for target in ({"url": "http://127.0.0.1:9/other"}, {"url_file": "/etc/passwd"}):
        other = patched(config, {"alerts": {"targets": {"ops": target}}})
        with pytest.raises(InvalidRequest, match=r"alerts.targets.ops can only be set in the"):
            refuse_new_secrets(other, (config,))
    fewer = patched(config, {"alerts": {"targets": {}}})
    refuse_new_secrets(fewer, (config,))
    assert not fewer.alerts.targets


def test_whoever_changes_rules_leaves_targets_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "pool.yaml"
    file.write_text('alerts: {targets: {ops: {url: "http://127.0.0.1:9/${WORD}"}}}')
    config = load_config(file, {"WORD": SECRET})
    for change in ({}, {"rules": {"LongQueue": {"above": 7}}}):
        new = patched(config, {"alerts": change})
        refuse_new_secrets(new, (config,))
        assert new.alerts.targets == config.alerts.targets
        shown = new.as_dict()["alerts"]
        assert shown == {**change, "targets": {"ops": {"url": "http://127.0.0.1:9/${WORD}"}}}
    with pytest.raises(InvalidRequest, match="alerts"):
        patched(config, {"alerts": {"rules": 1}})


def test_the_config_shows_what_was_said() -> None:
    said = {"rules": {"LongQueue": {"above": 7.0}}, "targets": {"chat": {"url_variable": "X"}}}
    assert PoolConfig(alerts=alerts(**said)).as_dict()["alerts"] == said
    assert PoolConfig().as_dict()["alerts"] == {}
