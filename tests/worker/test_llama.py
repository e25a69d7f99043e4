"""llama.cpp for real, on a tiny model with random weights."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from modelpool.catalog.formats import gguf
from modelpool_client.errors import LoadFailed
from modelpool_worker.engines.cpu import physical_cores
from modelpool_worker.engines.gguf import read_header
from modelpool_worker.engines.llama import rope as llama_rope
from modelpool_worker.engines.llama.llama_cpp import LlamaCpp, limit_spinning
from support.adapter import write_adapter

pytestmark = [pytest.mark.e2e, pytest.mark.long]

CHAT = "/v1/chat/completions"
MAKE = Path(__file__).parents[2] / "scripts" / "make_bench_gguf.py"
# Random weights say anything: the end of the answer, or half a character, which llama.cpp keeps
# back together with its logprobs.
EXACTLY = {"ignore_eos": True, "grammar": "root ::= [a-z]*"}
SHAPE = [
    "--layers=2",
    "--hidden=64",
    "--ffn=192",
    "--heads=4",
    "--kv=2",
    "--vocab=1024",
    "--ctx=512",
]
OPTIONS = {"threads": 1, "parallel": 2}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def made(path: Path, *shape: str) -> Path:
    command = [sys.executable, MAKE, path, *SHAPE, *shape]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return path


@pytest.fixture(scope="module")
def llama(model: Path, manager: Any, tmp_path_factory: pytest.TempPathFactory, running: Any) -> Any:
    folder = tmp_path_factory.mktemp("llama")
    one = running(manager, folder, engine="llama.cpp", source=str(model), options=OPTIONS).ready()
    yield one
    one.close()


def test_ready_says_what_it_can(llama: Any) -> None:
    facts = llama.live_facts()
    assert facts["context_length"] == 512
    assert facts["phase"] == "ready"


def test_a_chat(llama: Any) -> None:
    body = llama.chat(max_tokens=5, seed=1, **EXACTLY).json()
    assert body["model"] == "demo"
    assert body["object"] == "chat.completion"
    assert body["usage"]["completion_tokens"] == 5
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["timings"]["predicted_n"] == 5


def test_an_alias_answers_with_the_models_name(llama: Any) -> None:
    assert llama.chat(max_tokens=1, model="nick").json()["model"] == "demo"


def test_a_stream(llama: Any) -> None:
    before = llama.live_facts()["tokens_total"]
    text = llama.chat(max_tokens=4, stream=True, **EXACTLY).text
    assert text.endswith("data: [DONE]\n\n")
    assert llama.live_facts()["tokens_total"] == before + 4


def test_choices_logprobs_and_several_prompts(llama: Any) -> None:
    chat = llama.chat(max_tokens=3, n=2, logprobs=True, top_logprobs=2, **EXACTLY).json()
    assert [c["index"] for c in chat["choices"]] == [0, 1]
    assert len(chat["choices"][0]["logprobs"]["content"]) == 3
    body = {"prompt": ["a b c", "d e f"], "max_tokens": 2, **EXACTLY}
    text = llama.http.post("/v1/completions", json=body).json()
    assert [c["index"] for c in text["choices"]] == [0, 1]
    assert text["usage"]["completion_tokens"] == 4
    stream = llama.http.post("/v1/completions", json={**body, "stream": True}).text
    assert "data: null" not in stream


def test_too_long_a_prompt(llama: Any) -> None:
    text = {"prompt": "word " * 3000}
    for answer, param in (
        (llama.chat("word " * 3000), "messages"),
        (llama.http.post("/v1/completions", json=text), "prompt"),
        (llama.http.post("/v1/completions", json={**text, "stream": True}), "prompt"),
    ):
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (400, "context_length_exceeded")
        assert (error["source"], error["param"]) == ("engine", param)
        numbers = error["details"]
        assert numbers["context_length"] == 512 < numbers["prompt_tokens"]
        for number in numbers.values():
            assert str(number) in error["message"]


@pytest.mark.parametrize(
    "body", [{"n_predict": "many"}, {"grammar": "(((("}, {"n": 3}, {"json_schema": {"type": "x"}}]
)
def test_what_only_the_engine_can_refuse(llama: Any, body: dict[str, Any]) -> None:
    answer = llama.chat(**{"max_tokens": 2, **body})
    assert answer.status_code == 400
    assert answer.json()["error"]["source"] == "engine"


def test_an_image_without_a_projector(llama: Any) -> None:
    part: dict[str, Any] = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aaaa"}}
    text = {"type": "text", "text": "look"}
    body = {"messages": [{"role": "user", "content": [text, part]}]}
    answer = llama.http.post(CHAT, json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "messages[0].content[1]"
    image = {"type": "input_image", "image_url": part["image_url"]["url"], "detail": "auto"}
    said = [{"role": "user", "content": "hi"}, {"role": "user", "content": [image]}]
    answer = llama.http.post("/v1/responses", json={"input": said})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "input[1].content[0]"


def test_a_client_that_leaves_frees_its_slot(worker: Any, model: Path, until: Any) -> None:
    options = {"threads": 1, "parallel": 1, "context_length": 100_000}
    one = worker(options, engine="llama.cpp", source=str(model)).ready()
    endless = {"messages": [{"role": "user", "content": "x"}], "ignore_eos": True, "stream": True}
    with one.http.stream("POST", CHAT, json=endless) as answer:
        next(answer.iter_lines())
    # The only slot: this comes only when the endless answer has ended.
    assert one.chat(max_tokens=2).status_code == 200
    assert one.live_facts()["in_flight"] == 0


def test_a_client_that_leaves_during_its_prompt_stops_the_engine_before_the_prompt_ends(
    worker: Any, tmp_path: Path
) -> None:
    # It looks for clients once a second: its prompt has to take several on a quick machine, too.
    path = made(tmp_path / "long.gguf", "--ctx=4096", "--hidden=512", "--ffn=1536", "--layers=30")
    options = {"threads": 1, "parallel": 1, "context_length": 4096}
    one = worker(options, engine="llama.cpp", source=str(path)).ready()
    engine = psutil.Process(one.facts["engine_pid"])

    def used() -> float:
        times = engine.cpu_times()
        return times.user + times.system

    def body(number: int) -> dict[str, Any]:
        # Nearly one step of llama.cpp's own.
        messages = [{"role": "user", "content": f"{number} " + "word " * 480}]
        return {"messages": messages, "max_tokens": 1, "stream": True}

    before = used()
    assert "[DONE]" in one.http.post(CHAT, json=body(1)).text
    whole = used() - before
    with pytest.raises(httpx.ReadTimeout):
        one.http.post(CHAT, json=body(2), timeout=0.1)
    assert one.chat("x", max_tokens=1).status_code == 200  # in the only slot
    # It looks between two steps.
    assert used() - before - whole < 0.8 * whole


def test_the_engine_is_killed_in_the_middle(worker: Any, tmp_path: Path) -> None:
    options = {"threads": 1, "parallel": 1, "context_length": 100_000}
    # What it was made for is what it writes at most: half a minute's worth.
    source = str(made(tmp_path / "long.gguf", "--ctx=100000"))
    one = worker(options, engine="llama.cpp", source=source).ready()
    endless = {"messages": [{"role": "user", "content": "x"}], "ignore_eos": True, "stream": True}
    with one.http.stream("POST", CHAT, json=endless) as answer:
        lines = answer.iter_lines()
        next(lines)
        os.kill(one.facts["engine_pid"], signal.SIGKILL)
        rest = list(lines)
        assert any("the engine died" in line for line in rest), rest[-6:]
    assert one.wait_exit() == 6


def broken(model: Path, kind: str) -> bytes:
    whole = model.read_bytes()
    return {
        "no gguf": b"hello world, no gguf",
        "empty": b"",
        "header cut": whole[:40],
        "keys cut": whole[:3000],
        "tensors cut": whole[:-5000],
        "strange": whole.replace(b"qwen2", b"qwenx"),
    }[kind]


@pytest.mark.parametrize(
    ("kind", "code", "words"),
    [
        ("no gguf", "bad_file", "not a GGUF file"),
        ("empty", "bad_file", "not a GGUF file"),
        ("header cut", "bad_file", "truncated or damaged"),
        ("keys cut", "bad_file", "failed to read key-value pairs"),
        ("tensors cut", "bad_file", "corrupted or incomplete"),
        ("strange", "unsupported_arch", "unknown model architecture: 'qwenx'"),
    ],
)
def test_files_that_do_not_load(
    worker: Any, model: Path, tmp_path: Path, kind: str, code: str, words: str
) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(broken(model, kind))
    one = worker(OPTIONS, engine="llama.cpp", source=str(path)).start()
    assert one.wait_exit() == 3
    assert one.record["code"] == code
    assert words in one.record["message"]


def test_a_missing_file(worker: Any, tmp_path: Path) -> None:
    one = worker(engine="llama.cpp", source=str(tmp_path / "none.gguf")).start()
    assert one.wait_exit() == 3
    assert one.record["code"] == "bad_file"
    assert "No such file" in one.record["message"]


def test_all_options_are_understood(worker: Any, model: Path) -> None:
    options = {
        "context_length": 256,
        "parallel": 2,
        "threads": 1,
        "batch_size": 128,
        "micro_batch_size": 64,
        "flash_attention": "auto",
        "cache_type_k": "bf16",
        "cache_type_v": "f16",
        "temperature": 0,
        "seed": 7,
        "mmap": False,
        "gpu_layers": 0,
        "tensor_split": [2, 1],
        "chat_template": "chatml",
        "prompt_cache": False,
        "kv_unified": True,
        "sleep_idle_seconds": 600,
        "draft_model": str(model),
        "spec_type": "ngram-map-k",
        "draft_max": 4,
        "draft_min": 1,
        "draft_p_min": 0.1,
        "pooling_type": "mean",
        "reasoning": False,
        "lora": [],
        "rope_scaling": "yarn",
        **dict.fromkeys(llama_rope.NUMBERS, 1),
    }
    left_out = {"chat_template_file", "mmproj", "slot_save_path"}
    assert options.keys() == LlamaCpp.options.keys() - left_out
    one = worker(options, engine="llama.cpp", source=str(model)).ready()
    assert one.facts["context_length"] == 256
    answers = {one.chat(max_tokens=6).json()["choices"][0]["message"]["content"] for _ in range(3)}
    assert len(answers) == 1


def test_requests_may_share_one_context(worker: Any, model: Path) -> None:
    options = {**OPTIONS, "context_length": 256, "kv_unified": True}
    one = worker(options, engine="llama.cpp", source=str(model)).ready()
    assert [slot["n_ctx"] for slot in one.http.get("/slots").json()] == [256] * 2
    long = {"prompt": "a", **EXACTLY}
    alone = one.http.post("/completion", json={**long, "n_predict": 200})
    assert alone.json()["tokens_predicted"] == 200, "half the context is not all of it"
    with ThreadPoolExecutor(2) as threads:
        asked = [threads.submit(one.http.post, "/completion", json=long) for _ in range(2)]
        answers = [each.result() for each in asked]
    for answer in answers:  # the one may be over before the other begins
        if answer.status_code != 200:
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert "Context size has been exceeded" in answer.json()["error"]["message"]
    assert one.http.post("/completion", json={**long, "n_predict": 8}).status_code == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/completion", {"prompt": "a", "n_predict": 1}),
        ("/tokenize", {"content": "a"}),
        ("/v1/messages/count_tokens", {"messages": [{"role": "user", "content": "a"}]}),
    ],
)
def test_it_may_sleep_until_it_is_asked(
    worker: Any, model: Path, until: Any, path: str, body: dict[str, Any]
) -> None:
    options = {**OPTIONS, "sleep_idle_seconds": 1}
    one = worker(options, engine="llama.cpp", source=str(model)).ready()

    def is_asleep() -> bool:
        return bool(one.http.get("/props").json()["is_sleeping"])

    until(is_asleep, "the model to sleep")
    assert "llamacpp:prompt_tokens_total" in one.http.get("/metrics").text
    assert one.http.get("/health").json()["status"] == "ready"
    assert is_asleep(), "who only looks wakes nobody"
    assert one.http.post(path, json=body).status_code == 200
    assert not is_asleep()
    until(is_asleep, "the model to sleep once more")


def test_a_load_notes_what_it_takes_and_gives_back_what_it_does_not_need(
    worker: Any, model: Path, tmp_path: Path
) -> None:
    told = {"engine": "llama.cpp", "source": str(model)}
    settings = {"notes_dir": str(tmp_path / "notes")}

    def loaded() -> tuple[str, int]:
        one = worker(OPTIONS, engine_settings=settings, **told).ready()
        text = one.chat(max_tokens=8, temperature=0, **EXACTLY).json()["choices"][0]["message"]
        [child] = psutil.Process(one.process.pid).children()
        return text["content"], child.memory_full_info().uss

    said, taken = loaded()
    [path] = (tmp_path / "notes").iterdir()
    [(key, noted)] = json.loads(path.read_text()).items()
    assert 0 < noted < taken
    path.write_text(json.dumps({key: 256 << 20}))
    # Buffers that it never writes to their end, 22 MB here, may lie in the room.
    assert loaded() == (said, pytest.approx(taken, abs=32 << 20))
    assert json.loads(path.read_text())[key] == pytest.approx(noted, abs=32 << 20)


@pytest.mark.slow
def test_adapters_change_what_is_answered_by_their_scale(
    worker: Any, model: Path, tmp_path: Path
) -> None:
    width = gguf.read_gguf(model).embedding_length or 0
    path = str(write_adapter(tmp_path / "a.gguf", "qwen2", "blk.0.attn_q.weight", (width, width)))

    def answer(*adapters: dict[str, Any]) -> list[float]:
        options = {**OPTIONS, **({"lora": list(adapters)} if adapters else {})}
        one = worker(options, engine="llama.cpp", source=str(model)).ready()
        asked = {"prompt": "a b c d", "max_tokens": 1, "temperature": 0, "n_probs": 5}
        found = one.http.post("/completion", json=asked).json()["completion_probabilities"]
        return [each["logprob"] for each in found[0]["top_logprobs"]]

    plain = answer()
    assert answer({"path": path, "scale": 0}) == pytest.approx(plain, abs=1e-4)
    assert answer({"path": path}) != pytest.approx(plain, abs=1e-3)


def test_an_adapter_that_is_none(worker: Any, model: Path, tmp_path: Path) -> None:
    gone = str(tmp_path / "gone.gguf")
    for path, code in ((gone, "bad_file"), ("a.gguf", "bad_config")):
        options = {**OPTIONS, "lora": [{"path": path}]}
        one = worker(options, engine="llama.cpp", source=str(model)).start()
        assert one.wait_exit() == 3
        assert one.record["code"] == code
        assert path in one.record["message"]


def test_a_projector_that_is_none(worker: Any, model: Path) -> None:
    """It reaches llama.cpp, which says what is wrong with it."""
    one = worker({**OPTIONS, "mmproj": str(model)}, engine="llama.cpp", source=str(model)).start()
    assert one.wait_exit() == 3
    assert "load" in one.record["message"]


def test_an_option_that_does_not_fit_the_model(worker: Any, model: Path) -> None:
    options = {**OPTIONS, "cache_type_k": "q8_0"}
    one = worker(options, engine="llama.cpp", source=str(model)).start()
    assert one.wait_exit() == 3
    assert one.record["code"] == "bad_config"
    assert "K cache type q8_0" in one.record["message"]


def test_the_header(model: Path) -> None:
    header = read_header(str(model))
    assert (header.architecture, header.context_length) == ("qwen2", 512)


@pytest.mark.parametrize("size", range(0, 400, 7))
def test_a_cut_header_is_a_bad_file_or_enough(model: Path, tmp_path: Path, size: int) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(model.read_bytes()[:size])
    try:
        header = read_header(str(path))
    except LoadFailed as e:
        assert e.code == "bad_file"  # noqa: PT017 - either outcome is right
    else:
        assert header.architecture == "qwen2"


def test_cores_are_within_what_there_is() -> None:
    assert 1 <= physical_cores() <= (os.cpu_count() or 1)


def test_describe_looks_at_the_file(model: Path) -> None:
    command = [sys.executable, "-m", "modelpool_worker", "describe", "--engine", "llama.cpp"]
    good = json.loads(subprocess.check_output([*command, "--source", model]))
    assert good["usable"] is True
    bad = json.loads(subprocess.check_output([*command, "--source", __file__]))
    assert (bad["usable"], bad["code"]) == (False, "bad_file")


@pytest.mark.parametrize(
    ("given", "more"),
    [
        ({}, {"GOMP_SPINCOUNT": "1500"}),
        ({"GOMP_SPINCOUNT": "5"}, {}),
        ({"OMP_WAIT_POLICY": "active"}, {}),
    ],
)
def test_waiting_threads_go_to_sleep(given: dict[str, str], more: dict[str, str]) -> None:
    """Two busy engines would take the cores from each other; whoever knows better is heard."""
    environment = dict(given)
    limit_spinning(environment)
    assert environment == given | more
