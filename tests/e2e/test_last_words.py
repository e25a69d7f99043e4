"""An engine that dies at any stage of its load gives its last words where people look."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.helpers import assert_error, fake, in_background, result, until
from e2e.support import PoolProcess

CODES = ("oom", "bad_file", "unsupported_arch", "missing_dependency")
STEPS = {"load_seconds": 60, "load_steps": 60}


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PoolProcess]:
    models = [
        *(fake(c, options={"fail_load": c, "message": f"words of {c}"}) for c in CODES),
        fake("exits", options={"die_while_loading": 42}),
        fake("killed", options={"die_while_loading": "SIGKILL"}),
        fake(
            "segfault",
            options={"die_while_loading": "SIGSEGV", "load_seconds": 0.5, "load_steps": 6},
        ),
        fake("liar", options={"lie_ready": True}),
        fake("slow", options=STEPS),
        *(
            {"model_id": name, "engine": "llama.cpp", "source": str(source)}
            for name, source in _spoilt(tmp_path_factory.mktemp("files")).items()
        ),
    ]
    with PoolProcess(tmp_path_factory.mktemp("pool"), models) as running:
        yield running


def _spoilt(folder: Path) -> dict[str, Path]:
    """One reads like a model up to its weights, the other to whoever wants no words from it."""
    whole = (Path(__file__).parents[2] / "configs" / "models" / "pool-demo.gguf").read_bytes()
    key = b"tokenizer.ggml.model"
    assert whole.count(key) == 1
    files = {
        "truncated": whole[: len(whole) // 2],
        "wordless": whole.replace(key, b"tokenizer.ggml.mode_"),
    }
    for name, data in files.items():
        (folder / f"{name}.gguf").write_bytes(data)
    return {name: folder / f"{name}.gguf" for name in files}


def failed(pool: PoolProcess, model: str) -> dict[str, Any]:
    """What the API says after a load; the answer to the load says the same."""
    answer = pool.http.post(f"/models/{model}/load?wait=60", json={})
    assert answer.status_code == 503, answer.text
    failure = dict(pool.model(model)["failure"])
    error = answer.json()["error"]
    assert error["code"] == failure["code"]
    assert failure["message"] in error["message"]
    assert pool.state_of(model) == "FAILED"
    assert failure["retry_at"]
    return failure


@pytest.mark.parametrize("code", CODES)
def test_a_load_that_fails_says_why(pool: PoolProcess, code: str) -> None:
    failure = failed(pool, code)
    assert failure["code"] == code
    assert f"words of {code}" in failure["message"] + " ".join(failure["lines"])


@pytest.mark.parametrize(
    ("model", "end"),
    [("exits", "exit code 42"), ("killed", "SIGKILL"), ("segfault", "SIGSEGV")],
)
def test_an_engine_that_dies_while_it_loads(pool: PoolProcess, model: str, end: str) -> None:
    failure = failed(pool, model)
    assert end in failure["message"]
    assert any("dying by" in line for line in failure["lines"]), failure


def test_an_engine_that_says_ready_and_is_not(pool: PoolProcess) -> None:
    assert "accepts no connection" in failed(pool, "liar")["message"]


def test_a_real_file_that_the_engine_does_not_take(pool: PoolProcess) -> None:
    failure = failed(pool, "wordless")
    assert failure["code"] == "bad_file", failure
    assert "tokenizer" in failure["message"] + " ".join(failure["lines"])


def test_a_real_file_that_ends_too_early_is_not_even_tried(pool: PoolProcess) -> None:
    answer = pool.http.post("/models/truncated/load?wait=60", json={})
    assert "truncated or corrupt" in assert_error(answer, 503, "bad_file")
    assert pool.state_of("truncated") == "COLD"
    events = pool.http.get("/models/truncated/history").json()["events"]
    assert [e["event"] for e in events] == ["model-refused", "model-warning"], "nothing was begun"
    assert all("truncated or corrupt" in e["reason"] for e in events)


@pytest.mark.parametrize(("who", "words"), [("worker_pid", "SIGKILL"), ("engine_pid", "SIGKILL")])
def test_killed_from_outside_in_the_middle_of_a_load(
    pool: PoolProcess, who: str, words: str
) -> None:
    pool.http.post("/models/slow/unload", json={"force": True})
    task = in_background(lambda: pool.http.post("/models/slow/load?wait=60", json={}))
    view = until(lambda: (v := pool.model("slow"))["progress"] and v["engine_pid"] and v, "a load")
    os.kill(view[who], signal.SIGKILL)
    answer = result(task)
    assert answer.status_code == 503
    assert words in answer.json()["error"]["message"]
    assert words in pool.model("slow")["failure"]["message"]
