"""Rules by what a model says a request is about: how it is asked, read, and what is decided."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool.routing.classifiers import (
    LOOKED_AT,
    Classifier,
    Finding,
    Question,
    Unanswered,
    body_of,
    nearest,
    question,
    read_classifiers,
    said_class,
    said_label,
    vectors_of,
)
from modelpool.routing.kinds.registry import kind
from modelpool.routing.plan import asks_of
from modelpool.routing.request import RouteRequest
from modelpool.routing.virtual_model import read_virtual_model

from .test_kinds import Known

TOPIC = {"model": "tiny", "labels": ["billing", "bug report", "other"]}
MOOD = {"model": "vectors", "examples": {"angry": ["I hate this", "Useless!"], "glad": ["Thanks"]}}


def classifier(data: dict[str, Any]) -> Classifier:
    return read_classifiers({"it": data})["it"]


def words(text: str) -> dict[str, Any]:
    return {"choices": [{"message": {"content": text}}]}


def embeds(*vectors: list[float]) -> dict[str, Any]:
    return {"data": [{"index": i, "embedding": v} for i, v in reversed([*enumerate(vectors)])]}


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("billing", "billing"),
        (" Billing.\n", "billing"),
        ('"Bug  Report"', "bug report"),
        ("The label is **other**.", "other"),
        ("<think>billing or other?</think>billing", "billing"),
    ],
)
def test_labels_are_found_in_what_a_model_says(text: str, label: str) -> None:
    assert said_label(classifier(TOPIC), words(text)).label == label


@pytest.mark.parametrize("text", ["", "refund", "billing or other", "billings", "<think>billing"])
def test_what_names_no_label_or_several_is_no_answer(text: str) -> None:
    with pytest.raises(ValueError, match="none of its labels"):
        said_label(classifier(TOPIC), words(text))


def test_a_label_may_have_another_in_it() -> None:
    found = classifier({"model": "m", "labels": ["spam", "no spam"]})
    assert said_label(found, words("It is no spam")).label == "no spam"
    with pytest.raises(ValueError, match="none of its labels"):
        said_label(found, words("spam, or no spam"))


def test_classes_are_labels_where_they_are_sure_enough() -> None:
    sure = classifier({**TOPIC, "by": "classify", "min_score": 0.5})
    body = {"data": [{"label": "BILLING", "probs": [0.7, 0.3]}]}
    assert said_class(sure, body) == Finding("billing", score=0.7)
    assert said_class(dataclasses.replace(sure, min_score=0.8), body) == Finding("", score=0.7)
    body["data"][0]["label"] = "LABEL_0"
    assert said_class(sure, body).label == ""
    with pytest.raises(ValueError, match="no classes"):
        said_class(sure, {"data": []})


def test_the_nearest_example_says_the_label() -> None:
    found = classifier({**MOOD, "min_score": 0.5})
    examples = dict(
        zip(
            ("I hate this", "Useless!", "Thanks"),
            [(1.0, 0.0), (0.6, 0.8), (0.0, -1.0)],
            strict=True,
        )
    )
    own = vectors_of(embeds([0.0, 7.0]), 1)[0]
    assert nearest(found, own, examples) == Finding("angry", score=0.8)
    assert nearest(found, (0.0, -1.0), examples).label == "glad"
    assert nearest(found, (-1.0, 0.0), examples).label == ""


@pytest.mark.parametrize(
    "body", [{}, {"data": [{"index": 0}]}, embeds([1.0]), embeds([1.0], [1, 2])]
)
def test_vectors_that_are_none(body: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="its answer has"):
        vectors_of(body, 2)


NUMBERS = st.floats(-1e6, 1e6, width=32, allow_subnormal=False)


@given(st.lists(st.lists(NUMBERS, min_size=3, max_size=3), min_size=1, max_size=5))
def test_vectors_have_length_one(vectors: list[list[float]]) -> None:
    for vector in vectors_of(embeds(*vectors), len(vectors)):
        length = math.hypot(*vector)
        assert length == pytest.approx(1) or length == 0


def test_what_a_model_is_asked() -> None:
    path, body = body_of(question(classifier(TOPIC), "Where is my invoice?"))
    prompt = body["messages"][0]["content"]
    assert path == "/v1/chat/completions"
    assert "billing, bug report, other" in prompt
    assert "Where is my invoice?" in prompt
    own = classifier({**TOPIC, "prompt": "{text} => {labels}"})
    assert body_of(question(own, "{labels}"))[1]["messages"][0]["content"] == (
        "{labels} => billing, bug report, other"
    )
    assert body_of(question(classifier(MOOD), "Hi"), ["Thanks"]) == (
        "/v1/embeddings",
        {"input": ["Hi", "Thanks"]},
    )
    assert len(question(own, "x" * 10**6).text) < 2 * LOOKED_AT + 10


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ([], "classifiers must be an object"),
        ({"it": []}, "classifiers.it must be an object"),
        ({"it": {**TOPIC, "label": "x"}}, "classifiers.it.label is unknown"),
        ({"it": {"labels": ["a"]}}, "classifiers.it.model"),
        ({"it": {"model": "m"}}, "must have labels, or"),
        ({"it": {**TOPIC, **MOOD}}, "must have labels, or"),
        ({"it": {**TOPIC, "by": "embeddings"}}, "must have labels, or"),
        ({"it": {**TOPIC, "by": "magic"}}, "by must be"),
        ({"it": {**TOPIC, "labels": ["A", "a."]}}, "differ by nothing"),
        ({"it": {**TOPIC, "labels": ["..."]}}, "no short word"),
        ({"it": {**TOPIC, "otherwise": "x"}}, "otherwise must be one of"),
        ({"it": {**TOPIC, "if_cold": "x"}}, "if_cold must be"),
        ({"it": {**TOPIC, "seconds": 0}}, "seconds must be between"),
        ({"it": {**TOPIC, "min_score": 0.5}}, "min_score is not for words"),
        ({"it": {**TOPIC, "prompt": "{labels}"}}, "prompt must be a text with"),
        ({"it": {**MOOD, "prompt": "{text}"}}, "prompt is for classifiers that"),
        ({"it": {"model": "m", "examples": {"a": []}}}, "must be a list of texts"),
    ],
)
def test_classifiers_that_are_refused(data: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        read_classifiers(data)


# -- rules ---------------------------------------------------------------------------------------

ENTRY = {
    "kind": "policy",
    "classifiers": {"topic": TOPIC, "mood": {**MOOD, "otherwise": "angry"}},
    "rules": [
        {"name": "vip", "when": {"user": "ann"}, "use": "b"},
        {
            "name": "money",
            "when": {"classified": {"topic": ["billing", None]}, "text": "invoice"},
            "use": "a",
        },
        {
            "name": "calm",
            "when": {"any": [{"classified": {"mood": "angry"}}, {"text": "!!!"}]},
            "use": "c",
        },
    ],
    "default": "b",
}


def said(text: str, **more: Any) -> RouteRequest:
    found = more.pop("findings", {})
    data = {"messages": [{"role": "user", "content": text}], **more}
    return RouteRequest("v", data=data, findings=found)


def decided(request: RouteRequest) -> tuple[str, dict[str, Any], list[str]]:
    """Who is asked, the decision, and which classifiers were asked for it, all saying ``other``
    and ``glad``."""
    model, asked = read_virtual_model("v", ENTRY, kind), []
    while True:
        try:
            plan = kind("policy").plan(model.spec, request, Known("a", "b", "c"))
        except Unanswered as e:
            asked.append(e.question.classifier.name)
            label = {"topic": "other", "mood": "glad"}[asked[-1]]
            found = {**request.findings, e.question: Finding(label)}
            request = dataclasses.replace(request, findings=found)
        else:
            return next(asks_of(plan.step)).model, dict(plan.decision), asked


def asked_of(name: str, text: str) -> Question:
    return question(read_classifiers(ENTRY["classifiers"])[name], text)


def test_models_are_asked_only_where_it_depends_on_them() -> None:
    assert decided(said("My invoice", user="ann"))[2] == []
    assert decided(said("Hello!!!"))[0::2] == ("c", [])
    assert decided(said("Hello"))[0::2] == ("b", ["mood"])
    assert decided(said("My invoice"))[0::2] == ("b", ["topic", "mood"])


@pytest.mark.parametrize(("label", "model"), [("billing", "a"), ("", "a"), ("other", "b")])
def test_what_they_say_decides_and_is_told(label: str, model: str) -> None:
    text = "My invoice"
    found = {asked_of("topic", text): Finding(label, "cached")}
    first, decision, _ = decided(said(text, findings=found))
    assert first == model
    told = decision["classified"]["topic"]
    assert told == {"model": "tiny", "label": label or None, "how": "cached"}
    assert decision["trace"][1]["matches"] is (model == "a")
    if model == "b":
        assert decision["trace"][1]["because"] == "classified.topic: other"


def test_conditions_name_what_there_is() -> None:
    for when, text in (
        ({"classified": {"colour": "red"}}, "is no classifier of this entry; there are: topic"),
        ({"classified": {"topic": "bill"}}, "has 'bill'"),
        ({"classified": "topic"}, "must be like"),
    ):
        rules = [{"when": when, "use": "a"}]
        with pytest.raises(ValueError, match=text):
            read_virtual_model("v", {**ENTRY, "rules": rules}, kind)


def test_the_models_that_are_asked_are_named_as_targets() -> None:
    assert set(read_virtual_model("v", ENTRY, kind).targets) == {"a", "b", "c", "tiny", "vectors"}
