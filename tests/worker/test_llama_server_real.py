"""``llama-server`` as ``make native`` builds it, beside the engine that is installed.

``make test-native`` builds it first, which takes too long for ``make test``.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from modelpool_worker.engines.llama import rope as llama_rope
from modelpool_worker.engines.llama.llama_cpp import LlamaCpp
from support.lora import write_adapter

pytestmark = [pytest.mark.e2e, pytest.mark.native]

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "configs" / "models" / "pool-demo.gguf"
SETTINGS = {"native_dir": os.environ.get("NATIVE", str(ROOT / ".modelpool" / "native"))}
SHAPE = ["--layers=2", "--hidden=64", "--ffn=192", "--heads=4", "--kv=2", "--vocab=1024"]
OPTIONS: dict[str, Any] = {"threads": 1, "parallel": 2}
LIMITS = {"max_bytes": 10**9, "seconds": 20.0}


def made(path: Path, *more: str) -> str:
    command = [sys.executable, ROOT / "scripts" / "make_bench_gguf.py", path, *SHAPE, *more]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return str(path)


@pytest.fixture
def native(worker: Any) -> Any:
    def make(options: dict[str, Any], source: str, **more: Any) -> Any:
        given = {"engine": "llama-server", "engine_settings": SETTINGS, **more}
        return worker({**OPTIONS, **options}, source=source, **given)

    return make


def said(one: Any, text: str = "hello", **more: Any) -> str:
    answer = one.chat(text, temperature=0, **more)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["message"]["content"])


def test_it_knows_what_the_other_engine_knows(native: Any, worker: Any) -> None:
    questions = json.loads((DEMO.parent / "pool-demo.questions.json").read_text())[::20]
    ours = native({}, str(DEMO)).ready()
    wheel = worker(OPTIONS, engine="llama.cpp", source=str(DEMO)).ready()
    for question in questions:
        body = {"messages": question["messages"], "temperature": 0, "max_tokens": 60}
        both = [w.http.post("/v1/chat/completions", json=body).json() for w in (ours, wheel)]
        texts = [b["choices"][0]["message"]["content"] for b in both]
        assert texts == [question["answer"]] * 2
    for path in ("/v1/messages", "/v1/responses", "/api/chat"):
        body = {"messages": questions[0]["messages"], "max_tokens": 20}
        if path == "/v1/responses":
            body = {"input": "Ping"}
        assert ours.http.post(path, json={"model": "demo", **body}).status_code == 200, path


def test_all_options_are_understood(native: Any, tmp_path: Path) -> None:
    model = made(tmp_path / "tiny.gguf", "--ctx=512")
    adapter = write_adapter(tmp_path / "loud.gguf", "qwen2", 64, 2, 0.5)
    options = {
        "context_length": 256, "parallel": 2, "threads": 1, "batch_size": 128,
        "micro_batch_size": 64, "flash_attention": "auto", "cache_type_k": "bf16",
        "cache_type_v": "f16", "temperature": 0, "seed": 7, "mmap": False, "gpu_layers": 0,
        "tensor_split": [2, 1], "chat_template": "chatml", "prompt_cache": False,
        "kv_unified": True, "sleep_idle_seconds": 600,
        "draft_model": model, "spec_type": "ngram-map-k", "draft_max": 4, "draft_min": 1,
        "draft_p_min": 0.1, "pooling_type": "mean", "reasoning": False, "rope_scaling": "yarn",
        "lora": [{"path": str(adapter), "scale": 0.5}], **dict.fromkeys(llama_rope.NUMBERS, 1),
    }  # fmt: skip
    left_out = {"chat_template_file", "mmproj", "slot_save_path"}
    assert options.keys() == LlamaCpp.options.keys() - left_out
    one = native(options, model).ready()
    assert one.live_facts()["context_length"] == 256
    assert one.http.get("/lora-adapters").json()[0]["scale"] == 0.5
    said(one, max_tokens=6)
    vector = one.http.post("/v1/embeddings", json={"input": "a"}).json()["data"][0]["embedding"]
    assert len(vector) == 64


@pytest.mark.parametrize("stream", [True, False])
def test_who_leaves_ends_the_work(native: Any, tmp_path: Path, until: Any, stream: bool) -> None:
    one = native({"context_length": 4096}, made(tmp_path / "t.gguf", "--ctx=8192")).ready()
    body = {"messages": [{"role": "user", "content": "x"}], "ignore_eos": True, "stream": stream}

    def busy() -> bool:
        return any(slot["is_processing"] for slot in one.http.get("/slots").json())

    with contextlib.suppress(httpx.ReadTimeout), httpx.Client(timeout=0.3) as client:
        url = f"http://127.0.0.1:{one.port}/v1/chat/completions"
        with client.stream("POST", url, json={**body, "max_tokens": 4000}):
            assert busy()
    until(lambda: not busy(), "the slot to be free")


def test_its_prompts_are_kept(native: Any, tmp_path: Path) -> None:
    shape = ("--layers=12", "--hidden=512", "--ffn=1536", "--heads=8", "--ctx=2048")
    model, folder = made(tmp_path / "m.gguf", *shape), tmp_path / "prompts" / "demo"
    kept = {"prompt_cache_dir": str(folder), "prompt_cache_limits": LIMITS}
    text = "port pool " * 80
    first = native({"context_length": 1200}, model, **kept).ready()
    said(first, text, max_tokens=1)
    assert first.internal("POST", "drain", json={"if_idle_for": 0}).json()["drained"]
    assert first.wait_exit() == 0
    second = native({"context_length": 1200}, model, **kept).ready()
    answer = second.chat(text, max_tokens=1).json()
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] > 100


def test_a_file_that_it_refuses_says_why(native: Any, tmp_path: Path) -> None:
    whole = Path(made(tmp_path / "t.gguf", "--ctx=512")).read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[: len(whole) // 2])
    one = native({}, str(tmp_path / "cut.gguf")).start()
    assert one.wait_exit() != 0
    assert one.record["code"] == "bad_file", one.record


def test_it_is_gone_with_its_memory(native: Any, until: Any) -> None:
    one = native({}, str(DEMO)).ready()
    (server,) = psutil.Process(one.live_facts()["engine_pid"]).children()
    assert server.name() == "llama-server"
    one.process.terminate()
    assert one.wait_exit() == 0
    assert not server.is_running()
