"""Plug-ins that misbehave when they are looked at: whoever is asked besides them still answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from modelpool_worker import isolated

GOOD = """
from modelpool_worker.engine import Engine, Usable
class Good(Engine):
    name = "good"
    formats = ("onnx",)
    options = {"depth": {"type": "integer"}}
    def probe(self):
        print("I print what I like")
        return Usable(False, "its library is missing", "pip install good-engine")
    def serve(self, job, status):
        raise AssertionError
"""
MODULES = {
    "good": GOOD,
    "raises": "raise RuntimeError('broken')",
    "dies": "import os\nprint('half a', end='')\nos._exit(9)",
    "hangs": "import time\ntime.sleep(600)",
    "confused": GOOD.replace("def probe(self):", "def probe(self):\n        raise KeyError('x')"),
}
REASONS = {
    "good": "its library is missing",
    "raises": "broken",
    "dies": "its plug-in ended its process (exit code 9)",
    "hangs": "did not answer within 2 s",
    "confused": "engine 'confused' failed: KeyError('x')",
}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Packages that are installed, as far as entry points go."""
    info = tmp_path / "strange-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: strange\nVersion: 1.0\n")
    lines = [f"{name} = strange_{name}:Good" for name in MODULES]
    (info / "entry_points.txt").write_text("\n".join(["[modelpool.engines]", *lines]))
    for name, source in MODULES.items():
        (tmp_path / f"strange_{name}.py").write_text(textwrap.dedent(source))
    return {**os.environ, "PYTHONPATH": str(tmp_path)}


def described(environment: dict[str, str], *arguments: str, data: Any = None) -> dict[str, Any]:
    code = (
        "import sys, modelpool_worker.isolated as isolated\n"
        # Not 8 s for who hangs, and more for the others on a busy machine.
        "isolated.PLUGIN_SECONDS = 2.0\n"
        "run = isolated.subprocess.run\n"
        "def patient(command, *, timeout, **more):\n"
        "    return run(command, timeout=timeout if 'hangs' in command else 60, **more)\n"
        "isolated.subprocess.run = patient\n"
        "from modelpool_worker.describe import describe\n"
        "sys.exit(describe(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        input=json.dumps(data),
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_one_that_crashes_or_hangs_spoils_no_other_answer(environment: dict[str, str]) -> None:
    found = {e["name"]: e for e in described(environment)["engines"]}
    assert found["llama.cpp"]["usable"]
    assert not found["llama.cpp"]["is_plugin"]
    for name, reason in REASONS.items():
        assert not found[name]["usable"]
        assert found[name]["is_plugin"]
        assert reason in found[name]["reason"]
    assert found["good"]["install_hint"] == "pip install good-engine"
    assert found["good"]["options"] == {"depth": {"type": "integer"}}


def test_models_of_others_are_checked_all_the_same(environment: dict[str, str]) -> None:
    options = {"good": {"depth": "x"}, "dies": {}, "llama.cpp": {"parallel": 0}, "nobody": {}}
    models = [
        {"engine": name, "source": "x", "options": given, "inspect": False}
        for name, given in options.items()
    ]
    good, dies, llama, nobody = described(environment, "--check", data={"models": models})["models"]
    assert [p["param"] for p in good["problems"]] == ["options.depth"]
    assert (dies["problems"], len(dies["notes"])) == ([], 1)
    assert "engine dies ended its process (exit code 9)" in dies["notes"][0]
    assert [p["param"] for p in llama["problems"]] == ["options.parallel"]
    assert [p["param"] for p in nobody["problems"]] == ["engine"]


def test_what_one_says_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolated, "PLUGIN_SECONDS", 60.0)
    found = isolated.ask("--about", "fake")
    assert (found["name"], found["for_tests"]) == ("fake", True)
