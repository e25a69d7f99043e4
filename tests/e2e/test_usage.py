"""What was asked, what the request log has of it, and what usage and cost make of it: the same."""

from __future__ import annotations

import csv
import io
from typing import Any

import httpx
import pytest

from e2e.conftest import MakePool
from e2e.helpers import chat, fake, until
from e2e.support import PoolProcess

# Dollars of a million tokens: the fake's prompt has as many tokens as words, and so has its answer.
PRICES = {"input": 1_000_000, "output": 2_000_000, "cached_input": 0}
PRICED = {"metadata": {"prices": PRICES}}
WITH_USAGE = {"stream": True, "stream_options": {"include_usage": True}}


def logged(pool: PoolProcess, **query: Any) -> list[dict[str, Any]]:
    answer = pool.http.get("/requests", params=query)
    assert answer.status_code == 200, answer.text
    assert answer.json()["missing"] == 0
    return list(answer.json()["requests"])


def used(pool: PoolProcess, by: str = "model", **query: Any) -> list[dict[str, Any]]:
    answer = pool.http.get("/usage", params={"by": by, **query})
    assert answer.status_code == 200, answer.text
    return list(answer.json()["rows"])


def of(pool: PoolProcess, model_id: str) -> dict[str, Any]:
    return next((row for row in used(pool) if row["model"] == model_id), {"requests": 0})


def ask(url: str, model: str, text: str, **more: Any) -> httpx.Response:
    said = {**chat(model, text), **more}
    return httpx.post(f"{url}/v1/chat/completions", json=said, timeout=60)


def heard(pool: PoolProcess, count: int) -> list[dict[str, Any]]:
    """All that the log has, once that is so many."""
    until(lambda: len(logged(pool, limit=1000)) >= count, f"{count} requests in the log")
    found = logged(pool, limit=1000)
    assert len(found) == count, found
    return found


def test_counts_are_the_same_wherever_they_are_read(make_pool: MakePool) -> None:
    pool = make_pool(
        fake("m", aliases=["other"], **PRICED),
        fake("free"),
        fake("broken", options={"fail_load": "bad_file", "message": "a torn file"}),
        virtual_models={"v": {"kind": "fallback", "targets": ["m", "free"]}},
    )
    worker = pool.load("m")["endpoint"]
    for url, more in [(u, m) for u in (pool.url, worker) for m in ({}, WITH_USAGE)]:
        for _ in range(3):
            answer = ask(url, "m", "one two three", **more)
            assert answer.status_code == 200
            assert answer.headers["x-request-id"]
    assert ask(pool.url, "other", "one two").status_code == 200
    assert ask(pool.url, "v", "one two").status_code == 200
    assert ask(pool.url, "free", "a b", stream=True).status_code == 200
    assert ask(pool.url, "m", "one", temperature="hot").status_code == 400
    assert ask(pool.url, "broken", "one").status_code >= 500
    assert ask(pool.url, "nobody", "one").status_code == 404

    found = heard(pool, 18)
    by_model = {m: [r for r in found if r["model_id"] == m] for m in ("m", "free", "broken", None)}
    assert {m: len(rows) for m, rows in by_model.items()} == {
        "m": 15,
        "free": 1,
        "broken": 1,
        None: 1,
    }
    fine = [r for r in by_model["m"] if r["status"] == 200]
    assert sum(r["by"] == "worker" for r in fine) == 6
    assert sum(r["stream"] for r in fine) == 6
    assert all((r["first_token_seconds"] is not None) is r["stream"] for r in fine)
    assert all(r["seconds"] >= r["waited_seconds"] >= 0 for r in found)
    assert not any(r["tokens_estimated"] for r in fine)
    (virtual,) = [r for r in fine if r["virtual_model"]]
    assert virtual["virtual_model"].startswith("v@")
    assert [r["model"] for r in logged(pool, model="other")] == ["other"]
    assert {r["status"] for r in logged(pool, errors=True)} >= {400, 404}
    assert [r["code"] for r in logged(pool, status="404")] == ["model_not_found"]
    assert [r["model"] for r in logged(pool, status="5xx")] == ["broken"]
    (guessed,) = by_model["free"]
    assert guessed["tokens_estimated"]
    assert guessed["completion_tokens"] > 0

    m = of(pool, "m")
    assert (m["requests"], m["errors"]) == (15, 1)
    assert m["prompt_tokens"] == m["completion_tokens"] == 12 * 3 + 2 * 2
    assert m["cost"] == m["prompt_tokens"] * 3
    assert m["currency"] == "USD"
    free = of(pool, "free")
    assert (free["requests"], free["estimated_requests"], free["cost"]) == (1, 1, 0)
    assert (of(pool, "broken")["requests"], of(pool, "broken")["errors"]) == (1, 1)

    total = pool.http.get("/usage").json()["totals"]
    assert total[0]["requests"] == 17, "a model that there is not has no usage"
    lines = list(csv.DictReader(io.StringIO(pool.http.get("/usage?format=csv").text)))
    assert {line["model"]: int(line["requests"]) for line in lines} == {
        "m": 15,
        "free": 1,
        "broken": 1,
    }
    metrics = pool.http.get("/metrics").text
    assert (
        f'modelpool_tokens_total{{kind="prompt",model="m"}} {float(m["prompt_tokens"])}' in metrics
    )
    assert f'modelpool_cost_total{{currency="USD",model="m"}} {m["cost"]}' in metrics


def test_a_request_has_one_id_all_the_way(make_pool: MakePool) -> None:
    pool = make_pool(fake("m"))
    worker = pool.load("m")["endpoint"]
    with httpx.Client(timeout=60) as client:
        for n in range(6):  # over a kept connection, so that it takes the shortcuts
            url = pool.url if n % 2 else worker
            sent = {"X-Request-Id": f"mine-{n}"}
            more = WITH_USAGE if n > 3 else {}
            answer = client.post(
                f"{url}/v1/chat/completions", json={**chat("m"), **more}, headers=sent
            )
            assert answer.headers.get_list("x-request-id") == [f"mine-{n}"]
        refused = client.post(
            f"{pool.url}/v1/chat/completions", json=chat("nobody"), headers={"X-Request-Id": "r"}
        )
        assert refused.headers["x-request-id"] == "r"
        unnamed = client.post(f"{pool.url}/v1/chat/completions", json=chat("nobody"))
        odd = client.post(
            f"{pool.url}/v1/chat/completions", json=chat("m"), headers={"X-Request-Id": "a b"}
        )
        assert odd.headers["x-request-id"] not in ("", "a b")
    found = {r["request_id"] for r in heard(pool, 9)}
    made = {answer.headers["x-request-id"] for answer in (odd, unnamed)}
    assert found == {*(f"mine-{n}" for n in range(6)), "r", *made}


def test_a_killed_manager_loses_and_doubles_nothing(make_pool: MakePool) -> None:
    pool = make_pool(fake("m", **PRICED))
    worker = pool.load("m")["endpoint"]
    for _ in range(4):
        assert ask(pool.url, "m", "one two").status_code == 200
    heard(pool, 4)
    assert of(pool, "m")["requests"] == 4, "which writes it down"
    assert ask(pool.url, "m", "one two").status_code == 200
    heard(pool, 5)  # told, and perhaps not written down yet
    pool.kill()
    for _ in range(3):
        assert ask(worker, "m", "one two").status_code == 200
    pool.start()
    until(lambda: of(pool, "m")["requests"] >= 8, "the worker to tell all of it")
    assert ask(pool.url, "m", "one two").status_code == 200
    found = heard(pool, 9)
    row = of(pool, "m")
    assert (row["requests"], row["prompt_tokens"], row["cost"]) == (9, 18, 54)
    assert len({r["request_id"] for r in found}) == 9

    pool.http.post("/models/m/unload")
    pool.wait_for("m", "COLD")
    assert of(pool, "m")["requests"] == 9
    pool.stop()
    pool.start()
    assert of(pool, "m")["requests"] == 9
    assert logged(pool) == []


@pytest.mark.slow
def test_a_log_that_is_off_keeps_nothing_and_counts_still(make_pool: MakePool) -> None:
    pool = make_pool(fake("m"), request_log="off")
    assert ask(pool.url, "m", "one two").status_code == 200
    assert ask(pool.url, "nobody", "one two").status_code == 404
    until(lambda: of(pool, "m")["requests"] == 1, "usage")
    assert pool.http.get("/requests").json()["log"] == "off"
    assert logged(pool) == []
    assert pool.http.patch("/config", json={"request_log": "facts"}).status_code == 200
    assert ask(pool.url, "m", "one two").status_code == 200
    until(lambda: of(pool, "m")["requests"] == 2, "usage")


def test_what_is_asked_wrongly_is_refused(pool: PoolProcess) -> None:
    for path, param in (
        ("/usage?by=week", "by"),
        ("/usage?since=yesterday", "since"),
        ("/usage?until=nan", "until"),
        ("/usage?format=xml", "format"),
        ("/requests?since=1e99", "since"),
        ("/requests?limit=0", "limit"),
    ):
        answer = pool.http.get(path)
        assert answer.status_code == 400, path
        assert answer.json()["error"]["param"] == param


KEY = "sk-abcdefghijklmnopqrst"


def test_what_is_said_is_captured_while_that_is_wanted(make_pool: MakePool) -> None:
    pool = make_pool(fake("m"), fake("n"), virtual_models={"v": {"kind": "alias", "target": "m"}})
    worker = pool.load("m")["endpoint"]
    pool.load("n")

    def talk(text: str) -> None:
        with httpx.Client(timeout=60, headers={"authorization": f"Bearer {KEY}"}) as client:
            for url, more in ((pool.url, {}), (worker, {}), (pool.url, WITH_USAGE)):
                said = chat("m", f"{text} {KEY}", **more)
                assert client.post(f"{url}/v1/chat/completions", json=said).status_code == 200
            for name in ("n", "v"):
                said = chat(name, text)
                assert client.post(f"{pool.url}/v1/chat/completions", json=said).status_code == 200
            bad = chat("m", text, temperature="hot")
            assert client.post(f"{pool.url}/v1/chat/completions", json=bad).status_code == 400

    def content(row: dict[str, Any]) -> dict[str, Any]:
        return dict(pool.http.get(f"/requests/{row['number']}").json()["content"])

    talk("before")
    assert not any(row["captured"] for row in heard(pool, 6))
    assert pool.http.post("/requests/capture", json={"models": ["no"]}).status_code == 404
    on = pool.http.post("/requests/capture", json={"minutes": 5, "models": ["m"]}).json()
    assert (on["on"], on["models"]) == (True, ["m"])
    talk("meanwhile")
    rows = heard(pool, 12)[:6]
    assert [row["model_id"] for row in rows if not row["captured"]] == ["n"]
    kept = [content(row) for row in rows if row["captured"]]
    assert KEY not in str(kept)
    assert all("meanwhile" in each["request"]["body"] for each in kept)
    whole = [each for each in kept if each["curl"]]
    assert len(whole) == 2, "three had a key in them"
    answers = [each["answer"]["body"] for each in kept]
    assert sum("[DONE]" in answer for answer in answers) == 1
    assert sum("temperature" in answer for answer in answers) == 1

    off = pool.http.delete("/requests/capture").json()
    assert (off["on"], off["captured"]) == (False, 0)
    talk("after")
    assert not any(row["captured"] for row in heard(pool, 18))
    assert pool.http.get(f"/requests/{rows[0]['number']}").json()["content"] is None
    assert pool.http.get("/requests/999").status_code == 404
