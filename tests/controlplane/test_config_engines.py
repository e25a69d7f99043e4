"""What only the engines know of the configuration: asked at the start, not at the first request."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import pytest
from modelpool.catalog.parse_rules import EngineVerdict
from modelpool.config import ConfigError, PoolConfig, load_config
from modelpool.config_checks import validated
from modelpool.config_keys import ENGINES_OF_THEIR_OWN
from modelpool.describing import Describer
from modelpool.engines import check_models
from modelpool_worker.engine_table import BUILT_IN

MODELS = """
    max_concurent_models: 3
    models:
      - {model_id: a, engine: fake, source: x}
      - {model_id: b/load, engine: fake, source: x}
      - {model_id: c, source: c.gguf, options: {contxt_length: 1, parallel: 0}}
      - {model_id: d, engine: lama.cpp, source: x}
      - {model_id: e, engine: llama.cpp, source: e.safetensors}
"""


def load(folder: Path, text: str, **environ: str) -> PoolConfig:
    file = folder / "pool.yaml"
    file.write_text(text, encoding="utf-8")
    return load_config(file, environ, check=check_models)


def wrong(folder: Path, text: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(folder, text, **environ)
    return [str(e).replace(f"{folder}/", "") for e in caught.value.errors]


def test_every_error_of_every_model_at_once(tmp_path: Path) -> None:
    lines = wrong(tmp_path, MODELS)
    expected = [
        "pool.yaml: models[1].model_id must not end in 'load'",
        "pool.yaml: models[2].options.contxt_length is unknown, did you mean context_length; known",
        "pool.yaml: models[2].options.parallel must be at least 1",
        "pool.yaml: models[3].engine this version has no engine 'lama.cpp', did you mean llama.cpp",
        "pool.yaml: models[4].source is a .safetensors file; llama.cpp loads gguf",
        "pool.yaml: max_concurent_models is unknown",
    ]
    for line in expected:
        assert any(got.startswith(line) for got in lines), (line, lines)
    assert len(lines) == len(expected)


def test_in_a_variable_the_variable_is_named(tmp_path: Path) -> None:
    models = '[{"model_id": "a", "engine": "fake", "source": "x", "options": {"tokens": "x"}}]'
    (line,) = wrong(tmp_path, "", MODELPOOL_MODELS=models)
    assert line.startswith("environment variable MODELPOOL_MODELS: models[0].options.tokens must")


def test_right_ones_pass(tmp_path: Path) -> None:
    text = "models: [{id: a, engine: fake, path: x, options: {tokens: 3}}, {id: b, path: b.gguf}]"
    config = load(tmp_path, text)
    assert [dict(m.options) for m in config.models] == [{"tokens": 3}, {}]
    assert config.warnings == ()


def test_without_models_nobody_is_asked(tmp_path: Path) -> None:
    (tmp_path / "pool.yaml").write_text("port: 8050")

    def check(_: object, told: object) -> list[EngineVerdict]:
        raise AssertionError

    load_config(tmp_path / "pool.yaml", {}, check=check)


@pytest.mark.parametrize(
    "command",
    [
        ("/nonexistent/program",),
        (sys.executable, "-c", "print('nonsense')"),
        (sys.executable, "-c", "raise SystemExit('broken')"),
    ],
)
def test_a_worker_program_that_says_nothing_is_a_warning(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    (tmp_path / "pool.yaml").write_text("models: [{id: a, engine: nope, path: x}]")
    check = partial(check_models, describer=Describer(command))
    config = load_config(tmp_path / "pool.yaml", {}, check=check)
    (warning,) = config.warnings
    assert warning.startswith("models[0] (a): its engine and options were not checked")


def test_no_preset_has_the_name_of_an_engine_of_ours() -> None:
    """It would be ignored without a word."""
    assert {*BUILT_IN, "command"} == ENGINES_OF_THEIR_OWN
    config, issues = validated({"engine_presets": {"onnx": {"command": ["x", "{port}"]}}})
    assert config is None
    assert "another way" in issues[0].message
