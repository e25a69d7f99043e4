"""Each rule finds what breaks it, and is content with a sound pool."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from chaos import rules
from chaos.driver import KINDS
from chaos.finale import FINALE
from chaos.plan import plan
from chaos.replies import Reply, Request, verdict
from chaos.rules import AT_ONCE, SETTLING, Move, Rule, Sight

PAGE = Path(__file__).parents[2] / "docs" / "chaos.md"
SHAPE = {"message": "no", "type": "t", "param": None, "code": "oom", "source": "engine"}
SAID = {"x-modelpool-code": "oom", "x-modelpool-source": "engine"}
CHUNK = b'data: {"choices": [{"delta": {"content": "hi"}, "finish_reason": null}]}\n\n'
LAST = b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
CUT = b'data: {"error": ' + json.dumps(SHAPE).encode() + b"}\n\n"


def copy(pid: int | None = 10, port: int = 8051, state: str = "HOT") -> dict[str, Any]:
    return {"state": state, "worker_pid": pid, "port": port, "sleeping": None, "progress": None}


def waking(stage: str) -> dict[str, Any]:
    return {**copy(12, 8053, "WARMING"), "progress": {"stage": stage}}


def sleeper(pid: int = 10, port: int = 8051, **more: Any) -> dict[str, Any]:
    sleeping = {"port": port, "memory_mb": 30}
    own = {"port": None, "sleeping": sleeping, "memory_reserved_mb": 30}
    return {**copy(pid, state="COLD"), **own, "endpoint": None, "in_flight": 0, **more}


def model(name: str, *copies: Mapping[str, Any], mb: float = 100) -> dict[str, Any]:
    head = {"model_id": name, "state": "HOT", "reason": "loaded", "memory_estimate_mb": mb}
    return {**head, "replicas": list(copies)}


def reply(body: bytes = b"", way: str = "gateway", **more: Any) -> Reply:
    stream = body.startswith(b"data")
    asked = Request(way, 8050, "a", "hi", is_stream=stream, front=10)
    return Reply(asked, **{"kind": "whole", "status": 200, "body": body, **more})


def plain(text: str) -> bytes:
    choice = {"message": {"content": text}, "finish_reason": "stop"}
    return json.dumps({"choices": [choice]}).encode()


MOVE = Move("a", "model-loaded", "WARMING", "HOT", "loaded", "WARMING")
ANSWERED = reply(plain("hi"))
SOUND = Sight(
    models=(model("a", copy()), model("b", copy(11, 8052)), model("c", sleeper(12, 8053))),
    config={
        "port_range": {"start": 8051, "end": 8060},
        "memory_limit_mb": 250,
        "max_concurrent_models": 2,
        "max_sleeping_models": 1,
        "orphan_seconds": 120,
        "beat_seconds": 10,
    },
    fronts={10: "a", 11: "b", 12: "c"},
    moves=(MOVE,),
    nameless=({"event": "config-changed", "reason": "PATCH /config"},),
    replies=(ANSWERED,),
)
BREACHES: list[tuple[Rule, dict[str, Any]]] = [
    (rules.the_manager_lives, {"is_alive": False}),
    (rules.livez_answers, {"answers_livez": False}),
    (rules.one_worker_each, {"fronts": {10: "a", 11: "b", 12: "c", 13: "b"}}),
    (rules.one_worker_each, {"fronts": {10: "a", 12: "c"}}),
    (rules.one_worker_each, {"fronts": {10: "b", 11: "a", 12: "c"}}),
    (rules.one_worker_each, {"fronts": {10: "a", 11: "b"}}),
    (rules.never_two_of_one, {"twins": ((10, 12),)}),
    (rules.ports_are_unique, {"models": (model("a", copy()), model("b", copy(11)))}),
    (rules.ports_are_ours, {"models": (model("a", copy(port=9000)),)}),
    (rules.ports_are_unique, {"models": (model("a", copy()), model("b", sleeper(11)))}),
    (rules.ports_are_ours, {"models": (model("a", sleeper(port=9000)),)}),
    (rules.memory_fits, {"models": (model("a", copy(), mb=251),)}),
    (rules.memory_fits, {"models": (model("a", copy(), mb=221), model("b", sleeper(11)))}),
    (rules.what_sleeps_serves_nobody, {"models": (model("a", sleeper(in_flight=1)),)}),
    (rules.few_sleep, {"models": tuple(model(n, sleeper(p)) for p, n in ((10, "a"), (11, "b")))}),
    (rules.count_fits, {"models": tuple(model(n, copy()) for n in "abc")}),
    (rules.moves_are_legal, {"moves": (dataclasses.replace(MOVE, previous="COLD"),)}),
    (rules.moves_are_legal, {"moves": (dataclasses.replace(MOVE, known="COLD"),)}),
    (rules.everything_has_a_reason, {"moves": (dataclasses.replace(MOVE, reason=""),)}),
    (rules.everything_has_a_reason, {"nameless": ({"event": "config-changed"},)}),
    (rules.everything_has_a_reason, {"models": ({**model("a"), "reason": ""},)}),
    (rules.no_bugs, {"nameless": ({"event": "internal-error", "reason": "KeyError"},)}),
    (rules.no_request_hangs, {"replies": (reply(kind="late"),)}),
    (rules.answers_are_whole_or_explained, {"replies": (reply(CHUNK),)}),
    (rules.answers_are_whole_or_explained, {"replies": (reply(kind="cut"),)}),
    (rules.direct_answers_are_too, {"replies": (reply(CHUNK, "direct"),)}),
    (rules.direct_answers_are_too, {"replies": (reply(way="direct", kind="cut"),)}),
    (rules.refusals_have_the_shape, {"shapeless": ("GET /models: 500",)}),
    (rules.streams_outlive_the_manager, {"severed": ("a",)}),
    (rules.workers_are_adopted, {"unadopted": (rules.Missed("a", 99),)}),
]


@pytest.mark.parametrize("rule", [*AT_ONCE, *SETTLING], ids=lambda rule: rule.__name__)
def test_a_sound_pool_breaks_no_rule(rule: Rule) -> None:
    assert list(rule(SOUND)) == []


@pytest.mark.parametrize(("rule", "breach"), BREACHES)
def test_a_breach_is_found(rule: Rule, breach: dict[str, Any]) -> None:
    assert list(rule(dataclasses.replace(SOUND, **breach)))


def test_every_rule_has_a_breach() -> None:
    assert {rule for rule, _ in BREACHES} == {*AT_ONCE, *SETTLING}


@pytest.mark.parametrize(("slept", "is_content"), [(True, True), (False, False)])
def test_what_ends_asleep_takes_no_place(slept: bool, is_content: bool) -> None:
    models = tuple(model(n, copy(state="UNLOADING" if n == "c" else "HOT")) for n in "abc")
    before = Move("c", "model-asleep", "UNLOADING", "COLD", "idle", "UNLOADING")
    ends = Move("c", "model-unloading", "COLD", "UNLOADING", "evicted", "COLD")
    moves = (MOVE, before, ends) if slept else (MOVE, dataclasses.replace(MOVE, model="c"))
    sight = dataclasses.replace(SOUND, models=models, moves=moves)
    assert (list(rules.count_fits(sight)) == []) is is_content


def test_only_the_death_of_the_manager_excuses_a_cut() -> None:
    cut = dataclasses.replace(reply(kind="cut"), began=5, ended=7)
    for deaths, is_excused in (((6, 8), True), ((8, 9), False), ((1, 4), False)):
        sight = Sight(replies=(cut,), deaths=(deaths,))
        assert (list(rules.answers_are_whole_or_explained(sight)) == []) is is_excused


def test_a_front_that_was_killed_excuses_a_cut_on_its_port() -> None:
    sight = Sight(replies=(reply(way="direct", kind="cut"),), harmed=frozenset({10}))
    assert list(rules.direct_answers_are_too(sight)) == []


def test_one_that_waits_for_room_to_wake_up_sleeps_yet() -> None:
    two = (model("a", copy()), model("b", copy(11, 8052)))
    for stage, is_sound in (("waiting for the memory of a", True), ("waking up", False)):
        sight = dataclasses.replace(SOUND, models=(*two, model("c", waking(stage))))
        for rule in (rules.count_fits, rules.memory_fits):
            assert (list(rule(sight)) == []) is is_sound


def test_a_worker_may_leave_when_its_manager_is_away_for_long() -> None:
    away = dataclasses.replace(SOUND, unadopted=(rules.Missed("a", 101),))
    assert list(rules.workers_are_adopted(away)) == []


@pytest.mark.parametrize(
    ("found", "body", "more"),
    [
        ("answer", plain("hi"), {}),
        ("answer", CHUNK + LAST + DONE, {}),
        ("answer", b"data: {}\n\n".replace(b"data: {}", b": waiting") + CHUNK + LAST + DONE, {}),
        ("truncated", plain("h"), {}),
        ("truncated", CHUNK + LAST, {}),
        ("truncated", CHUNK + DONE, {}),
        ("truncated", b"data: ", {}),
        ("shapeless answer", b"{}", {}),
        ("shapeless answer", b"data: {}\n\n" + DONE, {}),
        ("error oom", CHUNK + CUT, {}),
        ("error oom", json.dumps({"error": SHAPE}).encode(), {"status": 503, "headers": SAID}),
        ("shapeless error", json.dumps({"error": SHAPE}).encode(), {"status": 503}),
        ("shapeless error", b"<html>", {"status": 502, "headers": SAID}),
        ("reset", b"", {"kind": "reset"}),
    ],
)
def test_verdicts(found: str, body: bytes, more: dict[str, Any]) -> None:
    request = Request("gateway", 8050, "a", "hi", is_stream=b"data: " in body)
    asked = dataclasses.replace(reply(body, **more), request=request)
    assert verdict(asked) == found


def test_a_seed_makes_the_same_steps_again_and_a_longer_run_begins_alike() -> None:
    first, again = (list(islice(plan(KINDS, 7), count)) for count in (30, 60))
    assert list(map(str, first)) == list(map(str, again[:30]))
    assert list(map(str, first)) != list(map(str, islice(plan(KINDS, 8), 30)))


def test_a_deck_holds_every_kind() -> None:
    deck = sum(kind.weight for kind in KINDS)
    assert {step.kind.name for step in islice(plan(KINDS, 1), deck)} == {k.name for k in KINDS}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind_of_step_is_in_the_docs(kind: Any) -> None:
    assert f"`{kind.name}`" in PAGE.read_text()


@pytest.mark.parametrize("rule", [*AT_ONCE, *SETTLING, *FINALE], ids=lambda rule: rule.__name__)
def test_every_rule_is_in_the_docs(rule: Any) -> None:
    text = " ".join((rule.__doc__ or "").split())
    assert text
    assert f"`{rule.__name__}` | {text} |" in PAGE.read_text()
