"""Peers beside the pool: found where they are installed, asked in the same way."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from bench import names, native, peers
from bench.model import BenchModel
from bench.peers import llama_cpp_python, llama_server, router
from bench.peers.contract import PeerKind
from bench.stage import Stage

HERE = Path(__file__).parent


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(0.1, 1, True, tmp_path, tmp_path, time.monotonic() + 60, lambda _: None)


@pytest.fixture
def doubles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All peers are installed; what they are made of is ours."""
    binary = tmp_path / "llama-server"
    binary.write_text(f'#!/bin/sh\nexec {sys.executable} {HERE / "fake_peers.py"} "$@"\n')
    binary.chmod(0o755)
    monkeypatch.setenv(native.VARIABLE, str(binary))
    package = tmp_path / "site" / "llama_cpp" / "server"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(
        f"import sys\nsys.path.insert(0, {str(HERE)!r})\n"
        "from fake_peers import llama_cpp_server\nllama_cpp_server(sys.argv)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))


@pytest.mark.e2e
@pytest.mark.usefixtures("doubles")
@pytest.mark.parametrize(
    "kind", [llama_server, router, llama_cpp_python], ids=lambda kind: kind.__name__
)
def test_a_peer_starts_and_swaps(stage: Stage, kind: PeerKind) -> None:
    with kind.start(stage, BenchModel(Path("/a/model.gguf"))) as peer:
        for measure in (peer.first_token, peer.swap, peer.first_token, peer.swap):
            assert 0 < measure() < 60


class TestWhoIsThere:
    def test_a_binary_that_is_named_comes_first(self, tmp_path: Path) -> None:
        for folder in ("named", "path"):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "llama-server").touch(mode=0o755)
        named = tmp_path / "named" / "llama-server"
        environment = {"PATH": str(tmp_path / "path"), native.VARIABLE: str(named)}
        assert native.binary(environment) == named

    def test_what_cannot_be_run_is_not_taken(self, tmp_path: Path) -> None:
        (tmp_path / "llama-server").touch(mode=0o644)
        environment = {"PATH": "", native.VARIABLE: str(tmp_path / "llama-server")}
        assert native.binary(environment) != tmp_path / "llama-server"

    def test_who_is_not_there_is_named_with_what_would_help(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(native, "binary", lambda: None)
        monkeypatch.setattr(llama_cpp_python, "NEEDED", ("no_such_module",))
        assert peers.installed(stage) == {}
        [*of_native, last] = stage.notes
        for name, note in zip((names.NATIVE_BARE, names.ROUTER), of_native, strict=True):
            assert note.startswith(name)
            assert "make native" in note
        assert last.startswith(names.LLAMA_CPP_PYTHON)
        assert "pip install" in last


def test_the_router_and_the_bare_one_are_told_the_same(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "found", lambda: Path("/bin/llama-server"))
    model = BenchModel(Path("/a/model.gguf"))
    section = router.section("a", model.path)
    said = dict(line.split(" = ") for line in section.splitlines() if " = " in line)
    flags = llama_server.command(1, model)
    for name, value in said.items():
        if value == "false":
            assert f"--no-{name}" in flags
        else:
            assert flags[flags.index(f"--{name}") + 1] == value
