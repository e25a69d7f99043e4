"""Engines of strangers: the one of the docs as it stands there, and three bad ones."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from modelpool.catalog.footprint import WORKER_OVERHEAD_BYTES
from support.plugins import files_of_page, install, stranger

from e2e.conftest import MakePool
from e2e.helpers import Stream, chat, command_line, content, fake, marked, until
from e2e.support import PoolProcess

pytestmark = pytest.mark.long

POEM = "roses are red violets are blue sugar is sweet and so are you"
BAD = """
import time
from modelpool_worker.engine import Engine, Usable
from modelpool_worker.hosting.contract import Hosted, Token

class Stranger(Engine):
    name = "{name}"
    formats = ("none",)
    capabilities = ("chat",)

    def probe(self):
        return Usable(True)

    def memory_bytes(self, source, options):
        return {memory}

    def serve(self, job, status):
        {load}
        from modelpool_worker.hosting.server import serve
        serve(job, status, Hosted(text=Model()))

class Model:
    context_length, slots, end_tokens = 100, 1, [256]

    def encode(self, text):
        return list(text.encode())

    def chat_prompt(self, messages, tools, settings):
        return self.encode(messages[-1]["content"])

    def generate(self, request):
        for byte in request.prompt:
            yield Token(byte, bytes([byte]))
"""


def engines(pool: PoolProcess) -> dict[str, dict[str, Any]]:
    return {engine["name"]: engine for engine in pool.http.get("/engines").json()["engines"]}


def test_the_plugin_of_the_page_is_short() -> None:
    code = files_of_page()["babble.py"]
    assert len(code.splitlines()) < 70
    ast.parse(code)


def test_the_plugin_of_the_page_is_found_loaded_served_and_unloaded(
    site: Path, tmp_path: Path, make_pool: MakePool
) -> None:
    install(files_of_page(), tmp_path / "babble", site)
    (tmp_path / "poem.txt").write_text(POEM)
    model = {"model_id": "poet", "engine": "babble", "source": str(tmp_path / "poem.txt")}
    pool = make_pool(model)
    assert engines(pool)["babble"]["usable"] is True
    told = 30_000_000 + 20 * len(POEM) + WORKER_OVERHEAD_BYTES
    until(
        lambda: pool.model("poet")["memory"]["estimated_mb"] == pytest.approx(told / 1e6, abs=0.1),
        "what it says of its memory",
    )
    body = chat("poet", "sugar", seed=1, max_tokens=4, temperature=0.5)
    answer = pool.http.post("/v1/chat/completions", json=body)
    assert content(answer).startswith(" is sweet and so")
    assert answer.json()["usage"] == {
        "prompt_tokens": 1,
        "completion_tokens": 4,
        "total_tokens": 5,
    }
    assert answer.headers["x-modelpool-ignored"] == "temperature"
    with pool.http.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as s:
        assert Stream(s.iter_lines()).text == content(answer)
    many = chat("poet", "so", n=2, stop=["you"])
    choices = pool.http.post("/v1/chat/completions", json=many).json()["choices"]
    assert len(choices) == 2
    refused = pool.http.post("/v1/chat/completions", json=chat("poet", "so " * 3000))
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "context_length_exceeded"
    assert pool.http.post("/models/poet/unload").status_code == 200
    until(lambda: pool.model("poet")["state"] == "COLD", "the unload")
    assert not [p for p in marked(pool.mark) if "poet" in command_line(p)]


def test_bad_plugins_hurt_nobody_else(site: Path, make_pool: MakePool) -> None:
    packages = {
        "crashes": "import os, sys\nsys.stderr.write('no such device\\n')\nos.abort()\n",
        "raises": "print('hello')\nraise ZeroDivisionError('at import')\n",
        "hangs": BAD.format(name="hangs", memory="1", load="time.sleep(3600)"),
        "lies": BAD.format(
            name="lies", memory="1", load="job.options; self.held = bytes(1) * (200 << 20)"
        ),
        "greedy": BAD.format(name="greedy", memory=10**13, load="pass"),
        "tells_nonsense": BAD.format(name="tells_nonsense", memory="-7.5", load="pass"),
    }
    for name, code in packages.items():
        stranger(name, code, site)
    models = [{"model_id": n, "engine": n, "source": "none"} for n in packages]
    pool = make_pool(fake("good"), fake("other"), *models)
    told = engines(pool)
    assert told["fake"]["usable"]
    assert not told["crashes"]["usable"]
    assert re.search("SIGABRT.*no such device", told["crashes"]["reason"])
    assert "ZeroDivisionError" in told["raises"]["reason"]
    assert told["hangs"]["usable"]  # it has not been asked to load yet
    for name, why in (("crashes", "no such device"), ("raises", "ZeroDivisionError")):
        answer = pool.chat(name)
        assert answer.status_code >= 500, answer.text
        assert why in answer.json()["error"]["message"]
    assert pool.http.post("/models/hangs/load", params={"wait": 0}).status_code == 202
    for name in ("good", "other", "lies", "tells_nonsense"):
        answer = pool.http.post("/v1/chat/completions", json=chat(name, "hello"))
        assert content(answer) == "hello", answer.text
    assert pool.model("hangs")["state"] == "WARMING"
    until(lambda: pool.model("greedy")["fits"]["verdict"] == "never", "what it says of itself")
    refused = pool.chat("greedy")
    assert (refused.status_code, refused.json()["error"]["code"]) == (507, "cannot_fit")

    until(lambda: (pool.model("lies")["memory"]["current_peak_mb"] or 0) > 150, "the true figure")
    assert pool.http.post("/models/hangs/unload", json={"force": True}).status_code == 200
    assert content(pool.http.post("/v1/chat/completions", json=chat("good", "still"))) == "still"
