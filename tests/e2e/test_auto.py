"""``auto`` and rules in front of real processes: who is picked, what if he fails, and why."""

from __future__ import annotations

import json
from typing import Any

import pytest
from modelpool_client import PoolClient
from modelpool_client.cli import app as poolctl
from openai import OpenAI
from typer.testing import CliRunner

from e2e.conftest import MakePool
from e2e.helpers import assert_error, chat, content, fake, streamed
from e2e.support import PoolProcess

HEADERS = "x-modelpool-"
# However long it took them to answer.
QUALITY_ALONE = {"strategy": "quality", "weights": {"quality": 1}}
HARD = "Prove that the square root of 3 is irrational, then implement a checker for it in Rust."


def sized(name: str, quality: float, **more: Any) -> dict[str, Any]:
    options = {"reply": name, **more.pop("options", {})}
    return fake(name, metadata={"quality": quality}, options=options, **more)


@pytest.fixture
def choosing(make_pool: MakePool) -> PoolProcess:
    return make_pool(
        sized("small-1b", 0.4),
        sized("large-70b", 0.9, tags=["strong"]),
        sized("broken-400b", 0.99, options={"fail_load": "oom"}, tags=["strong"]),
        fake("vectors", capabilities=["embeddings"]),
        routing={"strategy": "quality"},
    )


def test_auto_chooses_falls_back_and_says_why(choosing: PoolProcess) -> None:
    pool = choosing
    listed = {e["id"]: e for e in pool.http.get("/v1/models").json()["data"]}
    assert listed["auto"]["virtual"] == "auto"
    route = pool.http.post("/route", json={"prompt": HARD}).json()
    assert route["selected_model"] == "broken-400b"
    assert route["fallbacks"][0] == "large-70b"
    assert (route["complexity"], route["state"]) == ("COMPLEX", "COLD")
    assert 0 < route["difficulty"] <= 1
    assert [r["model"] for r in route["runners_up"]] == ["large-70b", "small-1b"]
    assert "cannot, as far as is known: chat" in route["excluded"]["vectors"][0]

    answer = pool.chat("auto", HARD)
    assert (answer.status_code, content(answer)) == (200, "large-70b")
    assert answer.headers[HEADERS + "model"] == "large-70b"
    assert answer.headers[HEADERS + "fallback"] == "broken-400b (oom)"
    assert answer.headers[HEADERS + "virtual-model"] == "auto@0"
    told = answer.headers[HEADERS + "decision"]
    assert "complexity=COMPLEX; difficulty=0." in told
    assert told.endswith("runners_up=large-70b small-1b")
    # It has failed, so that it is out of the question now.
    route = pool.http.post("/route", json={"prompt": HARD}).json()
    assert route["selected_model"] == "large-70b"
    assert route["excluded"]["broken-400b"][0].startswith("it failed: ")
    events = [e for e in pool.events() if e["event"] == "request-routed"]
    assert events[0]["selected_model"] == "large-70b"
    assert events[0]["complexity"] == "COMPLEX"

    said = {"excluded_models": ["large-70b"]}
    answer = pool.chat("auto", HARD, constraints=said, strategy="latency")
    assert content(answer) == "small-1b"
    assert answer.headers[HEADERS + "changed"] == "constraints (stripped), strategy (stripped)"
    error = pool.chat("auto", constraints={"required_capabilities": ["vision"]})
    assert_error(error, 404, "no_suitable_model")
    assert "required_capabilities" in error.text
    assert_error(pool.chat("auto", constraints={"taste": 1}), 400, "invalid_request")
    vector = pool.http.post("/route", json={"input": "x", "path": "/v1/embeddings"}).json()
    assert (vector["selected_model"], vector["task_type"]) == ("vectors", "embedding")

    strong = {"kind": "auto", "tags": ["strong"], "strategy": "cost"}
    assert pool.http.put("/virtual-models/strong", json=strong).status_code == 200
    assert pool.chat("strong", "Hi").headers[HEADERS + "model"] == "large-70b"
    wrong = pool.http.put("/virtual-models/x", json={"kind": "auto", "strategy": "luck"})
    assert_error(wrong, 400, "invalid_request")
    # Its name can stand for something else, and comes back.
    assert pool.http.put("/virtual-models/auto", json={"target": "small-1b"}).status_code == 200
    assert content(pool.chat("auto", HARD)) == "small-1b"
    assert pool.http.delete("/virtual-models/auto").status_code == 200
    assert content(pool.chat("auto", HARD)) == "large-70b"
    assert_error(pool.http.delete("/virtual-models/auto"), 409, "built_in")


def test_the_openai_package_takes_auto(choosing: PoolProcess) -> None:
    with OpenAI(base_url=f"{choosing.url}/v1", api_key="-", max_retries=0) as client:
        messages: Any = [{"role": "user", "content": HARD}]
        answer = client.chat.completions.create(model="auto", messages=messages)
        assert answer.choices[0].message.content == "large-70b"
        stream = client.chat.completions.create(model="auto", messages=messages, stream=True)
        text = "".join(c.choices[0].delta.content or "" for c in stream if c.choices)
        assert text == "large-70b"
        assert "auto" in [model.id for model in client.models.list()]
    assert "large-70b" in streamed(choosing.url, chat("auto", HARD)).text


RULES = {
    "kind": "policy",
    "rules": [
        {"name": "team", "when": {"headers": {"x-team": "^research$"}}, "use": "large-70b"},
        {"name": "code", "when": {"text": "(?i)\\bcode\\b"}, "use": ["broken-400b", "small-1b"]},
        {"name": "hard", "when": {"complexity": ["complex", "expert"]}, "use": "strong"},
    ],
    "default": "small-1b",
}


def test_rules_choose_and_can_be_tried(choosing: PoolProcess) -> None:
    pool = choosing
    tried = pool.http.post("/route", json={"prompt": "Hi", "policy": RULES})
    assert_error(tried, 400, "unknown_target")
    strong = {"kind": "auto", "tags": ["strong"], "constraints": {"excluded_models": ["x"]}}
    pool.http.put("/virtual-models/strong", json=strong)
    tried = pool.http.post("/route", json={"prompt": HARD, "policy": RULES}).json()
    assert (tried["rule"], tried["selected_model"]) == ("hard", "broken-400b")
    assert tried["trace"][:2] == [
        {"rule": "team", "matches": False, "because": "headers.x-team"},
        {"rule": "code", "matches": False, "because": "text"},
    ]
    assert tried["complexity"] == "COMPLEX"
    assert pool.http.get("/virtual-models/rules").status_code == 404
    assert pool.http.put("/virtual-models/rules", json=RULES).status_code == 200
    answer = pool.chat("rules", "Is this code?")
    assert (content(answer), answer.headers[HEADERS + "fallback"]) == (
        *("small-1b",),
        "broken-400b (oom)",
    )
    body = chat("rules", "Hi")
    team = pool.http.post("/v1/chat/completions", json=body, headers={"X-Team": "research"})
    assert content(team) == "large-70b"
    assert "rule team: large-70b" in team.headers[HEADERS + "route"]
    assert content(pool.chat("rules", "Hi")) == "small-1b"
    bad = json.loads(json.dumps(RULES))
    bad["rules"][1]["when"]["text"] = "(a)\\1"
    error = pool.http.put("/virtual-models/rules", json=bad)
    assert_error(error, 400, "invalid_request")
    assert "rules[1].when.text has groupref" in error.text


def test_rules_ask_a_model_what_a_request_is_about(make_pool: MakePool) -> None:
    pool = make_pool(
        fake("judge", options={"reply": "Billing."}),
        fake("slow", options={"first_token_seconds": 600}),
        *(sized(name, 0.5) for name in ("sales", "general")),
    )
    topic = {"model": "judge", "labels": ["billing", "bug"], "if_cold": "skip", "seconds": 60}
    length = {"model": "judge", "by": "classify", "labels": ["short", "long"], "seconds": 60}
    rules = [
        {"when": {"classified": {"topic": "billing"}, "text": "invoice"}, "use": "sales"},
        {"when": {"classified": {"length": "long"}, "text": "essay"}, "use": "sales"},
    ]
    entry = {"kind": "policy", "classifiers": {"topic": topic, "length": length}, "rules": rules}
    pool.http.put("/virtual-models/desk", json={**entry, "default": "general"})

    cold = pool.chat("desk", "My invoice?")
    assert content(cold) == "general"
    assert "judge is not loaded" in cold.headers[HEADERS + "route"]
    topic["if_cold"] = "wait"
    pool.http.put("/virtual-models/desk", json={**entry, "default": "general"})
    for said in ("My invoice?", "And an invoice", "My invoice?"):
        answer = pool.chat("desk", said)
        assert content(answer) == "sales"
        assert "topic: billing" in answer.headers[HEADERS + "route"]
    used = pool.http.get("/statistics").json()["models"]["judge"]
    assert used["request_count"] == 2, "of three one was remembered"
    assert content(pool.chat("desk", "An essay")) == "general"
    assert content(pool.chat("desk", "An essay " + "long " * 40)) == "sales"
    assert "sales" in streamed(pool.url, chat("desk", "My invoice?")).text
    told = pool.http.post("/route", json={"model": "desk", "prompt": "My invoice?"}).json()
    assert told["decision"]["classified"]["topic"] == {
        "model": "judge",
        "label": "billing",
        "how": "cached",
    }

    topic |= {"model": "slow", "seconds": 0.2, "otherwise": "billing"}
    pool.http.put("/virtual-models/desk", json={**entry, "default": "general"})
    late = pool.chat("desk", "My invoice, again?")
    assert content(late) == "sales"
    assert "slow has not answered within 0.2 s" in late.headers[HEADERS + "route"]


def test_outcomes_that_callers_report_count_where_they_are_wanted(make_pool: MakePool) -> None:
    pool = make_pool(sized("a", 0.8), sized("b", 0.78), routing=QUALITY_ALONE)
    for model in "ab":
        pool.load(model)
    answer = pool.chat("auto", "What is the capital of France?")
    decision = answer.headers[HEADERS + "decision-id"]
    refused = pool.http.post(f"/route/{decision}/outcome", json={"score": 0})
    assert_error(refused, 409, "learning_off")
    pool.http.patch("/config", json={"learn_from_outcomes": True}).raise_for_status()
    assert content(answer) == "a"
    for _ in range(8):
        answer = pool.chat("auto", "What is the capital of France?")
        if content(answer) == "b":
            break
        name = answer.headers[HEADERS + "decision-id"]
        with PoolClient(pool.url) as client:
            told = client.report_outcome(name, success=False)
        assert (told.model, told.task_type) == ("a", "question_answering")
        assert told.offset < 0
    assert content(answer) == "b"
    again = pool.http.post(f"/route/{name}/outcome", json={"score": 1})
    assert_error(again, 409, "already_reported")
    assert_error(pool.http.post("/route/x/outcome", json={"score": 1}), 404, "not_found")
    assert_error(pool.http.post("/route/x/outcome", json={}), 400, "invalid_request")
    shown = pool.http.get("/route/outcomes").json()
    assert [each["model"] for each in shown["learned"]] == ["a"]
    listed = CliRunner().invoke(poolctl, ["--url", pool.url, "outcomes", "list"])
    assert "question_answering" in listed.stdout
    assert pool.http.delete("/route/outcomes", params={"modell": "a"}).status_code == 400
    assert pool.http.delete("/route/outcomes", params={"model": "a"}).json()["forgotten"] == 1
    assert content(pool.chat("auto", "What is the capital of France?")) == "a"
