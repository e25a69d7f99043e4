"""From the template of a command to its arguments, and presets in a user's words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool_client.errors import InvalidRequest, LoadFailed
from modelpool_worker import engines
from modelpool_worker.engines.command_line import BadTemplate, Part, fill, fill_text, names_in
from modelpool_worker.engines.command_presets import PRESETS, preset_of
from modelpool_worker.sleep import Sleep, SleepStep

VALUES = {"port": 1, "yes": True, "no": False, "many": ["a", "{port}"], "half": 0.5, "none": None}


@pytest.mark.parametrize(
    ("template", "arguments"),
    [
        (["x", "{port}"], ["x", "1"]),
        (["--a={port}:{half}"], ["--a=1:0.5"]),
        (["{{port}}", '{"a": {"b": 1}}', "$HOME; rm"], ["{port}", '{"a": {"b": 1}}', "$HOME; rm"]),
        ([["--p", "{port}"], ["--n", "{none}"], ["--q", "{missing}"]], ["--p", "1"]),
        ([["--yes", "{?yes}"], ["--no", "{?no}"]], ["--yes"]),
        (["{*many}", "z"], ["a", "1", "z"]),
        ([["-v", "{*many}"]], ["-v", "a", "-v", "1"]),
        (["{*none}", "{*missing}", ["-v", "{*none}"]], []),
        (["{yes}", "{many}"], ["true", "a,{port}"]),
    ],
)
def test_filled(template: list[Part], arguments: list[str]) -> None:
    assert fill(template, VALUES) == arguments


def test_what_has_no_value_is_an_error_outside_of_a_piece() -> None:
    with pytest.raises(BadTemplate, match=r"\{none\} has no value"):
        fill(["x", "{none}"], VALUES)


def test_a_variable_that_depends() -> None:
    assert fill_text("{?yes}", VALUES) == "1"
    assert fill_text("{?no}", VALUES) is None
    assert fill_text("a{port}", VALUES) == "a1"


@given(st.text(st.characters(exclude_characters="{}")))
def test_anything_else_stays_one_argument_as_it_is(text: str) -> None:
    assert fill([text, "{value}"], {"value": text}) == [text, text]


@pytest.mark.parametrize("name", PRESETS)
def test_presets_name_what_they_have(name: str) -> None:
    preset, engine = PRESETS[name], engines.get(name)
    always = {"port", "socket", "source", "model_id", "worker_id", "program", "stop_seconds"}
    texts = [*preset.environment.values(), preset.model_name]
    named = {*names_in(preset.command), *names_in(preset.stop_command), *names_in(texts)}
    assert named <= always | engine.options.keys()
    assert preset.install_hint
    assert preset.looked_at
    assert {*preset.api} <= {*engine.surfaces}
    engine.check({"image": "x"} if name == "container" else {})


def test_a_preset_of_a_user() -> None:
    entry = {"program": "/opt/vllm", "options": {"x": {"type": "integer"}}, "formats": ["gguf"]}
    ours = preset_of("vllm", entry)
    assert (ours.program, ours.command) == ("/opt/vllm", PRESETS["vllm"].command)
    assert ours.formats == ("gguf",)
    own = preset_of("own", {"command": ["x", ["-p", "{port}"]]})
    assert own.command == ("x", ("-p", "{port}"))


WAY = {"sleep": ["/a"], "wake": [{"path": "/b", "body": {"all": True}}, "/c"]}


def test_a_server_of_a_user_sleeps() -> None:
    """What it can is among the options of its models; nobody else has them."""
    entry = {"command": ["x", "{port}"], "sleep": [{"level": 2, **WAY}]}
    steps = (SleepStep("/b", {"all": True}), SleepStep("/c"))
    assert preset_of("own", entry).sleep == {2: Sleep(2, (SleepStep("/a"),), steps)}
    options = engines.get("own", {"presets": {"own": entry}}).options
    assert (options["sleep"]["type"], options["sleep_level"]["enum"]) == ("boolean", (2,))
    assert "sleep" not in engines.get("own", {"presets": {"own": {**entry, "sleep": []}}}).options
    assert engines.get("vllm").options["sleep_level"]["default"] == 1
    never = engines.get("vllm", {"presets": {"vllm": {"sleep": []}}})
    assert "sleep" not in never.options
    never.check({})


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({}, "engine_presets.own.command is required"),
        ({"command": "x"}, "must be a list"),
        ({"comand": ["x"]}, "did you mean command"),
        ({"command": ["x"], "stop_signal": "SIGTERM"}, "must be one of"),
        ({"command": ["x"], "sleep": [{"level": 3, **WAY}]}, "must be one of"),
        ({"command": ["x"], "sleep": [{"level": 1, "sleep": ["/a"]}]}, "wake"),
        ({"command": ["x"], "sleep": [{"level": 1, **WAY, "wake": ["b"]}]}, "begin with /"),
        ({"command": ["x"], "sleep": [{"level": 1, **WAY, "check": "/c d"}]}, "no blanks"),
        ({"command": ["x"], "sleep": [{"level": 2, **WAY}] * 2}, "stands there twice"),
    ],
)
def test_one_that_is_wrong(entry: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        preset_of("own", entry)
    with pytest.raises(LoadFailed, match=said):
        engines.get("own", {"presets": {"own": entry}})
