"""A pool in front of stand-ins of providers: one worker each, and every model a name of its own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import psutil
import pytest
from support.providers import faults
from support.providers.anthropic import AnthropicApi
from support.providers.openai import OpenAIApi
from support.providers.server import KEY, FakeProvider

from e2e.helpers import marked
from e2e.support import PoolProcess, until

PAGES = ("/models", "/models/openai", "/config", "/config/file", "/engines", "/metrics")
ASK: Any = [{"role": "user", "content": "a b c"}]


class Providers:
    """The pool, and whom it asks."""

    def __init__(self, pool: PoolProcess, first: FakeProvider, second: FakeProvider) -> None:
        self.pool = pool
        self.http = pool.http
        self.openai = first
        self.anthropic = second

    def states(self) -> dict[str, str]:
        return {m["model_id"]: m["state"] for m in self.http.get("/models").json()["models"]}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Providers]:
    folder = tmp_path_factory.mktemp("providers")
    file = folder / "key"
    file.write_text(KEY)
    first, second = FakeProvider(OpenAIApi()), FakeProvider(AnthropicApi())
    providers = {
        "openai": {
            "base_url": f"{first.url}/v1",
            "api_key_file": str(file),
            "models": ["gpt-4o", {"name": "text-embedding-3-small", "aliases": ["vectors"]}],
        },
        "hasty": {
            "base_url": f"{first.url}/v1",
            "api_key_file": str(file),
            "models": ["gpt-4o", "text-embedding-3-small"],
            "options": {"request_timeout_seconds": 1},
        },
        "anthropic": {
            "base_url": f"{second.url}/v1",
            "api_key_file": str(file),
            "models": [{"name": "claude-sonnet-5-5", "aliases": ["sonnet"]}],
            "discover": True,
        },
    }
    own = {"anthropic:claude-haiku-4-5": {"prices": {"input": 9}}}
    with PoolProcess(folder, ports=8, providers=providers, remote_models=own) as pool:
        yield Providers(pool, first, second)
    first.stop()
    second.stop()


@pytest.fixture
def providers(shared: Providers) -> Providers:
    for fake in (shared.openai, shared.anthropic):
        fake.asked.clear()
        fake.faults.clear()
    return shared


def test_one_worker_serves_all_models_of_a_provider(providers: Providers) -> None:
    client = openai.OpenAI(api_key="none", base_url=f"{providers.pool.url}/v1", max_retries=0)
    told = client.chat.completions.create(model="openai:gpt-4o", messages=ASK)
    assert told.choices[0].message.content == "a b c"
    assert client.embeddings.create(model="vectors", input="abc").data[0].embedding[0] == 3.0
    states = providers.states()
    assert states["openai"] == states["openai:gpt-4o"] == states["openai:text-embedding-3-small"]
    ports = {
        providers.http.get(f"/models/{name}/endpoint").json()["port"]
        for name in ("openai", "openai:gpt-4o", "vectors")
    }
    assert len(ports) == 1
    assert [asked.json["model"] for asked in providers.openai.asked] == [
        "gpt-4o",
        "text-embedding-3-small",
    ]
    direct = openai.OpenAI(api_key="none", base_url=f"http://127.0.0.1:{min(ports)}/v1")
    chunks = direct.chat.completions.create(model="openai:gpt-4o", messages=ASK, stream=True)
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "a b c"
    assert {m.id for m in direct.models.list()} >= {"openai", "openai:gpt-4o"}


def test_counts_are_of_models_and_not_of_workers(providers: Providers) -> None:
    http = providers.http
    assert http.post("/models/openai/load?wait=60").status_code == 200
    states = providers.states()
    health = http.get("/health").json()
    assert health["total_models"] == len(states)
    assert health["active_models"] == sum(s in ("HOT", "COOLING") for s in states.values())
    running = {m["name"]: m["size"] for m in http.get("/api/ps").json()["models"]}
    assert {"openai:gpt-4o", "openai:text-embedding-3-small"} <= running.keys()
    assert not {"openai", "anthropic"} & running.keys()


def test_both_apis_speak_to_both_providers(providers: Providers) -> None:
    first = openai.OpenAI(api_key="none", base_url=f"{providers.pool.url}/v1", max_retries=0)
    second = anthropic.Anthropic(api_key="none", base_url=providers.pool.url, max_retries=0)
    for model in ("openai:gpt-4o", "sonnet"):
        told = first.chat.completions.create(model=model, messages=ASK, max_tokens=50)
        assert told.choices[0].message.content == "a b c"
        with second.messages.stream(model=model, messages=ASK, max_tokens=50) as stream:
            assert stream.get_final_text() == "a b c"


def test_what_is_known_of_a_model(providers: Providers) -> None:
    about = providers.http.get("/models/openai:gpt-4o").json()
    assert about["served_by"] == "openai"
    assert about["context_length"] == 128_000
    assert about["prices"]["output"] == 10
    assert "vision" in about["capabilities"]
    refused = providers.http.post("/v1/embeddings", json={"model": "openai:gpt-4o", "input": "a"})
    assert refused.json()["error"]["code"] == "missing_capability"
    assert providers.openai.asked == []


def test_models_that_are_listed_are_found(providers: Providers) -> None:
    name = "anthropic:claude-haiku-4-5"
    until(lambda: name in providers.states(), "it to be found")
    about = providers.http.get(f"/models/{name}").json()
    assert about["origin"] == "discovered"
    assert about["prices"]["input"] == 9
    told = providers.http.post("/v1/chat/completions", json={"model": name, "messages": ASK})
    assert told.json()["model"] == "claude-haiku-4-5"


@pytest.mark.parametrize("body", [b"<html>", {"models": []}, {"data": [1]}, {"data": None}])
def test_models_stay_where_a_list_makes_no_sense(providers: Providers, body: Any) -> None:
    name = "anthropic:claude-haiku-4-5"
    until(lambda: name in providers.states(), "it to be found")
    providers.anthropic.list_faults.append(faults.answering(200, body))
    done = providers.http.post("/discover?wait=60", json={})
    assert done.status_code < 300, done.text
    assert not providers.anthropic.list_faults
    assert "sent no list of its models" in done.text
    assert name in providers.states()


def test_unloading_a_model_unloads_its_provider_if_that_is_idle(
    providers: Providers,
) -> None:
    http = providers.http
    http.post("/models/hasty:gpt-4o/load?wait=60")
    providers.openai.faults.append(faults.hang_before_head)
    body = json.dumps({"model": "hasty:gpt-4o", "messages": ASK})
    other = "/models/hasty:text-embedding-3-small"
    url = f"{providers.pool.url}/v1/chat/completions"
    asking = subprocess.Popen(
        ["curl", "-s", url, "-H", "content-type: application/json", "-d", body],
        stdout=subprocess.PIPE,
    )
    until(lambda: providers.openai.asked, "the request")
    busy = http.post(f"{other}/unload")
    assert busy.status_code == 409
    assert "unload hasty to end them" in busy.json()["error"]["message"]
    said = json.loads(asking.communicate(timeout=60)[0])["error"]
    assert said["code"] == "upstream_timeout"
    until(lambda: http.post(f"{other}/unload").status_code == 200, "the unload")
    assert providers.states()["hasty"] == "COLD"
    assert http.get("/models/hasty:gpt-4o").json()["state"] == "COLD"


def test_a_worker_that_is_killed_has_nothing_billed_twice(providers: Providers) -> None:
    http, ask = providers.http, {"model": "openai:gpt-4o", "messages": ASK}
    assert http.post("/v1/chat/completions", json=ask).status_code == 200
    providers.openai.asked.clear()
    providers.openai.faults.append(faults.hang_before_head)
    with ThreadPoolExecutor(1) as threads:
        asking = threads.submit(http.post, "/v1/chat/completions", json=ask)
        until(lambda: providers.openai.asked, "the request")
        os.kill(http.get("/models/openai").json()["worker_pid"], signal.SIGKILL)
        answer = asking.result(60)
    assert answer.status_code == 502
    assert "it is not asked again" in answer.json()["error"]["message"]
    assert len([a for a in providers.openai.asked if a.method == "POST"]) == 1
    until(lambda: http.post("/v1/chat/completions", json=ask).status_code == 200, "another worker")


def test_a_limit_is_seen_through_the_manager(providers: Providers) -> None:
    http = providers.http
    ask = {"model": "vectors", "input": "a"}
    assert http.post("/v1/embeddings", json=ask).status_code == 200
    limited = faults.answering(429, {"error": {"message": "slow"}}, retry_after="300")
    providers.openai.faults.append(limited)
    first, second = (http.post("/v1/embeddings", json=ask) for _ in range(2))
    assert (first.status_code, second.status_code) == (429, 429)
    assert "it was not asked" in second.json()["error"]["message"]
    assert int(second.headers["retry-after"]) > 200
    assert len(providers.openai.asked) == 2

    def blocked() -> float:
        upstream = http.get("/models/vectors").json()["upstream"]
        models = upstream.get("models", {})
        return float(models.get("text-embedding-3-small", {}).get("blocked_seconds", 0))

    until(lambda: blocked() > 0, "the limit to be seen")
    http.post("/models/openai/unload", json={"force": True})


def test_several_models_of_one_provider_are_loaded_together(providers: Providers) -> None:
    body = {"models": ["openai:gpt-4o", "vectors", "openai"]}
    told = providers.http.post("/models/load?wait=60", json=body)
    assert told.status_code == 200, told.text
    assert len(told.json()["models"]) == 3


def test_the_config_that_is_exported_makes_the_same_pool(providers: Providers) -> None:
    file = providers.http.get("/config/file")
    said = file.json() if "json" in file.headers["content-type"] else file.text
    text = json.dumps(said) if not isinstance(said, str) else said
    assert "openai:gpt-4o" not in text
    assert "gpt-4o" in text


def test_engines_tell_of_providers(providers: Providers) -> None:
    told = providers.http.get("/engines").json()["providers"]
    groq = next(p for p in told if p["name"] == "groq")
    assert (groq["usable"], groq["reason"]) == (False, "GROQ_API_KEY is not set")


def _about(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.NoSuchProcess):
        return f"{process.cmdline()} {process.environ()}"
    return ""


def test_the_key_is_nowhere(providers: Providers) -> None:
    refusal = {"error": {"message": f"no: {KEY[:8]}*****{KEY[-4:]} {KEY}"}}
    providers.openai.faults.append(faults.answering(401, refusal))
    body = {"model": "openai:gpt-4o", "messages": ASK}
    assert providers.http.post("/requests/capture", json={"minutes": 5}).status_code == 200
    refused = providers.http.post("/v1/chat/completions", json=body)
    assert refused.json()["error"]["code"] == "upstream_refused_key"
    shown = [refused.text, *(providers.http.get(p).text for p in PAGES)]

    def captured() -> list[str]:
        last = providers.http.get("/requests?limit=5").json()["requests"]
        numbers = [r["number"] for r in last if r["code"] == "upstream_refused_key"]
        found = [providers.http.get(f"/requests/{number}").text for number in numbers]
        return [text for text in found if '"captured":true' in text]

    until(captured, "what was said to be kept")
    shown += captured()
    providers.http.delete("/requests/capture")
    # Of the pool's processes: another test that runs now may show a key like this one.
    shown += [_about(process) for process in marked(providers.pool.mark)]
    folder = providers.pool.folder
    files = (p for p in folder.rglob("*") if p.is_file() and p != folder / "key")
    shown += [path.read_bytes().decode("latin-1") for path in files]
    pieces = re.compile("|".join((re.escape(KEY[:12]), re.escape(KEY[-10:]))))
    assert not [text for text in shown if pieces.search(text)]


def test_keys_of_another_program(tmp_path: Path) -> None:
    from modelpool.config import load_config

    file = tmp_path / "pool.yaml"
    file.write_text(
        "api_backends:\n"
        "  openai:\n"
        "    api_key: ${MY_KEY}\n"
        "    models:\n"
        "      - {name: gpt-x, context_window: 1000, capabilities: [chat],"
        " cost_per_token: 0.000002}\n"
    )
    config = load_config(file, {"MY_KEY": KEY})
    provider, model = config.models
    assert (model.model_id, model.served_by) == ("openai:gpt-x", "openai")
    assert (model.context_length, model.prices["input"]) == (1000, 2.0)
    assert provider.options["api_key_variable"] == "MY_KEY"
    assert KEY not in json.dumps(config.as_dict()) + json.dumps(config.as_file())


@pytest.mark.parametrize(
    ("engine", "options"),
    [
        ("openai", {}),
        ("anthropic", {}),
        ("openai", {"base_url": "http://127.0.0.1:9/v1"}),
        ("openai", {"models": ["gpt-5"]}),
        ("openai", {"discover": True}),
        ("openai", {"api_key_variable": "HOME"}),
        ("anthropic", {"api_key_file": "/etc/hostname"}),
        ("http", {"url": "http://127.0.0.1:9/x", "body": "{}", "answer": "a"}),
        ("ollama", {"servers": ["127.0.0.1:9"]}),
    ],
)
def test_no_client_says_who_is_asked_with_which_key(
    providers: Providers, engine: str, options: dict[str, Any]
) -> None:
    entry = {"model_id": "evil", "engine": engine, "source": "x", "options": options}
    if not options:
        entry["source"] = "gpt-4o"  # a provider's model; this one would be asked elsewhere
    answer = providers.http.post("/models/register", json=entry)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "only_in_config")
    imported = providers.http.post("/registry", json={"models": [entry]})
    assert imported.status_code == 400
    assert "allow_commands_by_api" in answer.json()["error"]["message"]
    if options:
        changed = providers.http.patch("/models/openai/options", json=options)
        assert changed.status_code == 400
    assert providers.http.get("/models/evil").status_code == 404


def test_nobody_serves_himself(providers: Providers) -> None:
    http = providers.http
    for entry in (
        {"model_id": "self", "engine": "openai", "source": "x", "served_by": "self"},
        {"model_id": "openai:gpt-4o", "engine": "openai", "source": "gpt-4o"},
    ):
        body = {"models": [entry], "replace": True}
        answer = http.post("/registry?replace=true", json=body)
        assert answer.status_code == 400, answer.text
        assert "served_by" in answer.json()["error"]["message"]
    assert http.get("/models/self").status_code == 404
    assert http.post("/models/openai:gpt-4o/load?wait=60").status_code == 200


def test_a_provider_leaves_with_its_models(tmp_path: Path) -> None:
    fake = FakeProvider(OpenAIApi())
    (tmp_path / "key").write_text(KEY)
    about = {"base_url": f"{fake.url}/v1", "api_key_file": str(tmp_path / "key")}
    with PoolProcess(tmp_path, providers={"openai": {**about, "models": ["gpt-4o", "b"]}}) as pool:
        body = {"model": "openai:gpt-4o", "messages": ASK}
        assert pool.http.post("/v1/chat/completions", json=body).status_code == 200
        assert pool.http.delete("/models/openai").status_code == 200
        assert pool.http.get("/models").json()["total"] == 0
        assert pool.http.get("/registry").json()["models"] == []
        assert pool.http.post("/v1/chat/completions", json=body).status_code == 404
    fake.stop()


@pytest.mark.parametrize("is_at_work", [False, True])
def test_a_model_that_is_new_in_the_file_is_served_by_a_worker_that_runs(
    tmp_path: Path, is_at_work: bool
) -> None:
    fake = FakeProvider(OpenAIApi())
    (tmp_path / "key").write_text(KEY)
    about = {"base_url": f"{fake.url}/v1", "api_key_file": str(tmp_path / "key")}
    with (
        PoolProcess(tmp_path, providers={"openai": {**about, "models": ["gpt-4o"]}}) as pool,
        ThreadPoolExecutor(1) as threads,
    ):

        def ask(name: str, url: str = pool.url) -> httpx.Response:
            body = {"model": f"openai:{name}", "max_tokens": 9, "messages": ASK}
            return httpx.post(f"{url}/v1/messages", json=body, timeout=60)

        def reload(*models: str) -> None:
            said = json.loads(pool.config.read_text())
            said["providers"]["openai"]["models"] = models
            pool.config.write_text(json.dumps(said))
            assert pool.http.post("/config/reload").status_code == 200

        assert ask("gpt-4o").status_code == 200
        worker = pool.http.get("/models/openai").json()["worker_pid"]
        port = pool.http.get("/models/openai/endpoint").json()["port"]
        direct = f"http://127.0.0.1:{port}"
        if is_at_work:
            fake.faults.append(faults.hang_before_head)
            count = len(fake.asked)
            asking = threads.submit(ask, "gpt-4o")
            until(lambda: len(fake.asked) > count, "the request")
        try:
            reload("gpt-4o", "gpt-4o-mini", "o3")
            assert ask("gpt-4o-mini").status_code == 200
            assert fake.asked[-1].json["model"] == "gpt-4o-mini"
            reload("gpt-4o", "gpt-4o-mini", "o3", "o4-mini")
            assert ask("o4-mini", direct).status_code == 200
            # Those that are gone are refused, also by who was told of them.
            assert pool.http.delete("/models/openai:gpt-4o-mini").status_code == 200
            reload("gpt-4o", "o3")
            gone = ("gpt-4o-mini", "o4-mini")
            assert [ask(name).status_code for name in gone] == [404, 404]
            until(lambda: {ask(name, direct).status_code for name in gone} == {404}, "the news")
            assert ask("o3").status_code == 200
            assert pool.http.get("/models/openai").json()["worker_pid"] == worker
        finally:
            fake.stop()
        if is_at_work:
            assert asking.result(60).status_code == 502
