"""llama.cpp for real takes the words in which Ollama's requests are told, and acts on them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from modelpool_client.surfaces.ollama import CHAT, GENERATE, translate
from modelpool_client.surfaces.sse import DONE, Events

from .test_llama import OPTIONS, made

pytestmark = pytest.mark.e2e
USER = {"role": "user", "content": "hi"}
YES = {"enum": ["yes, it is"]}
SAMPLING = {
    "temperature": 0.7,
    "top_k": 20,
    "top_p": 0.9,
    "min_p": 0.01,
    "typical_p": 0.9,
    "seed": 3,
    "num_keep": 2,
    "repeat_penalty": 1.1,
    "repeat_last_n": 32,
    "presence_penalty": 0.1,
    "frequency_penalty": 0.1,
    "mirostat": 0,
    "mirostat_tau": 5.0,
    "mirostat_eta": 0.1,
}


@pytest.fixture(scope="module")
def llama(manager: Any, tmp_path_factory: pytest.TempPathFactory, running: Any) -> Any:
    folder: Path = tmp_path_factory.mktemp("ollama")
    source = str(made(folder / "tiny.gguf"))
    one = running(manager, folder, engine="llama.cpp", source=source, options=OPTIONS).ready()
    yield one
    one.close()


def whole(llama: Any, path: str, **body: Any) -> dict[str, Any]:
    translation = translate(path, {**body, "stream": False}, time.time_ns)
    answer = llama.http.post(translation.told.path, json=translation.told.body)
    assert answer.status_code == 200, answer.text
    return translation.whole(answer.json())


def streamed(llama: Any, path: str, **body: Any) -> list[dict[str, Any]]:
    translation = translate(path, body, time.time_ns)
    asks = {**translation.told.body, "stream": True, "stream_options": {"include_usage": True}}
    answer = llama.http.post(translation.told.path, json=asks)
    assert answer.status_code == 200, answer.text
    data = [d for d in Events().feed(answer.content) if d != DONE]
    raw = [translation.chunk(json.loads(d)) for d in data]
    return [json.loads(text) for text in b"".join([*raw, translation.end()]).splitlines()]


@pytest.mark.parametrize(
    ("path", "asks"),
    [
        (CHAT, {"messages": [USER]}),
        (GENERATE, {"prompt": "hi", "system": "be"}),
        (GENERATE, {"prompt": "hi", "raw": True}),
    ],
    ids=["chat", "generate", "raw"],
)
class TestEachWay:
    def test_as_many_tokens_as_are_wanted(self, llama: Any, path: str, asks: Any) -> None:
        options = {**SAMPLING, "num_predict": 1}
        body = whole(llama, path, **asks, options=options, think=False)
        assert (body["eval_count"], body["done_reason"]) == (1, "length")
        assert body["prompt_eval_count"] > 0
        assert body["eval_duration"] > 0
        assert body["prompt_eval_duration"] > 0

    def test_a_schema_is_kept_to_streamed_or_not(self, llama: Any, path: str, asks: Any) -> None:
        asks = {**asks, "format": YES, "options": {"num_predict": 60, "temperature": 0}}
        text = said(whole(llama, path, **asks))
        lines = streamed(llama, path, **asks)
        assert json.loads(text) == "yes, it is"
        assert "".join(map(said, lines)) == text
        assert len(lines) > 2
        assert lines[-1]["done_reason"] == "stop"
        assert lines[-1]["eval_count"] >= len(lines) - 1

    @pytest.mark.parametrize("top", [0, 2])
    def test_logprobs(self, llama: Any, path: str, asks: Any, top: int) -> None:
        options = {"num_predict": 60, "temperature": 0}
        more = {"logprobs": True, "top_logprobs": top, "format": YES, "options": options}
        found = whole(llama, path, **asks, **more)["logprobs"]
        assert "".join(token["token"] for token in found).strip() == '"yes, it is"'
        for token in found:
            assert token["logprob"] <= 0
            assert len(token.get("top_logprobs", ())) == top


def said(body: dict[str, Any]) -> str:
    return str(body["message"]["content"] if "message" in body else body["response"])
