"""When alerts are pending, fire and end, and who is told: the pure evaluator."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from modelpool.alerts.evaluate import (
    RESOLVED_KEPT,
    RESOLVED_SECONDS,
    Alert,
    Evaluation,
    Sample,
    State,
    Status,
    alert_of,
    describe,
    evaluate,
)
from modelpool.alerts.rules import BUILT_IN, Rule
from modelpool.alerts.silences import Silence, silence_of

M, N = (("model", "m"),), (("model", "n"),)
RULE = Rule("High", "error_rate", 0.1, min_count=10, for_seconds=60, keep_firing_for_seconds=120)
BAD, GOOD = Sample(0.5, M, 100), Sample(0.05, M, 100)


def states(evaluation: Evaluation) -> list[str]:
    return [alert.status.value for alert in evaluation.state.active.values()]


def run(
    rule: Rule, steps: Sequence[tuple[float, Sample | None]], state: State | None = None
) -> list[tuple[float, str]]:
    """What happens at which time."""
    state, news = state or State(), []
    for now, sample in steps:
        result = evaluate([rule], {rule.name: [sample] if sample else []}, state, now)
        state = result.state
        news += [(now, alert.status.value) for alert in result.changed]
    return news


@pytest.mark.parametrize(
    ("steps", "news"),
    [
        pytest.param([(0, GOOD), (60, GOOD)], [], id="nothing is wrong"),
        pytest.param([(0, BAD), (59, BAD)], [], id="not for long enough"),
        pytest.param([(0, BAD), (60, BAD)], [(60, "firing")], id="for long enough"),
        pytest.param([(0, BAD), (30, GOOD), (60, BAD), (90, BAD)], [], id="it began anew"),
        pytest.param([(0, BAD), (30, None), (60, BAD)], [], id="what is not measured is not so"),
        pytest.param([(0, Sample(1.0, M, 9)), (60, Sample(1.0, M, 9))], [], id="too few"),
        pytest.param([(0, Sample(0.1, M, 99)), (60, Sample(0.1, M, 99))], [], id="not above it"),
        pytest.param(
            [(0, BAD), (60, BAD), (179, GOOD)], [(60, "firing")], id="it fires on for a while"
        ),
        pytest.param(
            [(0, BAD), (60, BAD), (180, GOOD)], [(60, "firing"), (180, "resolved")], id="its end"
        ),
        pytest.param(
            [(0, BAD), (60, BAD), (170, GOOD), (175, BAD), (290, GOOD)],
            [(60, "firing")],
            id="it came back in time: one alert",
        ),
        pytest.param(
            [(0, BAD), (60, BAD), (180, None)],
            [(60, "firing"), (180, "resolved")],
            id="nothing is measured any more",
        ),
        pytest.param(
            [(1000, BAD), (10, BAD), (60, BAD), (70, BAD)],
            [(70, "firing")],
            id="a clock that was set back",
        ),
        pytest.param(
            [(1000, BAD), (1060, BAD), (10, GOOD), (129, GOOD), (130, GOOD)],
            [(1060, "firing"), (130, "resolved")],
            id="a clock that was set back while it fired",
        ),
        pytest.param(
            [(0, Sample(1.0, M, 10)), (60, Sample(1.0, M, 10))], [(60, "firing")], id="just enough"
        ),
    ],
)
def test_one_rule_in_time(
    steps: list[tuple[float, Sample | None]], news: list[tuple[float, str]]
) -> None:
    assert run(RULE, steps) == news


def test_without_for_it_fires_at_once_and_without_hold_it_ends_at_once() -> None:
    rule = replace(RULE, for_seconds=0, keep_firing_for_seconds=0)
    assert run(rule, [(0, BAD), (1, GOOD)]) == [(0, "firing"), (1, "resolved")]


def test_each_model_has_an_alert_of_its_own() -> None:
    other = Sample(0.9, N, 50)
    first = evaluate([RULE], {"High": [BAD]}, State(), 0)
    second = evaluate([RULE], {"High": [BAD, other]}, first.state, 60)
    assert {a.labels: a.status for a in second.state.active.values()} == {
        M: Status.FIRING,
        N: Status.PENDING,
    }
    assert [a.labels for a in second.told] == [M]
    third = evaluate([RULE], {"High": [other]}, second.state, 200)
    assert {(a.labels, a.status) for a in third.changed} == {
        (M, Status.RESOLVED),
        (N, Status.FIRING),
    }


def fire(state: State | None = None, now: float = 1000.0) -> Evaluation:
    rule = replace(RULE, for_seconds=0)
    return evaluate([rule], {"High": [BAD]}, state or State(), now)


def test_a_rule_that_is_gone_resolves_its_alerts_and_says_so() -> None:
    (alert,) = evaluate([], {}, fire().state, 1001).told
    assert (alert.status, alert.reason) == (Status.RESOLVED, "its rule is gone")


def test_a_rule_that_was_changed_counts_at_once() -> None:
    stricter = replace(RULE, severity="critical", summary="Worse.")
    (alert,) = evaluate([stricter], {"High": [GOOD]}, fire().state, 1001).state.active.values()
    assert (alert.severity, alert.summary, alert.status) == ("critical", "Worse.", Status.FIRING)


def quiet(**matchers: str) -> State:
    return State(silences={"s": Silence("s", matchers, 0.0, 2000.0)})


@pytest.mark.parametrize(
    ("matchers", "is_told"),
    [
        ({"alertname": "High"}, False),
        ({"alertname": "*"}, False),
        ({"model": "m"}, False),
        ({"model": "m", "alertname": "Hi*"}, False),
        ({"model": "m", "severity": "critical"}, True),
        ({"model": "n"}, True),
        ({"currency": "USD"}, True),
    ],
)
def test_silences_fit_by_all_of_their_patterns(matchers: Mapping[str, str], is_told: bool) -> None:
    result = fire(quiet(**matchers))
    assert bool(result.told) is is_told
    assert len(result.changed) == 1, "it is an event, silenced or not"


def test_what_fires_on_is_told_when_its_silence_ends() -> None:
    rule = replace(RULE, for_seconds=0)
    state = fire(quiet(model="m")).state
    before = evaluate([rule], {"High": [BAD]}, state, 1999)
    assert before.told == ()
    after = evaluate([rule], {"High": [BAD]}, before.state, 2000)
    assert [a.status for a in after.told] == [Status.FIRING]
    assert after.state.silences == {}, "it is over"


def test_who_heard_of_it_hears_of_its_end_though_it_is_silenced_and_nobody_else_does() -> None:
    told = fire().state
    silenced = replace(told, silences=quiet(model="m").silences)
    (end,) = evaluate([RULE], {}, silenced, 1500).told
    assert end.status is Status.RESOLVED
    never = fire(quiet(model="m")).state
    ended = evaluate([RULE], {}, never, 1500)
    assert (len(ended.changed), ended.told) == (1, ())


def test_it_is_told_again_after_a_while_if_that_is_wanted() -> None:
    rule, state, told = replace(RULE, for_seconds=0), State(), []
    for now in range(0, 1000, 50):
        result = evaluate([rule], {"High": [BAD]}, state, now, repeat_seconds=300)
        state = result.state
        told += [now] * len(result.told)
    assert told == [0, 300, 600, 900]


def test_what_was_resolved_is_remembered_within_bounds() -> None:
    rule, state = replace(RULE, for_seconds=0, keep_firing_for_seconds=0), State()
    for i in range(RESOLVED_KEPT + 20):
        state = evaluate([rule], {"High": [BAD]}, state, i * 2.0).state
        state = evaluate([rule], {}, state, i * 2.0 + 1).state
    assert len(state.resolved) == RESOLVED_KEPT
    newest, oldest = state.resolved[0].resolved_at, state.resolved[-1].resolved_at
    assert newest is not None
    assert oldest is not None
    assert newest > oldest
    assert evaluate([rule], {}, state, newest + RESOLVED_SECONDS).state.resolved == ()


def test_alerts_and_silences_are_stored_and_read_again() -> None:
    (alert,) = fire().state.active.values()
    assert alert_of(json.loads(json.dumps(alert.stored()))) == alert
    (silence,) = quiet(model="m").silences.values()
    assert silence_of(json.loads(json.dumps(silence.stored()))) == silence


@pytest.mark.parametrize(
    ("rule", "sample", "text"),
    [
        (RULE, BAD, "50 % of requests failed (5xx) in 5 min (of 100 requests), above 10 %"),
        (
            BUILT_IN["SlowFirstToken"],
            Sample(20.25, M, 30),
            "20.2 s pass until a stream begins (p95) in 5 min (of 30 streams), above 15 s",
        ),
        (
            Rule("B", "cost_day", 5),
            Sample(7.5, (("currency", "EUR"),)),
            "7.50 EUR was spent since midnight UTC, above 5.00 EUR",
        ),
        (BUILT_IN["ModelFailed"], Sample(1, M, text="the file is gone"), "the file is gone"),
        (
            BUILT_IN["CrashLoop"],
            Sample(4, M),
            "4 loads failed, or workers died or hung in 15 min, above 2",
        ),
    ],
)
def test_reasons_say_the_figures(rule: Rule, sample: Sample, text: str) -> None:
    assert describe(rule, sample) == text


# -- properties ----------------------------------------------------------------------------------

SECONDS = st.sampled_from([0.0, 5.0, 30.0, 60.0, 300.0])
RULES = st.builds(
    lambda number, for_, keep, least: Rule(
        f"R{number}",
        "error_rate",
        0.1,
        min_count=least,
        for_seconds=for_,
        keep_firing_for_seconds=keep,
    ),
    st.integers(0, 1),
    SECONDS,
    SECONDS,
    st.integers(1, 20),
)
SAMPLES = st.lists(
    st.builds(
        Sample,
        st.sampled_from([0.0, 0.1, 0.2, 1.0]),
        st.sampled_from([M, N]),
        st.integers(0, 30),
    ),
    max_size=3,
    unique_by=lambda s: s.labels,
)
STEPS = st.lists(st.tuples(st.floats(0.1, 120), SAMPLES, SAMPLES), max_size=60)


@settings(deadline=None)
@given(st.lists(RULES, max_size=2, unique_by=lambda r: r.name), STEPS, SECONDS, st.booleans())
def test_whatever_is_measured(
    rules: list[Rule],
    steps: list[tuple[float, list[Sample], list[Sample]]],
    repeat: float,
    is_silenced: bool,
) -> None:
    by_name = {rule.name: rule for rule in rules}
    state = State()
    if is_silenced:
        state = replace(state, silences={"s": Silence("s", {"model": "m"}, 0.0, 900.0)})
    now = 0.0
    seen: dict[tuple[str, object], float] = {}
    held_since: dict[tuple[str, object], float] = {}
    open_messages: set[tuple[str, object]] = set()
    last_told: dict[tuple[str, object], float] = {}
    for wait, first, second in steps:
        now += wait
        before = state
        samples = {"R0": first, "R1": second}
        result = evaluate(rules, samples, before, now, repeat)
        assert result == evaluate(rules, samples, before, now, repeat), "it is a function"
        state = result.state
        for rule in rules:
            for labels in (M, N):
                key = (rule.name, labels)
                fits = any(
                    s.labels == labels and s.value > rule.above and s.count >= rule.min_count
                    for s in samples[rule.name]
                )
                if fits:
                    seen[key] = now
                    held_since.setdefault(key, now)
                    assert key in state.active
                elif key not in state.active:
                    held_since.pop(key, None)
        for alert in state.active.values():
            rule = by_name[alert.rule]
            assert alert.active_at <= alert.seen_at <= now
            assert alert.seen_at == seen[alert.key]
            if alert.status is Status.PENDING:
                assert alert.seen_at == now
                assert now - alert.active_at < rule.for_seconds
            else:
                assert now == alert.seen_at or now - alert.seen_at < rule.keep_firing_for_seconds
        for alert in result.changed:
            rule = by_name[alert.rule]
            if alert.status is Status.FIRING:
                assert alert.key not in before.active or (
                    before.active[alert.key].status is Status.PENDING
                )
                assert now - held_since[alert.key] >= rule.for_seconds, "it lasted"
            else:
                assert before.active[alert.key].status is Status.FIRING
                assert now - seen[alert.key] >= rule.keep_firing_for_seconds, "it was over"
                held_since.pop(alert.key, None)
        _check_told(result, open_messages, last_told, now, repeat, is_silenced)


def _check_told(
    result: Evaluation,
    open_messages: set[tuple[str, object]],
    last_told: dict[tuple[str, object], float],
    now: float,
    repeat: float,
    is_silenced: bool,
) -> None:
    """Firing and resolved take turns, an end is told to whoever heard of the beginning, and
    nothing that is silenced begins."""
    keys: list[tuple[str, object]] = [alert.key for alert in result.told if _fires(alert)]
    assert len(keys) == len(set(keys))
    for alert in result.told:
        key: tuple[str, object] = alert.key
        if not _fires(alert):
            assert key in open_messages
            open_messages.discard(key)
    for alert in result.told:
        key = alert.key
        if _fires(alert):
            if key in open_messages:
                assert repeat
                assert now - last_told[key] >= repeat
            assert not (is_silenced and now < 900 and alert.labels == M)
            open_messages.add(key)
            last_told[key] = now
    firing: set[tuple[str, object]] = {
        a.key for a in result.state.active.values() if a.status is Status.FIRING
    }
    assert open_messages <= firing, "no target is left with an alert that is over"
    untold = firing - open_messages
    assert all(is_silenced and now < 900 and labels == M for _, labels in untold)


def _fires(alert: Alert) -> bool:
    return alert.status is Status.FIRING
