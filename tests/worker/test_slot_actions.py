"""What llama.cpp's slots hold, saved and had back by clients of a worker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from modelpool_client.errors import InvalidRequest, LoadFailed
from modelpool_client.surfaces import slot_actions
from modelpool_client.wire_base import PromptCacheLimits
from modelpool_worker.engine import EngineJob
from modelpool_worker.engines.llama.llama_cpp import LlamaCpp, keeps_prompts, slot_folder

DEMO = Path(__file__).parents[2] / "configs" / "models" / "pool-demo.gguf"
OPTIONS = {"threads": 1, "parallel": 2}
PROMPT = "a conversation that has several words in it, all of which are read once"


def read(one: Any, slot: int) -> int:
    """How many tokens of the prompt a slot had to compute."""
    body = {"prompt": PROMPT, "id_slot": slot, "n_predict": 1}
    answer = one.http.post("/completion", json=body)
    assert answer.status_code == 200, answer.text
    return int(answer.json()["timings"]["prompt_n"])


@pytest.mark.e2e
def test_a_slot_is_saved_restored_elsewhere_and_erased(worker: Any, tmp_path: Path) -> None:
    options = {**OPTIONS, "slot_save_path": str(tmp_path)}
    one = worker(options, engine="llama.cpp", source=str(DEMO)).ready()

    def act(slot: int, action: str, **body: Any) -> Any:
        return one.http.post(f"/slots/{slot}?action={action}", json=body)

    whole = read(one, 1)
    assert whole > 1
    saved = act(1, "save", filename="talk.bin").json()
    assert saved["n_saved"] >= whole
    assert (tmp_path / "talk.bin").stat().st_size == saved["n_written"]
    assert act(0, "restore", filename="talk.bin").json()["n_restored"] == saved["n_saved"]
    assert read(one, 0) == 1
    assert act(1, "erase").json()["n_erased"] >= whole
    assert read(one, 1) == whole
    for action, body, param in (
        ("save", {}, "filename"),
        ("save", {"filename": "../out"}, "filename"),
        ("restore", {"filename": 5}, "filename"),
        ("eat", {"filename": "a"}, "action"),
    ):
        answer = act(0, action, **body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert act(0, "restore", filename="none").status_code == 400
    assert one.http.get("/slots/0").status_code == 405
    assert one.http.post("/slots/0?action=erase&model=other", json={}).status_code == 404


@pytest.mark.e2e
def test_without_a_folder_nobody_reaches_what_the_pool_keeps(worker: Any, tmp_path: Path) -> None:
    kept = {"prompt_cache_dir": str(tmp_path / "kept")}
    limits = {"prompt_cache_limits": {"max_bytes": 1 << 24, "seconds": 5}}
    one = worker(OPTIONS, engine="llama.cpp", source=str(DEMO), **kept, **limits).ready()
    read(one, 0)
    answer = one.http.post("/slots/0?action=save", json={"filename": "mine"})
    assert (answer.status_code, "slot_save_path" in answer.text) == (501, True)
    assert not [*tmp_path.rglob("mine")]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, True),
        ({"prompt_cache": False}, False),
        ({"slot_save_path": "/kv"}, False),
        ({"lora": [{"path": "/a.gguf"}]}, False),
        ({"sleep_idle_seconds": 60}, False),
        ({"kv_unified": True}, True),
    ],
)
def test_of_which_models_the_pool_keeps_prompts(options: dict[str, Any], expected: bool) -> None:
    limits = PromptCacheLimits(max_bytes=1, seconds=1)
    job = EngineJob("llama.cpp", "m", "/m", "/s", options, prompt_cache_limits=limits)
    assert keeps_prompts(job) is expected


def test_the_folder_must_be_one(tmp_path: Path) -> None:
    assert slot_folder({}) is None
    assert slot_folder({"slot_save_path": str(tmp_path)}) == f"{tmp_path}/"
    with pytest.raises(LoadFailed, match="no folder"):
        slot_folder({"slot_save_path": str(tmp_path / "none")})
    with pytest.raises(LoadFailed, match="absolute"):
        LlamaCpp().check({"slot_save_path": "kv"})


@pytest.mark.parametrize(
    "path", ["/slots", "/slots/", "/slots/x", "/slots/1/2", "/slots/-1", "/slots/٣"]
)
def test_what_is_no_slot(path: str) -> None:
    assert not slot_actions.is_asked(path)


def test_what_is_said_of_a_slot() -> None:
    assert slot_actions.is_asked("/slots/12")
    assert slot_actions.target("/slots/1", "action=save") == ("/slots/1?action=save", "save")
    assert slot_actions.body_of("erase", b"") == b"{}"
    names = ("", "a\\b", "a/b", ".", "..", "\ud800", "a\n")
    named = [json.dumps({"filename": name}).encode() for name in names]
    for body in (b"[]", b"{", b"{}", *named):
        with pytest.raises(InvalidRequest):
            slot_actions.body_of("save", body)
