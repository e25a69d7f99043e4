"""A pull from its request to a registered model, over a real pool and a hub on loopback."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from modelpool.app import Running, running
from modelpool.config import PoolConfig
from support.adapter import write_adapter
from support.hub import Fault, Hub, running_hub, sha256
from support.in_process import client_of
from support.servers import free_port

pytestmark = pytest.mark.long

DEMO = Path(__file__).parents[3] / "configs" / "models" / "pool-demo.gguf"
GGUF = DEMO.read_bytes()
WAIT = {"wait": "60"}

Scene = Callable[[httpx.AsyncClient, Running], Awaitable[None]]


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as hub:
        hub.repos["owner/tiny"] = {
            "README.md": b"# tiny",
            "tiny-Q4_K_M.gguf": GGUF,
            "tiny-Q8_0.gguf": GGUF + b"\0" * 64,
        }
        hub.publish("library/tiny", "latest", [("model", GGUF), ("template", b"{{ .Prompt }}")])
        yield hub


class Room:
    """Plays scenes in one folder, one pool after the other."""

    def __init__(self, hub: Hub, folder: Path) -> None:
        self.hub = hub
        self.folder = folder
        self.models = folder / "models"

    def fetched(self) -> int:
        """Bytes of the file that is not whole yet."""
        return max((p.stat().st_size for p in self.models.rglob(".*.part")), default=0)

    async def has_fetched(self, size: int) -> None:
        while self.fetched() < size:  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    def play(self, scene: Scene, **keys: Any) -> None:
        async def main() -> None:
            config = PoolConfig(
                state_dir=self.folder / "state",
                models_dir=self.models,
                enable_spare_worker=False,
                **{
                    "hub_url": self.hub.url,
                    "ollama_registry_url": self.hub.url,
                    "pull_private_addresses": True,
                    **keys,
                },
            )
            async with running(config) as pool, client_of(pool.entry) as http:
                await scene(http, pool)

        asyncio.run(main())


@pytest.fixture
def room(hub: Hub, tmp_path: Path) -> Room:
    return Room(hub, tmp_path)


async def pulled(http: httpx.AsyncClient, source: str, **more: Any) -> dict[str, Any]:
    answer = await http.post("/models/pull", json={"source": source, **more}, params=WAIT)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_repository_of_the_hub(room: Room) -> None:
    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        job = await pulled(http, "hf:owner/tiny")
        assert job["state"] == "succeeded", job
        assert job["result"]["model_id"] == "owner/tiny:Q4_K_M"
        assert any("Q4_K_M: it needs about" in reason for reason in job["result"]["reasons"])
        assert (room.models / "owner/tiny/tiny-Q4_K_M.gguf").read_bytes() == GGUF
        model = (await http.get("/models/owner/tiny:Q4_K_M")).json()
        assert (model["engine"], model["state"]) == ("llama.cpp", "COLD")
        disk = (await http.get("/disk")).json()
        (held,) = disk["pulls"]
        assert (held["reference"], held["models"]) == ("hf:owner/tiny", ["owner/tiny:Q4_K_M"])
        assert (held["bytes"], disk["unfinished"]) == (len(GGUF), [])
        again = await pulled(http, "hf:owner/tiny")
        assert again["state"] == "succeeded"
        assert room.hub.sent == len(GGUF)

    room.play(scene)


def test_ollamas_registry(room: Room) -> None:
    said = {"num_ctx": 512, "stop": ["</s>"], "temperature": 0.5, "top_k": 20, "num_predict": 9}
    params = json.dumps({**said, "penalize_newline": True}).encode()
    room.hub.publish(
        "library/tiny",
        "small",
        [
            ("model", GGUF),
            ("params", params),
            ("template", b"{{ .Prompt }}"),
            ("system", b"Be kind"),
        ],
    )

    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        job = await pulled(http, "ollama:tiny:small")
        assert job["state"] == "succeeded", job
        assert job["result"]["model_id"] == "tiny:small"
        model = pool.services.catalog.get("tiny:small")
        assert model.options == {"context_length": 512, "temperature": 0.5}
        assert model.request == {
            "defaults": {"stop": ["</s>"], "top_k": 20, "max_tokens": 9},
            "system_prompt": "Be kind",
        }
        assert model.metadata["ollama"]["system"] == "Be kind"
        assert model.metadata["ollama"]["template"] == "{{ .Prompt }}"
        note = "kept and not applied: its parameters penalize_newline"
        assert note in job["result"]["reasons"]
        other = await pulled(http, f"ollama:{room.hub.host}/library/tiny:latest")
        assert other["result"]["model_id"] == "tiny"

    room.play(scene)


def test_an_adapter_of_ollamas_registry_is_applied(room: Room) -> None:
    made = write_adapter(room.folder / "a.gguf", "llama", "blk.0.attn_q.weight", (192, 192))
    adapter = made.read_bytes()
    room.hub.publish("library/tiny", "tuned", [("model", GGUF), ("adapter", adapter)])

    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        job = await pulled(http, "ollama:tiny:tuned")
        assert job["state"] == "succeeded", job
        path = room.models / "ollama/library/tiny/tuned/adapter.gguf"
        assert pool.services.catalog.get("tiny:tuned").options["lora"] == [{"path": str(path)}]
        assert (await http.post("/disk/prune")).json()["files"] == []
        assert path.exists()

    room.play(scene)


def test_a_url_and_a_digest(room: Room) -> None:
    room.hub.files["a/demo.gguf"] = GGUF
    source = f"{room.hub.url}/files/a/demo.gguf"

    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        wrong = await pulled(http, source, digest="sha256:" + "0" * 64)
        assert (wrong["state"], wrong["code"]) == ("failed", "digest_mismatch")
        job = await pulled(http, source, digest=f"sha256:{sha256(GGUF)}", model_id="mine")
        assert job["result"]["model_id"] == "mine", job

    room.play(scene)


def test_a_path_is_used_where_it_lies(room: Room) -> None:
    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        job = await pulled(http, str(DEMO))
        assert job["state"] == "succeeded", job
        assert pool.services.catalog.get("pool-demo").source == str(DEMO)
        assert not room.models.exists()
        gone = await http.delete("/models/pool-demo", params={"files": "true"})
        assert gone.json()["removal"]["files"] == []
        assert DEMO.exists()

    room.play(scene)


def test_a_gated_repository_says_what_to_do(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    room.hub.gated.add("owner/tiny")
    room.hub.tokens.add("hf_secret")

    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        job = await pulled(http, "hf:owner/tiny")
        assert (job["state"], job["code"]) == ("failed", "gated")
        assert "accept its terms" in job["reason"]
        assert "HF_TOKEN" in job["reason"]
        missing = await pulled(http, "hf:owner/nothing")
        assert missing["code"] == "not_found"
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        resumed = await http.post(f"/jobs/{job['job_id']}/resume")
        assert resumed.status_code == 200
        done = (await http.get(f"/jobs/{job['job_id']}", params=WAIT)).json()
        assert done["state"] == "succeeded", done
        assert "hf_secret" not in json.dumps(done)

    room.play(scene)
    elsewhere = [seen.headers for seen in room.hub.seen if seen.host == "1"]
    assert elsewhere
    assert not any("authorization" in headers for headers in elsewhere)


def test_a_busy_hub_is_asked_again(room: Room) -> None:
    room.hub.faults = [Fault(429, {"Retry-After": "1"}), Fault(cut_after=100_000)]

    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        job = await pulled(http, "hf:owner/tiny:Q8_0")
        assert job["state"] == "succeeded", job
        assert any("429" in line["text"] for line in job["log"])

    room.play(scene)


def test_two_who_want_the_same_share_one_job(room: Room) -> None:
    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        one, two = await asyncio.gather(*(pulled(http, "hf:owner/tiny") for _ in range(2)))
        assert one["job_id"] == two["job_id"]
        assert room.hub.sent == len(GGUF)

    room.play(scene)


def test_two_pulls_of_one_file_fetch_it_once(room: Room) -> None:
    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        jobs = await asyncio.gather(
            pulled(http, "hf:owner/tiny"), pulled(http, "hf:owner/tiny:Q4_K_M", model_id="other")
        )
        assert {job["state"] for job in jobs} == {"succeeded"}, jobs
        assert room.hub.sent == len(GGUF)

    room.play(scene)


def test_a_pull_goes_on_with_the_next_manager(room: Room) -> None:
    room.hub.repos["owner/tiny"]["tiny-Q4_K_M.gguf"] = big = GGUF + random.Random(1).randbytes(
        4_000_000  # more than is fetched while a busy machine does something else
    )

    async def first(http: httpx.AsyncClient, pool: Running) -> None:
        begun = await http.post("/models/pull", json={"source": "hf:owner/tiny"})
        assert begun.status_code == 202
        await room.has_fetched(300_000)

    async def second(http: httpx.AsyncClient, pool: Running) -> None:
        (job,) = (await http.get("/jobs")).json()["jobs"]
        done = (await http.get(f"/jobs/{job['job_id']}", params=WAIT)).json()
        assert (done["state"], done["attempts"]) == ("succeeded", 2), done

    room.play(first, pull_max_mb_per_second=0.5)
    kept = room.fetched()
    assert 300_000 <= kept < len(big)
    room.play(second)
    assert (room.models / "owner/tiny/tiny-Q4_K_M.gguf").read_bytes() == big
    assert room.hub.asked("/lfs/")[-1].headers["range"] == f"bytes={kept}-"


def test_a_paused_pull_keeps_what_it_has_from_being_pruned(room: Room) -> None:
    room.hub.repos["owner/tiny"]["tiny-Q4_K_M.gguf"] += bytes(4_000_000)

    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        begun = await http.post("/models/pull", json={"source": "hf:owner/tiny"})
        job_id = begun.json()["job_id"]
        await room.has_fetched(100_000)
        assert (await http.post(f"/jobs/{job_id}/pause")).json()["state"] == "paused"
        (unfinished,) = (await http.get("/disk")).json()["unfinished"]
        assert (unfinished["is_wanted"], unfinished["reference"]) == (True, "hf:owner/tiny")
        assert (await http.post("/disk/prune")).json()["files"] == []
        assert (await http.post(f"/jobs/{job_id}/cancel")).status_code == 200
        seen = (await http.post("/disk/prune", json={"dry_run": True})).json()
        assert seen["files"] == [unfinished["file"]]
        assert room.fetched() >= 100_000
        assert (await http.post("/disk/prune")).json()["files"] == [unfinished["file"]]
        assert not list(room.models.rglob("*.part*"))

    room.play(scene, pull_max_mb_per_second=0.5)


def test_files_go_with_the_last_model_that_uses_them(room: Room) -> None:
    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        await pulled(http, "hf:owner/tiny")
        path = room.models / "owner/tiny/tiny-Q4_K_M.gguf"
        await http.post("/models/register", json={"model_id": "mine", "source": str(path)})
        first = await http.delete("/models/owner/tiny:Q4_K_M", params={"files": "true"})
        assert first.json()["removal"] == {"files": [], "freed_bytes": 0, "kept": [str(path)]}
        assert path.exists()
        second = await http.delete("/models/mine", params={"files": "true"})
        assert second.json()["removal"]["files"] == [str(path)]
        assert not path.exists()
        assert not (room.models / "owner").exists()

    room.play(scene)


def test_what_changed_upstream_is_found_and_fetched(room: Room) -> None:
    async def outdated(http: httpx.AsyncClient) -> str:
        answer = await http.post("/jobs", json={"kind": "outdated"}, params=WAIT)
        (pull,) = answer.json()["result"]["pulls"]
        return str(pull["state"])

    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        await pulled(http, "hf:owner/tiny")
        assert await outdated(http) == "current"
        room.hub.repos["owner/tiny"]["tiny-Q4_K_M.gguf"] = new = GGUF + b"\0" * 32
        assert await outdated(http) == "outdated"
        assert (await pulled(http, "hf:owner/tiny"))["state"] == "succeeded"
        assert (room.models / "owner/tiny/tiny-Q4_K_M.gguf").read_bytes() == new
        assert await outdated(http) == "current"

    room.play(scene)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"source": "tiny"}, "source"),
        ({"source": "hf:tiny"}, "source"),
        ({"source": "https://user:secret@host/x.gguf"}, "source"),
        ({"source": "hf:a/b", "digest": "md5:1"}, "digest"),
        ({"source": "hf:a/b", "model_id": "a//b"}, "model_id"),
        ({"source": "hf:a/b", "modelid": "x"}, "modelid"),
        ({"source": "relative/../x"}, "source"),
    ],
)
def test_what_cannot_be_asked_for(room: Room, body: dict[str, Any], param: str) -> None:
    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        answer = await http.post("/models/pull", json=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text
        assert "secret" not in answer.text

    room.play(scene)
    assert room.hub.seen == []


async def lines(http: httpx.AsyncClient, name: str) -> list[dict[str, Any]]:
    async with http.stream("POST", "/api/pull", json={"model": name}) as answer:
        assert answer.status_code == 200
        return [json.loads(line) async for line in answer.aiter_lines()]


def test_ollamas_clients_pull(room: Room) -> None:
    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        told = await lines(http, "tiny")
        assert (told[0]["status"], told[-1]["status"]) == ("pulling manifest", "success")
        assert pool.services.catalog.get("tiny").metadata["pulled"]["reference"] == (
            "ollama:tiny:latest"
        )
        listed = (await http.get("/api/tags")).json()["models"]
        assert "tiny:latest" in [each["name"] for each in listed]
        assert [line["status"] for line in await lines(http, "tiny")] == [
            "pulling manifest",
            "success",
        ]
        hub = await http.post("/api/pull", json={"model": "hf.co/owner/none", "stream": False})
        assert hub.status_code == 502
        assert "no repository owner/none" in hub.json()["error"]
        failed = await lines(http, "nothing")
        assert "answers 404" in failed[-1]["error"]

    room.play(scene)


def test_ollamas_clients_see_how_far_it_is(room: Room) -> None:
    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        told = await lines(http, "tiny")
        digest = f"sha256:{sha256(GGUF)}"
        steps = [line for line in told if line.get("digest") == digest]
        assert steps
        assert steps[0]["status"] == f"pulling {sha256(GGUF)[:12]}"
        assert all(line["total"] == len(GGUF) for line in steps)
        done = [line["completed"] for line in steps]
        assert done == sorted(done)

    room.play(scene, pull_max_mb_per_second=1)


def test_what_the_hubs_own_cache_has_is_used(room: Room) -> None:
    digest = sha256(GGUF)
    blob = room.folder / "hf" / "hub" / "models--owner--tiny" / "blobs" / digest
    blob.parent.mkdir(parents=True)
    blob.write_bytes(GGUF)

    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        job = await pulled(http, "hf:owner/tiny:Q4_K_M")
        assert job["state"] == "succeeded", job
        assert f"tiny-Q4_K_M.gguf was already here: {blob}" in job["result"]["reasons"]
        path = room.models / "owner/tiny/tiny-Q4_K_M.gguf"
        assert path.samefile(blob)
        assert room.hub.sent == 0
        gone = await http.delete("/models/owner/tiny:Q4_K_M", params={"files": "true"})
        assert gone.json()["removal"] == {"files": [str(path)], "freed_bytes": 0, "kept": []}
        assert blob.read_bytes() == GGUF

    room.play(scene)


def test_a_model_of_ollamas_store_is_that_model(room: Room) -> None:
    digest, store = sha256(GGUF), room.folder / "ollama"
    blob = store / "blobs" / f"sha256-{digest}"
    blob.parent.mkdir(parents=True)
    blob.write_bytes(GGUF)
    manifest = store / "manifests/registry.ollama.ai/library/tiny/latest"
    manifest.parent.mkdir(parents=True)
    manifest.write_bytes(room.hub.manifests["library/tiny:latest"])

    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        await http.post("/discover", json={"paths": [str(store)]}, params=WAIT)
        (found,) = list(pool.services.catalog)
        assert found.source == str(blob)
        job = await pulled(http, "ollama:tiny", model_id=found.model_id)
        assert job["state"] == "succeeded", job
        assert any("already here" in reason for reason in job["result"]["reasons"])
        assert pool.services.catalog.get(found.model_id).source == str(blob)
        assert len(list(pool.services.catalog)) == 1
        assert room.hub.sent == 0

    room.play(scene, discovery_calm_seconds=0)


def test_without_a_network_what_is_here_already_is_used(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = sha256(GGUF)
    hub, store = room.folder / "hf" / "hub" / "models--owner--tiny", room.folder / "ollama"
    snapshot = hub / "snapshots" / "c0ffee"
    for folder in (hub / "blobs", hub / "refs", snapshot, store / "blobs"):
        folder.mkdir(parents=True)
    (hub / "refs" / "main").write_text("c0ffee")
    (hub / "blobs" / digest).write_bytes(GGUF)
    (snapshot / "tiny-Q4_K_M.gguf").symlink_to(hub / "blobs" / digest)
    manifest = store / "manifests/registry.ollama.ai/library/tiny/latest"
    manifest.parent.mkdir(parents=True)
    manifest.write_bytes(room.hub.manifests["library/tiny:latest"])
    for layer in json.loads(manifest.read_bytes())["layers"]:
        data = room.hub.blobs[layer["digest"]]
        (store / "blobs" / layer["digest"].replace(":", "-")).write_bytes(data)
    monkeypatch.setenv("OLLAMA_MODELS", str(store))
    nobody = f"http://127.0.0.1:{free_port()}"

    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        for source in ("hf:owner/tiny:Q4_K_M", "ollama:tiny"):
            job = await pulled(http, source)
            assert job["state"] == "succeeded", job
            assert any("what is on this machine already" in r for r in job["result"]["reasons"])
        assert pool.services.catalog.get("owner/tiny:Q4_K_M").source.startswith(str(room.models))

    room.play(scene, hub_url=nobody, ollama_registry_url=nobody)
    assert room.hub.sent == 0


def test_addresses_of_this_machine_are_asked_if_the_config_says_so(room: Room) -> None:
    room.hub.files["m.gguf"] = GGUF

    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        job = await pulled(http, f"{room.hub.url}/files/m.gguf")
        assert (job["state"], job["code"]) == ("failed", "private_address")
        assert room.hub.seen == []
        assert (await pulled(http, "hf:owner/tiny"))["state"] == "succeeded"
        changed = await http.patch("/config", json={"pull_private_addresses": True})
        assert changed.status_code == 400

    room.play(scene, pull_private_addresses=False)


def test_a_key_in_a_url_is_used_and_shown_nowhere(room: Room) -> None:
    room.hub.files["m.gguf"] = GGUF
    source = f"{room.hub.url}/files/m.gguf?sig=s3cret"

    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        begun = await http.post("/models/pull", json={"source": source})
        await http.post(f"/jobs/{begun.json()['job_id']}/pause")
        await http.post(f"/jobs/{begun.json()['job_id']}/resume")
        job = await pulled(http, source)
        assert job["state"] == "succeeded", job
        shown = [job, (await http.get("/jobs")).json(), (await http.get("/disk")).json()]
        shown += [(await http.get("/models")).json(), (await http.get("/history")).json()]
        assert "s3cret" not in json.dumps(shown)

    room.play(scene)
    kept = [path for path in room.folder.rglob("*") if path.is_file()]
    assert not any(b"s3cret" in path.read_bytes() for path in kept if "db" not in path.name)
