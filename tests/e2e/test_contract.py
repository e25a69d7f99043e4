"""Whatever is sent to any described route of manager and worker: what comes is what the OpenAPI
documents of the two say, and never a failure of ours.

Requests are made from the documents, right ones and wrong ones; half of those that name a model
name one that exists. ``make test`` sends a few of each kind, ``make test-slow`` 20,000.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

from e2e.helpers import fake
from e2e.support import PoolProcess

FEW, MANY = 4, 265
# Their bodies nest so deeply that one takes five times as long to make.
DEEP = {"/v1/messages", "/v1/messages/count_tokens"}
MODEL = "plain"
# One never ends, one ends the connections of all others, one waits for a registry; what is wrong
# with their parameters is in the tables.
LEFT_OUT = {"/events", "/restart", "/api/pull"}
# Last, because they change what the others meet.
CHANGING = ("/config", "/registry", "/models/register")
# What a pool may say above 500 and has not failed: it cannot, or not yet.
NO_FAILURES = {
    501: {"not_supported", "missing_capability"},
    503: {"model_loading", "worker_draining", "load_cancelled"},
    504: {"load_timeout"},
}
load_all_checks()
CONFORMANCE = CHECKS.get_by_names(
    [
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
        "negative_data_rejection",
    ]
)
REJECTION = CHECKS.get_by_names(["negative_data_rejection"])
Name = Callable[[Any], None]
MAKE = Path(__file__).parents[2] / "scripts" / "make_bench_gguf.py"
SHAPE = "--layers=2 --hidden=64 --ffn=192 --heads=4 --kv=2 --vocab=1024 --ctx=512"


def operations(url: str) -> list[Any]:
    document = httpx.get(f"{url}/openapi.json", trust_env=False, verify=False, timeout=60).json()
    schema = schemathesis.openapi.from_dict(document)
    found = [operation.ok() for operation in schema.get_all_operations()]
    wanted = [o for o in found if o.path not in LEFT_OUT]
    return sorted(wanted, key=lambda o: o.path in CHANGING or o.method == "delete")


def name_a_model(case: Any) -> None:
    """Let the case be about the model, or the engine, that exists."""
    if "model_id" in case.path_parameters and case.method != "DELETE":
        case.path_parameters["model_id"] = MODEL
    for said in (case.body, case.query):
        if isinstance(said, dict) and isinstance(said.get("model"), str):
            said["model"] = MODEL
        if isinstance(said, dict) and isinstance(said.get("engine"), str):
            said["engine"] = "fake"


def check_answer(case: Any, answer: Any) -> None:
    where = f"{case.method} {case.formatted_path} {case.query} {case.body!r:.300}"
    if answer.status_code >= 500 and not case.path.endswith("/health"):
        code = answer.headers["x-modelpool-code"][0]
        assert code in NO_FAILURES.get(answer.status_code, ()), (where, answer.text)
    # A form has nothing but texts: what is wrong as JSON may be right there.
    excluded = REJECTION if case.media_type == "multipart/form-data" else []
    case.validate_response(answer, checks=CONFORMANCE, excluded_checks=excluded)


def try_out(operation: Any, url: str, mode: GenerationMode, most: int, name: Name) -> int:
    """Send the examples of one operation; how many."""
    number, session = itertools.count(), requests.Session()
    examples = most // 3 if operation.path in DEEP else most

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode))
    def send(case: Any) -> None:
        if next(number) % 2:
            name(case)
        if case.query and "follow" in case.query:
            case.query["follow"] = "false"
        check_answer(case, case.call(base_url=url, timeout=60, session=session))

    try:
        send()
    except Unsatisfiable:  # a route without parameters cannot be asked wrongly
        assert mode is GenerationMode.NEGATIVE
    finally:
        session.close()
    return next(number)


def llama(folder: Path) -> dict[str, Any]:
    """A model that writes and embeds, and answers llama.cpp's own routes; what it says is noise."""
    path = folder / "noise.gguf"
    command = [sys.executable, MAKE, path, *SHAPE.split()]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    options = {"threads": 1, "parallel": 2, "pooling_type": "mean"}
    return {"model_id": MODEL, "engine": "llama.cpp", "source": str(path), "options": options}


def try_worker(folder: Path, entry: dict[str, Any], mode: GenerationMode, most: int) -> int:
    with PoolProcess(folder, [entry]) as pool:
        url = pool.load(MODEL)["endpoint"]
        # Its document has the names that it answers to.
        sent = {o.label: try_out(o, url, mode, most, lambda case: None) for o in operations(url)}
        assert sent["POST /v1/chat/completions"] >= most
        assert (
            httpx.get(f"{url}/health", trust_env=False, verify=False, timeout=60).json()["status"]
            == "ready"
        )
    return sum(sent.values())


def try_manager(folder: Path, mode: GenerationMode, most: int) -> int:
    with PoolProcess(folder, [fake(MODEL), fake("gone")]) as pool:
        url = pool.url
        sent = {o.label: try_out(o, url, mode, most, name_a_model) for o in operations(url)}
        assert sent["PATCH /config"] >= most
        assert pool.http.get("/health").status_code == 200
    return sum(sent.values())


MODES = pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])


# What is wrong takes minutes: it is tried at length.
def test_the_worker(tmp_path: Path) -> None:
    try_worker(tmp_path, fake(MODEL), GenerationMode.POSITIVE, FEW)


def test_the_manager(tmp_path: Path) -> None:
    try_manager(tmp_path, GenerationMode.POSITIVE, FEW)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@MODES
def test_the_manager_at_length(tmp_path: Path, mode: GenerationMode) -> None:
    least = 9_000 if mode is GenerationMode.POSITIVE else 8_600
    assert try_manager(tmp_path, mode, MANY) >= least


@pytest.mark.slow
@pytest.mark.timeout(3600)
@MODES
def test_the_worker_at_length(tmp_path: Path, mode: GenerationMode) -> None:
    assert try_worker(tmp_path, fake(MODEL), mode, MANY) >= 1_200


@pytest.mark.slow
@pytest.mark.timeout(3600)
@MODES
def test_the_worker_of_a_real_engine_at_length(tmp_path: Path, mode: GenerationMode) -> None:
    try_worker(tmp_path, llama(tmp_path), mode, MANY // 3)
