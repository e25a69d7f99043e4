"""What a chat is thinking is ended by its client, in llama.cpp's way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

DEMO = Path(__file__).parents[2] / "configs" / "models" / "pool-demo.gguf"
# Of a model whose answers begin with what it thinks.
THINKS = (
    "{% for m in messages %}{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<think>\n{% endif %}"
)
OPTIONS = {"threads": 1, "parallel": 2, "context_length": 4096, "chat_template": THINKS}
CONTROL = "/v1/chat/completions/control"


def test_a_chat_is_told_to_end_its_thoughts(worker: Any) -> None:
    one = worker(OPTIONS, engine="llama.cpp", source=str(DEMO)).ready()

    def told(path: str = CONTROL, **body: Any) -> Any:
        return one.http.post(path, json={"action": "reasoning_end", **body})

    body = {
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "max_tokens": 3000,
        "ignore_eos": True,
        "reasoning_control": True,
    }
    with one.http.stream("POST", "/v1/chat/completions", json=body) as stream:
        assert "x-modelpool-ignored" not in stream.headers
        lines = (line for line in stream.iter_lines() if line.startswith("data: {"))
        chat = json.loads(next(lines)[6:])["id"]
        assert told(id=chat, model="demo").json()["success"] is True
    assert told(path="/chat/completions/control", id="none").json()["success"] is False
    for body, param in (({}, "id"), ({"id": 5}, "id"), ({"id": "a", "action": "halt"}, "action")):
        answer = told(**body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text
    assert told(id=chat, model="other").status_code == 404
