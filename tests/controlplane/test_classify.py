"""Asking models what a request is about: what is remembered, and what a failure costs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from modelpool.gateway.classify import REST_SECONDS, Classifiers
from modelpool.observe.events import Event
from modelpool.routing.classifiers import Finding, question, read_classifiers
from modelpool.routing.plan import Ask, Outcome
from modelpool_client.errors import ModelNotFound

TOPIC = {"model": "tiny", "labels": ["billing", "other"], "otherwise": "other"}
MOOD = {"model": "tiny", "examples": {"angry": ["I hate it"], "glad": ["Thanks"]}}
Answer = Callable[[Ask], Awaitable[Outcome]]


def says(text: str) -> Answer:
    async def answer(ask: Ask) -> Outcome:
        body = {"choices": [{"message": {"content": text}}]}
        return Outcome(ask, 200, json.dumps(body).encode())

    return answer


def embeds(**vectors: list[float]) -> Answer:
    async def answer(ask: Ask) -> Outcome:
        assert ask.data is not None
        texts = [t.split()[0] for t in ask.data["input"]]
        data = [{"index": i, "embedding": vectors[t]} for i, t in enumerate(texts)]
        return Outcome(ask, 200, json.dumps({"data": data}).encode())

    return answer


async def fails(ask: Ask) -> Outcome:
    return Outcome(ask, 503, error="oom", message="no room")


async def never(ask: Ask) -> Outcome:
    await asyncio.Event().wait()
    raise AssertionError


class Asking:
    def __init__(self, answer: Answer, *, is_hot: bool = True, refusal: str = "") -> None:
        self.answer = answer
        self.is_hot = is_hot
        self.why = refusal
        self.asked: list[Ask] = []

    def model_of(self, name: str) -> str:
        if name != "tiny":
            raise ModelNotFound("it is gone")
        return name

    def refusal(self, model_id: str) -> str:
        return self.why

    def is_serving(self, model_id: str) -> bool:
        return self.is_hot

    async def ask(self, ask: Ask) -> Outcome:
        self.asked.append(ask)
        return await self.answer(ask)


class World:
    def __init__(self) -> None:
        self.now = 100.0
        self.classifiers = Classifiers(lambda: self.now)

    def find(self, asking: Asking, entry: dict[str, Any], text: str = "Hi") -> Finding:
        it = read_classifiers({"it": entry})["it"]
        return asyncio.run(self.classifiers.find(question(it, text), asking))


def test_what_was_said_is_remembered_for_a_while() -> None:
    w, a = World(), Asking(says("billing"))
    assert w.find(a, TOPIC) == Finding("billing", "asked")
    assert w.find(a, TOPIC) == Finding("billing", "cached")
    assert w.find(a, TOPIC, "Else").how == "asked"
    w.now += 601
    assert w.find(a, TOPIC).how == "asked"
    assert w.find(a, {**TOPIC, "cache_seconds": 0}).how == "asked"
    assert w.find(a, {**TOPIC, "cache_seconds": 0}).how == "asked"
    w.classifiers.on_event(Event(1, "1", "model-updated", {"model_id": "tiny"}))
    assert w.find(a, TOPIC).how == "asked"


@pytest.mark.parametrize("answer", [fails, never])
def test_one_that_fails_is_told_and_rests(answer: Answer) -> None:
    w, a = World(), Asking(answer)
    entry = {**TOPIC, "seconds": 0.01}
    found = w.find(a, entry)
    assert (found.label, found.how) == ("other", "failed")
    assert "no room" in found.problem or "not answered within 0.01 s" in found.problem
    a.answer = says("billing")
    found = w.find(a, entry, "another")
    assert (found.label, found.how, len(a.asked)) == ("other", "skipped", 1)
    assert "failed just now" in found.problem
    w.now += REST_SECONDS
    assert w.find(a, TOPIC) == Finding("billing", "asked")


def test_an_answer_that_is_no_label_is_of_that_text_alone() -> None:
    w, a = World(), Asking(says("maybe"))
    found = w.find(a, TOPIC)
    assert (found.label, found.how) == ("other", "failed")
    assert "'maybe', which is none of its labels" in found.problem
    a.answer = says("billing")
    assert w.find(a, TOPIC).how == "asked"


def test_one_that_is_not_loaded_is_skipped_or_waited_for() -> None:
    w, a = World(), Asking(says("billing"), is_hot=False)
    found = w.find(a, TOPIC)
    assert (found.how, found.problem, a.asked) == ("skipped", "tiny is not loaded", [])
    assert w.find(a, {**TOPIC, "if_cold": "wait"}).how == "asked"


def test_one_that_is_shut_out_or_gone_is_not_asked() -> None:
    w, a = World(), Asking(says("billing"), refusal="it fails")
    assert w.find(a, TOPIC).problem == "it fails"
    assert w.find(a, {**TOPIC, "model": "gone"}).problem == "it is gone"
    assert a.asked == []


def test_a_preview_asks_nobody() -> None:
    w, a = World(), Asking(says("billing"))
    it = question(read_classifiers({"it": TOPIC})["it"], "Hi")
    assert w.classifiers.without(it).how == "not asked"
    w.find(a, TOPIC)
    assert w.classifiers.without(it) == Finding("billing", "cached")


def test_examples_are_read_once() -> None:
    w, a = World(), Asking(embeds(I=[1, 0], Thanks=[0, 2], Great=[0.1, 1], Bad=[1, 0.1]))
    assert w.find(a, MOOD, "Great").label == "glad"
    assert w.find(a, MOOD, "Bad").label == "angry"
    assert [len(ask.data["input"]) for ask in a.asked if ask.data] == [3, 1]


def test_another_model_behind_the_name_is_noticed() -> None:
    w, a = World(), Asking(embeds(I=[1, 0], Thanks=[0, 2], Great=[0.1, 1]))
    w.find(a, MOOD, "Great")
    a.answer = embeds(I=[1, 0, 0], Thanks=[0, 2, 0], Bad=[1, 0, 0])
    assert "another model" in w.find(a, MOOD, "Bad").problem
    assert w.find(a, MOOD, "Bad").label == "angry"
