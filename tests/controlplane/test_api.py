"""The management API over a pool that has no workers."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import modelpool.background
import pytest
from modelpool.app import Running, running
from modelpool.catalog.versions import MOST_VERSIONS
from modelpool.config import PoolConfig, load_config
from modelpool.observe.usage import UsageMeter
from modelpool.pool.replica import Run
from modelpool.pool.states import Lease, State
from modelpool_client.errors import LoadFailed
from modelpool_worker import engines
from support.in_process import client_of

FIXTURES = Path(__file__).parent / "fixtures"
NAMES = frozenset({"fake", "llama.cpp", "ollama"})
Scene = Callable[[httpx.AsyncClient, Running], Awaitable[None]]


def play(config: PoolConfig, scene: Scene) -> None:
    async def known() -> frozenset[str]:
        return NAMES

    async def main() -> None:
        async with running(config) as pool:
            pool.services.engines.names = known  # type: ignore[method-assign]
            async with client_of(pool.entry) as http:
                await scene(http, pool)

    asyncio.run(main())


def config(folder: Path, **keys: Any) -> PoolConfig:
    return PoolConfig(state_dir=folder / "state", **{"option_file_paths": [str(folder)], **keys})


def fake(model_id: str, **values: Any) -> dict[str, Any]:
    return {"model_id": model_id, "engine": "fake", "source": "x", **values}


def test_the_first_documents_registry_is_taken(tmp_path: Path) -> None:
    registry = json.loads((FIXTURES / "model_pool_registry.json").read_text(encoding="utf-8"))

    async def scene(http: httpx.AsyncClient, _: Running) -> None:
        answer = await http.post("/registry", json=registry)
        assert (answer.status_code, len(answer.json()["added"])) == (200, 2)
        view = (await http.get("/models/llama3.1:8b")).json()
        assert (view["engine"], view["warmup"]) == ("ollama", True)
        strange = {"models": [{"model_id": "m", "engine": "abacus", "source": "x"}]}
        assert (await http.post("/registry", json=strange)).status_code == 400
        refused = await http.post("/models/register", json=fake("m") | {"engine": "abacus"})
        assert refused.status_code == 400
        assert "there are: fake, llama.cpp, ollama" in refused.json()["error"]["message"]

    play(config(tmp_path), scene)
    with pytest.raises(LoadFailed, match="this version has no engine 'abacus'") as caught:
        engines.get("abacus")
    assert caught.value.code == "bad_config"


def test_models_come_in_pages(tmp_path: Path) -> None:
    async def scene(http: httpx.AsyncClient, _: Running) -> None:
        for model_id in ("c", "a", "b"):
            await http.post("/models/register", json=fake(model_id, tags=["t"] * (model_id > "a")))

        async def page(query: str) -> tuple[list[str], int]:
            found = (await http.get(f"/models?{query}")).json()
            return [m["model_id"] for m in found["models"]], found["total"]

        assert await page("") == (["a", "b", "c"], 3)
        assert await page("limit=2") == (["a", "b"], 3)
        assert await page("limit=2&offset=2") == (["c"], 3)
        assert await page("offset=5") == ([], 3)
        assert await page("limit=0&tag=t") == ([], 2)
        assert await page("limit=1&tag=t&state=cold") == (["b"], 2)
        assert (await http.get("/models?limit=-1")).status_code == 400

    play(config(tmp_path), scene)


def test_a_config_file_makes_the_same_pool(tmp_path: Path) -> None:
    async def scene(http: httpx.AsyncClient, _: Running) -> None:
        for model_id in ("one", "two"):
            answer = await http.post("/models/register", json=fake(model_id, tags=["t"]))
            assert answer.status_code == 201, answer.text
        written = (await http.get("/config/file")).json()
        (tmp_path / "pool.json").write_text(json.dumps(written))

    play(config(tmp_path, grace_minutes=3, models=()), scene)
    again = load_config(tmp_path / "pool.json", {})
    assert (again.grace_minutes, again.state_dir) == (3, tmp_path / "state")
    assert [(m.model_id, m.tags) for m in again.models] == [("one", ("t",)), ("two", ("t",))]


def test_the_first_documents_config_starts_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    environment = {"MODELPOOL_STATE_DIR": str(tmp_path)}

    async def scene(http: httpx.AsyncClient, _: Running) -> None:
        assert (await http.get("/health")).json()["total_models"] == 0

    with caplog.at_level(logging.WARNING):
        play(load_config(FIXTURES / "model_pool_config.json", environment), scene)
    for model_id in ("qwen2.5-coder:7b", "llama3.1:8b"):
        assert f"warmup_models names {model_id}" in caplog.text


def test_warm_up_models_of_any_origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modelpool.background, "warm_up", lambda _: None)
    named = config(tmp_path, warmup_models=("by-id", "by-alias", "imported"))

    async def first(http: httpx.AsyncClient, pool: Running) -> None:
        bodies = fake("by-id"), fake("other", aliases=["by-alias"]), fake("own", warmup=True)
        for body in (*bodies, fake("none")):
            await http.post("/models/register", json=body)
        await http.post("/registry", json={"models": [fake("imported")]})
        await look(http, pool)

    async def look(http: httpx.AsyncClient, _: Running) -> None:
        models = (await http.get("/models")).json()["models"]
        assert [m["model_id"] for m in models if m["warmup"]] == [
            "by-id",
            "imported",
            "other",
            "own",
        ]

    async def unnamed(http: httpx.AsyncClient, _: Running) -> None:
        models = (await http.get("/models")).json()["models"]
        assert [m["model_id"] for m in models if m["warmup"]] == ["own"]

    play(named, first)
    play(named, look)
    play(config(tmp_path), unnamed)


@pytest.mark.parametrize("verb", ["load", "unload", "extend-ttl", "profile"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_verbs_take_post(tmp_path: Path, method: str, verb: str) -> None:
    async def scene(http: httpx.AsyncClient, _: Running) -> None:
        answer = await http.request(method, f"/models/a/b:7b/{verb}", json={})
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
        if method != "HEAD":
            error = answer.json()["error"]
            assert (error["code"], "takes POST" in error["message"]) == ("method_not_allowed", True)

    play(config(tmp_path), scene)


ALLOWED = [
    ("PUT", "/models", "GET, HEAD"),
    ("PATCH", "/models/org/m:7b", "GET, HEAD, DELETE"),
    ("POST", "/models/org/m:7b", "GET, HEAD, DELETE"),
    ("POST", "/models/m/health", "GET, HEAD"),
    ("DELETE", "/config", "GET, HEAD, PATCH"),
    ("GET", "/models/register", "POST"),
    ("GET", "/restart", "POST"),
    ("OPTIONS", "/registry", "GET, HEAD, POST"),
    ("POST", "/openapi.json", "GET, HEAD"),
    ("POST", "/static-offline-docs/swagger-ui.css", "GET, HEAD"),
    ("PUT", "/discover", "GET, HEAD, POST, DELETE"),
    ("POST", "/v1/models", "GET, HEAD"),
    ("DELETE", "/v1/models/m", "GET, HEAD"),
    ("GET", "/v1/chat/completions", "POST"),
    ("PUT", "/v1/completions", "POST"),
]


def test_every_405_says_what_is_allowed(tmp_path: Path) -> None:
    async def scene(http: httpx.AsyncClient, _: Running) -> None:
        for method, path, allowed in ALLOWED:
            answer = await http.request(method, path, json={})
            assert answer.status_code == 405, path
            assert answer.headers.get_list("allow") == [allowed], path
            assert f"takes {allowed}, not {method}" in answer.json()["error"]["message"]

    play(config(tmp_path), scene)


def test_latest_is_the_model_without_a_tag(tmp_path: Path) -> None:
    async def scene(http: httpx.AsyncClient, _: Running) -> None:
        await http.post("/models/register", json=fake("llama3", aliases=["nick"]))
        await http.post("/models/register", json=fake("org/other:latest"))
        for name, model_id in (
            ("llama3:latest", "llama3"),
            ("nick:latest", "llama3"),
            ("org/other", "org/other:latest"),
            ("org%2Fother", "org/other:latest"),
        ):
            for path in (f"/models/{name}", f"/models/{name}/plan", f"/models/{name}/history"):
                assert (await http.get(path)).json()["model_id"] == model_id
            assert (await http.get(f"/v1/models/{name}")).json()["root"] == model_id
        assert (await http.get("/models/llama3:8b")).status_code == 404
        # Who is called so comes first.
        await http.post("/models/register", json=fake("llama3:latest"))
        assert (await http.get("/models/llama3:latest")).json()["model_id"] == "llama3:latest"
        assert (await http.get("/models/llama3")).json()["model_id"] == "llama3"
        assert (await http.delete("/models/org/other")).json()["deleted"] == "org/other:latest"

    play(config(tmp_path), scene)


def test_a_warm_up_model_is_named_with_or_without_latest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modelpool.background, "warm_up", lambda _: None)

    async def scene(http: httpx.AsyncClient, _: Running) -> None:
        await http.post("/models/register", json=fake("llama3:latest"))
        assert (await http.get("/models/llama3")).json()["warmup"]

    play(config(tmp_path, warmup_models=("llama3",)), scene)


def test_what_comes_later(tmp_path: Path) -> None:
    later = [
        ("POST", "/swaps"),
        ("GET", "/swaps/1"),
        ("POST", "/experiments"),
        ("POST", "/experiments/1/outcomes"),
        ("GET", "/peers"),
    ]

    async def scene(http: httpx.AsyncClient, _: Running) -> None:
        for method, path in later:
            answer = await http.request(method, path, json={})
            error = answer.json()["error"]
            assert (answer.status_code, error["code"]) == (501, "not_supported"), path
            assert f"{method} {path} is not in this version yet" in error["message"]
        assert (await http.get("/nonsense")).status_code == 404

    play(config(tmp_path), scene)


def test_head_is_get_without_body(tmp_path: Path) -> None:
    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        await http.post("/models/register", json=fake("m"))
        for path in ("/health", "/livez", "/readyz", "/metrics", "/models", "/models/m", "/config"):
            head, get = await http.head(path), await http.get(path)
            assert (head.status_code, head.content) == (200, b""), path
            assert head.headers["content-type"] == get.headers["content-type"]
        for path, status in (("/models/no", 404), ("/models/m/health", 503), ("/nonsense", 404)):
            assert (await http.head(path)).status_code == status
        async with asyncio.timeout(60):  # a stream without end
            assert (await http.head("/events")).status_code == 200

    play(config(tmp_path), scene)


def test_extending_a_lease_that_never_ends(tmp_path: Path) -> None:
    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        model = SimpleNamespace(model_id="m")
        status = SimpleNamespace(model=model, state=State.HOT, lease=Lease(None))
        pool.services.status = lambda name: cast(Any, status)  # type: ignore[method-assign]
        pool.services.pool.extend = lambda *_: 0.0  # type: ignore[method-assign]
        answer = (await http.post("/models/m/extend-ttl", json={"minutes": 30})).json()
        assert (answer["capped"], answer["message"]) == (False, "never expires")
        status.lease = Lease(60.0, until=pool.services.pool.clock.now() + 60)
        answer = (await http.post("/models/m/extend-ttl", json={"minutes": 30})).json()
        assert answer["capped"]
        assert "message" not in answer

    play(config(tmp_path), scene)


def test_a_client_that_left_is_no_error() -> None:
    meter = UsageMeter(lambda: 0.0)
    for status in (200, 499, 503):
        meter.ended("m", status, 0.1)
    statistics = meter.statistics({})["models"]["m"]
    assert (statistics["request_count"], statistics["error_count"]) == (3, 1)


def test_of_several_copies_the_one_that_was_loaded_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the load another one spoke for the model."""

    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        await http.post("/models/register", json=fake("m", max_replicas=2))
        copies = pool.services.pool.sets["m"]
        first = copies.first.replica
        first.state = State.WARMING  # else it would be the one to start
        second = copies.startable(2)
        assert second is not None
        second = second.replica

        async def load(*_: Any) -> None:
            first.state, first.run = State.HOT, Run("w", 8051, Lease(None), 0.0)

        monkeypatch.setattr(pool.services.pool, "load", load)
        for path in ("/models/m/endpoint?wait=9", "/models/m/load?wait=9"):
            first.state, first.run, second.state = State.COLD, None, State.FAILED
            answer = await (http.get(path) if "endpoint" in path else http.post(path, json={}))
            assert answer.status_code == 200, answer.text
            assert "HOT" in answer.text
        first.state = second.state = State.COLD
        first.run = None

    play(config(tmp_path), scene)


def test_models_are_found_by_what_they_are_and_shown_as_asked_for(tmp_path: Path) -> None:
    bodies = (
        fake("org/big", size_bytes=9_000_000, tags=["Code"], capabilities=["chat_completion"]),
        fake("org/small", size_bytes=2_000_000, model_type="code"),
        fake("plain", capabilities=["embeddings"]),
    )

    async def scene(http: httpx.AsyncClient, _: Running) -> None:
        for body in bodies:
            assert (await http.post("/models/register", json=body)).status_code == 201

        async def found(query: str) -> list[str]:
            answer = await http.get(f"/models?{query}")
            assert answer.status_code == 200, answer.text
            return [m["model_id"] for m in answer.json()["models"]]

        every = ["org/big", "org/small", "plain"]
        assert await found("provider=fake&status=available") == every
        assert await found("provider=claude") == await found("status=loaded") == []
        assert await found("capability=chat") == await found("capability=chat_completion")
        assert await found("capability=chat") == await found("q=CODE") == ["org/big"]
        assert await found("model_type=code") == await found("max_size_mb=2") == ["org/small"]
        assert await found("min_size_mb=3&tag=Code") == ["org/big"]
        assert await found("sort=size") == ["org/small", "org/big", "plain"]
        assert await found("sort=-size&limit=2") == ["org/big", "org/small"]
        some = (await http.get("/models?fields=model_id,state&limit=1")).json()
        first = [{"model_id": "org/big", "state": "COLD"}]
        assert some == {"models": first, "total": 3, "next_offset": 1}
        assert await found("state=awake") == []
        rest = (await http.get("/models?fields=model_id&limit=2&offset=1")).json()
        assert (len(rest["models"]), rest["next_offset"]) == (2, None)
        for wrong in ("sort=beauty", "fields=stat", "engine=a&provider=b", "min_size_mb=-1"):
            assert (await http.get(f"/models?{wrong}")).status_code == 400, wrong

    play(config(tmp_path), scene)


def test_a_changed_entry_can_be_had_back(tmp_path: Path) -> None:
    async def scene(http: httpx.AsyncClient, _: Running) -> None:
        first = fake("org/m", options={"load_seconds": 1}, aliases=["a"], tags=["t"])
        assert (await http.post("/models/register", json=first)).status_code == 201
        assert (await http.get("/models/org/m/versions")).json()["versions"] == []
        other = fake("org/m", options={"load_seconds": 2})
        for body in (other, other):  # the second changes nothing
            answer = await http.post("/registry", json={"models": [body], "replace": True})
            assert answer.status_code == 200, answer.text
        assert (await http.get("/models/none/versions")).status_code == 404
        (version,) = (await http.get("/models/org/m/versions")).json()["versions"]
        assert (version["version"], version["can_be_restored"]) == (1, True)
        assert version["entry"]["options"] == {"load_seconds": 1}
        back = await http.post("/models/org/m/versions/1/rollback")
        assert back.status_code == 200, back.text
        model = back.json()["model"]
        assert (model["options"], model["aliases"]) == ({"load_seconds": 1}, ["a"])
        assert (await http.get("/models/a")).json()["model_id"] == "org/m"
        found = (await http.get("/models/org/m/versions")).json()["versions"]
        assert [v["entry"]["options"] for v in found] == [{"load_seconds": 2}, {"load_seconds": 1}]
        missing = await http.post("/models/org/m/versions/9/rollback")
        assert (missing.status_code, missing.json()["error"]["param"]) == (404, "version")
        await http.delete("/models/org/m")
        await http.post("/models/register", json=first)
        assert (await http.get("/models/org/m/versions")).json()["versions"] == []

    play(config(tmp_path), scene)


def test_one_that_was_found_is_so_after_a_rollback(tmp_path: Path) -> None:
    async def scene(http: httpx.AsyncClient, _: Running) -> None:
        marks = {"origin": "discovered", "identity": "sha256:ab"}
        for seconds in (1, 2):
            body = fake("m", options={"load_seconds": seconds}) | marks
            await http.post("/registry", json={"models": [body], "replace": True})
        assert (await http.post("/models/m/versions/1/rollback")).status_code == 200
        (entry,) = (await http.get("/registry")).json()["models"]
        assert (entry["options"], {k: entry[k] for k in marks}) == ({"load_seconds": 1}, marks)

    play(config(tmp_path), scene)


def test_only_the_last_ones_are_kept(tmp_path: Path) -> None:
    async def scene(http: httpx.AsyncClient, _: Running) -> None:
        await http.post("/models/register", json=fake("m", options={"load_seconds": 0}))
        for n in range(1, MOST_VERSIONS + 4):
            changed = fake("m", options={"load_seconds": n})
            await http.post("/registry", json={"models": [changed], "replace": True})
        found = (await http.get("/models/m/versions")).json()["versions"]
        assert [v["version"] for v in found] == list(range(MOST_VERSIONS + 3, 3, -1))

    play(config(tmp_path), scene)


def test_a_version_whose_fallback_is_gone_is_not_had_back(tmp_path: Path) -> None:
    async def scene(http: httpx.AsyncClient, _: Running) -> None:
        for body in (fake("n"), fake("m") | {"fallbacks": ["n"]}):
            assert (await http.post("/models/register", json=body)).status_code == 201
        await http.post("/registry", json={"models": [fake("m")], "replace": True})
        await http.delete("/models/n")
        answer = await http.post("/models/m/versions/1/rollback")
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "fallbacks")
        assert (await http.get("/models/m")).json()["fallbacks"] == []

    play(config(tmp_path), scene)


def test_a_version_that_would_be_refused_now_is_not_had_back(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir()
    (private / "notes").write_text("dear diary")

    async def before(http: httpx.AsyncClient, _: Running) -> None:
        for source in (str(private / "notes"), "m"):
            body = fake("m", options={"load_seconds": 1}) | {"source": source}
            answer = await http.post("/registry", json={"models": [body], "replace": True})
            assert answer.status_code == 200, answer.text

    async def after(http: httpx.AsyncClient, _: Running) -> None:
        answer = await http.post("/models/m/versions/1/rollback")
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "only_in_config")
        assert (await http.get("/models/m")).json()["source"] == "m"

    play(config(tmp_path), before)
    play(config(tmp_path, option_file_paths=[]), after)


def test_others_go_on_while_the_document_of_the_api_is_made(tmp_path: Path) -> None:
    async def scene(http: httpx.AsyncClient, _: Running) -> None:
        turns = 0

        async def go_on() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        others = asyncio.create_task(go_on())
        first, second = await asyncio.gather(http.get("/openapi.json"), http.get("/openapi.json"))
        others.cancel()
        paths = first.json()["paths"]
        assert turns > len(paths) > 100
        assert first.content == second.content == (await http.get("/openapi.json")).content
        assert "/v1/chat/completions" in paths

    play(config(tmp_path), scene)


def test_the_two_files_are_empty_where_nothing_is_set(tmp_path: Path) -> None:
    async def scene(http: httpx.AsyncClient, _: Running) -> None:
        assert (await http.get("/model-preferences")).json() == {}
        assert (await http.get("/advanced-model-settings")).json()["classes"] == {}
        await http.post("/models/register", json=fake("m"))
        await http.put("/virtual-models/other", json={"kind": "alias", "target": "m"})
        for path in ("/model-preferences", "/advanced-model-settings"):
            refused = await http.get(path, params={"name": "other"})
            assert refused.status_code == 409
            assert "is of kind alias" in refused.json()["error"]["message"]

    play(config(tmp_path), scene)
