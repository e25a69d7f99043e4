"""Whatever body comes to whatever surface of a COLD model: what is refused begins no load, and
nothing is a failure of ours. The pool is the real one; only what starts processes is not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from modelpool.app import running
from modelpool.catalog.database import WorkerRow
from modelpool.config import PoolConfig
from modelpool.engines import Engines
from modelpool.launchers import LaunchError, WorkerProcess
from modelpool.launchers.read_ahead import Files
from modelpool_client.surfaces.families import FAMILIES
from modelpool_client.surfaces.ollama import keep_alive_seconds
from modelpool_client.surfaces.routes import SPELLINGS, SURFACES, codec_of
from modelpool_client.wire import Assignment
from support.examples import examples
from support.in_process import client_of

EXAMPLES = examples(80)
FORM = "multipart/form-data; boundary=x"
MODEL = "cold"
# A part of a form that is one.
FILE = b"RIFF"
# What is enough to be answered.
BASES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
    "/v1/completions": {"prompt": "hi"},
    "/v1/embeddings": {"input": "hi"},
    "/v1/rerank": {"query": "hi", "documents": ["ho"]},
    "/v1/messages": {"max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]},
    "/v1/messages/count_tokens": {"messages": [{"role": "user", "content": "hi"}]},
    "/api/chat": {"messages": [{"role": "user", "content": "hi"}]},
    "/api/generate": {"prompt": "hi"},
    "/api/embed": {"input": "hi"},
    "/api/embeddings": {"prompt": "hi"},
    "/completion": {"prompt": "hi"},
    "/embedding": {"content": "hi"},
    "/infill": {"input_prefix": "a", "input_suffix": "b"},
    "/apply-template": {"messages": []},
    "/tokenize": {"content": "hi"},
    "/detokenize": {"tokens": [1]},
    "/v1/chat/completions/input_tokens": {"messages": [{"role": "user", "content": "hi"}]},
    "/v1/responses": {"input": "hi"},
    "/v1/responses/input_tokens": {"input": "hi"},
    "/v1/classify": {"input": "hi"},
    "/v1/audio/transcriptions": {"file": FILE},
    "/v1/audio/translations": {"file": FILE},
    "/v1/audio/speech": {"input": "hi"},
    "/v1/images/generations": {"prompt": "hi"},
    "/v1/images/edits": {"image": FILE, "prompt": "hi"},
    "/embed": {"inputs": "hi"},
    "/v2/embed": {"texts": ["hi"]},
    "/v1/fim/completions": {"prompt": "hi"},
    "/score": {"text_1": "hi", "text_2": ["a", "b"]},
    "/v2/models/{model}/infer": {
        "inputs": [{"name": "text_input", "shape": [1], "datatype": "BYTES", "data": ["hi"]}]
    },
    "/v2/models/{model}/generate": {"text_input": "hi"},
    "/v2/models/{model}/generate_stream": {"text_input": "hi"},
}
WORK = [path for path, surface in SURFACES.items() if surface.is_work]

_NUMBERS = st.integers() | st.floats(allow_nan=True, allow_infinity=True)
_HUGE = st.sampled_from([10**400, -(10**40), 1 << 63, 5e-324, 1.7e308])
# Halves of surrogate pairs included, which JSON can name and UTF-8 cannot.
_TEXTS = st.text(st.characters(exclude_categories=()), max_size=12)
_SCALARS = st.none() | st.booleans() | _NUMBERS | _HUGE | _TEXTS
VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4),
    max_leaves=8,
)


class NoLauncher:
    """Starts nothing, and counts how often it was asked to."""

    def __init__(self) -> None:
        self.asked = 0

    def new_worker_id(self, engine: str) -> str:
        return f"w-{self.asked}"

    async def start(self, assignment: Assignment) -> WorkerProcess:
        self.asked += 1
        raise LaunchError("nothing is started here")

    def read_ahead(self, files: Files) -> None: ...

    async def attach(self, record: WorkerRow) -> WorkerProcess | None: ...

    async def sweep(self, record: WorkerRow) -> None: ...

    async def close(self) -> None: ...


class Scene:
    """A pool with one cold model, and a client of it."""

    def __init__(self, folder: Path) -> None:
        self.launcher = NoLauncher()
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self.http: httpx.AsyncClient = self._runner.run(self._open(folder))

    async def _open(self, folder: Path) -> httpx.AsyncClient:
        keys = {"failed_retry_seconds": 0, "restart_backoff_seconds": 0, "load_wait_seconds": 5}
        config = PoolConfig.model_validate({"state_dir": folder / "state", **keys})
        pool = await self._stack.enter_async_context(running(config, self.launcher))
        http = await self._stack.enter_async_context(client_of(pool.entry))
        entry = {"model_id": MODEL, "engine": "fake", "source": "none", "memory_mb": 1}
        answer = await http.post("/models/register", json=entry)
        assert answer.status_code == 201, answer.text
        return http

    def close(self) -> None:
        self._runner.run(self._stack.aclose())
        self._runner.close()

    def send(self, path: str, body: bytes) -> tuple[httpx.Response, int]:
        """The answer, and how many launches were asked for meanwhile."""
        before = self.launcher.asked
        kind = {"content-type": FORM if codec_of(path) == "form" else "application/json"}
        target = path.replace("{model}", MODEL).replace("{version}", "1")
        answer = self._runner.run(self.http.post(target, content=body, headers=kind))
        return answer, self.launcher.asked - before


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    async def unknown(self: Engines, name: str) -> None:
        """Whatever a surface needs, this engine may have it."""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engines, "surfaces", unknown)
        made = Scene(tmp_path_factory.mktemp("fuzzed"))
        yield made
        made.close()


def written(path: str, data: dict[str, Any]) -> bytes:
    """The body that says so: JSON, or a form where the surface takes one."""
    if codec_of(path) != "form":
        return json.dumps(data).encode()
    files = {k: v for k, v in data.items() if isinstance(v, bytes)}
    said = {k: v for k, v in data.items() if k not in files}
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in said.items()}
    texts = {_sendable(k): _sendable(v) for k, v in texts.items()}
    form: Any = {"data": texts, "files": files or {"": b""}, "headers": {"content-type": FORM}}
    return httpx.Request("POST", "http://x", **form).read()


def _sendable(text: str) -> str:
    """httpx writes no halves of surrogate pairs into a form."""
    return text.encode(errors="replace").decode()


def base_of(path: str) -> dict[str, Any]:
    """With the model's name, unless that is in the path."""
    return {**({} if "{model}" in path else {"model": MODEL}), **BASES[path]}


def known(path: str) -> list[str]:
    contract = FAMILIES[SURFACES[path].family].describe().routes[path]
    return sorted((contract.request or {}).get("properties", {"stream": {}}))


@st.composite
def requests(draw: st.DrawFn, path: str) -> bytes:
    """A body that is right but for some of its values, or is nothing of the kind."""
    base = base_of(path)
    how = draw(st.integers(0, 9))
    if how == 0:
        return draw(st.binary(max_size=60))
    if how == 1:
        return json.dumps(draw(VALUES)).encode()
    if how == 2:
        deep = draw(st.sampled_from([50, 2_000, 200_000]))
        opening, closing = draw(st.sampled_from([("[", "]"), ('{"a":', "}")]))
        end = draw(st.sampled_from([closing * deep, ""]))
        key = draw(st.sampled_from([*known(path), "x"]))
        text = f'{{"model":"{MODEL}","{key}":{opening * deep}1{end}}}'
        return text.encode()
    changed = draw(st.dictionaries(st.sampled_from(known(path)) | _TEXTS, VALUES, max_size=3))
    body = written(path, {**base, **changed})
    if how == 3:  # cut
        return body[: draw(st.integers(0, len(body)))]
    if how == 4:  # no UTF-8
        at = draw(st.integers(0, len(body)))
        return (
            body[:at] + draw(st.sampled_from([b"\xff", b"\xc0\x80", b"\xed\xa0\x80"])) + body[at:]
        )
    if how == 5:  # one name twice
        more = written(path, {draw(st.sampled_from(known(path))): draw(VALUES)})
        return body[:-1] + b"," + more[1:]
    return body


def says_unload(body: bytes) -> bool:
    """As Ollama's clients do, with nothing to be answered."""
    return keep_alive_seconds(json.loads(body).get("keep_alive")) == 0


@pytest.mark.parametrize("path", WORK)
def test_what_is_refused_loads_nothing(scene: Scene, path: str) -> None:
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(requests(path))
    def ask(body: bytes) -> None:
        answer, launches = scene.send(path, body)
        code = answer.headers.get("x-modelpool-code")
        where = (body[:300], answer.status_code, answer.text[:300])
        if 400 <= answer.status_code < 500:
            assert not launches, where
        elif answer.status_code == 200:
            assert (launches, says_unload(body)) == (0, True), where
        else:  # it was taken: its load was begun, and could not succeed
            assert (answer.status_code, code, launches > 0) == (503, "launch_failed", True), where

    ask()


@pytest.mark.parametrize("path", [*WORK, *SPELLINGS])
def test_what_is_right_loads(scene: Scene, path: str) -> None:
    """Else the test above could not fail."""
    surface = SPELLINGS.get(path, path)
    answer, launches = scene.send(path, written(surface, base_of(surface)))
    assert (answer.status_code, launches > 0) == (503, True), answer.text
