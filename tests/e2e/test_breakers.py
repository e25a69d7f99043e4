"""Workers and servers elsewhere that fail, hang, are slow or answer with garbage, and clients that
want answers: breakers, retries and fallbacks together."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from support.providers import faults
from support.providers.openai import OpenAIApi
from support.providers.server import KEY, FakeProvider

from e2e.conftest import MakePool
from e2e.helpers import assert_error, chat, content, fake, streamed, until
from e2e.support import PoolProcess

WAYS = ("error", "garbage", "cut", "slow")
# Each goes wrong at every third request, in its way; one always does.
FLAKY = [fake(f"flaky-{w}", options={"fail_every": 3, "fail_how": w}) for w in WAYS]
SICK = fake("sick", options={"fail_every": 1})
COPIES = fake(
    "copies",
    min_replicas=2,
    max_replicas=2,
    balance="round_robin",
    options={"fail_every": 4, "fail_how": "cut"},
)
GOOD = fake("good")
CALM = {
    "beat_seconds": 5,
    "load_wait_seconds": 60,
    "breaker_open_seconds": 2,
    "stream_ping_seconds": 20,
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeProvider]:
    provider = FakeProvider(OpenAIApi())
    yield provider
    provider.stop()


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory, upstream: FakeProvider) -> Iterator[PoolProcess]:
    folder = tmp_path_factory.mktemp("breakers")
    (folder / "key").write_text(KEY)
    steady = {
        "base_url": f"{upstream.url}/v1",
        "api_key_file": str(folder / "key"),
        "models": ["gpt-4o", "gpt-4o-mini"],
    }
    # Soon at the end of its patience with one that hangs, and with others on a busy machine.
    away = {**steady, "options": {"request_timeout_seconds": 1}}
    virtual = {
        **{f"safe-{w}": [f"flaky-{w}", "good"] for w in WAYS},
        "safe-sick": ["sick", "good"],
        "safe-away": ["away:gpt-4o", "good"],
        "safe-mini": ["steady:gpt-4o-mini", "good"],
    }
    models = [*FLAKY, SICK, COPIES, GOOD]
    keys = {
        "providers": {"away": away, "steady": steady},
        "virtual_models": virtual,
        "max_concurrent_models": 12,
    }
    with PoolProcess(folder, models, ports=12, **keys, **CALM) as pool:
        for model in [*(m["model_id"] for m in models), "away", "steady"]:
            pool.load(model)
        until(lambda: len(pool.model("copies")["replicas"]) == 2, "two copies")
        yield pool


def ask_many(
    pool: PoolProcess, names: list[str], count: int, clients: int = 8
) -> tuple[list[str], Counter[str]]:
    """Every name in turn, each with a text of its own: what went wrong, and who answered."""
    wrong, answered = [], Counter[str]()
    turns = itertools.cycle(names)
    jobs = [(next(turns), f"number {n}", n % 4 == 0) for n in range(count)]

    def ask(job: tuple[str, str, bool]) -> None:
        name, text, is_stream = job
        if is_stream:
            body = chat(name, text, stream=True)
            with client.stream("POST", "/v1/chat/completions", json=body) as stream:
                answer = stream.read().decode()
            pieces = [
                json.loads(line[6:]) for line in answer.splitlines() if line.startswith("data: {")
            ]
            said = "".join(
                c["delta"].get("content") or "" for p in pieces for c in p.get("choices", ())
            )
            said = said or answer
            status, headers = stream.status_code, stream.headers
        else:
            whole = client.post("/v1/chat/completions", json=chat(name, text))
            status, headers = whole.status_code, whole.headers
            said = content(whole) if status == 200 else whole.text
        answered[headers.get("x-modelpool-model", "")] += 1
        if status != 200 or said != text:
            wrong.append(f"{name}: {status} {said[:300]}")

    with (
        httpx.Client(base_url=pool.url, timeout=60, trust_env=False) as client,
        ThreadPoolExecutor(clients) as threads,
    ):
        list(threads.map(ask, jobs))
    return wrong, answered


def served(pool: PoolProcess, model: str) -> int:
    return sum(r["requests_total"] for r in pool.model(model)["replicas"])


def breakers(pool: PoolProcess) -> dict[str, dict[str, Any]]:
    return {b["breaker"]: b for b in pool.http.get("/breakers").json()["breakers"]}


def test_all_are_answered_while_one_is_well_and_the_sick_are_left_alone(
    pool: PoolProcess, upstream: FakeProvider
) -> None:
    check_faults(pool, upstream, 240)


@pytest.mark.slow
def test_all_are_answered_for_thousands_of_requests(
    pool: PoolProcess, upstream: FakeProvider
) -> None:
    check_faults(pool, upstream, 6000)


def heal(pool: PoolProcess, upstream: FakeProvider) -> None:
    """As if nothing had failed."""
    upstream.faults.clear()
    for breaker in breakers(pool):
        pool.http.post(f"/breakers/{breaker}/reset").raise_for_status()


def check_faults(pool: PoolProcess, upstream: FakeProvider, count: int) -> None:
    names = [*(f"safe-{w}" for w in WAYS), "safe-sick", "safe-away", "copies"]
    upstream.asked.clear()
    heal(pool, upstream)
    ways = (faults.answering(500, {}), faults.garbage, faults.reset, faults.hang_before_head)
    upstream.faults.extend(itertools.islice(itertools.cycle(ways), count))
    wrong, answered = ask_many(pool, names, count)
    assert len(wrong) <= count // 1000, wrong[:5]
    assert answered["good"] > count / 7
    # Each time it is tried again, three requests at most go to the server that always fails.
    opened = metric(pool, 'modelpool_breaker_opened_total{breaker="upstream:away"}')
    assert opened >= 1
    assert len(upstream.asked) <= 5 + 8 + 3 * opened
    texts = Counter(a.json["messages"][0]["content"] for a in upstream.asked)
    assert set(texts.values()) <= {1}  # it may have been billed


def metric(pool: PoolProcess, name: str) -> float:
    lines = pool.http.get("/metrics").text.splitlines()
    return next((float(x.split()[-1]) for x in lines if x.startswith(name)), 0.0)


def test_who_was_asked_in_vain_is_told(pool: PoolProcess) -> None:
    answers = [pool.chat("flaky-error", f"text {n}") for n in range(6)]
    assert {a.status_code for a in answers} == {200}
    told = [a.headers.get("x-modelpool-retried") for a in answers]
    assert any(t and t.startswith("flaky-error (") for t in told), told
    assert not all(told)


def test_a_server_that_fails_is_shut_out_shown_and_reset(
    pool: PoolProcess, upstream: FakeProvider
) -> None:
    heal(pool, upstream)
    pool.http.patch("/config", json={"breaker_open_seconds": 600}).raise_for_status()
    upstream.faults.extend([faults.answering(500, {"error": {"message": "ill"}})] * 5)
    for _ in range(5):
        assert pool.chat("steady:gpt-4o").status_code == 502
    asked = len(upstream.asked)
    refused = pool.chat("steady:gpt-4o")
    assert (refused.status_code, len(upstream.asked)) == (503, asked)
    error = refused.json()["error"]
    assert (error["code"], error["source"]) == ("circuit_open", "upstream")
    assert int(refused.headers["retry-after"]) > 500
    shown = breakers(pool)["upstream:steady"]
    assert (shown["state"], shown["is_shut_out"]) == ("OPEN", True)
    assert [b["state"] for b in pool.model("steady:gpt-4o")["breakers"] if b["is_shut_out"]] == [
        "OPEN"
    ]
    assert metric(pool, 'modelpool_breaker_state{breaker="upstream:steady"}') == 2
    command = [sys.executable, "-m", "modelpool_client.cli", "--url", pool.url, "breakers"]
    listed = subprocess.run([*command, "list"], capture_output=True, text=True, timeout=60)
    assert "upstream:steady" in listed.stdout, listed.stderr
    done = subprocess.run(
        [*command, "reset", "upstream:steady"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    upstream.faults.clear()  # a failure may have been of a connection, and have taken none
    assert pool.chat("steady:gpt-4o").status_code == 200
    changes = [e["state"] for e in pool.events() if e["event"] == "breaker-changed"]
    assert {"OPEN", "CLOSED"} <= set(changes)
    assert pool.http.post("/breakers/upstream:none/reset").status_code == 404
    pool.http.patch("/config", json={"breaker_open_seconds": 2}).raise_for_status()


def test_a_server_that_wants_a_pause_has_it_and_is_not_at_fault(
    pool: PoolProcess, upstream: FakeProvider
) -> None:
    heal(pool, upstream)
    upstream.faults.append(faults.answering(429, {"error": {"message": "slow"}}, retry_after="300"))
    asked = len(upstream.asked)
    wrong, answered = ask_many(pool, ["safe-mini"], 30)
    assert wrong == []
    assert answered["good"] >= 30 - 8  # those that were under way may have been answered
    assert len(upstream.asked) <= asked + 8
    assert "upstream:steady" not in breakers(pool)
    pauses = pool.http.get("/breakers").json()["paused_seconds"]
    assert 0 < pauses["steady:gpt-4o-mini"] <= 300
    refused = pool.chat("steady:gpt-4o-mini")
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) > 30


def test_streams_that_break_off_count_as_failures(make_pool: MakePool) -> None:
    """However they were passed on, the first by callbacks; also where workers tell of no single
    request, and where a client gives all of them one id."""
    curt = fake("curt", options={"end_early": True, "tokens": 2})
    safe = {"safe": ["curt", "good"]}
    pool = make_pool(curt, fake("good"), virtual_models=safe, retry_attempts=0, request_log="off")
    pool.load("curt")
    same = {"x-request-id": "always-this"}
    assert not streamed(pool.url, chat("curt", "Hi"), headers=same).is_done
    assert breakers(pool)["worker:curt"]["recent_failures"] == 1
    while breakers(pool)["worker:curt"]["state"] == "CLOSED":
        assert not streamed(pool.url, chat("safe", "Hi"), headers=same).is_done
    reasons = [e["reason"] for e in pool.events() if e["event"] == "breaker-changed"]
    assert "engine_failed" in reasons[0]


def test_comments_are_no_answer(make_pool: MakePool) -> None:
    """A worker dies that has sent nothing but comments: the next model goes on in the stream."""
    hung = fake("hung", options={"first_token_seconds": 600})
    pool = make_pool(
        *(hung, fake("good")),
        virtual_models={"safe": ["hung", "good"]},
        retry_attempts=0,
        stream_ping_seconds=1,
        beat_seconds=1,
    )
    pool.load("hung")
    with (
        httpx.Client(base_url=pool.url, timeout=60, trust_env=False) as client,
        client.stream("POST", "/v1/chat/completions", json=chat("safe", "Hi", stream=True)) as got,
    ):
        lines = got.iter_lines()
        assert next(lines).startswith(": ")
        os.kill(pool.model("hung")["replicas"][0]["engine_pid"], signal.SIGKILL)
        rest = "\n".join(lines)
    assert got.status_code == 200
    assert ": hung failed (" in rest
    assert '"Hi"' in rest
    assert "[DONE]" in rest
    assert '"error"' not in rest
    told = [e for e in pool.events() if e["event"] == "model-fallback"]
    assert told[0]["model_id"] == "hung"


def test_a_model_names_who_answers_where_it_fails(
    pool: PoolProcess, upstream: FakeProvider
) -> None:
    heal(pool, upstream)
    weak = fake("weak", aliases=["feeble"], fallbacks=["good"], options={"fail_every": 1})
    pool.http.post("/models/register", json=weak).raise_for_status()
    for name in ("weak", "feeble"):
        answer = pool.chat(name, "Hi")
        assert (answer.status_code, content(answer)) == (200, "Hi")
        assert answer.headers["x-modelpool-model"] == "good"
        assert answer.headers["x-modelpool-fallback"].startswith("weak")
    said = streamed(pool.url, chat("weak", "Hi"))
    assert said.is_done
    view = pool.model("weak")
    assert (view["fallbacks"], view["missing_fallbacks"]) == (["good"], [])
    told = pool.http.post("/route", json={"model": "weak", "prompt": "Hi"}).json()
    assert (told["selected_model"], told["fallbacks"]) == ("weak", ["good"])
    # Their own do not count: two may be each other's.
    other = fake("other", fallbacks=["weak"], options={"fail_every": 1})
    pool.http.post("/models/register", json=other).raise_for_status()
    failed = pool.chat("other", "Hi")
    assert failed.status_code == 502
    assert failed.headers["x-modelpool-model"] == "weak"
    entry = {"kind": "alias", "target": "weak"}
    pool.http.put("/virtual-models/kind-of-weak", json=entry).raise_for_status()
    assert content(pool.chat("kind-of-weak", "Hi")) == "Hi"
    pool.http.post("/models/register", json=fake("third")).raise_for_status()
    entry = {"kind": "fallback", "targets": ["good", "third"]}
    pool.http.put("/virtual-models/leads-back", json=entry).raise_for_status()
    pool.http.delete("/models/third").raise_for_status()
    for names, status, code in (
        (["nobody"], 400, "invalid_request"),
        (["third"], 400, "invalid_request"),
        (["leads-back"], 409, "circle"),
    ):
        bad = pool.http.post("/models/register", json=fake("third", fallbacks=names))
        assert_error(bad, status, code)
        assert "fallbacks" in bad.json()["error"]["param"]
    for name in ("weak", "other"):
        pool.http.post(f"/models/{name}/unload", json={"force": True})
        pool.http.delete(f"/models/{name}").raise_for_status()
    for name in ("kind-of-weak", "leads-back"):
        pool.http.delete(f"/virtual-models/{name}").raise_for_status()
