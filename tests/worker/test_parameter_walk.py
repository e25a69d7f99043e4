"""Every parameter of every surface that has a table, with each engine: what the table says of it is
what becomes of it. Those of OpenAI's chat and text completions are walked over HTTP, with real
engines (``test_parameters``); these here by what a worker does with a body, which is the same code.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from modelpool_client.errors import InvalidRequest
from modelpool_client.surfaces.families import FAMILIES, read
from modelpool_client.surfaces.parameter_rules import BASE, LOAD_OPTIONS, Disposition, Rule
from modelpool_client.surfaces.parameters import Support
from modelpool_client.surfaces.routes import CHAT_PATH, SURFACES, TEXT_PATH
from modelpool_worker import engines

Body = dict[str, Any]
Inside = Callable[[str, Any], Body]

SUPPORTS = {name: Support(engines.get(name).honours) for name in ("fake", "llama.cpp")}
# Their bodies are the engine's own, and go there as they come.
RELAYED = {
    "/completion",
    "/infill",
    "/embedding",
    "/apply-template",
    "/tokenize",
    "/detokenize",
    "/v1/chat/completions/input_tokens",
}
# Walked with the tables of their own packages.
OF_THEIR_OWN = {"responses", "open_inference"}
OVER_HTTP = {CHAT_PATH, TEXT_PATH}
FILE = {"filename": "a.wav", "content_type": "audio/wav", "size": 3}
USER = {"role": "user", "content": "hi"}
BASES: dict[str, Body] = {
    "/v1/embeddings": {"input": "hi"},
    "/v1/rerank": {"query": "hi", "documents": ["a", "b"]},
    "/v1/messages": {"max_tokens": 5, "messages": [USER]},
    "/v1/messages/count_tokens": {"messages": [USER]},
    "/api/chat": {"messages": [USER]},
    "/api/generate": {"prompt": "hi"},
    "/api/embed": {"input": "hi"},
    "/api/embeddings": {"prompt": "hi"},
    "/v1/classify": {"input": "hi"},
    "/v1/audio/transcriptions": {"file": FILE},
    "/v1/audio/translations": {"file": FILE},
    "/v1/audio/speech": {"input": "hi"},
    "/v1/images/generations": {"prompt": "hi"},
    "/v1/images/edits": {"image": FILE, "prompt": "hi"},
    "/embed": {"inputs": "hi"},
    "/v2/embed": {"texts": ["hi"]},
    "/v1/fim/completions": {"prompt": "hi"},
    "/score": {"text_1": "hi", "text_2": ["a", "b"]},
}
TEI: Body = {"query": "hi", "texts": ["a", "b"]}
OTHER_BASES: dict[tuple[str, str], Body] = {
    ("/v1/rerank", "texts"): TEI,
    ("/v1/rerank", "return_text"): TEI,
    ("/v2/embed", "inputs"): {"inputs": [{"content": [{"type": "text", "text": "hi"}]}]},
    ("/score", "queries"): {"documents": ["a"]},
    ("/score", "documents"): {"queries": "a"},
    ("/score", "data_1"): {"data_2": ["a"]},
    ("/score", "data_2"): {"data_1": "a"},
}
SCHEMA = {"type": "object", "properties": {"far": {"type": "boolean"}}}
TOOL = {"name": "look", "input_schema": SCHEMA}
OLLAMA_TOOL = {"type": "function", "function": {"name": "look", "parameters": SCHEMA}}
# A value for each that asks for something.
VALUES: Body = {
    "model": "demo",
    "input": ["a", "b"],
    "prompt": "other",
    "query": "other",
    "documents": ["other"],
    "encoding_format": "base64",
    "dimensions": 4,
    "user": "me",
    "top_n": 1,
    "return_documents": True,
    "texts": ["other"],
    "return_text": True,
    "stream": True,
    "max_tokens": 3,
    "temperature": 0.5,
    "top_p": 0.5,
    "top_k": 5,
    "stop_sequences": ["x"],
    "metadata": {"user_id": "me"},
    "metadata.user_id": "me",
    "thinking": {"type": "adaptive"},
    "thinking.type": "adaptive",
    "thinking.display": "omitted",
    "thinking.budget_tokens": 2,
    "output_config": {"effort": "high"},
    "output_config.effort": "high",
    "output_config.format": {"type": "json_schema", "schema": SCHEMA},
    "tool_choice": {"type": "any"},
    "tool_choice.disable_parallel_tool_use": True,
    "container": "c",
    "diagnostics": {"a": 1},
    "inference_geo": "eu",
    "service_tier": "auto",
    "speed": "fast",
    "user_profile_id": "u",
    "workspace_id": "w",
    "suffix": "end",
    "template": "{{ .Prompt }}",
    "context": [1, 2],
    "raw": True,
    "images": ["iVBORw0KGgo="],
    "keep_alive": "5m",
    "format": "json",
    "think": "high",
    "truncate": True,
    "shift": True,
    "logprobs": True,
    "top_logprobs": 2,
    "options": {"temperature": 0.5},
    "something_new": 1,
    "file": {**FILE, "size": 4},
    "image": [FILE, FILE],
    "mask": FILE,
    "language": "en",
    "languages": ["en"],
    "timestamp_granularities": ["word"],
    "include": ["logprobs"],
    "chunking_strategy": "server_vad",
    "keywords": ["pool"],
    "known_speaker_names": ["A"],
    "known_speaker_references": ["data:"],
    "voice": "alloy",
    "instructions": "slowly",
    "stream_format": "sse",
    "n": 2,
    "size": "512x512",
    "quality": "high",
    "style": "vivid",
    "background": "opaque",
    "output_format": "png",
    "output_compression": 50,
    "partial_images": 1,
    "moderation": "low",
    "safety_identifier": "s",
    "input_fidelity": "high",
    "inputs": "other",
    "normalize": False,
    "truncation_direction": "Left",
    "prompt_name": "query",
    "input_type": "search_query",
    "embedding_types": ["base64"],
    "output_dimension": 4,
    "priority": 1,
    "text_1": "other",
    "text_2": ["other"],
    "queries": "other",
    "data_1": "other",
    "data_2": ["other"],
    "truncate_prompt_tokens": 5,
    "random_seed": 5,
    "min_tokens": 1,
    "stop": ["x"],
}
OPTIONS: Body = {
    "temperature": 0.5,
    "top_p": 0.5,
    "min_p": 0.5,
    "typical_p": 0.5,
    "stop": ["x"],
    "mirostat": 1,
    "repeat_penalty": 1.5,
}
OF_SURFACE: dict[tuple[str, str], Any] = {
    ("/v1/messages", "messages"): [{"role": "user", "content": "other"}],
    ("/v1/messages/count_tokens", "messages"): [{"role": "user", "content": "other"}],
    ("/api/chat", "messages"): [{"role": "user", "content": "other"}],
    ("/v1/messages", "system"): "be brief",
    ("/v1/messages/count_tokens", "system"): "be brief",
    ("/api/generate", "system"): "be brief",
    ("/v1/messages", "tools"): [TOOL],
    ("/v1/messages/count_tokens", "tools"): [TOOL],
    ("/api/chat", "tools"): [OLLAMA_TOOL],
    ("/v1/audio/speech", "input"): "other",
    ("/v1/audio/speech", "speed"): 2,
    ("/v1/audio/transcriptions", "prompt"): "names",
    ("/v1/audio/transcriptions", "response_format"): "srt",
    ("/v1/audio/translations", "response_format"): "srt",
    ("/v1/audio/speech", "response_format"): "mp3",
    ("/v1/images/generations", "response_format"): "url",
    ("/v1/images/edits", "response_format"): "url",
    ("/api/chat", "stream"): False,
    ("/api/generate", "stream"): False,
    ("/v2/embed", "texts"): ["other"],
    ("/v2/embed", "truncate"): "END",
    ("/v2/embed", "inputs"): [{"content": [{"type": "text", "text": "other"}]}],
    ("/v1/fim/completions", "metadata"): {"a": "b"},
}
# What one cannot be without.
COMPANIONS: dict[str, Body] = {
    "tool_choice": {"tools": [TOOL]},
    "tool_choice.disable_parallel_tool_use": {
        "tools": [TOOL],
        "tool_choice": {"type": "auto"},
    },
    "thinking.display": {"thinking": {"type": "adaptive"}},
    "thinking.budget_tokens": {"thinking": {"type": "enabled"}},
    "top_logprobs": {"logprobs": True},
}
# Told by the answer, or by where the request goes; the engine hears nothing of them.
NOT_TOLD = {
    "model",
    "user",
    "keep_alive",
    "stream",
    "thinking.display",
    "return_documents",
    "dimensions",
    "encoding_format",
    "normalize",
    "embedding_types",
    "output_dimension",
}


def _block(**more: Any) -> Body:
    return {"type": "text", "text": "hi", **more}


def _said(*blocks: Body) -> Body:
    return {"messages": [{"role": "user", "content": list(blocks)}]}


def _result(*blocks: Body) -> Body:
    return _said({"type": "tool_result", "tool_use_id": "t", "content": list(blocks)})


def _found(**more: Any) -> Body:
    head = {"type": "search_result", "source": "s", "title": "t"}
    return {**head, "content": [_block(**more)]}


# Whatever stands in blocks or tools, by what its name begins with; the longest first.
INSIDE: dict[str, Inside] = {
    "messages.content.content.content": lambda name, value: _result(_found(**{name: value})),
    "messages.content.content": lambda name, value: _result(_block(**{name: value})),
    "messages.content": lambda name, value: _said(_block(**{name: value})),
    "system": lambda name, value: {"system": [_block(**{name: value})]},
    "tools": lambda name, value: {"tools": [{**TOOL, name: value}]},
}
INNER: Body = {
    "cache_control": {"type": "ephemeral"},
    "citations": {"enabled": True},
    "transformations": {"a": 1},
    "signature": "s",
    "data": "d",
    "caller": {"type": "direct"},
    "toolset_name": "t",
    "allowed_callers": ["direct"],
    "defer_loading": True,
    "input_examples": [{"far": True}],
}


def rules_of(path: str) -> dict[str, Rule] | None:
    contract = FAMILIES[SURFACES[path].family].describe().routes[path]
    return None if contract.rules is None else dict(contract.rules)


def body_with(path: str, name: str) -> Body:
    """The base of a surface with one parameter more."""
    outer, _, inner = name.rpartition(".")
    if outer in INSIDE and inner in INNER:
        return {**BASES[path], **INSIDE[outer](inner, INNER[inner])}
    if outer == "options":
        return {**BASES[path], "options": {inner: OPTIONS.get(inner, 1)}}
    if name in LOAD_OPTIONS and name not in VALUES:
        return {**BASES[path], name: 1}
    value = OF_SURFACE[path, name] if (path, name) in OF_SURFACE else _value(name)
    body = {**OTHER_BASES.get((path, name), BASES[path]), **COMPANIONS.get(name, {})}
    if outer:
        return {**body, outer: {**body.get(outer, {}), **_kind_of(outer, inner), inner: value}}
    return {**body, name: value}


def _value(name: str) -> Any:
    return INNER[name] if name in INNER else VALUES[name]


def _kind_of(outer: str, inner: str) -> Body:
    return {"type": "adaptive"} if (outer, inner) == ("thinking", "display") else {}


def walk() -> Iterator[Any]:
    for engine in SUPPORTS:
        for path in SURFACES:
            rules = rules_of(path)
            if path in OVER_HTTP or rules is None or SURFACES[path].family in OF_THEIR_OWN:
                continue
            for name in [*rules, "something_new"]:
                yield pytest.param(engine, path, name, id=f"{engine}{path}-{name}")


def test_every_surface_says_what_becomes_of_its_parameters() -> None:
    """Or is relayed; and every parameter that its table checks is among them."""
    for path, surface in SURFACES.items():
        rules = rules_of(path)
        if not surface.is_work or path in RELAYED:
            assert rules is None, path
            continue
        assert rules is not None, path
        request = FAMILIES[surface.family].describe().routes[path].request
        assert request is not None
        assert request["properties"].keys() <= rules.keys(), path


@pytest.mark.parametrize(("engine", "path", "name"), list(walk()))
def test_what_its_table_says_becomes_of_it(engine: str, path: str, name: str) -> None:
    support, surface = SUPPORTS[engine], SURFACES[path]
    rules = rules_of(path) or {}
    how = Disposition.IGNORED
    if name in rules:
        how = (support.rule(path, name) if path in BASE else support.of(rules[name])).how
    body = body_with(path, name)
    if how is Disposition.REFUSED:
        with pytest.raises(InvalidRequest) as caught:
            read(surface, body, support=support)
        refused = caught.value.param
        assert refused == name or refused in COMPANIONS.get(name, {})  # may be refused before it
        assert caught.value.message.startswith(f"{refused} ")
        return
    asked = read(surface, body, support=support)
    ignored = asked.completion.ignored
    assert (name in ignored) == (how is Disposition.IGNORED), ignored
    if how is Disposition.HONOURED and name not in NOT_TOLD:
        bare = read(surface, BASES[path], support=support)
        is_other = asked.surface is not bare.surface or told(asked) != told(bare)
        assert is_other or _only_holds_others(name), told(asked)


def told(asked: Any) -> Any:
    return json.loads(asked.completion.upstream(as_stream=False))


def _only_holds_others(name: str) -> bool:
    """What it holds may be up to the engine."""
    return name in ("options", "thinking", "output_config")


@pytest.mark.parametrize(
    ("path", "more", "param"),
    [
        (
            "/v1/messages",
            {"output_config": VALUES["output_config"] | {"format": VALUES["output_config.format"]}},
            "output_config.format",
        ),
        ("/api/chat", {"format": "json"}, "format"),
        ("/api/generate", {"suffix": "end"}, "suffix"),
        ("/api/chat", {"logprobs": True}, "logprobs"),
    ],
)
def test_what_is_refused_is_named_as_the_client_calls_it(path: str, more: Body, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(SURFACES[path], {**BASES[path], **more}, support=SUPPORTS["fake"])
    assert caught.value.param == param
    assert caught.value.message.startswith(f"{param} is not supported here")


def test_what_an_engine_ignores_is_named_as_the_client_calls_it() -> None:
    options = {"temperature": 0.5, "num_predict": 5, "top_k": 3, "num_ctx": 4}
    asked = read(
        SURFACES["/api/chat"], {**BASES["/api/chat"], "options": options}, support=SUPPORTS["fake"]
    )
    assert asked.completion.ignored == ("options.num_ctx", "options.temperature", "options.top_k")
    more = {"stop_sequences": ["x"], "top_k": 3}
    asked = read(
        SURFACES["/v1/messages"], {**BASES["/v1/messages"], **more}, support=SUPPORTS["fake"]
    )
    assert asked.completion.ignored == ("stop_sequences", "top_k")
