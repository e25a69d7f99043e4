"""Where the HOT workers are, as Prometheus and Traefik ask for it."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
from hypothesis import given
from hypothesis import strategies as st
from modelpool.api.service_discovery import prometheus_targets, traefik_configuration
from modelpool.app import Running, running
from modelpool.config import PoolConfig
from modelpool.observe.events import Event
from modelpool.registrars.record import Record
from support.in_process import client_of
from support.registries import record
from support.servers import free_port, needs

Scene = Callable[[httpx.AsyncClient, Running], Awaitable[None]]


def play(config: PoolConfig, scene: Scene) -> None:
    async def main() -> None:
        async with running(config) as pool, client_of(pool.entry) as http:
            await scene(http, pool)

    asyncio.run(main())


def pool_of(folder: Path, **keys: Any) -> PoolConfig:
    return PoolConfig(state_dir=folder / "state", **keys)


def listing(pool: Running, *records: Record) -> None:
    pool.services.registrars.records = lambda: {r.id: r for r in records}


def test_an_empty_pool_is_an_empty_list(tmp_path: Path) -> None:
    async def scene(http: httpx.AsyncClient, _: Running) -> None:
        assert (await http.get("/sd/prometheus")).json() == []
        assert (await http.get("/sd/traefik")).json() == {}
        for path in ("/sd/prometheus", "/sd/traefik", "/registrars"):
            assert (await http.head(path)).status_code == 200

    play(pool_of(tmp_path), scene)


def test_as_long_as_the_state_is_unknown_it_is_503(tmp_path: Path) -> None:
    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        pool.services.registrars.has_begun = False
        for path in ("/sd/prometheus", "/sd/traefik"):
            answer = await http.get(path)
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "1"
            assert "not known yet" in answer.json()["error"]["message"]
        assert (await http.get("/registrars")).status_code == 200

    play(pool_of(tmp_path), scene)


def test_targets_with_their_labels(tmp_path: Path) -> None:
    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        listing(pool, record("a"), record("b", host="::1", port=8052))
        answer = await http.get("/sd/prometheus")
        assert answer.headers["content-type"] == "application/json"
        first, second = answer.json()
        assert first["targets"] == ["127.0.0.1:8051"]
        assert second["targets"] == ["[::1]:8052"]
        assert first["labels"]["model"] == "org/m:7b"
        assert first["labels"]["engine"] == "fake"
        assert first["labels"]["pool"]
        assert first["labels"]["__meta_modelpool_worker"] == "a"

    play(pool_of(tmp_path), scene)


@given(st.lists(st.builds(record, st.uuids().map(str), model=st.text(), version=st.text())))
def test_prometheus_takes_texts_only(records: list[Record]) -> None:
    groups = prometheus_targets(records)
    assert len(groups) == len(records)
    for group in groups:
        assert all(isinstance(t, str) for t in group["targets"])
        assert all(isinstance(v, str) for v in group["labels"].values())


def test_traefik_gets_a_router_per_model_and_a_server_per_worker() -> None:
    found = traefik_configuration([record("a"), record("b", port=8052), record("c", model="x")])
    http = found["http"]
    assert set(http["routers"]) == set(http["services"]) == set(http["middlewares"])
    name = "model-org_2Fm_3A7b"
    assert http["routers"][name]["rule"] == "PathPrefix(`/org/m:7b/`)"
    assert http["middlewares"][name] == {"stripPrefix": {"prefixes": ["/org/m:7b"]}}
    assert http["services"][name]["loadBalancer"]["servers"] == [
        {"url": "http://127.0.0.1:8051"},
        {"url": "http://127.0.0.1:8052"},
    ]
    assert len(http["services"]) == 2
    # A worker does not know by which name Traefik was asked.
    assert all(not s["loadBalancer"]["passHostHeader"] for s in http["services"].values())


@given(st.sets(st.text(st.sampled_from("a/_:2F@`{}%"), min_size=1), max_size=6))
def test_names_for_traefik_are_harmless_and_never_shared(models: set[str]) -> None:
    found = traefik_configuration([record(m, model=m) for m in models])
    routers = found.get("http", {}).get("routers", {})
    assert len(routers) == len(models)
    for name, router in routers.items():
        assert not set(name) & set("@/`{}%")
        assert router["rule"].count("`") == 2
        assert not set(router["rule"]) & set("{}")


def test_registrars_show_what_became_of_them(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"

    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        events = pool.services.events
        listener = events.subscribe(f"{events.run}-0")
        async with asyncio.timeout(30):
            while not isinstance(event := await listener.next(30), Event) or (
                event.name != "registrar-failed"
            ):
                pass
        assert event.data["url"] == url
        (view,) = (await http.get("/registrars")).json()["registrars"]
        assert (view["kind"], view["url"], view["status"]) == ("http", url, "failing")
        assert url in view["last_error"]
        assert view["registered"] is None
        shown = (await http.get("/config")).json()["registrars"]
        assert shown[0]["url"] == url
        labels = f'{{kind="http",url="{url}"}}'
        metrics = (await http.get("/metrics")).text.splitlines()
        assert f"modelpool_registrar_up{labels} 0.0" in metrics
        assert any(
            line.startswith(f"modelpool_registrar_failures_total{labels}") for line in metrics
        )

    play(pool_of(tmp_path, registrars=[{"kind": "http", "url": url}]), scene)


@needs("promtool")
def test_promtool_finds_nothing_wrong(tmp_path: Path) -> None:
    """The example of docs/service-discovery.md."""
    page = Path(__file__).parents[2] / "docs" / "service-discovery.md"
    text = page.read_text()
    example = text.split("```yaml\n# prometheus.yml\n")[1].split("```")[0]
    (tmp_path / "prometheus.yml").write_text(example)
    command = ["promtool", "check", "config", str(tmp_path / "prometheus.yml")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
