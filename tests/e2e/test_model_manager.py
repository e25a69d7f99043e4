"""The calls of the second and third documents as they stand there, by HTTP, to a pool whose models
carry the names used in them. The engines named there are not here: the fake one stands in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.support import PoolProcess

BASE = "/api/v1/models"
GGUF = "lmstudio-community/Qwen2.5-Coder-14B-Instruct-GGUF"
CHAT = ["chat_completion", "function_calling"]
MODELS = (
    {"model_id": "gpt-4", "display_name": "GPT-4", "capabilities": CHAT, "contextWindow": 8192},
    {"model_id": "gpt-3.5-turbo", "capabilities": ["chat_completion"], "contextWindow": 4096},
    {"model_id": GGUF, "capabilities": ["chat_completion"]},
)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PoolProcess]:
    models = [{"engine": "fake", "source": "x", **m} for m in MODELS]
    with PoolProcess(Path(tmp_path_factory.mktemp("manager")), models) as pool:
        yield pool


def get(pool: PoolProcess, path: str, status: int = 200) -> dict[str, Any]:
    answer = pool.http.get(f"{BASE}{path}")
    assert answer.status_code == status, answer.text
    return dict(answer.json())


def post(pool: PoolProcess, path: str, body: Any = None, status: int = 200) -> dict[str, Any]:
    answer = pool.http.post(f"{BASE}{path}", json=body)
    assert answer.status_code == status, answer.text
    return dict(answer.json())


def test_the_twelve_routes_one_after_the_other(pool: PoolProcess) -> None:
    every = get(pool, "")
    assert every["count"] == len(every["models"]) == 3
    first = next(m for m in every["models"] if m["id"] == "gpt-4")
    assert first == {
        "id": "gpt-4",
        "name": "GPT-4",
        "provider": "fake",
        "contextWindow": 8192,
        "maxTokens": 8192,
        "capabilities": CHAT,
        "status": "available",
    }
    assert get(pool, "?capability=function_calling")["count"] == 1
    assert get(pool, "?provider=claude")["count"] == get(pool, "?status=loaded")["count"] == 0
    assert get(pool, "?provider=fake&status=available")["count"] == 3
    assert get(pool, "/loaded") == {"models": [], "count": 0, "currentModel": None}
    assert get(pool, "/current") == {"model": None}
    refused = pool.chat("current")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "no_current_model")

    asked = {"provider": "fake", "model": "gpt-4"}
    assert post(pool, "/load", asked) == {"message": "Model loaded successfully", **asked}
    switched = post(pool, "/switch", asked)
    assert {k: switched[k] for k in ("message", "provider", "model")} == {
        "message": "Model switched successfully",
        **asked,
    }
    assert switched["currentModel"]["status"] == "loaded"
    assert pool.ask("current") == pool.ask("gpt-4")
    loaded = get(pool, "/loaded")
    assert (loaded["count"], loaded["currentModel"]["id"]) == (1, "gpt-4")
    current = get(pool, "/current")["model"]
    assert (current["key"], current["totalInferences"]) == ("fake:gpt-4", 2)
    assert current["loadedAt"] is not None
    assert current["performanceMetrics"]["successRate"] == 1.0
    assert current["performanceMetrics"]["averageLatency"] > 0

    other = {"provider": "fake", "model": "gpt-3.5-turbo"}
    assert post(pool, "/switch", other)["currentModel"]["id"] == "gpt-3.5-turbo"
    assert post(pool, "/unload", other)["message"] == "Model unloaded successfully"
    assert get(pool, "?status=unloaded")["models"][0]["id"] == "gpt-3.5-turbo"
    assert pool.ask("current"), "it is loaded again by itself"
    assert get(pool, "/fake")["count"] == 3
    assert get(pool, "/openai") == {"models": [], "count": 0}
    found = get(pool, "/fake:gpt-4/capabilities")
    assert found == {"success": True, "key": "fake:gpt-4", "capabilities": CHAT}
    statistics = get(pool, "/statistics")["statistics"]
    assert (statistics["totalModels"], statistics["loadedModels"]) == (3, 2)
    assert statistics["currentModel"] == "fake:gpt-3.5-turbo"
    assert statistics["totalInferences"] == 3
    assert statistics["providerCounts"] == {"fake": 3}
    assert statistics["capabilityCounts"] == {"chat_completion": 3, "function_calling": 1}
    assert statistics["statusCounts"] == {"available": 1, "loaded": 2}
    saved = post(pool, "/save-state")
    assert (saved["success"], Path(saved["path"]).name) == (True, "pool.db")


def test_what_the_events_are_called(pool: PoolProcess) -> None:
    post(pool, "/switch", {"provider": "fake", "model": "gpt-4"})
    post(pool, "/switch", {"provider": "fake", "model": "gpt-3.5-turbo"})
    post(pool, "/save-state", {})
    events = pool.events()
    switched = [e for e in events if e["event"] == "model-switched"][-1]
    assert (switched["previousModel"], switched["currentModel"]) == (
        "fake:gpt-4",
        "fake:gpt-3.5-turbo",
    )
    assert [e for e in events if e["event"] == "state-saved"][-1]["path"].endswith("pool.db")
    loading = next(e for e in events if e["event"] == "model-loading")
    assert loading["key"].startswith("fake:")


def test_errors_are_the_pools(pool: PoolProcess) -> None:
    for path, body, status in (
        ("/load", {"provider": "openai", "model": "gpt-4"}, 404),
        ("/load", {"provider": "fake", "model": "gpt-5"}, 404),
        ("/load", {"provider": "fake"}, 400),
        ("/switch", {"model": "gpt-5"}, 404),
        ("/fake:gpt-5/profile", {"testCount": 10}, 404),
        ("/fake:gpt-4/profile", {"testCount": 0}, 400),
    ):
        assert "message" in post(pool, path, body, status)["error"], path
    get(pool, "/fake:gpt-5/capabilities", 404)


def test_current_outlives_the_manager(pool: PoolProcess) -> None:
    post(pool, "/switch", {"model": "gpt-4"})
    pool.kill()
    pool.start()
    assert get(pool, "/current")["model"]["key"] == "fake:gpt-4"


def test_the_third_documents_calls(pool: PoolProcess) -> None:
    answer = pool.http.get(f"{BASE}/{GGUF}/load")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    loaded = post(pool, f"/{GGUF}/load")
    assert (loaded["message"], loaded["model"]) == ("Model loaded successfully", GGUF)
    body = {"model": GGUF, "messages": [{"role": "user", "content": "Write a Python function..."}]}
    answer = pool.http.post("/api/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"]
    docs = pool.http.get("/api-docs", headers={"accept": "text/html"})
    assert (docs.status_code, docs.headers["location"]) == (307, "/docs")
