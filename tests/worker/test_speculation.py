"""Speculative decoding with llama.cpp for real: a draft model that is never wrong, one that does
not fit, and the text so far."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from modelpool_client.errors import LoadFailed
from modelpool_worker.engines.llama.llama_cpp import LlamaCpp
from modelpool_worker.engines.llama.speculation import SPEC_TYPES

from .test_llama import made

OPTIONS = {"threads": 1, "parallel": 1, "context_length": 512}
# It says the same over and over.
LOOP = {"prompt": "a b a b a b a b ", "max_tokens": 96, "temperature": 0, "ignore_eos": True}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("speculation")


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    return made(folder / "model.gguf", "--layers=4", "--idle-layers=3")


@pytest.fixture(scope="module")
def draft(folder: Path) -> Path:
    return made(folder / "draft.gguf", "--layers=1")


def asked(worker: Any, model: Path, **options: Any) -> dict[str, Any]:
    one = worker({**OPTIONS, **options}, engine="llama.cpp", source=str(model)).ready()
    answer: dict[str, Any] = one.http.post("/v1/completions", json=LOOP).json()
    return answer


class TestWithLlama:
    pytestmark = pytest.mark.e2e

    def test_a_draft_model_changes_nothing_but_the_time(
        self, worker: Any, model: Path, draft: Path
    ) -> None:
        plain = asked(worker, model)
        drafted = asked(worker, model, draft_model=str(draft), draft_max=5)
        assert drafted["choices"][0]["text"] == plain["choices"][0]["text"]
        assert "draft_n" not in plain["timings"]
        assert drafted["timings"]["draft_n"] >= 64
        assert drafted["timings"]["draft_n_accepted"] == drafted["timings"]["draft_n"]

    @pytest.mark.parametrize("kind", ["ngram-map-k", "ngram-map-k4v"])
    def test_the_text_so_far(self, worker: Any, model: Path, kind: str) -> None:
        timings = asked(worker, model, spec_type=kind, draft_max=16)["timings"]
        assert timings["draft_n_accepted"] > 8

    @pytest.mark.parametrize("kind", sorted({*SPEC_TYPES} - {"ngram-map-k", "ngram-map-k4v"}))
    def test_every_kind_loads(self, worker: Any, model: Path, draft: Path, kind: str) -> None:
        options = {"draft_max": 8, "draft_min": 1, "draft_p_min": 0.1, "draft_model": str(draft)}
        assert asked(worker, model, spec_type=kind, **options)["timings"]["predicted_n"] == 96

    def test_another_vocabulary(self, worker: Any, model: Path, folder: Path) -> None:
        other = made(folder / "other.gguf", "--vocab=512")
        options = {**OPTIONS, "draft_model": str(other)}
        one = worker(options, engine="llama.cpp", source=str(model)).start()
        assert one.wait_exit() == 3
        assert one.record["code"] == "bad_config"
        assert "the same vocabulary" in one.record["message"]
        assert str(other) in one.record["message"]

    @pytest.mark.parametrize("content", [None, b"GGUF", b"something else"])
    def test_a_draft_that_is_none(
        self, worker: Any, model: Path, tmp_path: Path, content: bytes | None
    ) -> None:
        path = tmp_path / "draft.gguf"
        if content is not None:
            path.write_bytes(content)
        options = {**OPTIONS, "draft_model": str(path)}
        one = worker(options, engine="llama.cpp", source=str(model)).start()
        assert one.wait_exit() == 3
        assert one.record["code"] == "bad_file"
        assert str(path) in one.record["message"]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"draft_model": "draft.gguf"}, "draft_model"),
        ({"spec_type": "guess"}, "spec_type"),
        ({"draft_max": 4}, "draft_max"),
        ({"draft_max": 4, "spec_type": "none"}, "draft_max"),
        ({"draft_p_min": 0.5, "spec_type": "ngram-mod"}, "draft_p_min"),
        ({"draft_min": 5, "draft_max": 4, "spec_type": "ngram-mod"}, "draft_min"),
        ({"draft_max": 0, "spec_type": "ngram-mod"}, "draft_max"),
    ],
)
def test_wrong_options(options: dict[str, Any], name: str) -> None:
    with pytest.raises(LoadFailed) as error:
        LlamaCpp().check(options)
    assert (error.value.code, error.value.param) == ("bad_config", f"options.{name}")


def test_right_options() -> None:
    LlamaCpp().check({"draft_model": "/d.gguf", "draft_p_min": 0.5, "spec_type": "ngram-mod"})
    LlamaCpp().check({"spec_type": "ngram-mod", "draft_min": 48})
