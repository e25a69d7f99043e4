"""What the worker program says of models before anything is loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from modelpool_client.errors import LoadFailed
from modelpool_worker import engines, isolated
from modelpool_worker.describe import _summary, check
from modelpool_worker.engine import Engine, EngineJob, Status, Usable
from support.plugins import stranger

HERE = f"{__name__}:"


class Uninstalled(Engine):
    """Its file can be imported without its library."""

    name = "uninstalled"
    formats = ("onnx",)
    options = {"threads": {"type": "integer"}, "fast": {"type": "boolean"}}  # noqa: RUF012

    def probe(self) -> Usable:
        return Usable(False, "onnxruntime is not installed", "pip install 'modelpool[onnx]'")

    def serve(self, job: EngineJob, status: Status) -> None:
        raise AssertionError


class Pairs(Uninstalled):
    """Its options depend on each other."""

    name = "pairs"

    def probe(self) -> Usable:
        return Usable(True)

    def check(self, options: Mapping[str, Any]) -> None:
        super().check(options)
        if options.get("fast") and options.get("threads") == 1:
            raise LoadFailed("pairs: fast wants more threads than 1", code="bad_config")


class Broken(Uninstalled):
    name = "broken"

    def check(self, options: Mapping[str, Any]) -> None:
        raise ZeroDivisionError


@pytest.fixture(autouse=True)
def strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {cls.name: f"{HERE}{cls.__name__}" for cls in (Uninstalled, Pairs, Broken)}
    table["absent"] = "no_such_module_at_all:Engine"
    monkeypatch.setattr(engines, "BUILT_IN", {**engines.BUILT_IN, **table})


def ask(engine: str, source: str = "x", **more: Any) -> dict[str, Any]:
    model = {"engine": engine, "source": source, "options": {}, "inspect": False, **more}
    return dict(check({"models": [model]})["models"][0])


def problems(engine: str, source: str = "x", **more: Any) -> list[tuple[str, str]]:
    return [(p["param"], p["message"]) for p in ask(engine, source, **more)["problems"]]


def test_every_wrong_option_is_named() -> None:
    wrong = {"contxt_length": 4096, "parallel": 0, "threads": "two", "seed": 1}
    found = problems("llama.cpp", options=wrong)
    assert [param for param, _ in found] == [
        "options.contxt_length",
        "options.parallel",
        "options.threads",
    ]
    assert "is unknown, did you mean context_length; known are batch_size" in found[0][1]
    assert found[2][1] == "options.threads must be an integer, not a string"


def test_an_engine_that_there_is_not() -> None:
    ((param, message),) = problems("lama.cpp")
    assert param == "engine"
    assert "no engine 'lama.cpp', did you mean llama.cpp; there are" in message


def test_what_an_engine_runs_reads_no_question_and_writes_no_answer() -> None:
    program = """
import os
from modelpool_worker import describe
def told(arguments, data):
    os.write(1, b"chatter")
    reads_nothing = os.path.samestat(os.fstat(0), os.stat(os.devnull))
    return {"reads_nothing": reads_nothing, "data": data()}
describe._told = told
describe.describe(["--each"])
"""
    lines = [json.dumps({"arguments": [], "data": data}) for data in ("a", "b")]
    done = subprocess.run(
        [sys.executable, "-c", program],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert answers == [{"reads_nothing": True, "data": data} for data in ("a", "b")]


def test_options_that_contradict_each_other() -> None:
    assert problems("pairs", options={"fast": True, "threads": 1}) == [
        ("options", "fast wants more threads than 1")
    ]
    assert problems("pairs", options={"fast": True, "threads": 2}) == []


def test_without_its_library_an_engine_still_knows_its_options() -> None:
    answer = ask("uninstalled", options={"threads": "x"})
    assert [p["param"] for p in answer["problems"]] == ["options.threads"]
    assert answer["notes"] == [], "that is said once, of the engine"


@pytest.mark.parametrize("engine", ["absent", "broken"])
def test_what_cannot_be_asked_is_not_checked_and_says_so(engine: str) -> None:
    answer = ask(engine, options={"threads": 1})
    assert answer["problems"] == []
    assert "not checked" in answer["notes"][0]


def test_a_file_that_the_engine_does_not_load() -> None:
    assert problems("llama.cpp", "/m/x.ONNX") == [
        ("source", "source is a .onnx file; llama.cpp loads gguf")
    ]
    assert problems("uninstalled", "/m/x.gguf")[0][0] == "source"
    for engine, source in (("fake", "/m/x.gguf"), ("llama.cpp", "/m/x"), ("pairs", "x.onnx")):
        assert problems(engine, source) == []


def test_texts_from_the_environment_become_what_the_option_wants() -> None:
    options = {"threads": "4", "fast": "true"}
    answer = ask("pairs", options=options, texts=["threads", "fast"])
    assert (answer["problems"], answer["options"]) == ([], {"threads": 4, "fast": True})
    assert ask("fake", options={"reply": "42"}, texts=["reply"])["options"] == {"reply": "42"}
    for texts in ([], ["fast"]):
        assert problems("pairs", options=options, texts=texts)[0][0] == "options.threads"
    for odd in ("four", "true", "null", "[1]"):
        assert problems("pairs", options={"threads": odd}, texts=["threads"])


def test_what_it_needs_is_told_to_who_asks_for_a_look() -> None:
    options = {"memory_mb": 3}
    assert ask("fake", options=options)["memory_bytes"] is None
    assert ask("fake", options=options, inspect=True)["memory_bytes"] == 3 << 20
    (problem,) = ask("llama.cpp", __file__, inspect=True)["problems"]
    assert (problem["param"], problem["code"]) == ("source", "bad_file")


def test_many_are_asked_of_one_process() -> None:
    models = [{"engine": "fake", "source": "", "options": {"tokens": i}} for i in range(-1, 500)]
    answer = subprocess.run(
        [sys.executable, "-m", "modelpool_worker", "describe", "--check"],
        input=json.dumps({"models": models}),
        capture_output=True,
        text=True,
        check=True,
    )
    found = [len(m["problems"]) for m in json.loads(answer.stdout)["models"]]
    assert found == [1] + [0] * 500


def test_a_plugin_that_hangs_is_told_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stranger("hangs", "import time; time.sleep(600)", tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(isolated, "PLUGIN_SECONDS", 1.0)
    with pytest.raises(isolated.PluginFailed, match="did not answer within 1 s"):
        isolated.ask("--about", "hangs")


def test_models_of_plugins_are_checked_apart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stranger("dies", "import os; os._exit(5)", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(isolated, "PLUGIN_SECONDS", 60.0)
    models = [
        {"engine": name, "source": "none", "options": options}
        for name, options in (("dies", {"a": 1}), ("fake", {"tokens": -1}), ("nobody", {}))
    ]
    dies, fake, nobody = check({"models": models}, here=False)["models"]
    assert "plug-in of engine dies ended its process (exit code 5)" in dies["notes"][0]
    assert dies["options"] == {"a": 1}
    assert fake["problems"][0]["param"] == "options.tokens"
    assert nobody["problems"][0]["param"] == "engine"


def test_a_size_that_is_none_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    for told, known in ((5, 5), (0, 0), (-1, None), (2.5, None), ("much", None), (True, None)):
        monkeypatch.setattr(Pairs, "memory_bytes", lambda *_, told=told: told)
        (answer,) = check(
            {"models": [{"engine": "pairs", "source": "x", "options": {}, "inspect": True}]}
        )["models"]
        assert answer["memory_bytes"] == known


def test_what_is_computed_for_a_client_that_has_left_is_told_for_each_path() -> None:
    names = ("onnx", "mlx", "transformers", "coreml", "pocketsphinx", "llama.cpp", "openai", "vllm")
    told = {name: _summary(name, {}) for name in names}
    for name in names:
        about = told[name]["after_leaving"]
        assert about
        assert set(about) <= set(told[name]["surfaces"])
        assert set(about.values()) <= {"step", "call", "answer", "server"}
    assert told["onnx"]["after_leaving"]["/v1/chat/completions"] == "step"
    assert told["onnx"]["after_leaving"]["/v1/embeddings"] == "call"
    assert told["llama.cpp"]["after_leaving"]["/v1/embeddings"] == "answer"
    assert set(told["vllm"]["after_leaving"].values()) == {"server"}


def test_one_that_is_asked_again_and_again_keeps_no_garbage() -> None:
    """Or it would grow for as long as somebody asks."""
    program = """if True:
        import gc, sys
        from modelpool_worker import __main__, describe
        describe._told = lambda arguments, data: {"said": data(), "collects": gc.isenabled()}
        sys.exit(__main__.main(["describe", "--each"]))
    """
    asked = "".join(json.dumps({"arguments": [], "data": n}) + "\n" for n in "ab")
    done = subprocess.run(
        [sys.executable, "-c", program], input=asked, capture_output=True, text=True, check=True
    )
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"said": "a", "collects": False},
        {"said": "b", "collects": True},
    ]
