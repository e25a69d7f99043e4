"""Profiles, options in layers and tuning, on a real pool: the fake engine's speed is known."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from e2e.conftest import WithModels
from e2e.helpers import chat, until
from e2e.support import PoolProcess

pytestmark = pytest.mark.long

SLOW = {"tokens_per_second": 100}
WAIT = 120


def model(model_id: str, **options: Any) -> dict[str, Any]:
    options = {**SLOW, **options}
    return {"model_id": model_id, "engine": "fake", "source": "none", "options": options}


MODELS = (
    model("m"),
    model("swift", tokens_per_second=300),
    model("busy", tokens=100_000),
    model("busy too", tokens=100_000),
    {"model_id": "quick", "engine": "fake", "source": "none"},
)


@pytest.fixture(scope="module")
def pool_keys() -> dict[str, Any]:
    return {"memory_limit_mb": 4000}


@pytest.fixture
def pool(own_pool: WithModels) -> PoolProcess:
    return own_pool(*MODELS)


def job(pool: PoolProcess, model_id: str, verb: str, **body: Any) -> dict[str, Any]:
    """To its end."""
    url = f"/models/{model_id}/{verb}"
    answer = pool.http.post(url, params={"wait": WAIT}, json=body, timeout=WAIT + 10)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def options(pool: PoolProcess, model_id: str) -> dict[str, Any]:
    found = pool.http.get(f"/models/{model_id}/options").json()
    return {**found, "options": {o["name"]: o for o in found["options"]}}


def names(pool: PoolProcess, model_id: str) -> list[str]:
    events = pool.http.get(f"/models/{model_id}/history", params={"limit": 500}).json()["events"]
    return [event["event"] for event in reversed(events)]


def test_a_profile_says_how_fast_a_model_is(pool: PoolProcess) -> None:
    done = job(pool, "m", "profile", testCount=2, streams=[1, 4])
    assert done["state"] == "succeeded", (done["reason"], done["log"])
    (one, four) = done["result"]["profile"]["levels"]
    # The engine gives a token every 10 ms; who computes beside it can only make it slower.
    assert 20 < one["output_per_second"]["median"] <= 101
    assert one["output_per_second"]["count"] == 2
    assert four["output_per_second"]["median"] > one["output_per_second"]["median"]
    assert four["first_token_ms"]["count"] == 8
    profile = pool.http.get("/models/m").json()["profile"]
    assert profile["levels"] == done["result"]["profile"]["levels"]
    assert (profile["is_stale"], profile["requests"], profile["failed"]) == (False, 10, 0)
    assert profile["memory_bytes"]["host"] > 0
    assert profile["load_seconds"] > 0
    assert profile["conditions"]["options"] == SLOW
    metrics = done["result"]["metrics"]
    assert metrics["totalInferences"] == 10
    assert metrics["successRate"] == 1
    told = names(pool, "m")
    assert told.index("profiling-started") < told.index("profiling-completed")
    # It was loaded for that, and nobody else wanted it.
    until(lambda: pool.http.get("/models/m").json()["state"] == "COLD", "the unload")


def test_profiles_are_compared_and_grow_stale(pool: PoolProcess) -> None:
    for _ in range(2):
        assert job(pool, "m", "profile", testCount=1, streams=[1])["state"] == "succeeded"
    found = pool.http.get("/models/m/profiles").json()
    assert [p["is_stale"] for p in found["profiles"]] == [False, False]
    assert {row["figure"] for row in found["changes"]} >= {"first_token_ms", "output_per_second"}
    pool.http.patch("/models/m/options", json={"tokens_per_second": 50})
    (newest, _) = pool.http.get("/models/m/profiles").json()["profiles"]
    assert newest["stale"] == "option tokens_per_second is 50, was 100"
    pool.stop()
    pool.start()
    assert len(pool.http.get("/models/m/profiles").json()["profiles"]) == 2


def test_a_client_that_comes_ends_a_profile(pool: PoolProcess) -> None:
    begun = pool.http.post("/models/m/profile", json={"testCount": 50, "streams": [1]}).json()
    until(lambda: pool.http.get("/models/m").json()["in_flight"], "the first request")
    # A second: it is looked for every 50 ms.
    long = chat("m", "one of many words " * 20)
    assert pool.http.post("/v1/chat/completions", json=long).status_code == 200
    done = pool.http.get(f"/jobs/{begun['job_id']}", params={"wait": WAIT}).json()
    assert (done["state"], done["code"]) == ("failed", "machine_busy")
    assert "a client asks for m" in done["reason"]
    assert pool.http.get("/models/m/profiles").json()["profiles"] == []


def test_a_model_that_was_loaded_for_a_profile_is_unloaded_when_that_is_cancelled(
    pool: PoolProcess,
) -> None:
    begun = pool.http.post("/models/m/profile", json={"testCount": 50, "streams": [1]}).json()
    until(lambda: pool.model("m")["in_flight"], "the first request")
    cancelled = pool.http.post(f"/jobs/{begun['job_id']}/cancel", json={})
    assert cancelled.status_code == 200, cancelled.text
    until(lambda: pool.state_of("m") == "COLD", "the unload")


@pytest.mark.parametrize("other", ["m", "quick"])
def test_a_request_too_short_to_be_seen_spoils_a_profile(pool: PoolProcess, other: str) -> None:
    for name in ("m", "quick"):
        pool.load(name)
    begun = pool.http.post("/models/m/profile", json={"testCount": 2, "streams": [1]}).json()
    until(lambda: pool.http.get("/models/m").json()["in_flight"], "the first request")
    # Straight to the worker, where only that counts it; mostly it comes between two looks.
    port = pool.model(other)["port"]
    asked = httpx.post(
        f"http://127.0.0.1:{port}/v1/chat/completions", json=chat(other, "a"), timeout=60
    )
    assert asked.status_code == 200
    done = pool.http.get(f"/jobs/{begun['job_id']}", params={"wait": WAIT}).json()
    assert (done["state"], done["code"]) == ("failed", "machine_busy"), done["reason"]
    assert other in done["reason"]


@pytest.fixture
def two_busy(pool: PoolProcess) -> Iterator[PoolProcess]:
    """Streams that last for as long as the test does."""
    over = threading.Event()

    def ask(name: str) -> None:
        body = {"model": name, "messages": [{"role": "user", "content": "hi"}], "stream": True}
        with pool.http.stream("POST", "/v1/chat/completions", json=body) as answer:
            for _ in answer.iter_bytes():
                if over.is_set():
                    return

    asking = [threading.Thread(target=ask, args=(name,)) for name in ("busy", "busy too")]
    for thread in asking:
        thread.start()
    for name in ("busy", "busy too"):
        until(lambda n=name: pool.http.get(f"/models/{n}").json()["in_flight"], "its request")
    yield pool
    over.set()
    for thread in asking:
        thread.join(60)


@pytest.mark.parametrize("verb", ["profile", "tune"])
def test_where_two_models_are_busy_nothing_is_measured(two_busy: PoolProcess, verb: str) -> None:
    done = job(two_busy, "m", verb, wait_seconds=0.5)
    assert (done["state"], done["code"]) == ("failed", "machine_busy")
    assert "busy and busy too are at work" in done["reason"]
    assert two_busy.http.get("/models/m").json()["state"] == "COLD"
    assert two_busy.http.get("/models/m/profiles").json()["profiles"] == []


def test_tuning_finds_what_is_faster_and_users_can_outvote_and_undo_it(pool: PoolProcess) -> None:
    done = job(pool, "m", "tune", goal="one-stream", budget_seconds=100)
    assert done["state"] == "succeeded", (done["reason"], done["log"])
    result = done["result"]
    assert (result["is_better"], result["options"]) == (True, {"turbo": True})
    assert result["low"] > 1
    refused = [each for each in result["tried"] if "not_tried" in each]
    assert [each["options"]["memory_mb"] for each in refused] == [10**8]
    found = options(pool, "m")
    turbo = found["options"]["turbo"]
    assert (turbo["default"], turbo["tuned"], turbo["effective"]) == (False, True, True)
    assert turbo["source"] == "tuned"
    assert found["tuned"]["gain"] == result["gain"]
    pool.http.post("/models/m/load", params={"wait": 60}, json={})
    assert pool.http.get("/models/m").json()["effective_options"] == {**SLOW, "turbo": True}
    saved = pool.http.patch("/models/m/options", json={"turbo": False}).json()
    (turbo,) = [o for o in saved["options"] if o["name"] == "turbo"]
    assert (turbo["tuned"], turbo["saved"], turbo["effective"]) == (True, False, False)
    assert saved["tuned_doubtful"] == "the saved options were others"
    unsaid = pool.http.patch("/models/m/options", json={"turbo": None}).json()
    (turbo,) = [o for o in unsaid["options"] if o["name"] == "turbo"]
    assert (turbo["saved"], turbo["effective"], turbo["source"]) == (None, True, "tuned")
    undone = pool.http.delete("/models/m/tuned").json()
    assert undone["undone"]["options"] == {"turbo": True}
    found = options(pool, "m")
    assert found["tuned"] is None
    assert (found["options"]["turbo"]["effective"], found["needs_reload"]) == (False, True)
    assert pool.http.get("/models/m").json()["effective_options"]["turbo"] is True
    assert {"model-tuned", "model-untuned"} <= set(names(pool, "m"))
    # Nothing of the trials is left.
    assert pool.http.get("/health").json()["active_models"] == 1
    assert "#0" not in pool.http.get("/metrics").text


def test_options_are_set_without_a_load(pool: PoolProcess) -> None:
    found = pool.http.patch("/models/m/options", json={"tokens": 5}).json()
    assert (found["is_running"], found["needs_reload"]) == (False, False)
    pool.http.post("/models/m/load", params={"wait": 60}, json={})
    changed = pool.http.patch("/models/m/options", json={"tokens": 7}).json()
    (tokens,) = [o for o in changed["options"] if o["name"] == "tokens"]
    assert (tokens["running"], tokens["effective"], changed["needs_reload"]) == (5, 7, True)
    assert "until it is unloaded and loaded again" in changed["message"]
    assert pool.http.get("/models/m").json()["state"] == "HOT"
    pool.http.patch("/models/m/options", json={"tokens": 5})
    assert options(pool, "m")["needs_reload"] is False


def running(pool: PoolProcess, job_id: str, pairs: int) -> None:
    until(lambda: found(pool, job_id)["progress"]["done"] >= pairs, f"{pairs} pairs", WAIT)


def found(pool: PoolProcess, job_id: str) -> dict[str, Any]:
    view: dict[str, Any] = pool.http.get(f"/jobs/{job_id}").json()
    return view


def act(pool: PoolProcess, job_id: str, action: str) -> dict[str, Any]:
    answer = pool.http.post(f"/jobs/{job_id}/{action}", json={})
    assert answer.status_code == 200, answer.text
    view: dict[str, Any] = answer.json()
    return view


def told(view: dict[str, Any]) -> list[float]:
    """The ratios that the log tells of."""
    texts = [line["text"] for line in view["log"] if " x the defaults" in line["text"]]
    return [float(text.split(": ")[-1].split(" x ")[0]) for text in texts]


TURBO = {"goal": "one-stream", "options": ["turbo"], "budget_seconds": 100}


@pytest.mark.parametrize("how", ["pause", pytest.param("kill", marks=pytest.mark.slow)])
def test_a_tuning_that_was_cut_goes_on_from_what_it_had(pool: PoolProcess, how: str) -> None:
    job_id = pool.http.post("/models/swift/tune", json=TURBO).json()["job_id"]
    running(pool, job_id, 3)
    if how == "kill":
        pool.kill()
        pool.start()
    else:
        assert act(pool, job_id, how)["state"] == "paused"
        # Nothing of the trials is left, and the model is as it was.
        assert pool.fronts() == []
        assert pool.state_of("swift") == "COLD"
        act(pool, job_id, "resume")
    done = pool.http.get(f"/jobs/{job_id}", params={"wait": WAIT}, timeout=WAIT + 10).json()
    assert done["state"] == "succeeded", (done["reason"], done["log"])
    assert done["attempts"] == 2
    lines = [line["text"] for line in done["log"]]
    (goes_on,) = [text for text in lines if text.startswith("goes on after")]
    assert int(goes_on.split()[3]) >= 3, "what was measured counts"
    assert done["result"]["options"] == {"turbo": True}
    # Five won pairs end the race, two more for one that was lost to whatever else the machine did,
    # and eight make sure of it, whoever measured them.
    ratios = told(done)
    lost = sum(ratio <= 1 for ratio in ratios[:-8])
    assert done["result"]["pairs"] == len(ratios) == 13 + 2 * lost
    # A trial's memory is known of the model with those options, though it was never loaded itself.
    until(lambda: pool.model("swift")["memory"]["measured_peak_mb"], "the peak to be learned")
    until(lambda: pool.fronts() == [], "the end of the trials")


@pytest.mark.slow
def test_a_tuning_begins_anew_where_the_model_was_changed(pool: PoolProcess) -> None:
    job_id = pool.http.post("/models/m/tune", json=TURBO).json()["job_id"]
    running(pool, job_id, 2)
    assert pool.http.patch("/models/m/options", json={"tokens_per_second": 90}).status_code == 200
    done = pool.http.get(f"/jobs/{job_id}", params={"wait": WAIT}, timeout=WAIT + 10).json()
    assert (done["state"], done["code"]) == ("failed", "model_changed")
    assert "option tokens_per_second is 90, was 100" in done["reason"]
    act(pool, job_id, "resume")

    def lines() -> list[str]:
        return [line["text"] for line in found(pool, job_id)["log"]]

    until(lambda: any(text.startswith("begins anew") for text in lines()), "the second attempt")
    act(pool, job_id, "cancel")
    assert pool.fronts() == []


def test_a_model_that_is_deleted_ends_its_tuning(pool: PoolProcess) -> None:
    job_id = pool.http.post("/models/m/tune", json=TURBO).json()["job_id"]
    running(pool, job_id, 1)
    assert pool.http.delete("/models/m").status_code in (200, 204)
    done = pool.http.get(f"/jobs/{job_id}", params={"wait": WAIT}, timeout=WAIT + 10).json()
    assert (done["state"], done["code"]) == ("failed", "model_changed")
    assert "was deleted" in done["reason"]
    until(lambda: pool.fronts() == [], "the end of the trials")


WRONG = [
    ("PATCH", "/models/m/options", {"tokens": "many"}, 400, "options.tokens"),
    ("PATCH", "/models/m/options", {"unheard_of": 1}, 400, "options.unheard_of"),
    ("PATCH", "/models/none/options", {"tokens": 1}, 404, "model"),
    ("POST", "/models/m/tune", {"goal": "fastest"}, 400, "goal"),
    ("POST", "/models/m/tune", {"options": ["tokens"]}, 400, "options"),
    ("POST", "/models/m/tune", {"budget_seconds": 0}, 400, "budget_seconds"),
    ("POST", "/models/m/profile", {"testCount": 0}, 400, "testCount"),
    ("POST", "/models/m/profile", {"streams": [0]}, 400, "streams"),
    ("POST", "/models/m/profile", {"unheard_of": 0}, 400, "unheard_of"),
    ("POST", "/models/none/profile", {}, 404, "model"),
]


def test_what_is_wrong_is_said(pool: PoolProcess) -> None:
    before = pool.http.get("/jobs").json()
    for method, path, body, status, param in WRONG:
        answer = pool.http.request(method, path, json=body)
        said = (answer.status_code, answer.json()["error"]["param"])
        assert said == (status, param), answer.text
    assert pool.http.get("/jobs").json() == before
