"""A probe finds what was declared wrongly, of a real model and of the fake one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from e2e.conftest import MakePool, WithModels
from e2e.helpers import assert_error, chat, fake
from e2e.support import PoolProcess
from e2e.test_poolctl import poolctl

DEMO = Path(__file__).parents[2] / "configs" / "models" / "pool-demo.gguf"
LIES = ["chat", "vision", "embeddings", "tools", "rerank"]


def probed(pool: PoolProcess, model: str, **body: Any) -> dict[str, Any]:
    answer = pool.http.post(f"/models/{model}/probe", params={"wait": 300}, json=body, timeout=310)
    job = answer.json()
    assert (answer.status_code, job["state"]) == (200, "succeeded"), answer.text
    return {word: result["outcome"] for word, result in job["result"]["capabilities"].items()}


def report(pool: PoolProcess, model: str) -> dict[str, Any]:
    found: dict[str, Any] = pool.http.get(f"/models/{model}/capabilities").json()
    return found


def test_a_real_model(with_models: WithModels) -> None:
    entry = {"model_id": "demo", "source": str(DEMO), "options": {"threads": 1, "parallel": 2}}
    pool = with_models({**entry, "capabilities": LIES}, {**entry, "model_id": "honest"})
    honest = report(pool, "honest")["capabilities"]
    outcomes = probed(pool, "demo")
    assert (outcomes["tools"], outcomes["vision"]) == ("wrong", "refused")
    works = {word for word, outcome in outcomes.items() if outcome == "works"}
    assert {"chat", "completion", "streaming", "logprobs", "json_schema"} <= works
    assert works.isdisjoint({"vision", "embeddings", "rerank", "audio", "speech_to_text"})
    assert set(report(pool, "demo")["capabilities"]) == works
    vision = next(d for d in report(pool, "demo")["ruled_out"] if d["capability"] == "vision")
    assert (vision["source"], vision["certainty"]) == ("probe", "proven")
    assert {"source": "declared", "is_able": True} in [
        {key: also[key] for key in ("source", "is_able")} for also in vision["also"]
    ]
    refused = pool.http.post("/v1/embeddings", json={"model": "demo", "input": "x"})
    assert_error(refused, 400, "missing_capability")
    assert "it can do: chat" in refused.json()["error"]["message"]
    # What its file and its engine told of it without a declaration was no more than that.
    assert set(honest) <= works


def test_the_fake_one_and_what_a_probe_holds_for(make_pool: MakePool) -> None:
    pool = make_pool()
    entry = fake("liar", capabilities=LIES)
    assert pool.http.post("/models/register", json=entry).status_code == 201
    assert report(pool, "liar")["capabilities"] == LIES
    outcomes = probed(pool, "liar")
    assert {word: outcomes[word] for word in LIES} == {
        "chat": "works",
        "vision": "wrong",
        "embeddings": "refused",
        "tools": "refused",
        "rerank": "refused",
    }
    found = report(pool, "liar")
    assert set(found["capabilities"]) == {w for w, o in outcomes.items() if o == "works"}
    assert found["declared"] == LIES
    pool.stop()
    pool.start()
    assert report(pool, "liar") == found
    # Who declares the same again changes nothing; other options are another model.
    for options, is_stale in (({}, False), ({"reply": "x"}, True)):
        body = {"models": [{**entry, "options": options}], "replace": True}
        assert pool.http.post("/registry", json=body).status_code == 200
        now = report(pool, "liar")
        assert {p["is_stale"] for p in now["probes"]} == {is_stale}
        assert now["capabilities"] == (LIES if is_stale else found["capabilities"])
    assert pool.http.delete("/models/liar").status_code == 200
    assert pool.http.post("/models/register", json=entry).status_code == 201
    assert report(pool, "liar")["probes"] == []


def test_only_some_and_those_that_cannot_be(with_models: WithModels) -> None:
    pool = with_models(fake("m"), fake("never", options={"fail_load": "oom", "message": "no room"}))
    assert probed(pool, "m", capabilities=["chat", "tools"]) == {
        "chat": "works",
        "tools": "refused",
    }
    answer = pool.http.post("/models/m/probe", json={"capabilities": ["poetry"]})
    assert_error(answer, 400, "invalid_request")
    assert "chat" in answer.json()["error"]["message"]
    assert_error(pool.http.post("/models/absent/probe"), 404, "model_not_found")
    assert set(probed(pool, "never").values()) == {"failed"}
    assert report(pool, "never")["capabilities"] == []


def test_a_guess_refuses_nobody(with_models: WithModels) -> None:
    pool = with_models(fake("whisper-large-v3"))
    found = report(pool, "whisper-large-v3")
    assert found["capabilities"] == found["presumed"] == ["speech_to_text"]
    assert pool.http.post("/v1/chat/completions", json=chat("whisper-large-v3")).status_code == 200


def test_from_a_terminal(with_models: WithModels) -> None:
    pool = with_models(fake("m", capabilities=["chat", "tools"]))
    before = poolctl(pool, "capabilities", "m").stdout
    assert "its entry in the catalog says so" in before
    done = poolctl(pool, "probe", "m", "--only", "tools", "--only", "chat")
    assert done.returncode == 0, done.stderr
    assert "refused" in done.stdout
    can, _, cannot = poolctl(pool, "capabilities", "m").stdout.partition("CANNOT")
    assert "it answered" in can
    assert "declared: yes" in cannot
