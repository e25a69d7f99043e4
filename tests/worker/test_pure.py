"""Small decisions: headers, the assignment, last words, the engine's errors, estimates."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from modelpool_client.errors import ModelPoolError
from modelpool_client.surfaces import pooling, sse
from modelpool_client.surfaces.openai_bodies import BODIES, CHAT_PATH
from modelpool_client.surfaces.routes import BASIC
from modelpool_client.wire import Assignment
from modelpool_worker import diagnose, proc
from modelpool_worker.child import describe_exit
from modelpool_worker.config import BadAssignment, read_assignment
from modelpool_worker.engine_client import engine_error
from modelpool_worker.engine_table import BUILT_IN, REMOTE
from modelpool_worker.environment import UNTOLD, child_environment
from modelpool_worker.proc import mapped_bytes
from modelpool_worker.progress import LoadEstimate, estimate, parts_of, source_bytes
from modelpool_worker.surfaces import openapi
from modelpool_worker.tokens import Tokens, count_tokens

ASSIGNMENT = {
    "worker_id": "w",
    "secret": "s",
    "pool_id": "p",
    "epoch": 1,
    "manager_url": "http://127.0.0.1:8050",
    "model_id": "m",
    "engine": "fake",
    "source": "",
    "port": 8051,
}


def test_an_assignment() -> None:
    read = read_assignment(json.dumps({**ASSIGNMENT, "from_the_future": 1}).encode())
    assert isinstance(read, Assignment)
    assert read.aliases == ()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"port": "x"}, "port"),
        ({"port": 70000}, "port"),
        ({"secret": ""}, "secret"),
        ({"worker_id": "a/b"}, "worker_id"),
        ({"manager_url": "unix:/x"}, "manager_url"),
        ({"beat_seconds": 0}, "beat_seconds"),
        ({"drain_seconds": -1}, "drain_seconds"),
        ({"prompt_cache_limits": {"max_bytes": -1}}, "prompt_cache_limits"),
        ({"runtime_dir": "/" + "x" * 100}, "runtime_dir"),
        ({"options": []}, "options"),
    ],
)
def test_bad_assignments(change: dict[str, Any], named: str) -> None:
    line = json.dumps({**ASSIGNMENT, "exit_record": "/r", **change}).encode()
    with pytest.raises(BadAssignment, match=named) as caught:
        read_assignment(line)
    assert caught.value.exit_record == "/r"


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b"{}"])
def test_no_assignments(line: bytes) -> None:
    with pytest.raises(BadAssignment):
        read_assignment(line)


def test_a_child_sees_no_secrets() -> None:
    environment = {
        "PATH": "/bin",
        "MODELPOOL_WORKER_ID": "w",
        "MODELPOOL_ADMIN_SECRET": "x",
        "OPENAI_API_KEY": "x",
        "HF_TOKEN": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "TOKENIZERS_PARALLELISM": "true",
    }
    kept = {"PATH", "MODELPOOL_WORKER_ID", "TOKENIZERS_PARALLELISM", "MORE"}
    told = child_environment(environment, MORE="1")
    assert told.keys() == kept | UNTOLD.keys()
    assert child_environment({"ORT_DISABLE_TELEMETRY": "0"})["ORT_DISABLE_TELEMETRY"] == "0"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("0.0 E llama_model_load: unknown model architecture: 'qwenx'", "unsupported_arch"),
        ("gguf_init_from_reader: invalid magic characters: 'hell'", "bad_file"),
        ("tensor 'x' data is not within the file bounds, model is corrupted", "bad_file"),
        ("llama_init_from_model: failed to initialize the context: std::bad_alloc", "oom"),
        ("ggml_backend_cuda: cudaMalloc failed: out of memory", "oom"),
        ("ModuleNotFoundError: No module named 'torch'", "missing_dependency"),
        ("something else", "load_failed"),
    ],
)
def test_last_words(line: str, code: str) -> None:
    assert diagnose.code_of(["noise", line, "failed to load model"], "load_failed") == code
    assert bool(diagnose.reason_of(["noise", line])) == (code != "load_failed")
    assert diagnose.reason_of(["noise", "0.1.2 E x failed"]) == "x failed"


@pytest.mark.parametrize(
    ("lines", "was_killed", "code"),
    [
        (["ggml_cuda: CUDA error: out of memory"], False, "oom"),
        (["terminate called after throwing an instance of 'std::bad_alloc'"], False, "oom"),
        (["ggml_cuda: CUDA error: out of memory"], True, "engine_died"),
        (["failed to open GGUF file"], False, "engine_died"),
        ([], False, "engine_died"),
    ],
)
def test_why_an_engine_died_that_had_been_ready(
    lines: list[str], was_killed: bool, code: str
) -> None:
    failure = diagnose.death(-6, "signal 6 (SIGABRT)", lines, was_killed=was_killed)
    assert (failure.code, failure.exit_code) == (code, -6)
    assert failure.message.startswith("the engine died: signal 6 (SIGABRT)")
    assert (code == "oom") == any(line in failure.message for line in lines)


def test_a_child_imports_nothing_of_a_front() -> None:
    """It is what a load begins with: asyncio alone takes as long as the rest."""
    ours = [w.split(":")[0] for n, w in BUILT_IN.items() if n not in REMOTE and n != "fake"]
    code = "import sys, importlib, modelpool_worker.host\n"
    code += "for name in sys.argv[1:]: importlib.import_module(name)\n"
    code += "seldom = {'asyncio', 'ssl', 'numpy', 'psutil', 'modelpool_client.wire'}\n"
    code += "print((seldom | {'importlib.metadata'}) & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code, *ours], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


def test_a_front_imports_nothing_that_it_may_never_need() -> None:
    """The first token of a cold model waits for it: documents, rare surfaces, whatever checks."""
    code = "import sys, modelpool_worker.spawn, modelpool_worker.start, modelpool_worker.front\n"
    code += "seldom = ('argparse', 'email', 'httpx', 'importlib.metadata', 'numpy', 'psutil')\n"
    code += "print(sorted(m for m in sys.modules if m in seldom or 'contracts' in m"
    code += " or m.startswith(('modelpool_client.surfaces.o', 'modelpool_worker.engines.'))"
    code += " and not m.startswith('modelpool_client.surfaces.openai')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stdout + done.stderr


def test_exits_in_words() -> None:
    assert describe_exit(3) == "exit code 3"
    assert describe_exit(-11) == "signal 11 (SIGSEGV)"
    assert "out of memory?" in describe_exit(-9)


@pytest.mark.parametrize(
    ("status", "body", "name"),
    [
        (400, {"message": "m", "type": "exceed_context_size_error"}, "ContextLengthExceeded"),
        (400, {"message": "m", "type": "invalid_request_error"}, "InvalidRequest"),
        (500, {"message": "[json.exception.type_error.302] …", "type": "x"}, "InvalidRequest"),
        (500, {"message": "image input is not supported", "type": "x"}, "InvalidRequest"),
        (501, {"message": "m"}, "NotSupported"),
        (500, {"message": "Context size has been exceeded."}, "Unavailable"),
        (500, {"message": "m"}, "EngineFailed"),
        (429, {"message": "Model is overloaded"}, "Unavailable"),
        (503, {"message": "m"}, "Unavailable"),
    ],
)
def test_engine_errors(status: int, body: dict[str, str], name: str) -> None:
    error = engine_error(status, json.dumps({"error": body}).encode())
    assert isinstance(error, ModelPoolError)
    assert (type(error).__name__, error.source) == (name, "engine")
    assert error.message == body["message"]


@pytest.mark.parametrize(("said", "param"), [("input", "input"), (None, None), ({}, None)])
@pytest.mark.parametrize("status", [400, 422, 501])
def test_the_parameter_that_an_engine_blames(status: int, said: Any, param: str | None) -> None:
    body = {"error": {"message": "m", "param": said}}
    assert engine_error(status, json.dumps(body).encode()).param == param


def test_a_text_over_llama_cpps_batch_is_told_with_both_numbers() -> None:
    text = "input (2001 tokens) is too large to process. increase the physical batch size"
    body = {"error": {"message": f"{text} (current batch size: 512)", "type": "server_error"}}
    error = engine_error(500, json.dumps(body).encode(), "/v1/embeddings")
    assert (error.code, error.param) == ("context_length_exceeded", "input")
    assert error.details == {"prompt_tokens": 2001, "context_length": 512}
    assert "is 512 tokens, and input has 2001" in error.message


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error": "x"}', b"\xff"])
def test_engine_errors_without_a_readable_body(body: bytes) -> None:
    assert "500" in engine_error(500, body).message


def test_tokens_are_counted_from_the_tail() -> None:
    usage = (
        b'data: {"usage":{"completion_tokens":42,"prompt_tokens":1},"timings":{"predicted_n":9}}'
    )
    assert count_tokens(usage).completion == 42
    assert count_tokens(b'"timings": {"predicted_n": 9}}\n\ndata: [DONE]').completion == 9
    assert count_tokens(b"data: [DONE]") == Tokens()


def test_estimates() -> None:
    progress = estimate(25, 100, elapsed=2)
    assert (progress.fraction, progress.eta_seconds, progress.estimated) == (0.25, 6, True)
    assert estimate(0, 100, 2).eta_seconds is None


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_mapping_a_file_is_progress(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"x" * (1 << 20))
    with path.open("rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert sum(mapped[::4096]) > 0
        sample = LoadEstimate(os.getpid(), str(path)).sample(1.0)
    assert sample is not None
    assert (sample.bytes_done, sample.bytes_total) == (1 << 20, 1 << 20)
    assert LoadEstimate(os.getpid(), str(tmp_path / "none")).sample(1.0) is None


def test_the_size_of_a_split_file(tmp_path: Path) -> None:
    for i in (1, 2):
        (tmp_path / f"m[x]-0000{i}-of-00002.gguf").write_bytes(b"x" * i)
    assert source_bytes(parts_of(str(tmp_path / "m[x]-00001-of-00002.gguf"))) == 3
    assert source_bytes(parts_of(str(tmp_path / "none"))) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_every_part_that_is_mapped_counts(tmp_path: Path) -> None:
    """Else a load stands still once the first part is in memory. In a cache they are links."""
    named = [tmp_path / f"m-0000{i}-of-00002.gguf" for i in (1, 2)]
    for i, link in enumerate(named):
        blob = tmp_path / f"blob{i}"
        blob.write_bytes(b"x" * (1 << 20))
        link.symlink_to(blob)
    with contextlib.ExitStack() as stack:
        for link in named:
            f = stack.enter_context(link.open("rb"))
            mapped = stack.enter_context(mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ))
            assert sum(mapped[::4096]) > 0
        parts = parts_of(str(named[0]))
        assert mapped_bytes(os.getpid(), parts) == source_bytes(parts) == 2 << 20


def test_processor_time_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    known = proc.cpu_seconds(os.getpid())
    monkeypatch.setattr(proc, "read", lambda path: None)
    told = proc.cpu_seconds(os.getpid())
    assert known is not None
    assert told is not None
    assert abs(told - known) < 1.0
    assert proc.cpu_seconds(2**22 + 1) is None


@pytest.mark.parametrize(
    ("start", "is_one"),
    [(b"data: {}", True), (b": ping", True), (b"", True), (b"<html>", False), (b"\x00\x01", False)],
)
def test_what_an_event_stream_begins_with(start: bytes, is_one: bool) -> None:
    assert sse.is_event_stream(start) is is_one


def test_the_description_is_made_from_the_table() -> None:
    document = openapi.describe("demo", ["nick"], BASIC)
    post = document["paths"][CHAT_PATH]["post"]
    schema = post["requestBody"]["content"]["application/json"]["schema"]
    assert schema["properties"].keys() == BODIES[CHAT_PATH]["properties"].keys()
    names = ["demo", "nick", "demo:latest", "nick:latest", None]
    assert schema["properties"]["model"]["enum"] == names
    json.dumps(document)


@pytest.mark.parametrize(
    ("architecture", "in_file", "options", "purposes", "is_whole"),
    [
        ("qwen2", None, {}, ("text",), False),
        ("qwen2", 3, {}, ("embeddings",), False),
        # Made for embeddings: a vector a token.
        ("qwen2", 3, {"pooling_type": "none"}, ("embeddings",), False),
        ("qwen2", None, {"pooling_type": "last"}, ("text", "embeddings"), False),
        ("qwen2", None, {"pooling_type": "mean"}, ("text", "embeddings"), True),
        ("bert", None, {}, ("embeddings",), True),
        ("bert", None, {"pooling_type": "last"}, ("embeddings",), True),
        ("bert", None, {"pooling_type": "none"}, ("embeddings",), True),
        ("bert", None, {"pooling_type": "rank"}, ("rerank",), True),
    ],
)
def test_what_a_model_is_for(
    architecture: str,
    in_file: int | None,
    options: dict[str, str],
    purposes: tuple[str, ...],
    is_whole: bool,
) -> None:
    assert pooling.purposes_of(architecture, in_file, options) == purposes
    how = pooling.pooling_of(architecture, in_file, options)
    assert pooling.is_read_whole(architecture, how) == is_whole
