"""What engines say of models is asked of a process, and of that no more often than need be."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest
from e2e.helpers import until
from modelpool import engines as module
from modelpool.catalog.estimator import Estimator
from modelpool.catalog.model import Model
from modelpool.describing import Describer
from modelpool.engines import Engines
from modelpool.environments.packages import packages_of
from modelpool_client.surfaces.parameters import ANY

MODEL = Model("m", "fake", "none", options={"tokens": "many"})
# Counts how often it was started, then answers as the worker program does.
COUNTING = """
import runpy, sys
open(sys.argv.pop(1), "a").write("x")
runpy.run_module("modelpool_worker", run_name="__main__", alter_sys=False)
"""


@pytest.fixture
def starts(tmp_path: Path) -> Path:
    path = tmp_path / "starts"
    path.touch()
    return path


def counting(starts: Path) -> Engines:
    return Engines(Describer((sys.executable, "-c", COUNTING, str(starts))))


def count(starts: Path) -> int:
    return len(starts.read_text())


async def ask(engines: Engines, starts: Path, model: Model, files: str) -> tuple[int, list[str]]:
    """How many processes that took, and which options are wrong."""
    await engines.all()
    before = count(starts)
    found = [problem.param for problem in await engines.problems(model, files)]
    return count(starts) - before, found


def test_the_same_question_is_asked_once(starts: Path) -> None:
    wrong, right = ["options.tokens"], dataclasses.replace(MODEL, options={"tokens": 3})
    questions: list[tuple[Model, str, tuple[int, list[str]]]] = [
        (MODEL, "f", (1, wrong)),
        (MODEL, "f", (0, wrong)),
        (right, "f", (1, [])),
        (right, "f", (0, [])),
        (dataclasses.replace(MODEL, source="other"), "f", (1, wrong)),
        (MODEL, "other files", (1, wrong)),
        (dataclasses.replace(MODEL, model_id="n"), "f", (0, wrong)),
    ]

    async def all_of_them() -> list[Any]:
        engines = counting(starts)
        return [await ask(engines, starts, model, files) for model, files, _ in questions]

    assert asyncio.run(all_of_them()) == [expected for _, _, expected in questions]


def test_what_could_not_be_asked_of_memory_is_asked_again(tmp_path: Path) -> None:
    """It may be installed, or in time, when the model is loaded."""
    plain = dataclasses.replace(MODEL, engine="pocketsphinx", source="builtin", options={})
    elsewhere = dataclasses.replace(plain, environment="not-made-yet")
    silent = Describer((sys.executable, "-c", ""))

    async def wants(engines: Engines, model: Model) -> bool:
        estimator = Estimator()
        assert estimator.wants_to_be_told(model)
        for verdict in await engines.inspected([model]):
            estimator.hear(model, verdict)
        return estimator.wants_to_be_told(model)

    async def play() -> None:
        assert not await wants(Engines(), plain)
        assert await wants(Engines(silent), plain)
        assert await wants(Engines(), elsewhere)
        # Whoever has nothing to say of it has said that.
        assert not await wants(Engines(), dataclasses.replace(plain, engine="espeak-ng"))

    asyncio.run(play())


def test_what_could_not_be_asked_is_asked_again(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    engines = Engines(Describer((sys.executable, str(program))))
    assert asyncio.run(engines.problems(MODEL, "f")) == ()
    program.write_text("import runpy\nrunpy.run_module('modelpool_worker', run_name='__main__')\n")
    (problem,) = asyncio.run(engines.problems(MODEL, "f"))
    assert problem.param == "options.tokens"


def test_not_all_that_was_ever_said_is_kept(starts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 1)

    async def counts() -> list[int]:
        engines = counting(starts)
        return [(await ask(engines, starts, MODEL, files))[0] for files in ("a", "b", "a", "a")]

    assert asyncio.run(counts()) == [1, 1, 1, 0]


def test_what_an_engine_honours_is_not_believed_unknown_for_ever(starts: Path) -> None:
    """Once no answer came, as on a busy machine; else nothing would be refused any more."""
    code = "import os, sys\nos.path.getsize(sys.argv[1]) or (open(sys.argv[1], 'w').write('x'), "
    code += f"sys.exit('no'))\n{COUNTING}"

    async def play() -> None:
        engines = Engines(Describer((sys.executable, "-c", code, str(starts))))
        assert await engines.support("fake") is ANY
        await engines.refresh()
        assert await engines.support("fake") is not ANY

    asyncio.run(play())


@pytest.mark.parametrize(
    ("engine", "packages"),
    [
        ({"install_hint": "pip install vllm, or say where it is"}, ((), ("vllm",))),
        ({"install_hint": "pip install 'infinity-emb[all]'"}, ((), ("infinity-emb[all]",))),
        (
            {"install_hint": "pip install 'transformers[serving]' 'torch'"},
            ((), ("transformers[serving]", "torch")),
        ),
        ({"install_hint": "first that, then pip install 'modelpool[onnx]'"}, (("onnx",), ())),
        ({"extra": "mlx", "install_hint": ""}, (("mlx",), ())),
        ({"install_hint": "brew install whisper-cpp, or build it"}, None),
        ({"install_hint": "pip install --index-url http://x y"}, None),
        ({"install_hint": "pip install --pre vllm"}, None),
        ({"install_hint": "pip install vllm '-rwhat.txt'"}, None),
        ({"install_hint": "pip install babble and start again"}, None),
        ({"install_hint": ""}, None),
        ({}, None),
    ],
)
def test_what_pip_installs_for_an_engine(engine: dict[str, Any], packages: Any) -> None:
    assert packages_of(engine) == packages


def test_an_installation_is_advised_only_where_there_is_one() -> None:
    async def main() -> None:
        engines = Engines()
        await engines.all()
        for name, is_advised in (("sglang", True), ("tgi", False), ("stable-diffusion.cpp", False)):
            problem = engines.problem(dataclasses.replace(MODEL, engine=name, options={}))
            assert (f"`poolctl engines install {name}`" in problem) == is_advised, problem

    asyncio.run(main())


def test_nobody_waits_for_engines_that_are_asked_anew_for_another(
    starts: Path, tmp_path: Path
) -> None:
    """A stranger's engine that hangs would hold up every request, whenever somebody asks for it."""
    go = tmp_path / "go"
    held = f"import os, sys, time\nlate = os.path.getsize(sys.argv[1])\n{COUNTING}"
    wait = f"while late and not os.path.exists({str(go)!r}): time.sleep(0.01)\nrunpy."
    held = held.replace("runpy.", wait, 1)

    async def play() -> None:
        now = [0.0]
        describer = Describer((sys.executable, "-c", held, str(starts)))
        engines = Engines(describer, now=lambda: now[0])
        before = await engines.about("fake")
        assert before["usable"]
        now[0] += 60
        asking = asyncio.ensure_future(engines.problem_now(Model("x", "nothing", "none")))
        await asyncio.to_thread(until, lambda: count(starts) == 2, "the second question")
        assert await engines.about("fake") == before
        assert (await engines.support("fake")) is not ANY
        assert not asking.done()
        go.touch()
        assert "there is no engine" in await asking
        assert await engines.about("fake") == before

    asyncio.run(asyncio.wait_for(play(), 60))
