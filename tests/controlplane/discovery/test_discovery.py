"""What is on a disk, and what the catalog of a real pool says of it."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shutil
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from modelpool.app import Running, running
from modelpool.background import JUDGED, judge_found
from modelpool.catalog.formats.registry import formats
from modelpool.catalog.model import Model
from modelpool.config import PoolConfig
from modelpool.discovery.tree import IS_OF_THE_SYSTEM
from modelpool.pool.recovery import Recoverer, Recovery
from support.in_process import client_of
from support.model_tree import MAKERS, gguf, put, split_gguf

Scene = Callable[[httpx.AsyncClient, Running], Awaitable[None]]


def play(folder: Path, scene: Scene, **config: Any) -> None:
    async def main() -> None:
        values: dict[str, Any] = {
            "discovery_paths": [str(folder / "models")],
            "discovery_calm_seconds": 0,
            "watch_discovery_paths": False,
            "discovery_interval_seconds": 0,
            **config,
        }
        made = PoolConfig(state_dir=folder / "state", **values)
        async with running(made) as pool, client_of(pool.entry) as http:
            await scene(http, pool)

    asyncio.run(main())


async def discover(http: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await http.post("/discover", json=body, params={"wait": 60})
    job = answer.json()
    assert job["state"] == "succeeded", job
    result: dict[str, Any] = job["result"]
    return result


async def findings(http: httpx.AsyncClient, **params: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await http.get("/discover", params=params)).json()["findings"]
    return found


async def models(http: httpx.AsyncClient) -> dict[str, dict[str, Any]]:
    listed = (await http.get("/models")).json()["models"]
    return {m["model_id"]: m for m in listed}


def events(pool: Running, name: str) -> list[dict[str, Any]]:
    bus = pool.services.events
    return [dict(e.data) for e in bus._kept if e.name == name]


def test_the_tests_can_make_every_format() -> None:
    assert formats().keys() <= MAKERS.keys()


@pytest.mark.parametrize("name", sorted(formats()))
def test_one_tree_with_all_that_may_be_there(tmp_path: Path, name: str) -> None:
    root, maker = tmp_path / "models", MAKERS[name]
    good = maker.good(root / "own", "good")
    cut = maker.good(root / "cut", "cut")
    weights = maker.weights(cut)
    put(weights, weights.read_bytes()[: -min(60, len(weights.read_bytes()) // 3)])
    bad = maker.good(root / "bad", "bad")
    put(maker.weights(bad), b"\xff" * 40)
    empty = maker.good(root / "empty", "empty")
    put(maker.weights(empty), b"")
    again = maker.good(root / "again", "good")
    gone = maker.good(root / "gone", "gone")
    maker.weights(gone).unlink()
    maker.weights(gone).symlink_to(root / "nowhere")
    blocked = maker.good(root / "blocked", "blocked")
    maker.weights(blocked).unlink()
    os.mkfifo(maker.weights(blocked))
    (root / "own" / "circle").symlink_to(root)
    put(root / "README.md", b"# models")
    put(root / "weights.bin", b"\0" * 100)
    put(root / ".hidden" / "x.gguf", gguf("hidden"))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(root / "socket.gguf"))

        async def scene(http: httpx.AsyncClient, pool: Running) -> None:
            result = await discover(http)
            assert (result["discovered"], result["duplicates"], result["failed"]) == (1, 1, {})
            (model,) = (await models(http)).values()
            assert model["origin"] == "discovered"
            assert sorted(model["places"]) == sorted([str(again), str(good)])
            assert model["engine"] == formats()[name].engine
            broken = {f["path"]: f["reason"] for f in await findings(http, kind="broken")}
            for path in (cut, bad, empty, gone, blocked):
                said = [r for p, r in broken.items() if p.startswith(str(path.parent))]
                assert len(said) == 1, (path, broken)
                assert said[0]
            assert broken[str(root / "socket.gguf")] == "is not a file"
            assert len(broken) == 6, broken
            again_result = await discover(http)
            assert again_result["discovered"] == 0
            (about,) = (await http.get("/discover")).json()["roots"]
            assert (about["state"], about["files_read"], about["source"]) == ("ready", 0, "folder")

        play(tmp_path, scene)


def test_companions_go_with_their_models(tmp_path: Path) -> None:
    root = tmp_path / "models"
    put(root / "o" / "see-GGUF" / "see-q4_0.gguf", gguf("see"))
    put(root / "o" / "see-GGUF" / "see-q8_0.gguf", gguf("see8"))
    eyes = put(root / "o" / "see-GGUF" / "mmproj-see.gguf", gguf("e", general__architecture="clip"))
    put(root / "mixed" / "a-q4_0.gguf", gguf("a"))
    put(root / "mixed" / "b-q4_0.gguf", gguf("b"))
    ears = put(root / "mixed" / "mmproj-b.gguf", gguf("f", general__architecture="clip"))

    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        result = await discover(http)
        assert (result["models"], result["companions"]) == (4, 2)
        found = await models(http)
        for model_id in ("o/see-GGUF:Q4_0", "o/see-GGUF:Q8_0"):
            assert found[model_id]["companions"] == {"projector": [str(eyes)]}
            assert found[model_id]["options"]["mmproj"] == str(eyes)
            reading = pool.services.estimator.reading(pool.services.catalog.get(model_id))
            assert reading is not None
            assert reading.info is not None
            assert reading.info.projector is not None
        assert found["mixed/a-q4_0"]["companions"] == {}
        assert found["mixed/b-q4_0"]["companions"] == {"projector": [str(ears)]}
        kinds = {f["companion"] for f in await findings(http, kind="companion")}
        assert kinds == {"projector"}

    play(tmp_path, scene)


THIRTEEN = (
    "lmstudio-community/Qwen2.5-Coder-14B-Instruct-GGUF/Qwen2.5-Coder-14B-Instruct-Q4_K_M.gguf",
    "lmstudio-community/gemma-3-12b-it-GGUF/gemma-3-12b-it-Q4_K_M.gguf",
    "lmstudio-community/Meta-Llama-3-8B-Instruct-GGUF/Meta-Llama-3-8B-Instruct-Q8_0.gguf",
    "TheBloke/deepseek-coder-6.7B-instruct-GGUF/deepseek-coder-6.7b-instruct.Q8_0.gguf",
    "TheBloke/CodeLlama-13B-Instruct-GGUF/codellama-13b-instruct.Q4_K_M.gguf",
    "TheBloke/CodeLlama-13B-Instruct-GGUF/codellama-13b-instruct.Q5_K_M.gguf",
    "TheBloke/MythoMax-L2-13B-GGUF/mythomax-l2-13b.Q4_K_M.gguf",
    "TheBloke/MythoMax-L2-13B-GGUF/mythomax-l2-13b.Q5_K_M.gguf",
    "TheBloke/MythoMax-L2-Kimiko-v2-13B-GGUF/mythomax-l2-kimiko-v2-13b.Q4_K_M.gguf",
    "TheBloke/Kunoichi-DPO-v2-7B-GGUF/kunoichi-dpo-v2-7b.Q8_0.gguf",
    "TheBloke/EstopianMaid-13B-GGUF/estopianmaid-13b.Q4_K_M.gguf",
    "TheBloke/EstopianMaid-13B-GGUF/estopianmaid-13b.Q5_K_M.gguf",
    "TheBloke/Silicon-Maid-7B-GGUF/silicon-maid-7b.Q8_0.gguf",
)


def test_thirteen_models_of_two_providers(tmp_path: Path) -> None:
    """M3's folder, with its names."""
    for path in THIRTEEN:
        put(tmp_path / "AI-models" / path, gguf(path))

    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        assert (await discover(http))["discovered"] == 13
        found = await models(http)
        assert len(found) == 13
        for model in found.values():
            assert model["quantization"]
            assert model["size_mb"] is not None
            assert model["context_length"] == 2048
            assert model["tags"] == [model["model_id"].split("/")[0]]
        for name in (
            "lmstudio-community/Qwen2.5-Coder-14B-Instruct-GGUF",
            "TheBloke/deepseek-coder-6.7B-instruct-GGUF",
            "TheBloke/MythoMax-L2-13B-GGUF:Q5_K_M",
        ):
            assert (await http.get(f"/models/{name}")).status_code == 200
        short = (await http.get("/models/TheBloke/MythoMax-L2-13B-GGUF")).json()
        assert short["model_id"] == "TheBloke/MythoMax-L2-13B-GGUF:Q4_K_M"

    external = str(tmp_path / "AI-models")
    play(tmp_path, scene, discovery_paths=[], external_models_dir=external)


def test_gguf_may_be_left_out(tmp_path: Path) -> None:
    put(tmp_path / "models" / "a.gguf", gguf("a"))

    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        assert (await discover(http))["discovered"] == 0

    play(tmp_path, scene, enable_gguf_models=False)


def test_models_move_change_vanish_and_come_back(tmp_path: Path) -> None:
    root = tmp_path / "models"
    path = put(root / "a.gguf", gguf("a"))

    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        await discover(http)
        entry = {"model_id": "a", "source": str(path), "tags": ["mine"]}
        answer = await http.post("/registry", json={"models": [entry], "replace": True})
        assert answer.status_code == 200, answer.text

        path.rename(root / "b.gguf")
        assert (await discover(http))["changed"] == 1
        model = (await models(http))["a"]
        assert (model["source"], model["tags"]) == (str(root / "b.gguf"), ["mine"])

        put(root / "b.gguf", gguf("another", llama__context_length=4096))
        await discover(http)
        assert (await models(http))["a"]["context_length"] == 4096
        assert len(events(pool, "model-changed")) == 2

        shutil.move(root / "b.gguf", tmp_path / "away.gguf")
        assert (await discover(http))["vanished"] == 1
        assert await models(http) == {}
        (said,) = events(pool, "model-vanished")
        assert "are gone from" in said["reason"]

        shutil.move(tmp_path / "away.gguf", root / "b.gguf")
        await discover(http)
        assert (await models(http))["a"]["tags"] == ["mine"]

        put(root / "b.gguf", gguf("another")[:100])
        await discover(http)
        assert (await models(http))["a"]["source"] == str(root / "b.gguf")
        (broken,) = await findings(http, kind="broken")
        assert (broken["model_id"], "truncated" in broken["reason"]) == ("a", True)

    play(tmp_path, scene)


def test_an_exported_model_is_found_again_wherever_its_content_is(tmp_path: Path) -> None:
    put(tmp_path / "one" / "models" / "a.gguf", gguf("a"))
    put(tmp_path / "two" / "models" / "deep" / "other.gguf", gguf("a"))
    exported: dict[str, Any] = {}

    async def first(http: httpx.AsyncClient, pool: Running) -> None:
        await discover(http)
        (entry,) = (await http.get("/registry")).json()["models"]
        assert entry["origin"] == "discovered"
        exported["models"] = [entry | {"tags": ["mine"]}]
        assert (await http.get("/config/file")).json()["models"] == []

    async def second(http: httpx.AsyncClient, pool: Running) -> None:
        answer = await http.post("/registry", json=exported)
        assert answer.json()["added"] == ["a"], answer.text
        await discover(http)
        (model,) = (await models(http)).values()
        assert (model["model_id"], model["tags"], model["origin"]) == ("a", ["mine"], "discovered")
        assert model["source"] == str(tmp_path / "two" / "models" / "deep" / "other.gguf")

    play(tmp_path / "one", first)
    play(tmp_path / "two", second)


def test_a_root_that_is_gone_deletes_nothing(tmp_path: Path) -> None:
    root = tmp_path / "models"
    put(root / "a.gguf", gguf("a"))

    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        await discover(http)
        root.rename(tmp_path / "elsewhere")
        result = await discover(http)
        assert result["vanished"] == 0
        assert "cannot be read: No such file" in result["failed"][str(root)]
        assert list(await models(http)) == ["a"]
        assert len(events(pool, "discovery-failed")) == 1

    play(tmp_path, scene)


def test_what_users_decide_stays(tmp_path: Path) -> None:
    root = tmp_path / "models"
    path = put(root / "a.gguf", gguf("a"))
    other = put(root / "b.gguf", gguf("b"))

    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        await discover(http)
        assert (await http.delete("/models/a")).status_code == 200
        registered = {"model_id": "mine", "source": str(other)}
        assert (await http.post("/models/register", json=registered)).status_code == 201
        await discover(http)
        found = await models(http)
        assert {m: v["origin"] for m, v in found.items()} == {"mine": "api"}
        assert {f["model_id"] for f in await findings(http)} == {"mine", None}
        await discover(http, restore=True)
        assert set(await models(http)) == {"mine", "a"}
        taken = {"model_id": "a", "source": str(path), "display_name": "By hand"}
        assert (await http.post("/models/register", json=taken)).status_code == 201
        await discover(http)
        assert (await models(http))["a"]["origin"] == "api"

    play(tmp_path, scene)


def test_all_is_as_it_was_after_a_restart(tmp_path: Path) -> None:
    split_gguf(tmp_path / "models" / "o" / "big", "big", 2)

    async def first(http: httpx.AsyncClient, pool: Running) -> None:
        await discover(http)

    async def second(http: httpx.AsyncClient, pool: Running) -> None:
        (model,) = (await models(http)).values()
        assert model["memory_estimate_mb"] > 0
        assert model["quantization"] == "Q4_K_M"
        await discover(http)
        (about,) = (await http.get("/discover")).json()["roots"]
        assert about["files_read"] == 0

    play(tmp_path, first)
    play(tmp_path, second)


def test_what_was_found_is_known_before_workers_are_adopted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split_gguf(tmp_path / "models" / "o" / "big", "big", 2)
    recover = Recoverer.recover
    needed: list[int] = []

    async def recovers(self: Recoverer) -> Recovery:
        needed.extend(self._pool.requirements(m.model_id).bytes for m in self._pool.models)
        return await recover(self)

    async def first(http: httpx.AsyncClient, pool: Running) -> None:
        await discover(http)

    async def second(http: httpx.AsyncClient, pool: Running) -> None:
        (model,) = pool.services.catalog
        assert needed == [pool.services.pool.memory_estimate(model).reserved]

    play(tmp_path, first)
    monkeypatch.setattr(Recoverer, "recover", recovers)
    play(tmp_path, second)


def test_folders_that_clients_name(tmp_path: Path) -> None:
    root = tmp_path / "asked"
    put(root / "a.gguf", gguf("a"))

    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        refused = await http.post("/discover", json={})
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "no_discovery_paths")
        await discover(http, paths=[str(root)])
        assert list(await models(http)) == ["a"]
        answer = await http.request("DELETE", "/discover", params={"path": str(root)})
        assert answer.json() == {"deleted": str(root), "vanished": ["a"], "waiting": []}
        again = await http.request("DELETE", "/discover", params={"path": str(root)})
        assert again.status_code == 404

    play(tmp_path, scene, discovery_paths=[])


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"paths": []}, "paths"),
        ({"paths": ["relative"]}, "paths"),
        ({"paths": [""]}, "paths"),
        ({"paths": [{"source": "folder"}]}, "paths"),
        ({"paths": [{"path": "/x", "source": "nothing"}]}, "paths"),
        ({"paths": "/x"}, "paths"),
        ({"restore": 1}, "restore"),
        ({"else": 1}, "else"),
    ],
)
def test_what_cannot_be_asked(tmp_path: Path, body: dict[str, Any], param: str) -> None:
    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        answer = await http.post("/discover", json=body)
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["param"].startswith(param)

    play(tmp_path, scene)


def _without_times(root: dict[str, Any]) -> dict[str, Any]:
    times = ("path", "seconds", "tried_at")
    return {key: value for key, value in root.items() if key not in times}


@pytest.mark.parametrize("by", ["paths", "config"])
def test_of_folders_that_a_client_names_only_models_are_told(tmp_path: Path, by: str) -> None:
    private = tmp_path / "private"
    good = put(private / "good" / "good-q4_0.gguf", gguf("good"))
    put(private / "diary.gguf", b"dear diary")
    secrets = tmp_path / "secrets"
    put(secrets / "letters.gguf", b"dear")
    named = [str(private), str(secrets), str(tmp_path / "nowhere"), str(secrets / "letters.gguf")]

    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        if by == "config":
            answer = await http.patch("/config", json={"discovery_paths": named})
            assert answer.status_code == 200, answer.text
            result = await discover(http)
        else:
            result = await discover(http, paths=named)
        assert (result["models"], result["broken"]) == (1, 0)
        about = (await http.get("/discover")).json()
        assert [f["path"] for f in about["findings"]] == [str(good)]
        roots = {root["path"]: root for root in about["roots"]}
        assert (roots[str(private)]["state"], roots[str(private)]["files"]) == ("ready", 0)
        others = [_without_times(roots[path]) for path in named[1:]]
        assert others[0] == others[1] == others[2], "it tells which files there are"
        assert "discovery_paths" in others[0]["reason"]
        jobs = (await http.get("/jobs")).text + (await http.get("/events/history")).text
        assert "diary.gguf" not in jobs
        put(good, gguf("good")[:-40])  # what was told of is, when it breaks
        await discover(http)
        assert [f["kind"] for f in await findings(http)] == ["broken"]
        assert "good:Q4_0" in await models(http)

    play(tmp_path, scene, discovery_paths=[])


def test_what_is_no_model_is_told_no_more_once_its_folder_is_none_of_the_config(
    tmp_path: Path,
) -> None:
    put(tmp_path / "models" / "torn.gguf", b"GGUF")
    asked = {"paths": [str(tmp_path / "models")]}

    async def before(http: httpx.AsyncClient, pool: Running) -> None:
        await discover(http, **asked)
        assert [f["kind"] for f in await findings(http)] == ["broken"]

    async def after(http: httpx.AsyncClient, pool: Running) -> None:
        await discover(http)
        assert await findings(http) == []

    play(tmp_path, before, discovery_paths=[], option_file_paths=[str(tmp_path)])
    play(tmp_path, after, discovery_paths=[])


def test_what_the_system_makes_up_is_not_looked_through(tmp_path: Path) -> None:
    root = tmp_path / "models"
    put(root / "a-q4_0.gguf", gguf("a"))
    links = {"all": "/proc/self/root/proc", "devices": "/dev", "self": "/proc/self"}
    there = {root / name: target for name, target in links.items() if Path(target).exists()}
    for link, target in there.items():
        link.symlink_to(target)

    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        assert (await discover(http))["models"] == 1
        broken = {f["path"]: f["reason"] for f in await findings(http, kind="broken")}
        assert broken == dict.fromkeys(map(str, there), IS_OF_THE_SYSTEM)
        assert (await discover(http, paths=["/dev"]))["models"] == 0

    play(tmp_path, scene)


def test_what_models_can_do_is_known_before_anybody_loads_them(tmp_path: Path) -> None:
    put(tmp_path / "models" / "talks.gguf", gguf("talks"))
    put(tmp_path / "models" / "nomic-embed.gguf", gguf("e", general__architecture="nomic-bert"))

    async def has(http: httpx.AsyncClient, capability: str) -> list[str]:
        answer = await http.get("/models", params={"capability": capability})
        return [m["model_id"] for m in answer.json()["models"]]

    async def scene(http: httpx.AsyncClient, _: Running) -> None:
        await discover(http)
        assert await has(http, "chat") == ["talks"]
        assert await has(http, "embeddings") == ["nomic-embed"]
        refused = await http.post("/v1/embeddings", json={"model": "talks", "input": "a"})
        assert refused.status_code == 400, refused.text
        assert refused.json()["error"]["details"] == {"models": ["nomic-embed"]}
        assert (await http.get("/models/talks")).json()["state"] == "COLD"

    play(tmp_path, scene)


def test_what_a_user_changes_while_a_look_is_taken_over_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "models"
    put(folder / "talks.gguf", gguf("talks"))

    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        await discover(http)
        catalog, judge = pool.services.catalog, pool.services.capabilities.judged

        async def judged(model: Model, *about: Any) -> Model:
            old = catalog.get("talks")
            if not old.tags:
                await catalog.replace(dataclasses.replace(old, tags=("mine",)), old)
            return await judge(model, *about)

        monkeypatch.setattr(pool.services.capabilities, "judged", judged)
        (folder / "further").mkdir()
        os.rename(folder / "talks.gguf", folder / "further" / "talks.gguf")
        await discover(http)
        found = catalog.get("talks")
        assert found.source == str(folder / "further" / "talks.gguf")
        assert found.tags == ("mine",)

    play(tmp_path, scene)


def test_with_another_engine_it_is_said_anew_what_models_can_do(tmp_path: Path) -> None:
    put(tmp_path / "models" / "talks.gguf", gguf("talks"))

    async def as_written_by_another(pool: Running) -> None:
        services = pool.services
        model = services.catalog.get("talks")
        unjudged = dataclasses.replace(model, capabilities=(), denied_capabilities=(), from_file=())
        await services.store.write_models([unjudged])
        await services.store.write_documents(JUDGED, {"llama.cpp": ["0", "0", []]})

    async def first(http: httpx.AsyncClient, pool: Running) -> None:
        await discover(http)
        await as_written_by_another(pool)

    async def second(_: httpx.AsyncClient, pool: Running) -> None:
        services = pool.services
        async with asyncio.timeout(60):
            while not services.catalog.get("talks").capabilities:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        async with asyncio.timeout(60):
            while (await services.store.documents(JUDGED))["llama.cpp"][0] == "0":  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def third(_: httpx.AsyncClient, pool: Running) -> None:
        edition = pool.services.catalog.edition
        await judge_found(pool.services)
        assert pool.services.catalog.edition == edition

    for scene in (first, second, third):
        play(tmp_path, scene)


def test_a_model_is_called_by_the_folder_that_it_is_in_not_by_a_link(tmp_path: Path) -> None:
    root = tmp_path / "models"
    real = put(root / "owner" / "repo-GGUF" / "repo-q4_0.gguf", gguf("m"))
    other = put(tmp_path / "elsewhere" / "far-GGUF" / "far-q4_0.gguf", gguf("far"))
    (root / "a-link").symlink_to(root / "owner")
    (root / "z-link").symlink_to(root / "owner")
    (root / "b-link").symlink_to(other.parent.parent)

    async def scene(http: httpx.AsyncClient, _: Running) -> None:
        await discover(http)
        found = await models(http)
        assert {m: found[m]["places"] for m in found} == {
            "owner/repo-GGUF:Q4_0": [str(real)],
            "b-link/far-GGUF:Q4_0": [str(root / "b-link" / "far-GGUF" / "far-q4_0.gguf")],
        }

    play(tmp_path, scene)
