"""LoRA adapters and the scaling of positions in llama.cpp, for real."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from modelpool_client.errors import InvalidRequest
from modelpool_client.surfaces import adapters
from support.lora import write_adapter

pytestmark = pytest.mark.e2e

MAKE = Path(__file__).parents[2] / "scripts" / "make_bench_gguf.py"
SHAPE = ["--layers=2", "--hidden=64", "--ffn=192", "--heads=4", "--kv=2", "--vocab=1024"]
OPTIONS = {"threads": 1, "parallel": 1}
ASKED: dict[str, Any] = {"max_tokens": 12, "temperature": 0, "ignore_eos": True}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A model and an adapter of it."""
    folder = tmp_path_factory.mktemp("lora")
    model = folder / "tiny.gguf"
    command = [sys.executable, MAKE, model, *SHAPE, "--ctx=512"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return str(model), str(write_adapter(folder / "loud.gguf", "qwen2", 64, 2, 0.5))


def said(one: Any, **more: Any) -> str:
    answer = one.chat("hello", **ASKED, **more)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["message"]["content"])


def streamed(one: Any) -> str:
    """By another API, which is translated."""
    body = {"model": "demo", "messages": [{"role": "user", "content": "hello"}], "stream": True}
    options = {"num_predict": 12, "temperature": 0}
    answer = one.http.post("/api/chat", json={**body, "options": options})
    assert answer.status_code == 200, answer.text
    return "".join(json.loads(line)["message"]["content"] for line in answer.text.splitlines())


def test_an_adapter_is_in_force_as_scaled(worker: Any, files: tuple[str, str]) -> None:
    model, adapter = files

    def with_scale(scale: float) -> Any:
        options = {**OPTIONS, "lora": [{"path": adapter, "scale": scale, "name": "loud"}]}
        return worker(options, engine="llama.cpp", source=model).ready()

    plain = said(worker(OPTIONS, engine="llama.cpp", source=model).ready())
    off, on = with_scale(0), with_scale(1)
    assert said(off) == plain
    assert said(on) != plain
    (listed,) = on.http.get("/lora-adapters").json()
    assert [listed[key] for key in ("id", "path", "scale", "name")] == [0, adapter, 1.0, "loud"]
    loud = said(on)
    for wanted in ({"id": 0}, {"name": "loud"}):
        # Of a prompt that was read with other scales nothing is taken over.
        assert said(off, lora=[{**wanted, "scale": 1}]) == loud
        assert said(off) == plain
        assert said(on, lora=[{**wanted, "scale": 0}]) == plain
        assert said(on, lora=None) == loud
        assert loud.startswith(streamed(on) or "nothing")
    native = {"prompt": "hello", "n_predict": 3, "lora": [{"name": "loud", "scale": 0}]}
    assert on.http.post("/completion", json=native).status_code == 200


@pytest.mark.parametrize(
    ("lora", "param"),
    [
        ("loud", "lora"),
        ([{"scale": 1}], "lora[0]"),
        ([{"id": 0, "name": "loud", "scale": 1}], "lora[0]"),
        ([{"id": 0}], "lora[0].scale"),
        ([{"id": 7, "scale": 1}], "lora[0].id"),
        ([{"name": "quiet", "scale": 1}], "lora[0].name"),
        ([{"id": 0, "scale": 1}, {"name": "loud", "scale": 2}], "lora[1]"),
    ],
)
def test_an_adapter_that_is_not_there_is_refused(lora: Any, param: str) -> None:
    """llama.cpp would pass over it."""
    with pytest.raises(InvalidRequest) as error:
        adapters.of_request({"lora": lora}, ["loud"])
    assert error.value.param == param


def test_of_a_model_without_adapters_none_can_be_scaled(
    worker: Any, files: tuple[str, str]
) -> None:
    one = worker(OPTIONS, engine="llama.cpp", source=files[0]).ready()
    answer = one.chat("hello", lora=[{"id": 0, "scale": 1}], **ASKED)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "lora[0].id"
    assert "none" in answer.json()["error"]["message"]


def test_adapters_are_scaled_anew_for_everybody(worker: Any, files: tuple[str, str]) -> None:
    model, adapter = files
    options = {**OPTIONS, "lora": [{"path": adapter, "name": "loud"}]}
    one = worker(options, engine="llama.cpp", source=model).ready()
    loud = said(one)

    def scaled(*scales: Any) -> Any:
        return one.http.post("/lora-adapters", json=list(scales))

    assert scaled({"id": 0, "scale": 0}).json() == {"success": True}
    assert one.http.get("/lora-adapters").json()[0]["scale"] == 0
    quiet = said(one)
    assert quiet != loud
    assert said(one, lora=[{"id": 0, "scale": 1}]) == loud
    assert scaled({"id": 0, "scale": 1}).status_code == 200
    assert said(one) == loud
    assert "scaled anew" in one.log
    for wrong, param in (
        ([{"id": 0}], "[0].scale"),
        ([{"id": 0, "scale": "1"}], "[0].scale"),
        ([{"id": 0, "scale": 1}, {"id": 0, "scale": 2}], "[1]"),
    ):
        answer = scaled(*wrong)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert scaled({"id": 7, "scale": 1}).status_code == 400
    assert scaled({"name": "loud", "scale": 0}).status_code == 200
    assert said(one) == quiet
    other = one.http.post("/lora-adapters?model=other", json=[])
    assert other.status_code == 404


def test_positions_are_scaled(worker: Any, files: tuple[str, str]) -> None:
    model, _ = files
    scaled = {"rope_scaling": "yarn", "rope_freq_scale": 0.25, "yarn_original_context": 512}
    plain = worker(OPTIONS, engine="llama.cpp", source=model).ready()
    options = {**OPTIONS, **scaled, "context_length": 2048}
    longer = worker(options, engine="llama.cpp", source=model).ready()
    assert longer.live_facts()["context_length"] == 2048
    assert said(plain) != said(longer)


def test_what_is_no_adapter_is_named(worker: Any, files: tuple[str, str], tmp_path: Path) -> None:
    options = {**OPTIONS, "lora": [{"path": str(tmp_path / "none.gguf")}]}
    one = worker(options, engine="llama.cpp", source=files[0]).start()
    assert one.wait_exit() != 0
    assert one.record["code"] == "bad_file"
    assert "none.gguf" in one.record["message"]
