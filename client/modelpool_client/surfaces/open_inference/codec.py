"""PURE. Infer requests and answers on the wire: JSON, and raw tensors after it where a tensor says
so (Triton's binary tensor data extension).

In a request or an answer as a dict, ``data`` of a tensor is flat and row-major: a list of bool,
int, float, or of bytes for BYTES.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from modelpool_client.errors import EngineFailed, InvalidRequest
from modelpool_client.surfaces.body import parse_object
from modelpool_client.surfaces.open_inference.datatypes import (
    BYTES,
    DATATYPES,
    Datatype,
    checked,
    pack,
    unpack,
)
from modelpool_client.surfaces.open_inference.tables import BODIES, INFER, SIZE
from modelpool_client.surfaces.schema_checks import checks

# Of one tensor: what is decoded here are texts and settings, one for each.
MOST_ELEMENTS = 1 << 20
# The bytes of the JSON, where raw tensors follow it.
LENGTH_HEADER = b"inference-header-content-length"
_JSON_TYPE = (b"content-type", b"application/json")
_RAW_TYPE = (b"content-type", b"application/octet-stream")
_SHARED_MEMORY = "shared_memory_region"
_CLASSES = "classification"
_CHECKS = checks(BODIES)


def decode(headers: Mapping[bytes, bytes], body: bytes) -> dict[str, Any]:
    """An infer request.

    Args:
        headers: by their names in lower case.
        body: not compressed.

    Raises:
        InvalidRequest: with ``param``, such as ``inputs[0].data``.
    """
    head, raw = _split(headers.get(LENGTH_HEADER), body)
    request = parse_object(head)
    _CHECKS[INFER](request)
    _check_outputs(request)
    inputs, at = [], 0
    for i, tensor in enumerate(request["inputs"]):
        size = _given(tensor, "parameters").get(SIZE)
        end = at + int(size or 0)
        if end > len(raw):
            where = f"inputs[{i}].parameters.{SIZE}"
            _refuse(where, f"is {size}, and only {len(raw) - at} bytes are left of the body")
        inputs.append(_input(tensor, None if size is None else raw[at:end], f"inputs[{i}]"))
        at = end
    if at < len(raw):
        _refuse("body", f"has {len(raw) - at} bytes after its last tensor")
    _check_names(request["inputs"])
    return {**request, "inputs": inputs}


def encode(answer: Mapping[str, Any]) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Headers and body of an answer. An output goes raw if its ``parameters`` have a true
    ``binary_data``, which itself is not told.

    Raises:
        EngineFailed: an output is none of its datatype, or holds what JSON has no word for.
    """
    raw: list[bytes] = []
    outputs = [_output(output, raw) for output in answer["outputs"]]
    head = json.dumps({**answer, "outputs": outputs}).encode()
    if not any(SIZE in output.get("parameters", {}) for output in outputs):
        return [_JSON_TYPE], head
    return [_RAW_TYPE, (LENGTH_HEADER, b"%d" % len(head))], b"".join([head, *raw])


def _split(length: bytes | None, body: bytes) -> tuple[bytes, bytes]:
    if length is None:
        return body, b""
    name = LENGTH_HEADER.decode()
    # No more digits than any body needs: Python refuses thousands of them.
    if not length.isdigit() or len(length) > 18:
        _refuse(name, "must be the number of bytes that the JSON of the body has")
    size = int(length)
    if not size:
        _refuse(name, "is 0: a body of raw data alone is not taken; send the JSON before it")
    if size > len(body):
        _refuse(name, f"is {size}, and the body has only {len(body)} bytes")
    return body[:size], body[size:]


def _input(tensor: Mapping[str, Any], raw: bytes | None, where: str) -> dict[str, Any]:
    parameters = dict(_given(tensor, "parameters"))
    _refuse_shared_memory(parameters, where)
    parameters.pop(SIZE, None)
    datatype = DATATYPES[tensor["datatype"]]
    shape = [int(size) for size in tensor["shape"]]
    if math.prod(shape) > MOST_ELEMENTS:
        _refuse(f"{where}.shape", f"has more than {MOST_ELEMENTS:,} elements")
    data = tensor.get("data")
    if raw is not None and data is not None:
        _refuse(f"{where}.data", f"and {SIZE} are given; leave one out")
    if raw is None and data is None:
        _refuse(f"{where}.data", f"is required, or {SIZE} in parameters")
    try:
        if raw is not None:
            _check_size(datatype, raw, shape)
            values = unpack(datatype, raw)
            _check_count(len(values), shape)
        else:
            values = checked(datatype, _flat(data or [], shape))
    except ValueError as e:
        _refuse(f"{where}.data", str(e))
    named = {"name": tensor["name"], "shape": shape, "datatype": datatype.name}
    return {**named, **({"parameters": parameters} if parameters else {}), "data": values}


def _check_size(datatype: Datatype, raw: bytes, shape: Sequence[int]) -> None:
    wanted = math.prod(shape) * datatype.size
    if datatype is not BYTES and len(raw) != wanted:
        text = f"has {len(raw)} bytes, and shape {shape} of {datatype.name} needs {wanted}"
        raise ValueError(text)


def _check_count(count: int, shape: Sequence[int]) -> None:
    if count != math.prod(shape):
        text = f"has {count} elements, and shape {list(shape)} needs {math.prod(shape)}"
        raise ValueError(text)


def _flat(data: list[Any], shape: Sequence[int]) -> list[Any]:
    """The elements of data that are flat, or nested as the shape is."""
    for depth, size in enumerate(shape[:-1]):
        if not any(isinstance(item, list) for item in data):
            break
        if depth == 0 and len(data) != size:
            raise ValueError(f"is not nested as shape {list(shape)} is")
        inner = shape[depth + 1]
        if not all(isinstance(item, list) and len(item) == inner for item in data):
            raise ValueError(f"is not nested as shape {list(shape)} is")
        data = [item for row in data for item in row]
    _check_count(len(data), shape)
    return data


def _check_outputs(request: Mapping[str, Any]) -> None:
    for i, output in enumerate(request.get("outputs") or ()):
        parameters = _given(output, "parameters")
        _refuse_shared_memory(parameters, f"outputs[{i}]")
        if parameters.get(_CLASSES):
            where = f"outputs[{i}].parameters.{_CLASSES}"
            _refuse(where, "is not supported: ask for the output itself")


def _refuse_shared_memory(parameters: Mapping[str, Any], where: str) -> None:
    if parameters.get(_SHARED_MEMORY) is not None:
        text = "is not supported: send data, or raw data in the body"
        _refuse(f"{where}.parameters.{_SHARED_MEMORY}", text)


def _check_names(inputs: Sequence[Mapping[str, Any]]) -> None:
    seen: set[str] = set()
    for i, tensor in enumerate(inputs):
        if tensor["name"] in seen:
            _refuse(f"inputs[{i}].name", f"is {tensor['name'][:64]!r}, as that of another input")
        seen.add(tensor["name"])


def _output(output: Mapping[str, Any], raw: list[bytes]) -> dict[str, Any]:
    parameters = dict(_given(output, "parameters"))
    is_raw = parameters.pop("binary_data", False)
    datatype = DATATYPES[output["datatype"]]
    name, shape = output["name"], list(output["shape"])
    try:
        values = checked(datatype, output["data"])
        _check_count(len(values), shape)
        shown: dict[str, Any] = {}
        if is_raw:
            raw.append(pack(datatype, values))
            parameters[SIZE] = len(raw[-1])
        else:
            shown = {"data": _json_values(datatype, values)}
    except ValueError as e:
        raise EngineFailed(f"output {name} {e}", source="engine") from None
    named = {"name": name, "datatype": datatype.name, "shape": shape}
    return {**named, **({"parameters": parameters} if parameters else {}), **shown}


def _json_values(datatype: Datatype, values: list[Any]) -> list[Any]:
    hint = "which JSON has no word for; ask for it with binary_data"
    if datatype is BYTES:
        try:
            return [value.decode() for value in values]
        except UnicodeDecodeError:
            raise ValueError(f"holds what is not UTF-8, {hint}") from None
    if datatype.holds is float and not all(map(math.isfinite, values)):
        raise ValueError(f"holds NaN or an infinity, {hint}")
    return values


def _given(part: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return part.get(name) or {}


def _refuse(where: str, why: str) -> NoReturn:
    raise InvalidRequest(f"{where} {why}", param=where)
