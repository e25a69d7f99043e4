"""Which files clients may name as models: those that are some, and no word of what others are."""

from __future__ import annotations

from pathlib import Path

import pytest
from modelpool.catalog.source_files import READ_FILES, relative_problems, source_problems
from support.model_tree import gguf, put


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    put(tmp_path / "own" / "m.gguf", gguf("m"))
    put(tmp_path / "own" / "blob-of-a-store", gguf("b"))
    put(tmp_path / "own" / "folder" / "m-q4_0.gguf", gguf("q"))
    put(tmp_path / "own" / "secret.txt", b"secret")
    put(tmp_path / "own" / "cut.gguf", gguf("m")[:40])
    put(tmp_path / "own" / "eyes.gguf", gguf("e", general__architecture="clip"))
    put(tmp_path / "models" / "bad.gguf", b"bad")
    (tmp_path / "empty").mkdir()
    (tmp_path / "models" / "out").symlink_to(tmp_path / "own")
    return tmp_path


@pytest.mark.parametrize("name", ["own/m.gguf", "own/blob-of-a-store", "own/folder"])
def test_what_is_a_model_may_be_named_wherever_it_is(disk: Path, name: str) -> None:
    assert source_problems(str(disk / name), [str(disk / "models")]) == []


@pytest.mark.parametrize("name", ["bad.gguf", "none.gguf", ".", "sub/none"])
def test_of_the_folders_of_the_config_file_all_may_be_asked(disk: Path, name: str) -> None:
    assert source_problems(str(disk / "models" / name), [str(disk / "models")]) == []


@pytest.mark.parametrize("source", ["owner/repo", "-", "llama3.2:3b"])
def test_what_is_no_path_is_nobodys_file(source: str) -> None:
    assert source_problems(source, []) == []


WRONG = ("own/secret.txt", "own/none.txt", "own/none.gguf", "own/cut.gguf", "empty", "none")


@pytest.mark.parametrize("name", [*WRONG, "models/out/secret.txt", "own/../own/secret.txt"])
def test_of_the_rest_nobody_hears_what_there_is(disk: Path, name: str) -> None:
    path = str(disk / name)
    (problem,) = source_problems(path, [str(disk / "models")])
    assert (problem.param, problem.code) == ("source", "only_in_config")
    assert "option_file_paths" in problem.message
    (unlike,) = source_problems(str(disk / "nothing-at-all"), [str(disk / "models")])
    assert problem.message.replace(path, "") == unlike.message.replace(
        str(disk / "nothing-at-all"), ""
    )
    assert source_problems("~/no-such-model.gguf", [str(disk)]) != []
    assert source_problems("/a\0b", [str(disk)]) != []


@pytest.mark.parametrize("engine", sorted(READ_FILES))
@pytest.mark.parametrize("source", ["pyproject.toml", "nothing", "docs/../../../../etc/passwd"])
def test_where_the_manager_was_started_is_nothing_to_clients(engine: str, source: str) -> None:
    (problem,) = relative_problems(engine, source)
    assert (problem.param, "absolute path" in problem.message) == ("source", True)
    assert relative_problems(engine, "/a/b") == []
    assert relative_problems("ollama", source) == [], "a name, not a path"
