"""Files that are replaced while the pool runs: what is known is never what the former ones said."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shutil
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from modelpool.app import Running, running
from modelpool.catalog.errors import BadModelFile
from modelpool.catalog.fingerprint import NO_FILES, fingerprint
from modelpool.catalog.formats import gguf
from modelpool.catalog.memory_estimate import HOST, Peak
from modelpool.catalog.model import Model
from modelpool.config import PoolConfig
from modelpool.observe.peaks import PeakMeter
from modelpool_client.wire import Facts, Phase
from support.in_process import client_of

MB = 1_000_000
Scene = Callable[[httpx.AsyncClient, Running], Awaitable[None]]


def write_gguf(
    path: Path,
    *,
    megabytes: float = 1,
    context: int = 2048,
    file_type: int = 2,
    template: str = "{{ messages }}",
) -> None:
    """A file that can be described, not loaded; another inode at each time."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    keys = [
        text("general.architecture") + struct.pack("<I", 8) + text("llama"),
        text("general.file_type") + struct.pack("<II", 4, file_type),
        text("llama.context_length") + struct.pack("<II", 4, context),
    ]
    if template:
        keys.append(text("tokenizer.chat_template") + struct.pack("<I", 8) + text(template))
    floats = int(megabytes * MB) // 4
    tensor = text("out") + struct.pack("<IQIQ", 1, floats, 0, 0)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(keys)) + b"".join(keys) + tensor
    new = path.with_suffix(".new")
    with new.open("wb") as file:
        file.write(head + bytes(-len(head) % 32))
        file.truncate(file.tell() + 4 * floats)
    new.rename(path)


def play(folder: Path, scene: Scene, **keys: Any) -> None:
    async def main() -> None:
        named = [str(folder)]  # or what is wrong with its files would not be told
        config = PoolConfig(state_dir=folder / "state", option_file_paths=named, **keys)
        async with running(config) as pool, client_of(pool.entry) as http:
            await scene(http, pool)

    asyncio.run(main())


async def register(http: httpx.AsyncClient, file: Path, **more: Any) -> None:
    entry = {"model_id": "m", "engine": "llama.cpp", "source": str(file), **more}
    answer = await http.post("/models/register", json=entry)
    assert answer.status_code == 201, answer.text


async def plan(http: httpx.AsyncClient) -> dict[str, Any]:
    found: dict[str, Any] = (await http.get("/models/m/plan")).json()
    return found


async def told(http: httpx.AsyncClient, event: str) -> list[dict[str, Any]]:
    events = (await http.get("/models/m/history")).json()["events"]
    return [e for e in events if e["event"] == event]


def test_a_plan_is_made_with_the_file_that_is_there(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    write_gguf(file, megabytes=46)

    async def scene(http: httpx.AsyncClient, _: Running) -> None:
        await register(http, file)
        small = (await plan(http))["needs"]["memory_mb"]
        write_gguf(file, megabytes=292, context=8192, file_type=7, template="other")
        large = (await plan(http))["needs"]["memory_mb"]
        assert large == pytest.approx(small + 246, abs=2)  # and the mask of a longer context
        view = (await http.get("/models/m")).json()
        assert (view["context_length"], view["quantization"]) == (8192, "Q8_0")
        assert view["size_mb"] == pytest.approx(292, abs=0.5)
        assert (await http.get("/models/m/capabilities")).json()["capabilities"][0] == "chat"
        (event,) = await told(http, "model-updated")
        for text in (
            "size 46.0 MB -> 292.0 MB",
            "context length 2048 -> 8192",
            "quantization Q4_0 -> Q8_0",
            "another chat template",
        ):
            assert text in event["reason"]
        assert event["changed"]["context_length"] == [2048, 8192]
        await plan(http)
        assert len(await told(http, "model-updated")) == 1
        os.utime(file)
        await plan(http)
        last = (await told(http, "model-updated"))[0]
        assert "(m.gguf): what the model's header says is the same" in last["reason"]

    play(tmp_path, scene)


def test_what_was_declared_stays_whatever_the_file_says(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    write_gguf(file, context=2048)

    async def scene(http: httpx.AsyncClient, _: Running) -> None:
        await register(http, file, context_length=1024, capabilities=["chat"])
        exported = (await http.get("/registry")).json()
        assert "from_file" not in exported["models"][0]
        again = await http.post("/registry", json=exported | {"replace": True})
        assert again.json()["unchanged"] == ["m"]
        write_gguf(file, context=8192, file_type=7, template="")
        await plan(http)
        view = (await http.get("/models/m")).json()
        assert (view["context_length"], view["capabilities"]) == (1024, ["chat"])
        assert view["quantization"] == "Q8_0"

    play(tmp_path, scene)


def test_an_import_that_repeats_what_the_file_says_declares_nothing(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    write_gguf(file, context=2048)

    async def scene(http: httpx.AsyncClient, _: Running) -> None:
        await register(http, file)
        (entry,) = (await http.get("/registry")).json()["models"]
        body = {"models": [entry | {"tags": ["new"]}], "replace": True}
        assert (await http.post("/registry", json=body)).json()["updated"] == ["m"]
        write_gguf(file, context=8192)
        await plan(http)
        assert (await http.get("/models/m")).json()["context_length"] == 8192

    play(tmp_path, scene)


def test_a_file_that_stays_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "m.gguf"
    write_gguf(file)
    reads = []

    read_header = gguf.read_header

    def read(path: Path) -> Any:
        reads.append(path)
        return read_header(path)

    monkeypatch.setattr(gguf, "read_header", read)

    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        await register(http, file)
        for _ in range(3):
            await plan(http)
        assert len(reads) == 1
        write_gguf(file)
        checks = (pool.services.files.check("m") for _ in range(20))
        await asyncio.gather(*checks)
        assert len(reads) == 2, "all who wait share one look"

    play(tmp_path, scene)


@pytest.mark.parametrize("spoil", ["gone", "garbage", "cut"])
def test_a_file_that_cannot_be_loaded_is_refused_before_anything_begins(
    tmp_path: Path, spoil: str
) -> None:
    file = tmp_path / "m.gguf"
    write_gguf(file)

    async def scene(http: httpx.AsyncClient, _: Running) -> None:
        await register(http, file)
        if spoil == "gone":
            file.unlink()
        else:
            file.write_bytes(b"garbage" * 99 if spoil == "garbage" else file.read_bytes()[:-99])
        found = await plan(http)
        assert found["action"] == "refuse"
        assert str(file) in found["reason"]
        ask = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
        for answer in (
            await http.post("/models/m/load", json={}),
            await http.post("/models/m/load?wait=9", json={}),
            await http.get("/models/m/endpoint?wait=9"),
            await http.post("/v1/chat/completions", json=ask),
            await http.post("/v1/chat/completions", json=ask | {"stream": True}),
        ):
            error = answer.json()["error"]
            assert (answer.status_code, error["code"]) == (503, "bad_file"), answer.text
            assert str(file) in error["message"]
            assert int(answer.headers["retry-after"]) > 0
        assert (await http.get("/models/m")).json()["state"] == "COLD"
        assert len(await told(http, "model-refused")) == 1, "it is news once"
        write_gguf(file)
        assert (await plan(http))["action"] == "start"

    play(tmp_path, scene)


def test_a_refusal_is_news_again_where_the_file_was_there_in_between(tmp_path: Path) -> None:
    file, elsewhere = tmp_path / "m.gguf", tmp_path / "elsewhere.gguf"
    write_gguf(file)

    async def scene(http: httpx.AsyncClient, _: Running) -> None:
        await register(http, file)
        for _ in range(2):
            file.rename(elsewhere)
            assert (await plan(http))["action"] == "refuse"
            elsewhere.rename(file)
            assert (await plan(http))["action"] == "start"
        assert len(await told(http, "model-refused")) == 2

    play(tmp_path, scene)


def test_what_an_engine_refuses_stays_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The catalog can read it, the engine cannot: the second look is no better than the first."""
    file = tmp_path / "m.gguf"
    write_gguf(file)

    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        await register(http, file)

        async def refuse(model: Model) -> int | None:
            raise BadModelFile(file, "its engine does not know it")

        monkeypatch.setattr(pool.services.engines, "check", refuse)
        write_gguf(file)
        for _ in range(2):
            assert (await plan(http))["action"] == "refuse"

    play(tmp_path, scene)


def test_a_model_of_an_engine_that_is_not_here(tmp_path: Path) -> None:
    """Its package was there when it was registered; nobody leaves for it."""

    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        services = pool.services
        await services.catalog.register(Model("m", "gone", "llama3.1:8b"), services.pool.add)
        found = await plan(http)
        assert (found["action"], "no engine 'gone'" in found["reason"]) == ("refuse", True)
        answer = await http.post("/models/m/load?wait=9", json={})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "missing_dependency")
        assert (await http.get("/models/m")).json()["state"] == "COLD"

    play(tmp_path, scene)


def test_a_file_that_was_replaced_while_no_manager_ran(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    write_gguf(file, context=2048)

    async def first(http: httpx.AsyncClient, _: Running) -> None:
        await register(http, file)

    async def second(http: httpx.AsyncClient, pool: Running) -> None:
        """It is read beside the work, without anybody who asks for it."""
        checked, events = asyncio.Event(), pool.services.events
        events.listeners.append(lambda e: checked.set() if e.name == "catalog-checked" else None)
        async with asyncio.timeout(60):
            await checked.wait()
        assert (await http.get("/models/m")).json()["context_length"] == 8192

    play(tmp_path, first)
    write_gguf(file, context=8192)
    play(tmp_path, second)


def test_a_registration_that_is_refused_changes_nothing_that_is_known(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    write_gguf(file, context=2048)

    async def scene(http: httpx.AsyncClient, _: Running) -> None:
        await register(http, file)
        write_gguf(file, context=8192)
        entry = {"model_id": "m", "engine": "llama.cpp", "source": str(file)}
        assert (await http.post("/models/register", json=entry)).status_code == 409
        assert (await http.get("/models/m")).json()["context_length"] == 2048
        await plan(http)
        assert (await http.get("/models/m")).json()["context_length"] == 8192
        assert len(await told(http, "model-updated")) == 1

    play(tmp_path, scene)


# -- what was learned ------------------------------------------------------------------------------


def test_what_was_learned_of_the_former_file_is_not_taken_for_the_new_one(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    write_gguf(file, megabytes=46)

    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        await register(http, file)
        estimator, model = pool.services.estimator, pool.services.catalog.get("m")
        key, _ = await estimator.look(model)
        estimator.learn([Peak(*key, HOST, 50 * MB, worked=True)])
        assert (await plan(http))["needs"]["source"] == "measured"
        write_gguf(file, megabytes=292)
        needs = (await plan(http))["needs"]
        assert (needs["source"], needs["measured_peak_mb"]) == ("estimated", None)
        assert needs["memory_mb"] > 292

    play(tmp_path, scene)


def test_a_worker_that_has_loaded_the_former_file_teaches_nothing_of_the_new_one(
    tmp_path: Path,
) -> None:
    file = tmp_path / "m.gguf"
    write_gguf(file)

    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        await register(http, file)
        services = pool.services
        model = services.catalog.get("m")
        changed_at = os.stat(file).st_ctime
        meter = PeakMeter(services.pool, services.estimator, lambda: changed_at + 100)
        saved: list[Peak] = []

        class Store:
            async def add_peaks(self, peaks: Any) -> None:
                saved.extend(peaks)

        facts = Facts("w", "pool", 1, 1, Phase.READY, 8051, 7, memory_peak_bytes=MB)
        meter.record(model, dataclasses.replace(facts, uptime_seconds=200))
        await meter.save(Store())
        assert saved == [], "it began before the file was there"
        meter.record(model, dataclasses.replace(facts, worker_id="v", uptime_seconds=50))
        await meter.save(Store())
        assert [p.peak_bytes for p in saved] == [MB]

    play(tmp_path, scene)


# -- fingerprints ----------------------------------------------------------------------------------


def model_of(source: Path | str, **options: Any) -> Model:
    return Model("m", "llama.cpp", str(source), options=options)


def test_a_fingerprint_tells_size_time_and_inode(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(b"1")
    first = fingerprint(model_of(file))
    assert fingerprint(model_of(file)) == first
    assert first.changed_at == os.stat(file).st_ctime
    found = {first.digest}
    stat = os.stat(file)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    found.add(fingerprint(model_of(file)).digest)
    copy = tmp_path / "copy"
    shutil.copy2(file, copy)
    copy.rename(file)
    found.add(fingerprint(model_of(file)).digest)
    file.write_bytes(b"12")
    found.add(fingerprint(model_of(file)).digest)
    assert len(found) == 4


def test_a_fingerprint_is_of_every_part(tmp_path: Path) -> None:
    parts = [tmp_path / f"m-{i:05}-of-00003.gguf" for i in (1, 2, 3)]
    template = tmp_path / "template.jinja"
    for path in (*parts, template):
        path.write_bytes(b"1")
    model = model_of(parts[0], chat_template_file=str(template), threads=2)
    before = fingerprint(model)
    found = [before.digest]
    for number, path in enumerate((*parts, template), 1):
        path.write_bytes(b"12")
        now = fingerprint(model)
        found.append(now.digest)
        assert len(before.other_files(now)) == number
    parts[2].unlink()
    found.append(fingerprint(model).digest)
    assert len(set(found)) == len(found)


def test_a_fingerprint_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"{}")
    first = fingerprint(model_of(tmp_path))
    (tmp_path / "config.json").write_bytes(b"{ }")
    assert fingerprint(model_of(tmp_path)).digest != first.digest


@pytest.mark.parametrize("source", ["llama3.1:8b", "/no/such/file", "a\0b", "/a\0b"])
def test_what_is_no_file_has_no_fingerprint(source: str) -> None:
    assert fingerprint(model_of(source)) == NO_FILES
