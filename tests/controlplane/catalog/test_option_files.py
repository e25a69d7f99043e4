"""Which files requests may name in options."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from modelpool.catalog.model import Model
from modelpool.catalog.option_files import FILE_OPTIONS, file_problems
from modelpool.config import LIVE_KEYS
from modelpool_worker import engines
from modelpool_worker.engines.command_presets import PRESETS
from modelpool_worker.engines.llama import llama_cpp


def problems(path: str, folder: Path, trusted: str = "", option: str = "draft_model") -> int:
    model = Model("m", "llama.cpp", str(folder / "own" / "m.gguf"), options={option: path})
    found = file_problems(model, [str(folder / "models")], {option: trusted})
    assert all(p.param == f"options.{option}" and path in p.message for p in found)
    return len(found)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("own", "models/deep", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("own", "models"):
        (tmp_path / name / "link").symlink_to(tmp_path / "elsewhere" / "secret")
    (tmp_path / "own" / "named.gguf").symlink_to(tmp_path / "own" / "id_rsa")
    return tmp_path


@pytest.mark.parametrize("option", FILE_OPTIONS)
@pytest.mark.parametrize(
    ("path", "is_refused"),
    [
        ("own/a.jinja", False),
        ("models/deep/a.gguf", False),
        ("models/none/there.gguf", False),
        ("elsewhere/a.gguf", True),
        ("models/../elsewhere/a.gguf", True),
        ("own/link", True),
        ("own/id_rsa", True),
        ("own/notes.txt", True),
        ("own/named.gguf", True),
        ("models/notes.txt", False),
        ("models/link", True),
        ("modelsandmore/a.gguf", True),
    ],
)
def test_only_what_lies_in_a_folder_for_it(
    folder: Path, path: str, is_refused: bool, option: str
) -> None:
    assert problems(f"{folder}/{path}", folder, option=option) == is_refused


def test_what_stood_there_already_stays(folder: Path) -> None:
    path = str(folder / "elsewhere" / "a")
    assert problems(path, folder, trusted=path) == 0
    assert problems("relative.gguf", folder) == 0, "the engine refuses it"


def test_adapters_are_files_too(folder: Path) -> None:
    paths = [{"path": str(folder / name / "a.gguf")} for name in ("own", "models", "elsewhere")]
    model = Model("m", "llama.cpp", str(folder / "own" / "m.gguf"), options={"lora": paths})
    (problem,) = file_problems(model, [str(folder / "models")])
    assert (problem.param, paths[2]["path"] in problem.message) == ("options.lora", True)
    assert file_problems(model, [str(folder / "models")], {"lora": [paths[2]]}) == []


NAMES_A_FILE = re.compile(r"\bpath of\b|\bfile that\b|certificates to trust")


def test_every_option_of_an_engine_that_names_a_file_is_held_to_it() -> None:
    assert set(llama_cpp.FILES) < set(FILE_OPTIONS)
    presets = [preset.options for preset in PRESETS.values()]
    for options in (*(engines.get(n).options for n in engines.names()), *presets):
        for name, schema in options.items():
            if NAMES_A_FILE.search(schema.get("description", "")):
                assert name in FILE_OPTIONS or schema.get("only_in_config"), name
    assert "option_file_paths" not in LIVE_KEYS, "the API must not open other folders to itself"
