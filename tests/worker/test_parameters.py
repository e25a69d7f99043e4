"""Every parameter of chat and text completions, on both engines: honoured, refused, or named."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from modelpool_client.surfaces.openai_bodies import BODIES
from modelpool_client.surfaces.parameter_rules import LOAD_OPTIONS, Disposition, Rule
from modelpool_client.surfaces.parameters import Support, header_of
from modelpool_client.surfaces.routes import CHAT_PATH, TEXT_PATH
from modelpool_worker import engines
from modelpool_worker.engines.llama.parameters import HONOURS, unable

pytestmark = pytest.mark.e2e

MAKE = Path(__file__).parents[2] / "scripts" / "make_bench_gguf.py"
SHAPE = [
    "--layers=2",
    "--hidden=64",
    "--ffn=192",
    "--heads=4",
    "--kv=2",
    "--vocab=1024",
    "--ctx=512",
]
# Any tokens will do: the model says noise.
INFILL = ("prefix", "300"), ("suffix", "301"), ("middle", "302")
TOOL = {
    "type": "function",
    "function": {
        "name": "look",
        "parameters": {
            "type": "object",
            "properties": {"far": {"type": "boolean"}},
            "required": ["far"],
        },
    },
}
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hi there"}]}
TEXT: dict[str, Any] = {"prompt": "hi there"}
BARE = {CHAT_PATH: CHAT, TEXT_PATH: TEXT}
HIGH = {"type": "content", "content": "x"}

# A value for each that asks for something, and what it cannot be without.
VALUES: dict[str, Any] = {
    "model": "demo",
    "messages": CHAT["messages"],
    "prompt": ["a", "b"],
    "stream": True,
    "stream_options": {"include_usage": True},
    "stream_options.include_usage": True,
    "stream_options.include_obfuscation": True,
    "user": "me",
    "priority": "low",
    "temperature": 0.5,
    "top_p": 0.5,
    "n": 2,
    "max_tokens": 3,
    "max_completion_tokens": 3,
    "stop": ["x"],
    "seed": 3,
    "presence_penalty": 1,
    "frequency_penalty": 1,
    "logit_bias": {"5": 1},
    "top_logprobs": 2,
    "response_format": {"type": "json_object"},
    "tools": [TOOL],
    "tool_choice": "required",
    "parallel_tool_calls": False,
    "functions": [TOOL["function"]],
    "function_call": {"name": "look"},
    "reasoning_effort": "high",
    "verbosity": "low",
    "prediction": HIGH,
    "modalities": ["text", "audio"],
    "audio": {"voice": "alloy", "format": "wav"},
    "web_search_options": {},
    "moderation": {"model": "m"},
    "prompt_cache_key": "k",
    "prompt_cache_options": {"mode": "implicit"},
    "prompt_cache_retention": "24h",
    "metadata": {"a": "b"},
    "store": True,
    "service_tier": "flex",
    "safety_identifier": "s",
    "echo": True,
    "suffix": "end",
    "best_of": 2,
    "adaptive_decay": 0.5,
    "adaptive_target": 0.5,
    "add_generation_prompt": False,
    "cache_prompt": False,
    "chat_template_kwargs": {"enable_thinking": False},
    "continue_final_message": False,
    "dry_allowed_length": 1,
    "dry_base": 1.5,
    "dry_multiplier": 1,
    "dry_penalty_last_n": 10,
    "dry_sequence_breakers": ["."],
    "dynatemp_exponent": 1,
    "dynatemp_range": 0.1,
    "grammar": "root ::= [a-z]*",
    "id_slot": 0,
    "ignore_eos": True,
    "json_schema": {"type": "object"},
    "lora": [],  # the model has none that could be named
    "min_keep": 1,
    "min_p": 0.1,
    "mirostat": 1,
    "mirostat_eta": 0.1,
    "mirostat_tau": 5,
    "n_cache_reuse": 0,
    "n_cmpl": 2,
    "n_discard": 0,
    "n_indent": 1,
    "n_keep": 0,
    "n_predict": 3,
    "n_probs": 1,
    "post_sampling_probs": True,
    "reasoning_budget_message": "enough",
    "reasoning_budget_tokens": 5,
    "reasoning_control": True,
    "reasoning_format": "none",
    "repeat_last_n": 10,
    "repeat_penalty": 1.1,
    "return_progress": True,
    "return_tokens": True,
    "samplers": ["top_k"],
    "sse_ping_interval": 5,
    "t_max_predict_ms": 1000,
    "thinking_budget_tokens": 5,
    "timings_per_token": True,
    "top_k": 5,
    "top_n_sigma": 1,
    "typical_p": 0.5,
    "verbose": True,
    "xtc_probability": 0.1,
    "xtc_threshold": 0.1,
    "something_new": 1,
    **dict.fromkeys(LOAD_OPTIONS, 1),
}
LOGPROBS: dict[str, Any] = {CHAT_PATH: True, TEXT_PATH: 2}
COMPANIONS: dict[str, dict[str, Any]] = {
    "stream_options": {"stream": True},
    "stream_options.include_usage": {"stream": True},
    "stream_options.include_obfuscation": {"stream": True},
    "top_logprobs": {"logprobs": True},
    "tool_choice": {"tools": [TOOL], "max_tokens": 200},
    "parallel_tool_calls": {"tools": [TOOL]},
    "return_progress": {"stream": True},
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With tokens to fill in, and a chat template without a place for tools."""
    plain, path = (tmp_path_factory.mktemp("gguf") / name for name in ("plain.gguf", "infill.gguf"))
    run = [sys.executable, str(MAKE), str(plain), *SHAPE]
    subprocess.run(run, check=True, stdout=subprocess.DEVNULL)
    named = [a for name, token in INFILL for a in ("--special-token-by-id", name, token)]
    script = [sys.executable, "-m", "gguf.scripts.gguf_new_metadata", "--force", *named]
    subprocess.run([*script, str(plain), str(path)], check=True, capture_output=True)
    return path


@pytest.fixture(scope="module")
def llama(tiny: Path, manager: Any, tmp_path_factory: pytest.TempPathFactory, running: Any) -> Any:
    folder, options = tmp_path_factory.mktemp("llama"), {"threads": 1, "parallel": 2}
    one = running(manager, folder, engine="llama.cpp", source=str(tiny), options=options).ready()
    yield one
    one.close()


# The template of the tiny model is chatml, and has a place for nothing but messages.
CAPABILITIES = {"supports_tools": False, "supports_reasoning_effort": False}
# What stands for each engine: its fixture, and what it and its model support.
ENGINES = {
    "llama.cpp": ("llama", Support(HONOURS, unable(CAPABILITIES, has_infill=True))),
    "fake": ("echo", Support(engines.get("fake").honours)),
}


def every() -> Iterator[Any]:
    for engine, (_, support) in ENGINES.items():
        for path in BARE:
            for name in [*support.names(path), "something_new"]:
                kind = "chat" if path == CHAT_PATH else "text"
                yield pytest.param(engine, path, name, id=f"{engine}-{kind}-{name}")


def body_with(path: str, name: str) -> dict[str, Any]:
    value = LOGPROBS[path] if name == "logprobs" else VALUES[name]
    outer, _, inner = name.partition(".")
    asked = {outer: {inner: value} if inner else value}
    return {**BARE[path], "max_tokens": 2, **COMPANIONS.get(name, {}), **asked}


@pytest.mark.parametrize(("engine", "path", "name"), list(every()))
def test_every_parameter_is_honoured_refused_or_named(
    engine: str, path: str, name: str, request: pytest.FixtureRequest
) -> None:
    fixture, support = ENGINES[engine]
    rule: Rule = support.rule(path, name)
    answer = request.getfixturevalue(fixture).http.post(path, json=body_with(path, name))
    ignored = answer.headers.get("x-modelpool-ignored", "").split(", ")
    refused = answer.status_code == 400 and answer.json()["error"]["param"]
    if rule.how is Disposition.REFUSED:
        needed = COMPANIONS.get(name, {}).keys()  # may be refused before it
        assert refused == name or refused in needed, answer.text
    else:
        assert answer.status_code == 200, answer.text
        assert "error" not in answer.text
        assert (name in ignored) == (rule.how is Disposition.IGNORED), ignored


def test_neutral_values_are_neither_refused_nor_named(echo: Any) -> None:
    _, support = ENGINES["fake"]
    for path in BARE:
        rules = {name: support.rule(path, name) for name in support.names(path)}
        neutral = {k: v for k, r in rules.items() if "." not in k for v in r.neutral[:1]}
        neutral = {k: v for k, v in neutral.items() if k not in ("top_logprobs",)}
        answer = echo.http.post(path, json={**BARE[path], **neutral})
        assert answer.status_code == 200, answer.text
        assert "x-modelpool-ignored" not in answer.headers


def said(worker: Any, path: str, **body: Any) -> Any:
    fixed = {"max_tokens": 8, "seed": 1, "ignore_eos": True, "cache_prompt": False}
    answer = worker.http.post(path, json={**BARE[path], **fixed, **body})
    assert answer.status_code == 200, answer.text
    return [c.get("text") or c["message"]["content"] for c in answer.json()["choices"]]


@pytest.mark.parametrize("path", list(BARE))
@pytest.mark.parametrize(
    "more",
    [
        {"seed": 2},
        {"temperature": 0},
        {"top_p": 0.01},
        {"top_k": 1},
        {"min_p": 0.99},
        {"repeat_penalty": 5.0},
        {"logit_bias": {"66": 100}},
        {"max_tokens": 2},
        {"n": 2},
        {"grammar": "root ::= [0-9]*"},
        {"mirostat": 2},
        {"samplers": ["top_k"]},
    ],
    ids=lambda more: next(iter(more)),
)
def test_what_is_honoured_changes_the_answer(llama: Any, path: str, more: dict[str, Any]) -> None:
    before = said(llama, path)
    assert said(llama, path) == before
    assert said(llama, path, **more) != before


def test_stop_ends_the_answer_and_an_empty_one_does_not(llama: Any) -> None:
    before = said(llama, TEXT_PATH)[0]
    stop = before[2:4]
    assert said(llama, TEXT_PATH, stop=stop)[0] == before[: before.index(stop)]
    for empty in ("", [], [""], None):
        assert said(llama, TEXT_PATH, stop=empty)[0] == before


def test_any_number_of_tokens_is_clamped_by_the_context(llama: Any) -> None:
    for path in BARE:
        for most in (1 << 20, 1 << 40, 10**30):
            body = {**BARE[path], "ignore_eos": True, "max_tokens": most}
            answer = llama.http.post(path, json=body).json()
            assert answer["choices"][0]["finish_reason"] == "length"
            assert answer["usage"]["total_tokens"] == 512


@pytest.mark.parametrize("stream", [False, True])
def test_echo_comes_before_each_answer(llama: Any, stream: bool) -> None:
    prompts, fixed = ["one ", "two "], {"seed": 1, "max_tokens": 3, "ignore_eos": True, "n": 2}
    plain = texts(llama, stream, prompt=prompts, **fixed)
    echoed = texts(llama, stream, prompt=prompts, echo=True, **fixed)
    assert echoed == {i: prompts[i // 2] + text for i, text in plain.items()}
    assert len(plain) == 4


@pytest.mark.parametrize("stream", [False, True])
def test_a_suffix_is_filled_in_before(llama: Any, stream: bool) -> None:
    fixed = {"prompt": "hi", "seed": 1, "max_tokens": 4, "ignore_eos": True}
    plain = texts(llama, stream, **fixed)[0]
    filled = texts(llama, stream, suffix="end", **fixed)[0]
    assert filled
    assert filled != plain
    assert texts(llama, stream, suffix="", **fixed)[0] == plain
    assert texts(llama, stream, suffix="end", echo=True, **fixed)[0] == "hi" + filled


def texts(worker: Any, stream: bool, **body: Any) -> dict[int, str]:
    """Of each choice; whatever else is in an answer is as OpenAI's package has it."""
    found: dict[int, str] = {}
    answer = worker.http.post(TEXT_PATH, json={"stream": stream, **body})
    assert answer.status_code == 200, answer.text
    if not stream:
        whole = answer.json()
        assert whole["usage"]["completion_tokens"] >= body["max_tokens"]
        chunks = [whole]
    else:
        *lines, last = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
        assert last == "[DONE]"
        chunks = [json.loads(line) for line in lines]
    for chunk in chunks:
        assert chunk["object"] == "text_completion"
        assert {"id", "created", "model"} <= chunk.keys()
        for choice in chunk["choices"]:
            found[choice["index"]] = found.get(choice["index"], "") + choice["text"]
    return found


@pytest.mark.parametrize("stream", [False, True])
def test_other_apis_fill_in_alike(llama: Any, stream: bool) -> None:
    fixed = {"seed": 1, "max_tokens": 4}
    filled = texts(llama, False, prompt="hi", suffix="end", **fixed)[0]
    options = {"num_predict": 4, "seed": 1}
    body = {"prompt": "hi", "suffix": "end", "stream": stream, "options": options}
    lines = llama.http.post("/api/generate", json=body).text.splitlines()
    assert "".join(json.loads(line)["response"] for line in lines) == filled


@pytest.mark.parametrize("most", [0, 2])
@pytest.mark.parametrize("suffix", [None, "end"])
def test_log_probabilities_of_texts_stand_side_by_side(
    llama: Any, most: int, suffix: str | None
) -> None:
    body = {"prompt": "hi", "logprobs": most, "max_tokens": 3, "seed": 1, "suffix": suffix}
    exact = {"ignore_eos": True, "grammar": "root ::= [a-z]*"}
    choice = llama.http.post(TEXT_PATH, json={**body, **exact}).json()["choices"][0]
    told = choice["logprobs"]
    assert "".join(told["tokens"]) == choice["text"]
    assert told["text_offset"] == [
        choice["text"].index(t, i) for i, t in zip((0, 1, 3), told["tokens"], strict=True)
    ]
    assert all(p <= 0 for p in told["token_logprobs"])
    if most:
        assert [t in top for t, top in zip(told["tokens"], told["top_logprobs"], strict=True)]
        assert {len(top) for top in told["top_logprobs"]} <= {most, most + 1}
    else:
        assert told["top_logprobs"] is None


def test_chats_tell_log_probabilities_with_as_many_alternatives_as_asked(llama: Any) -> None:
    exact = {"ignore_eos": True, "grammar": "root ::= [a-z]*", "max_tokens": 2}
    for asked, got in ((None, 0), (0, 0), (3, 3)):
        body = {**CHAT, **exact, "logprobs": True, "top_logprobs": asked}
        tokens = llama.http.post(CHAT_PATH, json=body).json()["choices"][0]["logprobs"]["content"]
        assert [len(t["top_logprobs"]) for t in tokens] == [got, got]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "choice",
    ["required", {"type": "function", "function": {"name": "look"}}],
    ids=["required", "named"],
)
def test_a_forced_call_is_a_call_whatever_the_template(
    llama: Any, choice: Any, stream: bool
) -> None:
    body = {**CHAT, "tools": [TOOL], "tool_choice": choice, "max_tokens": 400, "stream": stream}
    answer = llama.http.post(CHAT_PATH, json=body)
    assert answer.status_code == 200, answer.text
    if stream:
        *lines, last = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
        assert last == "[DONE]"
        parts = [c for line in lines for c in json.loads(line)["choices"]]
        (call,) = [c for p in parts for c in p["delta"].get("tool_calls", ())]
        assert not any(p["delta"].get("content") for p in parts)
        reason = parts[-1]["finish_reason"]
    else:
        found = answer.json()["choices"][0]
        (call,), reason = found["message"]["tool_calls"], found["finish_reason"]
        assert found["message"]["content"] is None
    assert call["function"]["name"] == "look"
    if reason == "tool_calls":  # else the noise has filled all that it may
        assert isinstance(json.loads(call["function"]["arguments"])["far"], bool)
    else:
        assert reason == "length"


def test_names_in_a_header_are_harmless() -> None:
    assert header_of(["a", "b\r\nx: y", "é"]) == b"a, b%0D%0Ax%3A%20y, %C3%A9"
    many = header_of([f"p{n}" for n in range(1000)])
    assert many.endswith(b"p31, and 968 more")


# Whatever of a chat may be left out, at every depth; the model writes whatever it is told.
WITH_NULLS: dict[str, Any] = {
    **dict.fromkeys(k for k, v in BODIES[CHAT_PATH]["properties"].items() if k != "messages"),
    "messages": [
        {"role": "system", "content": "be short", "name": None},
        {"role": "user", "content": [{"type": "text", "text": "hi", "annotations": None}]},
        {
            **dict.fromkeys(("name", "refusal", "audio", "function_call", "annotations")),
            "role": "assistant",
            "content": None,
            "reasoning_content": None,
            "tool_calls": [
                {"id": "a", "type": None, "index": None, "function": {"name": "look"}},
            ],
        },
        {"role": "tool", "content": "{}", "tool_call_id": "a", "name": None, "tool_calls": None},
        {"role": "assistant", "content": None, "tool_calls": None},
        {"role": "user", "content": "and?", "name": None, "tool_calls": None},
    ],
}
NULL_TOOL = {"type": "function", "function": {**TOOL["function"], "description": None}}


@pytest.mark.parametrize("engine", ["echo", "llama"])
def test_null_is_as_good_as_not_given(engine: str, request: pytest.FixtureRequest) -> None:
    worker = request.getfixturevalue(engine)
    few = {"max_tokens": 2, "seed": 1}
    for more in (
        few,
        {**few, "tools": [{**NULL_TOOL, "strict": None}]},
        {**few, "response_format": {"type": "text", "json_schema": None}},
        {**few, "stream_options": {"include_usage": None}, "stream": True},
    ):
        answer = worker.http.post(CHAT_PATH, json={**WITH_NULLS, **more})
        assert answer.status_code == 200, (more, answer.text)
        named = answer.headers.get("x-modelpool-ignored", "")
        assert not set(named.split(", ")) & (WITH_NULLS.keys() - more.keys())


@pytest.mark.parametrize("path", list(BARE))
@pytest.mark.parametrize("engine", ["echo", "llama"])
def test_each_parameter_may_be_null(engine: str, path: str, request: pytest.FixtureRequest) -> None:
    worker = request.getfixturevalue(engine)
    names = BODIES[path]["properties"].keys() - BARE[path].keys()
    body = {**BARE[path], **dict.fromkeys(names), "max_tokens": 2}
    answer = worker.http.post(path, json={**body, "something_new": None})
    assert answer.status_code == 200, answer.text
    assert "x-modelpool-ignored" not in answer.headers
