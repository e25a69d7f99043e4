"""Tensors on the wire: every datatype there and back, and what is no request."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from modelpool_client.errors import EngineFailed, InvalidRequest
from modelpool_client.surfaces.open_inference import LENGTH_HEADER, decode, encode

BITS = (8, 16, 32, 64)
ELEMENTS: dict[str, st.SearchStrategy[Any]] = {
    "BOOL": st.booleans(),
    **{f"UINT{bits}": st.integers(0, 2**bits - 1) for bits in BITS},
    **{f"INT{bits}": st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in BITS},
    "FP16": st.floats(width=16),
    "FP32": st.floats(width=32),
    "FP64": st.floats(),
    "BF16": st.integers(0, 0xFFFF).map(
        lambda b: struct.unpack("<f", struct.pack("<I", b << 16))[0]
    ),
    "BYTES": st.binary(max_size=20),
}


@st.composite
def tensors(draw: st.DrawFn) -> list[dict[str, Any]]:
    found = []
    for name in draw(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, unique=True)):
        shape = draw(st.lists(st.integers(0, 3), max_size=3))
        datatype = draw(st.sampled_from(sorted(ELEMENTS)))
        size = math.prod(shape)
        data = draw(st.lists(ELEMENTS[datatype], min_size=size, max_size=size))
        found.append({"name": name, "shape": shape, "datatype": datatype, "data": data})
    return found


def fields(headers: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    return dict(headers)


def as_request(headers: list[tuple[bytes, bytes]], body: bytes) -> dict[str, Any]:
    """Decode an answer: its outputs are shaped as a request's inputs are."""
    length = int(fields(headers).get(LENGTH_HEADER, len(body)))
    head = json.loads(body[:length])
    asked = json.dumps({"inputs": head["outputs"]}).encode()
    sizes = {LENGTH_HEADER: b"%d" % len(asked)} if LENGTH_HEADER in fields(headers) else {}
    return decode(sizes, asked + body[length:])


def is_in_json(value: Any) -> bool:
    if isinstance(value, bytes):
        return value == value.decode(errors="ignore").encode()
    return math.isfinite(value)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and math.isnan(one):
        return isinstance(other, float) and math.isnan(other)
    return type(one) is type(other) and one == other


@given(tensors())
def test_raw_tensors_come_back(outputs: list[dict[str, Any]]) -> None:
    asked = [{**output, "parameters": {"binary_data": True}} for output in outputs]
    headers, body = encode({"model_name": "m", "outputs": asked})
    assert fields(headers)[b"content-type"] == b"application/octet-stream"
    inputs = as_request(headers, body)["inputs"]
    assert [(t["name"], t["shape"], t["datatype"]) for t in inputs] == [
        (t["name"], t["shape"], t["datatype"]) for t in outputs
    ]
    for found, wanted in zip(inputs, outputs, strict=True):
        assert len(found["data"]) == len(wanted["data"])
        assert all(map(same, found["data"], wanted["data"]))


@given(tensors(), st.data())
def test_tensors_come_back_from_json_and_mixed(
    outputs: list[dict[str, Any]], data: st.DataObject
) -> None:
    asked = [
        {**output, "parameters": {"binary_data": data.draw(st.booleans())}} for output in outputs
    ]
    shown = [v for t in asked if not t["parameters"]["binary_data"] for v in t["data"]]
    if not all(map(is_in_json, shown)):
        with pytest.raises(EngineFailed, match="binary_data"):
            encode({"outputs": asked})
        return
    headers, body = encode({"outputs": asked})
    assert fields(headers)[b"content-type"] == (
        b"application/octet-stream" if LENGTH_HEADER in fields(headers) else b"application/json"
    )
    for found, wanted in zip(as_request(headers, body)["inputs"], outputs, strict=True):
        assert all(map(same, found["data"], wanted["data"]))
        assert "parameters" not in found


def request(**more: Any) -> dict[str, Any]:
    return {"name": "x", "shape": [2], "datatype": "INT8", "data": [1, 2], **more}


RAW = {"binary_data_size": 2}
SHARED = {"shared_memory_region": "here", "shared_memory_byte_size": 2}


@pytest.mark.parametrize(
    ("tensor", "param"),
    [
        (request(data=[1]), "inputs[0].data"),
        (request(data=[1, 300]), "inputs[0].data"),
        (request(data=[1, 1.5]), "inputs[0].data"),
        (request(data=[1, True]), "inputs[0].data"),
        (request(data=None), "inputs[0].data"),
        (request(data=[[1, 2]]), "inputs[0].data"),
        (request(shape=[2, 1], data=[[1, 2]]), "inputs[0].data"),
        (request(shape=[1, 2], data=[[1], [2]]), "inputs[0].data"),
        (request(shape=[2, 2], data=[[1, 2], [3]]), "inputs[0].data"),
        (request(shape=[2, 2], data=[[1, 2], 3]), "inputs[0].data"),
        (request(shape=[-1]), "inputs[0].shape[0]"),
        (request(shape="2"), "inputs[0].shape"),
        (request(shape=[1] * 65), "inputs[0].shape"),
        (request(datatype="STRING"), "inputs[0].datatype"),
        (request(datatype="BOOL"), "inputs[0].data"),
        (request(datatype="BYTES"), "inputs[0].data"),
        (request(datatype="BYTES", data=["a", "\ud800"]), "body"),
        (request(shape=[1 << 11, 1 << 11], data=[1]), "inputs[0].shape"),
        (request(datatype="FP32", data=[1, "2"]), "inputs[0].data"),
        (request(datatype="FP32", data=[1, 1e39]), "inputs[0].data"),
        (request(datatype="FP64", data=[1, 10**400]), "inputs[0].data"),
        (request(parameters={"binary_data_size": 0}), "inputs[0].data"),
        (request(data=None, parameters=RAW), "inputs[0].parameters.binary_data_size"),
        (request(parameters={"binary_data_size": "2"}), "inputs[0].parameters.binary_data_size"),
        (request(parameters=SHARED), "inputs[0].parameters.shared_memory_region"),
        ({"shape": [2], "datatype": "INT8", "data": [1, 2]}, "inputs[0].name"),
    ],
)
def test_what_is_no_tensor_is_refused_by_name(tensor: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode({}, json.dumps({"inputs": [tensor]}).encode())
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("datatype", "shape", "raw", "why"),
    [
        ("INT16", [2], b"abc", "3 bytes"),
        ("INT16", [2], b"abcdef", "needs 4"),
        ("BYTES", [1], b"\1\0", "within the length"),
        ("BYTES", [1], b"\5\0\0\0abc", "within element 0"),
        ("BYTES", [2], b"\1\0\0\0a", "1 elements"),
    ],
)
def test_raw_data_that_do_not_fit(datatype: str, shape: list[int], raw: bytes, why: str) -> None:
    tensor = {"name": "x", "shape": shape, "datatype": datatype}
    head = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": len(raw)}}]})
    with pytest.raises(InvalidRequest, match=why) as caught:
        decode({LENGTH_HEADER: b"%d" % len(head)}, head.encode() + raw)
    assert caught.value.param == "inputs[0].data"


@pytest.mark.parametrize(
    ("length", "more", "param"),
    [
        (b"ten", b"", LENGTH_HEADER.decode()),
        (b"-1", b"", LENGTH_HEADER.decode()),
        (b"9" * 5000, b"", LENGTH_HEADER.decode()),
        (b"0", b"", LENGTH_HEADER.decode()),
        (b"9999", b"", LENGTH_HEADER.decode()),
        (None, b"too much", "body"),
    ],
)
def test_lengths_that_are_none(length: bytes | None, more: bytes, param: str) -> None:
    head = json.dumps({"inputs": [request()]}).encode()
    with pytest.raises(InvalidRequest) as caught:
        decode({LENGTH_HEADER: length or b"%d" % len(head)}, head + more)
    assert caught.value.param == param


def test_what_else_is_refused() -> None:
    for body, param in (
        ({"inputs": [request(), request()]}, "inputs[1].name"),
        ({"inputs": []}, "inputs"),
        ({}, "inputs"),
        ({"inputs": [request()], "outputs": [{}]}, "outputs[0].name"),
        (
            {
                "inputs": [request()],
                "outputs": [{"name": "y", "parameters": {"classification": 2}}],
            },
            "outputs[0].parameters.classification",
        ),
        (
            {"inputs": [request()], "outputs": [{"name": "y", "parameters": SHARED}]},
            "outputs[0].parameters.shared_memory_region",
        ),
    ):
        with pytest.raises(InvalidRequest) as caught:
            decode({}, json.dumps(body).encode())
        assert caught.value.param == param


def test_nested_data_are_flattened() -> None:
    tensor = request(shape=[2, 1, 2], data=[[[1, 2]], [[3, 4]]])
    body = json.dumps({"inputs": [tensor], "id": "7"}).encode()
    assert decode({}, body) == {"inputs": [{**tensor, "data": [1, 2, 3, 4]}], "id": "7"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=12,
)
NEARLY = st.fixed_dictionaries(
    {
        "name": st.just("x") | JSON,
        "shape": st.lists(st.integers(-1, 4), max_size=4) | JSON,
        "datatype": st.sampled_from(sorted(ELEMENTS)) | JSON,
        "data": st.lists(JSON, max_size=6) | JSON,
    },
    optional={
        "parameters": st.dictionaries(
            st.sampled_from(["binary_data_size", "shared_memory_region"]), JSON | st.integers(0, 9)
        )
    },
)


@given(
    st.binary(max_size=60)
    | st.fixed_dictionaries({"inputs": st.lists(NEARLY | JSON, max_size=3)}).map(
        lambda v: json.dumps(v).encode()
    ),
    st.none() | st.integers(0, 80).map(lambda n: b"%d" % n) | st.binary(max_size=5),
    st.binary(max_size=20),
)
@example(b'{"inputs":' + b"[" * 900 + b"]" * 900 + b"}", None, b"")
def test_garbage_is_refused_and_nothing_else(head: bytes, length: bytes | None, raw: bytes) -> None:
    headers = {} if length is None else {LENGTH_HEADER: length}
    try:
        found = decode(headers, head + raw)
    except InvalidRequest as e:
        found, param = {"inputs": []}, e.param
    else:
        param = "none"
    assert param
    assert all(len(t["data"]) == math.prod(t["shape"]) for t in found["inputs"])


def test_an_answer_that_is_none_says_which_output() -> None:
    for data, why in (([1.0], "1 elements"), ([1.0, "x"], "element 1"), ([1.0, 1e39], "element 1")):
        output = {"name": "y", "shape": [2], "datatype": "FP32", "data": data}
        with pytest.raises(EngineFailed, match=f"output y.*{why}"):
            encode({"outputs": [output]})
