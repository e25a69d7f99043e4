"""What is asked often costs no more with many models than with few: work is counted, not timed."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
from modelpool.api.find import TOLD
from modelpool.app import Running, management_api, running
from modelpool.catalog import estimator
from modelpool.catalog.model import Model, Origin
from modelpool.catalog.store import Store
from modelpool.config import PoolConfig
from modelpool.describing import Describer
from modelpool.engines import check_models
from modelpool.gateway.listings import Listing, send
from modelpool.pool.states import State
from support.model_tree import gguf

FEW, MANY = 20, 400
ASKED = (
    "/health",
    "/metrics",
    "/models?limit=10",
    "/models?limit=10&offset=5&sort=model_id",
    "/models?limit=10&q=nobody&tag=none",
    "/api/v1/models?limit=10",
    "/api/v1/models/fake?limit=10&offset=5",
    "/models/model-7",
    "/statistics",
)
# Calls of functions: pages differ a little by what stands on them.
MORE = 1.1


class Calls:
    """How many functions were called."""

    count = 0


@contextmanager
def counted() -> Iterator[Calls]:
    calls = Calls()

    def note(_: Any, event: str, __: Any) -> None:
        calls.count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(None)


def in_pool(
    folder: Path,
    size: int,
    scene: Callable[[Running], Awaitable[None]],
    more: Callable[[int], dict[str, Any]] = lambda _: {},
) -> None:
    models = [Model(f"model-{i}", "fake", "-", tags=(f"t{i % 7}",), **more(i)) for i in range(size)]

    async def main() -> None:
        config = PoolConfig(state_dir=folder / f"state-{size}", models=models)
        async with running(config) as pool:
            await scene(pool)

    asyncio.run(main())


async def least(work: Callable[[], Awaitable[None]]) -> int:
    """Of several times: the first fills caches, and at another the pool may do something else."""
    found = []
    for _ in range(5):
        with counted() as calls:
            await work()
        found.append(calls.count)
    return min(found)


async def calls_of(pool: Running, paths: Iterable[str]) -> dict[str, int]:
    found = {}
    app = httpx.ASGITransport(management_api(pool.services))
    async with httpx.AsyncClient(transport=app, base_url="http://127.0.0.1") as http:
        for path in paths:

            async def ask(path: str = path) -> None:
                assert (await http.get(path)).status_code == 200

            found[path] = await least(ask)
    return found


def test_what_is_asked_often(tmp_path: Path) -> None:
    found: dict[int, dict[str, int]] = {}

    async def scene(pool: Running) -> None:
        services = pool.services
        found[len(services.catalog)] = await calls_of(pool, ASKED)

        async def look() -> None:
            services.pool.repair()
            await services.schedules.reconcile()
            await services.preloads.reconcile()
            await services.pressure.reconcile()
            await services.usage.save(services.store)

        found[len(services.catalog)]["what the pool does by itself"] = await least(look)

    for size in (FEW, MANY):
        in_pool(tmp_path, size, scene)
    for path, few in found[FEW].items():
        assert found[MANY][path] <= MORE * few, path


def started(folder: Path, size: int, origin: Origin) -> tuple[int, int]:
    """Calls of a start with so many models, in the config file or known from before, and of the
    stop after it; by the thread of the loop."""
    models = [Model(f"model-{i}", "fake", "-", origin=origin) for i in range(size)]
    found = []

    async def main() -> None:
        state = folder / f"{origin}-{size}"
        config = PoolConfig(state_dir=state, models=models if origin == "config" else [])
        if origin != "config":
            store = await Store.open(config.database)
            await store.write_models(models)
            await store.close()
        for _ in range(3):  # the first makes the database, and imports
            with counted() as starting:
                pool = await (context := running(config)).__aenter__()
            assert len(pool.services.catalog) == size
            with counted() as stopping:
                await pool.stop()
            await context.__aexit__(None, None, None)
            found.append((starting.count, stopping.count))

    asyncio.run(main())
    return min(start for start, _ in found), min(stop for _, stop in found)


@pytest.mark.parametrize(("origin", "most"), [("api", 30), ("config", 50)])
def test_start_and_stop(tmp_path: Path, origin: Origin, most: int) -> None:
    few, many = (started(tmp_path, size, origin) for size in (FEW, MANY))
    each = (many[0] - few[0]) / (MANY - FEW)
    assert each <= most, f"{each:.0f} calls for each model at a start"
    each = (many[1] - few[1]) / (MANY - FEW)
    assert each <= 4, f"{each:.0f} calls for each model at a stop"


def test_a_list_has_a_page_of_models_and_metrics_those_that_are_used(tmp_path: Path) -> None:
    async def scene(pool: Running) -> None:
        app = httpx.ASGITransport(management_api(pool.services))
        async with httpx.AsyncClient(transport=app, base_url="http://127.0.0.1") as http:
            page = (await http.get("/models")).json()
            assert (len(page["models"]), page["total"], page["next_offset"]) == (100, MANY, 100)
            metrics = (await http.get("/metrics")).text
            assert f'modelpool_models{{state="COLD"}} {MANY}.0' in metrics
            assert 'model="' not in metrics
            pool.services.pool.refuse("model-7", "a test says so")
            metrics = (await http.get("/metrics")).text
            assert 'modelpool_state{model="model-7",state="COLD"} 1.0' in metrics
            assert "model-8" not in metrics

    in_pool(tmp_path, MANY, scene)


class FakeParts:
    """A catalog and a pool in one, as far as a listing looks at them."""

    edition = 1

    def __init__(self) -> None:
        self.found = [Model(f"m{i}", "e", "-") for i in range(5)]
        self.states: dict[str, State] = {}

    def list(self) -> list[Model]:
        return self.found

    def has(self, model_id: str) -> bool:
        return model_id != "m4"

    @property
    def awake_models(self) -> set[str]:
        return set(self.states)

    def state(self, model_id: str) -> State:
        return self.states[model_id]


def test_only_what_has_changed_is_encoded_again() -> None:
    asked: list[str] = []

    def encode(model: Model, state: State) -> bytes:
        asked.append(f"{model.model_id} {state}")
        return f"{model.model_id}{model.updated_at}{state}".encode()

    parts: Any = FakeParts()
    listing = Listing(parts, parts, encode)

    def news() -> tuple[str, list[str]]:
        asked.clear()
        return listing.renew(), list(asked)

    first, encoded = news()
    assert encoded == ["m0 COLD", "m1 COLD", "m2 COLD", "m3 COLD"]
    assert news() == (first, [])
    parts.states["m1"] = State.HOT
    second, encoded = news()
    assert (second != first, encoded) == (True, ["m1 HOT"])
    parts.states["m1"] = State.COOLING
    assert news()[1] == ["m1 COOLING"]
    del parts.states["m1"]
    assert news()[1] == ["m1 COLD"]
    parts.edition, parts.found[2] = 2, Model("m2", "e", "-", updated_at=1.0)
    assert news()[1] == ["m2 COLD"]
    assert [text for _, text in listing.parts][2] == b"m21.0COLD"
    parts.edition, parts.found = 3, parts.found[1:]
    assert news()[1] == []
    assert [m.model_id for m, _ in listing.parts] == ["m1", "m2", "m3"]


@pytest.mark.parametrize(("asked", "status"), [("", 200), ('"x"', 200), ("same", 304)])
def test_a_list_that_the_client_has_is_not_sent(asked: str, status: int) -> None:
    had = b'W/"a", "7"' if asked == "same" else asked.encode()

    class Asked:
        fields: ClassVar = {b"if-none-match": had}

    class FakeExchange:
        request = Asked()
        sent: tuple[int, bytes] = (0, b"")

        def send(self, status: int, headers: Any, body: bytes) -> None:
            assert (b"etag", b'"7"') in headers
            self.sent = (status, body)

    exchange: Any = FakeExchange()
    send(exchange, "7", lambda: b"{}")
    assert exchange.sent == (status, b"{}" if status == 200 else b"")


def test_the_best_is_found_without_a_look_at_each(tmp_path: Path) -> None:
    sizes = (2 * TOLD, 20 * TOLD)
    found: dict[int, dict[str, int]] = {}
    tight, wide = {"max_memory_gb": 0.1}, {"max_memory_gb": 100.0}
    wanted = ({}, {"tags": ["t3"]}, {"tags": ["none"]}, {"max_latency_ms": 10.0}, tight, wide)

    async def scene(pool: Running) -> None:
        app = httpx.ASGITransport(management_api(pool.services))
        size = len(pool.services.catalog)
        found[size] = {}
        async with httpx.AsyncClient(transport=app, base_url="http://127.0.0.1") as http:
            for body in wanted:

                async def ask(body: Any = body) -> None:
                    answer = (await http.post("/models/find_best", json=body)).json()
                    assert (answer["best"] is None) == (body == {"tags": ["none"]})
                    if not body:
                        assert answer["best"]["model_id"] == f"model-{size - 1}"

                found[size][str(body)] = await least(ask)

    for size in sizes:
        in_pool(tmp_path, size, scene, lambda i: {"memory_mb": i + 1})
    few, many = (found[size] for size in sizes)
    # Those with a tag are put in order, a call each.
    assert many["{'tags': ['t3']}"] <= few["{'tags': ['t3']}"] + sizes[1]
    for body in ("{}", "{'tags': ['none']}", "{'max_latency_ms': 10.0}", str(wide)):
        assert many[body] <= MORE * few[body], body
    each = (many[str(tight)] - few[str(tight)]) / (sizes[1] - sizes[0])
    assert each <= 80, f"{each:.0f} calls for each model that is too large"


def test_the_best_is_found_while_one_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(pool: Running) -> None:
        services = pool.services
        monkeypatch.setattr(services.usage, "measured", lambda: {"model-7"})
        app = httpx.ASGITransport(management_api(services))
        async with httpx.AsyncClient(transport=app, base_url="http://127.0.0.1") as http:
            await services.pool.remove("model-7")  # before the catalog hears of it
            answer = await http.post("/models/find_best", json={"max_memory_gb": 4.0})
            assert answer.status_code == 200
            assert answer.json()["best"]["model_id"] == "model-0"

    in_pool(tmp_path, FEW, scene)


def test_the_best_of_models_that_are_alike_is_found_without_a_look_at_each(tmp_path: Path) -> None:
    found = []

    async def scene(pool: Running) -> None:
        app = httpx.ASGITransport(management_api(pool.services))
        async with httpx.AsyncClient(transport=app, base_url="http://127.0.0.1") as http:

            async def ask() -> None:
                answer = await http.post("/models/find_best", json={"max_memory_gb": 4.0})
                assert answer.json()["best"]["model_id"] == "model-0"

            found.append(await least(ask))

    for size in (2 * TOLD, 4 * TOLD):
        in_pool(tmp_path, size, scene)
    assert found[1] <= MORE * found[0]


def test_of_models_that_are_there_as_before_no_file_is_read_at_a_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    models = []
    for name in ("same", "warm", "changed", "rewritten"):
        path = tmp_path / f"{name}.gguf"
        path.write_bytes(gguf(name))
        models.append(Model(name, "llama.cpp", str(path), warmup=name == "warm"))
    looks = estimator._looks

    def noted(some: Iterable[Model]) -> Any:
        some = tuple(some)
        read.extend(model.model_id for model in some)
        return looks(some)

    monkeypatch.setattr(estimator, "_looks", noted)
    seen: list[Any] = []

    async def main(models: list[Model]) -> None:
        config = PoolConfig(state_dir=tmp_path / "state", models=models)
        read.clear()
        async with running(config) as pool:
            catalog = pool.services.catalog
            seen.append([list(read), catalog.get("same"), catalog.get("rewritten").facts["name"]])
            async with asyncio.timeout(30):  # what a start leaves is looked at while it runs
                while catalog.get("rewritten").facts["name"] != names[-1]:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            await pool.stop()

    names = ["rewritten"]
    asyncio.run(main(models))
    names.append("another")
    (tmp_path / "rewritten.gguf").write_bytes(gguf("another"))
    asyncio.run(main([models[0], models[1], replace(models[2], tags=("new",)), models[3]]))
    (all_of_them, first, _), (few, second, name) = seen
    assert all_of_them == ["same", "warm", "changed", "rewritten"]
    assert (few, name) == (["warm", "changed"], "rewritten")
    assert first == second


def test_nothing_is_made_for_models_that_are_only_looked_at(tmp_path: Path) -> None:
    async def scene(pool: Running) -> None:
        services = pool.services
        app = httpx.ASGITransport(management_api(services))
        async with httpx.AsyncClient(transport=app, base_url="http://127.0.0.1") as http:
            for path in ("/health", "/metrics", "/v1/models", "/api/v1/models", "/statistics"):
                await http.get(path)
            await http.post("/models/find_best", json={"max_memory_gb": 4.0})
        for model in services.catalog:
            services.pool.plan(model.model_id)
        assert services.pool.supervisors == {}
        assert services.pool.status("model-7").state is State.COLD
        assert list(services.pool.supervisors) == ["model-7"]

    in_pool(tmp_path, FEW, scene)


@pytest.mark.parametrize("inspect", [False, True])
def test_engines_are_asked_once_for_what_has_one_answer(inspect: bool) -> None:
    class Asked(Describer):
        def ask(self, *arguments: str, data: str = "") -> dict[str, Any] | None:
            self.models = json.loads(data)["models"]
            told = {"problems": [], "notes": [], "memory_bytes": None}
            return {"models": [{**told, "options": {"n": i}} for i, _ in enumerate(self.models)]}

    describer = Asked(("nobody",))
    models = [Model(f"m{i}", "llama.cpp", f"/m/{i}.gguf") for i in range(9)]
    other = Model("o", "llama.cpp", "/m/0.gguf", options={"ctx": 1})
    verdicts = check_models((*models, other), inspect=inspect, describer=describer)
    assert len(describer.models) == (10 if inspect else 2)
    assert verdicts[8].options == {"n": 8 if inspect else 0}
    assert verdicts[9].options == {"n": len(describer.models) - 1}
