"""Triton's own Python package, unchanged: what it sends is read, and it reads what is answered."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tritonclient.http as triton
from modelpool_client.surfaces.open_inference import (
    LENGTH_HEADER,
    Kind,
    decode,
    encode,
    translate,
)

ARRAYS = [
    np.array([[True, False], [False, True]]),
    *(
        np.array([[1, 2, 3]], dtype=f"{sign}int{bits}")
        for sign in ("", "u")
        for bits in (8, 16, 32)
    ),
    np.array([-(2**63), 2**63 - 1], dtype=np.int64),
    np.array([0, 2**64 - 1], dtype=np.uint64),
    *(np.array([[0.5], [-2.25]], dtype=dtype) for dtype in ("float16", "float32", "float64")),
    np.array([1.5, -3.0, 0.1], dtype=ml_dtypes.bfloat16),
    np.array([b"one", b"", "gr\u00fc\u00dfe".encode()], dtype=np.object_),
]


def sent(inputs: list[triton.InferInput], **more: Any) -> dict[str, Any]:
    body, length = triton.InferenceServerClient.generate_request_body(inputs, **more)
    return decode({} if length is None else {LENGTH_HEADER: b"%d" % length}, body)


def tensor(name: str, array: Any, *, raw: bool = True) -> triton.InferInput:
    found = triton.InferInput(
        name, list(array.shape), triton._infer_input.np_to_triton_dtype(array.dtype)
    )
    return found.set_data_from_numpy(array, binary_data=raw)


def received(answer: dict[str, Any]) -> triton.InferResult:
    headers, body = encode(answer)
    length = dict(headers).get(LENGTH_HEADER)
    return triton.InferenceServerClient.parse_response_body(
        body, header_length=None if length is None else int(length)
    )


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: str(a.dtype))
def test_every_datatype_there_and_back(array: Any, raw: bool) -> None:
    if array.dtype == ml_dtypes.bfloat16 and not raw:
        array = array.astype(np.float32)  # the package sends these raw only
    (found,) = sent([tensor("x", array, raw=raw)])["inputs"]
    assert found["data"] == array.flatten().tolist()
    output = {**found, "name": "y", "parameters": {"binary_data": raw}}
    back = received({"model_name": "m", "outputs": [output]}).as_numpy("y")
    assert back.shape == array.shape
    if array.dtype == np.object_ and not raw:
        back = np.array([text.encode() for text in back], dtype=np.object_)
    assert (back == array).all()


def test_several_raw_tensors_follow_one_another() -> None:
    request = sent([tensor(str(i), array) for i, array in enumerate(ARRAYS)])
    assert [t["data"] for t in request["inputs"]] == [a.flatten().tolist() for a in ARRAYS]
    outputs = [{**t, "parameters": {"binary_data": True}} for t in request["inputs"]]
    result = received({"model_name": "m", "outputs": outputs})
    for i, array in enumerate(ARRAYS):
        assert (result.as_numpy(str(i)) == array).all()


TEXTS = np.array([b"hello", "gr\u00fc\u00dfe".encode()], dtype=np.object_)
CHOICES = [{"index": 1, "text": " two"}, {"index": 0, "text": " one", "finish_reason": "length"}]


@pytest.mark.parametrize("raw", [True, False, None])
def test_texts_are_completed(raw: bool | None) -> None:
    outputs = None if raw is None else [triton.InferRequestedOutput("text_output", binary_data=raw)]
    request = sent(
        [
            tensor("text_input", TEXTS),
            tensor("stream", np.array([False])),
            tensor("max_tokens", np.array([[3], [3]], dtype=np.int32)),
            tensor("exclude_input_in_output", np.array([True])),
        ],
        outputs=outputs,
        request_id="42",
        parameters={"temperature": 0},
    )
    translation = translate("/v2/models/m/infer", request, Kind.TEXT)
    assert translation.told.path == "/v1/completions"
    assert translation.told.body == {
        "prompt": ["hello", "gr\u00fc\u00dfe"],
        "max_tokens": 3,
        "temperature": 0,
    }
    result = received(translation.whole({"choices": CHOICES}))
    texts = [t if isinstance(t, bytes) else t.encode() for t in result.as_numpy("text_output")]
    assert texts == [b" one", b" two"]
    assert result.get_response()["id"] == "42"
    assert result.get_response()["model_version"] == "1"


def test_texts_are_embedded() -> None:
    request = sent([tensor("text_input", TEXTS.reshape(2, 1))])
    translation = translate("/v2/models/org/m:7b/versions/1/infer", request, Kind.EMBEDDING)
    assert translation.told.path == "/v1/embeddings"
    assert translation.told.body["input"] == ["hello", "gr\u00fc\u00dfe"]
    data = [{"index": 1, "embedding": [3.0, 4.5]}, {"index": 0, "embedding": [1.0, 2.0]}]
    result = received(translation.whole({"data": data}))
    assert result.as_numpy("embedding").tolist() == [[1.0, 2.0], [3.0, 4.5]]
    assert result.as_numpy("embedding").dtype == np.float32
    assert result.get_response()["model_name"] == "org/m:7b"
