"""Whatever is sent to any described route of manager and worker: never 500, errors in one shape.

Requests are made from the OpenAPI descriptions that the two serve, right ones and wrong ones; half
of those that name a model name one that exists.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from e2e.helpers import fake
from e2e.support import PoolProcess

EXAMPLES = 15
MODEL = "plain"
# One never ends, one ends the connections of all others; what is wrong with their parameters is in
# the tables.
LEFT_OUT = {"/events", "/restart"}
# Last, because they change what the others meet.
CHANGING = ("/config", "/registry", "/models/register")
SETTINGS = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PoolProcess]:
    folder = tmp_path_factory.mktemp("contract")
    with PoolProcess(folder, [fake(MODEL), fake("gone")]) as pool:
        yield pool


def operations(url: str) -> list[Any]:
    document = httpx.get(f"{url}/openapi.json", trust_env=False, verify=False).json()
    schema = schemathesis.openapi.from_dict(document)
    found = [operation.ok() for operation in schema.get_all_operations()]
    wanted = [o for o in found if o.path not in LEFT_OUT]
    return sorted(wanted, key=lambda o: o.path in CHANGING or o.method == "delete")


def name_a_model(case: Any) -> None:
    """Let the case be about the model that exists."""
    if "model_id" in case.path_parameters and case.method != "DELETE":
        case.path_parameters["model_id"] = MODEL
    if isinstance(case.body, dict) and "model" in case.body:
        case.body["model"] = MODEL
    if case.query and "follow" in case.query:
        case.query["follow"] = "false"


def check_answer(case: Any, answer: Any) -> None:
    where = f"{case.method} {case.formatted_path} {case.query} {case.body!r:.300}"
    assert answer.status_code != 500, (where, answer.text)
    is_health = case.path.endswith("/health") and answer.status_code == 503
    if answer.status_code >= 400 and not is_health and case.method != "HEAD":
        error = answer.json()["error"]
        if case.path == "/mcp" and "jsonrpc" in answer.json():  # said in its own words
            assert isinstance(error["code"], int), where
            return
        if case.path.startswith("/api/"):  # Ollama's has nothing but the text
            assert isinstance(error, str), where
            return
        assert {"message", "type", "param", "code", "source"} <= set(error), (where, error)
        assert answer.headers["x-modelpool-code"] == [error["code"]], where
        assert answer.headers["x-modelpool-source"] == [error["source"]], where


def try_out(operation: Any, url: str, mode: GenerationMode) -> int:
    """Send the examples of one operation; how many."""
    number = itertools.count()

    @SETTINGS
    @given(operation.as_strategy(generation_mode=mode))
    def send(case: Any) -> None:
        if next(number) % 2:
            name_a_model(case)
        check_answer(case, case.call(base_url=url, timeout=30))

    try:
        send()
    except Unsatisfiable:  # a route without parameters cannot be asked wrongly
        assert mode is GenerationMode.NEGATIVE
    return next(number)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_the_worker(described: PoolProcess, mode: GenerationMode) -> None:
    url = described.load(MODEL)["endpoint"]
    sent = {o.label: try_out(o, url, mode) for o in operations(url)}
    assert sent["POST /v1/chat/completions"] >= EXAMPLES
    assert httpx.get(f"{url}/health", trust_env=False, verify=False).json()["status"] == "ready"


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_the_manager(described: PoolProcess, mode: GenerationMode) -> None:
    sent = {o.label: try_out(o, described.url, mode) for o in operations(described.url)}
    assert len(sent) > 15
    assert sent["PATCH /config"] >= EXAMPLES
    assert described.http.get("/health").status_code == 200
