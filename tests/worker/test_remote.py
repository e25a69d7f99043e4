"""Workers whose engine computes elsewhere: a front without a child. The other side is a worker of
the fake engine, a real server that speaks OpenAI's API."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from modelpool_worker import engines
from modelpool_worker.engine_table import is_remote

pytestmark = pytest.mark.e2e


@pytest.fixture
def remote(worker: Callable[..., Any], echo: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("THEIR_KEY", "sk-secret")
    options = {"base_url": f"http://127.0.0.1:{echo.port}/v1", "api_key_variable": "THEIR_KEY"}
    return worker(options, engine="openai", model_id="gpt", source="demo").ready()


def test_it_has_no_child(remote: Any) -> None:
    facts = remote.live_facts()
    assert (facts["engine_pid"], facts["phase"]) == (None, "ready")
    assert facts["rss_bytes"] > 0
    assert remote.http.get("/health").json()["engine_pid"] is None


def test_a_chat_under_its_name_there(remote: Any) -> None:
    answer = remote.chat("one two")
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"] == "one two"


def test_a_streamed_chat(remote: Any) -> None:
    answer = remote.chat("one two", stream=True)
    assert answer.text.endswith("data: [DONE]\n\n")
    assert '"one' in answer.text


def test_in_the_words_of_another_api(remote: Any) -> None:
    body = {"model": "gpt", "max_tokens": 9, "messages": [{"role": "user", "content": "one two"}]}
    answer = remote.http.post("/v1/messages", json=body)
    assert answer.json()["content"][0]["text"] == "one two"


def test_a_probe_has_it_compute_nothing(remote: Any, echo: Any) -> None:
    before = echo.live_facts()["requests_total"]
    told = remote.internal("POST", "probe", json={"timeout_seconds": 5})
    assert told.json()["answered"], told.text
    assert echo.live_facts()["requests_total"] == before


def test_nobody_there_fails_the_load(worker: Callable[..., Any]) -> None:
    options = {"base_url": "http://127.0.0.1:9/v1"}
    failed = worker(options, engine="openai", model_id="gpt", source="demo").start()
    assert failed.wait_exit() == 3
    assert "127.0.0.1:9 cannot be reached" in json.dumps(failed.record)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ca_file": "/nowhere/ca.pem"}, "ca_file /nowhere/ca.pem cannot be read"),
        ({"base_url": "http://127.0.0.1:99999/v1"}, "base_url"),
        ({"base_url": "http://[::1/v1"}, "base_url"),
        (
            {"base_url": "http://127.0.0.1:9/v1?api-version=1&key=s3"},
            "key in its query is for a key",
        ),
        ({"api_key_variable": "ODD_KEY"}, "environment variable ODD_KEY holds characters"),
        ({"api_key_file": "/nowhere/key"}, "/nowhere/key cannot be read"),
    ],
)
def test_what_cannot_be_asked_with_fails_the_load(
    worker: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    said: str,
) -> None:
    monkeypatch.setenv("ODD_KEY", "two words")
    failed = worker(options, engine="openai", model_id="gpt", source="demo").start()
    assert failed.wait_exit() == 3
    assert failed.record["code"] == "bad_config"
    assert said in failed.record["message"]
    assert "s3" not in failed.record["message"]


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package whose engines cannot be imported; one has the name of an engine of ours."""
    info = tmp_path / "site" / "far-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: far\nVersion: 1.0\n")
    points = "[modelpool.remote_engines]\nfar = far_engine:Far\nvllm = far_engine:Far\n"
    (info / "entry_points.txt").write_text(points)
    monkeypatch.setenv("PYTHONPATH", str(info.parent))
    monkeypatch.syspath_prepend(str(info.parent))


def test_a_plugin_that_cannot_be_imported_says_so(worker: Callable[..., Any], far: None) -> None:
    failed = worker(engine="far", model_id="gpt", source="demo").start()
    assert failed.wait_exit() == 3
    assert failed.record["code"] == "missing_dependency"
    assert "far_engine" in failed.record["message"]


def test_a_plugin_takes_no_name_of_ours(far: None) -> None:
    assert is_remote("far")
    assert not is_remote("vllm")
    assert engines.get("vllm").name == "vllm"
