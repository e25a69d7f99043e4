"""What is asked with tensors or texts is asked of completions and embeddings, and told back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from modelpool_client.errors import EngineFailed, InvalidRequest, WorkerFailed
from modelpool_client.surfaces.open_inference import (
    Entry,
    Kind,
    Target,
    decode,
    encode,
    ignored_parameters,
    is_work,
    kind_of_engine,
    kind_of_model,
    model_config,
    model_metadata,
    repository_index,
    server_metadata,
    target_of,
    translate,
)
from modelpool_client.surfaces.open_inference.tables import INPUTS
from modelpool_client.surfaces.requests import checked
from modelpool_client.surfaces.sse import Events
from support.examples import examples

INFER = "/v2/models/m/infer"
GENERATE = "/v2/models/m/generate"
STREAM = "/v2/models/m/generate_stream"


def tensor(name: str, data: list[Any], datatype: str = "BYTES", shape: Any = None) -> Any:
    sized = [len(data)] if shape is None else shape
    return {"name": name, "shape": sized, "datatype": datatype, "data": data}


def infer(*tensors: Any, kind: Kind = Kind.TEXT, texts: Any = ("a", "b"), **more: Any) -> Any:
    body = {"inputs": [tensor("text_input", list(texts)), *tensors], **more}
    return translate(INFER, decode({}, json.dumps(body).encode()), kind)


def shown(translation: Any, answer: dict[str, Any]) -> Any:
    return json.loads(encode(translation.whole(answer))[1])


def completions(*texts: str) -> dict[str, Any]:
    found = [{"index": i, "text": t, "finish_reason": "stop"} for i, t in enumerate(texts)]
    return {"choices": found[::-1]}


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/v2/models/m", Target("m")),
        ("/v2/models/m/ready", Target("m", verb="ready")),
        ("/v2/models/m/versions/1/infer", Target("m", "1", "infer")),
        ("/v2/models/m/versions/1", Target("m", "1")),
        ("/v2/models/org/m:7b/generate_stream", Target("org/m:7b", verb="generate_stream")),
        ("/v2/models/org/m/versions/2/config", Target("org/m", "2", "config")),
        ("/v2/models/infer", Target("infer")),
        ("/v2/models/versions/1/infer", Target("versions/1", verb="infer")),
        ("/v2/models/a/versions/1/b/infer", Target("a/versions/1/b", verb="infer")),
        ("/v2/models/", None),
        ("/v2/models", None),
        ("/v1/models/m/infer", None),
    ],
)
def test_paths_name_a_model_a_version_and_a_verb(path: str, target: Target | None) -> None:
    assert target_of(path) == target
    is_asked = target is not None and target.verb in ("infer", "generate", "generate_stream")
    assert is_work(path) is is_asked


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        ([tensor("max_tokens", [5], "INT32")], {"max_tokens": 5}),
        ([tensor("max_tokens", [5, 5], "UINT8", [2, 1])], {"max_tokens": 5}),
        ([tensor("temperature", [0.5], "FP64")], {"temperature": 0.5}),
        ([tensor("temperature", [1], "INT32")], {"temperature": 1}),
        ([tensor("random_seed", [7], "UINT64")], {"seed": 7}),
        ([tensor("repetition_penalty", [1.5], "FP32")], {"repeat_penalty": 1.5}),
        ([tensor("stop_words", ["x", "y"])], {"stop": ["x", "y"]}),
        ([tensor("stop_words", ["x", "y", "x", "y"], shape=[2, 2])], {"stop": ["x", "y"]}),
        ([tensor("stop", [""])], {}),
        ([tensor("stream", [False], "BOOL")], {}),
        ([tensor("beam_width", [1], "INT32")], {}),
        ([tensor("return_log_probs", [False], "BOOL")], {}),
        (
            [tensor("sampling_parameters", ['{"temperature": "0.1", "max_tokens": "9"}'])],
            {"temperature": 0.1, "max_tokens": 9},
        ),
        (
            [
                tensor("sampling_parameters", ['{"top_p": 0.5, "top_k": 3}']),
                tensor("top_p", [0.25], "FP32"),
            ],
            {"top_p": 0.25, "top_k": 3},
        ),
    ],
)
def test_settings_are_completions_own(tensors: list[Any], told: dict[str, Any]) -> None:
    translation = infer(*tensors)
    assert translation.told.body == {"prompt": ["a", "b"], **told}
    assert translation.told.ignored == ()


@pytest.mark.parametrize(
    ("tensors", "param"),
    [
        ([tensor("stream", [True], "BOOL")], "stream"),
        ([tensor("stream", [1], "INT32")], "inputs[1].datatype"),
        ([tensor("max_tokens", ["5"])], "inputs[1].datatype"),
        ([tensor("max_tokens", [5, 6], "INT32")], "inputs[1].data"),
        ([tensor("max_tokens", [], "INT32")], "inputs[1].data"),
        ([tensor("max_tokens", [1.5], "FP32")], "inputs[1].data"),
        ([tensor("stop_words", ["x", "y"], shape=[2, 1])], "inputs[1].data"),
        ([tensor("beam_width", [2], "INT32")], "inputs[1].data"),
        ([tensor("return_logprobs", [True], "BOOL")], "inputs[1].data"),
        ([tensor("sampling_parameters", ["[]"])], "inputs[1].data"),
        ([tensor("sampling_parameters", ['{"n": 2}'])], "inputs[1].data.n"),
        ([tensor("sampling_parameters", ['{"stop": 5}'])], "inputs[1].data.stop"),
        ([tensor("sampling_parameters", ['{"top_p": "much"}'])], "inputs[1].data.top_p"),
        ([tensor("image", ["x"])], "inputs[1].name"),
    ],
)
def test_what_cannot_be_told_is_refused_by_name(tensors: list[Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        infer(*tensors)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"inputs": [tensor("stop", ["x"])]}, "inputs"),
        ({"inputs": [tensor("text_input", [1], "INT8")]}, "inputs[0].datatype"),
        ({"inputs": [tensor("text_input", [])]}, "inputs[0].shape"),
        ({"inputs": [tensor("text_input", ["a", "b"], shape=[1, 2])]}, "inputs[0].shape"),
        (
            {"inputs": [tensor("text_input", ["a"])], "outputs": [{"name": "embedding"}]},
            "outputs[0].name",
        ),
        (
            {"inputs": [tensor("text_input", ["a"])], "parameters": {"prompt": "b"}},
            "parameters.prompt",
        ),
        (
            {"inputs": [tensor("text_input", ["a"])], "parameters": {"stream": 1}},
            "parameters.stream",
        ),
    ],
)
def test_requests_that_are_none(body: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        translate(INFER, decode({}, json.dumps(body).encode()), Kind.TEXT)
    assert caught.value.param == param


def test_bytes_that_are_no_text_are_refused() -> None:
    request = {"inputs": [tensor("text_input", [b"\xff"])]}
    with pytest.raises(InvalidRequest, match=r"inputs\[0\].data is not valid UTF-8"):
        translate(INFER, request, Kind.TEXT)


@pytest.mark.parametrize(
    "path", ["/v2/models/m/versions/2/infer", "/v2/models/m/versions/x/generate"]
)
def test_there_is_one_version(path: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        translate(path, {"text_input": "a", "inputs": []}, Kind.TEXT)
    assert caught.value.param == "version"


def test_the_prompt_is_told_unless_it_is_excluded() -> None:
    """As the vLLM backend does: a client that wants the answer alone says so."""
    assert shown(infer(), completions(" 1", " 2"))["outputs"] == [
        {"name": "text_output", "datatype": "BYTES", "shape": [2], "data": ["a 1", "b 2"]}
    ]
    excluded = infer(parameters={"exclude_input_in_output": True})
    assert shown(excluded, completions(" 1", " 2"))["outputs"][0]["data"] == [" 1", " 2"]
    assert excluded.told.body == {"prompt": ["a", "b"]}


def test_why_it_ended_is_told_where_it_is_asked_for() -> None:
    both = infer(tensor("return_finish_reason", [True], "BOOL"))
    names = [o["name"] for o in shown(both, completions("1", "2"))["outputs"]]
    assert names == ["text_output", "finish_reason"]
    one = infer(outputs=[{"name": "finish_reason"}])
    assert shown(one, completions("1", "2"))["outputs"] == [
        {"name": "finish_reason", "datatype": "BYTES", "shape": [2], "data": ["stop", "stop"]}
    ]


def test_which_outputs_go_raw() -> None:
    raw = infer(
        parameters={"binary_data_output": True},
        outputs=[
            {"name": "text_output"},
            {"name": "finish_reason", "parameters": {"binary_data": False}},
        ],
    )
    headers, body = encode(raw.whole(completions("1", "2")))
    length = int(dict(headers)[b"inference-header-content-length"])
    outputs = json.loads(body[:length])["outputs"]
    assert outputs[0]["parameters"] == {"binary_data_size": 12}
    assert "data" not in outputs[0]
    assert outputs[1]["data"] == ["stop", "stop"]
    assert body[length:] == b"\2\0\0\0a1\2\0\0\0b2"


def test_what_has_no_meaning_is_named() -> None:
    translation = infer(parameters={"sequence_id": 3, "priority": 1, "end_id": 2, "n_ctx": 9})
    assert translation.told.ignored == ("parameters.priority", "parameters.sequence_id")
    asked = checked(translation.told.path, translation.told.body)
    assert asked.body["end_id"] == 2  # up to the engine
    assert "n_ctx" in asked.ignored


def test_embeddings() -> None:
    translation = infer(kind=Kind.EMBEDDING, parameters={"dimensions": 2})
    assert translation.told.body["input"] == ["a", "b"]
    data = [{"index": 1, "embedding": [0.0, 2.0, 1.0]}, {"index": 0, "embedding": [3.0, 4.0, 1.0]}]
    (output,) = shown(translation, {"data": data})["outputs"]
    assert output["shape"] == [2, 2]
    assert output["data"] == pytest.approx([0.6, 0.8, 0.0, 1.0])
    for broken in (data[:1], [data[0], {"index": 0, "embedding": [1.0]}]):
        with pytest.raises(EngineFailed):
            infer(kind=Kind.EMBEDDING).whole({"data": broken})
    with pytest.raises(InvalidRequest) as caught:
        infer(tensor("max_tokens", [1], "INT32"), kind=Kind.EMBEDDING)
    assert caught.value.param == "inputs[1].name"


def test_an_engine_that_answers_something_else() -> None:
    with pytest.raises(EngineFailed, match="1 choices for 2 texts"):
        infer().whole(completions("1"))


def generate(path: str = GENERATE, kind: Kind = Kind.TEXT, **body: Any) -> Any:
    return translate(path, {"text_input": "a", **body}, kind)


def test_generate() -> None:
    translation = generate(id="42", parameters={"stream": False, "temperature": 0}, max_tokens=3)
    assert translation.told.path == "/v1/completions"
    assert translation.told.body == {"prompt": "a", "temperature": 0, "max_tokens": 3}
    assert translation.told.stream is False
    assert translation.whole(completions(" b")) == {
        "id": "42",
        "model_name": "m",
        "model_version": "1",
        "text_output": "a b",
    }


CHUNKS = [
    {"choices": [{"index": 0, "text": " b"}]},
    {"choices": [{"index": 0, "text": " c", "finish_reason": "length"}]},
    {"choices": [], "usage": {}},
]


def events(translation: Any) -> list[Any]:
    parts = [translation.begin(), *map(translation.chunk, CHUNKS), translation.end()]
    return [json.loads(data) for data in Events().feed(b"".join(parts))]


def test_generate_in_pieces() -> None:
    for more in ({}, {"parameters": {"stream": True}}, {"stream": True}):
        translation = generate(STREAM, **more)
        assert translation.told.stream is True
        assert [e["text_output"] for e in events(translation)] == [" b", " c"]
    reasons = generate(STREAM, return_finish_reason=True)
    assert [e.get("finish_reason") for e in events(reasons)] == [None, "length"]
    assert Events().feed(translation.ping()) == []
    assert json.loads(Events().feed(translation.failed(WorkerFailed("it died")))[0]) == {
        "error": "it died"
    }


def test_a_stream_of_one_event() -> None:
    translation = generate(STREAM, parameters={"stream": False}, return_finish_reason=True)
    assert translation.told.stream is True
    (event,) = events(translation)
    assert (event["text_output"], event["finish_reason"]) == ("a b c", "length")


@pytest.mark.parametrize(
    ("path", "kind", "body", "param"),
    [
        (GENERATE, Kind.TEXT, {"stream": True}, "stream"),
        (GENERATE, Kind.EMBEDDING, {}, "model"),
        (GENERATE, Kind.TEXT, {"text_input": ["a"]}, "text_input"),
        (GENERATE, Kind.TEXT, {"parameters": []}, "parameters"),
        (STREAM, Kind.TEXT, {"exclude_input_in_output": False}, "exclude_input_in_output"),
        (STREAM, Kind.TEXT, {"max_tokens": True}, "max_tokens"),
    ],
)
def test_what_generate_refuses(path: str, kind: Kind, body: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        generate(path, kind, **body)
    assert caught.value.param == param


def test_kinds() -> None:
    assert kind_of_model([]) is Kind.TEXT
    assert kind_of_model(["chat", "embeddings"]) is Kind.TEXT
    assert kind_of_model(["embeddings"]) is Kind.EMBEDDING
    assert kind_of_model(["rerank"]) is None
    assert kind_of_engine(["/v1/completions", "/v1/embeddings"]) is Kind.TEXT
    assert kind_of_engine(["/v1/embeddings"]) is Kind.EMBEDDING
    assert kind_of_engine(["/v1/rerank"]) is None


def test_bodies_about_models() -> None:
    assert server_metadata("1.2")["extensions"][0] == "binary_tensor_data"
    embeds = model_metadata("m", ["1"], "llama.cpp", Kind.EMBEDDING)
    assert embeds["inputs"] == [{"name": "text_input", "datatype": "BYTES", "shape": [-1]}]
    assert embeds["outputs"] == [{"name": "embedding", "datatype": "FP32", "shape": [-1, -1]}]
    assert model_metadata("m", ["1"], "llama.cpp", None)["inputs"] == []
    config = model_config("m", "llama.cpp", Kind.TEXT)
    needed = [t["name"] for t in config["input"] if not t["optional"]]
    assert needed == ["text_input"]
    assert config["output"][0] == {"name": "text_output", "data_type": "TYPE_STRING", "dims": [-1]}


def test_the_index_is_in_tritons_words() -> None:
    states = ["COLD", "WARMING", "HOT", "COOLING", "UNLOADING", "FAILED"]
    entries = [Entry(state.lower(), state, "because") for state in states]
    assert [e["state"] for e in repository_index(entries)] == [
        "UNAVAILABLE",
        "LOADING",
        "READY",
        "READY",
        "UNLOADING",
        "UNAVAILABLE",
    ]
    ready = repository_index(entries, ready=True)
    assert [(e["name"], e["reason"]) for e in ready] == [("hot", ""), ("cooling", "")]


def test_a_load_takes_no_options() -> None:
    for name in ("config", "file:1/model.onnx"):
        with pytest.raises(InvalidRequest) as caught:
            ignored_parameters("load", {"parameters": {name: "{}"}})
        assert caught.value.param == f"parameters.{name}"
    assert ignored_parameters("load", {"parameters": {"config": None}}) == ()
    assert ignored_parameters("unload", {"parameters": {"unload_dependents": False}}) == ()
    assert ignored_parameters("unload", {"parameters": {"unload_dependents": True}}) == (
        "unload_dependents",
    )


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
NAMES = st.sampled_from([*INPUTS[Kind.TEXT], "n", "logprobs", "dimensions", "x", "sequence_id"])
TENSORS = st.builds(
    lambda name, data, datatype: tensor(name, data, datatype),
    NAMES,
    st.lists(VALUES, max_size=3),
    st.sampled_from(["BYTES", "BOOL", "INT32", "UINT64", "FP32"]),
)
SAID = st.dictionaries(NAMES, VALUES | st.lists(VALUES, max_size=2), max_size=4)
TEXTS = st.lists(st.text(max_size=4), min_size=1, max_size=2).map(lambda t: tensor("text_input", t))
INFERS = st.fixed_dictionaries(
    {"inputs": st.builds(lambda t, rest: [t, *rest], TEXTS, st.lists(TENSORS, max_size=3))},
    optional={"parameters": SAID, "id": st.text(max_size=3)},
)
GENERATES = st.builds(
    lambda said, more: {**more, **said}, st.fixed_dictionaries({"text_input": VALUES}), SAID
)


@given(
    st.tuples(st.just(INFER), INFERS) | st.tuples(st.sampled_from([GENERATE, STREAM]), GENERATES)
)
@settings(max_examples=examples(400))
def test_whatever_is_asked_is_told_or_refused(asked: tuple[str, dict[str, Any]]) -> None:
    path, body = asked
    for kind in Kind:
        try:
            data = decode({}, json.dumps(body).encode()) if path == INFER else body
            told = translate(path, data, kind).told
            checked(told.path, told.body).upstream()
        except InvalidRequest as e:
            refused = e.param
        else:
            refused = "none"
        assert refused
