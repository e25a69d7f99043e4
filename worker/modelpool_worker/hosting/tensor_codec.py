"""PURE. Infer requests and answers of the Open Inference Protocol, their data as arrays lie in
memory: what comes raw is never taken apart."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from modelpool_client.errors import EngineFailed, InvalidRequest
from modelpool_client.http1.exchange import JSON_TYPE
from modelpool_client.http1.message import Headers
from modelpool_client.surfaces.body import parse_object
from modelpool_client.surfaces.open_inference.codec import LENGTH_HEADER
from modelpool_client.surfaces.open_inference.datatypes import (
    BYTES,
    DATATYPES,
    Datatype,
    checked,
    pack,
    unpack,
)
from modelpool_client.surfaces.open_inference.tables import BODIES, INFER, SIZE
from modelpool_client.surfaces.schema import check

from .contract import Tensor, TensorSpec

_RAW_TYPE = (b"content-type", b"application/octet-stream")


@dataclass(frozen=True)
class InferRequest:
    """What is asked.

    Attributes:
        outputs: names of those that are wanted, and whether each goes raw.
    """

    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, bool]
    id: str


def decode_infer(
    headers: Mapping[bytes, bytes],
    body: bytes,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
) -> InferRequest:
    """Of a body, for a model with these inputs and outputs.

    Raises:
        InvalidRequest: with ``param``, such as ``inputs[0].shape``.
    """
    head, raw = _split(headers.get(LENGTH_HEADER), body)
    asked = parse_object(head)
    check(BODIES[INFER], asked)
    found: dict[str, Tensor] = {}
    specs = {spec.name: spec for spec in inputs}
    at = 0
    for i, tensor in enumerate(asked["inputs"]):
        where = f"inputs[{i}]"
        spec = specs.get(tensor["name"])
        if spec is None or tensor["name"] in found:
            _refuse(f"{where}.name", f"must be one of {', '.join(specs)}, each of them once")
        size = (tensor.get("parameters") or {}).get(SIZE)
        part = None if size is None else raw[at : at + int(size)]
        at += int(size or 0)
        found[spec.name] = _tensor(tensor, part, spec, where)
    if at != len(raw):
        _refuse("body", f"has {len(raw)} bytes of raw data, and its inputs name {at}")
    if missing := specs.keys() - found.keys():
        _refuse("inputs", f"must have {', '.join(sorted(missing))}, too")
    return InferRequest(found, _wanted(asked, outputs), str(asked.get("id") or ""))


def encode_infer(
    model: str, request: InferRequest, outputs: Sequence[Tensor]
) -> tuple[Headers, bytes]:
    """Headers and body of an answer.

    Raises:
        EngineFailed: an output is missing, or holds what JSON has no word for.
    """
    found = {tensor.name: tensor for tensor in outputs}
    told, raw = [], []
    for name, is_raw in request.outputs.items():
        if name not in found:
            raise EngineFailed(f"the model gave no output {name}", source="engine")
        tensor = found[name]
        part: dict[str, Any] = {
            "name": name,
            "datatype": tensor.datatype,
            "shape": list(tensor.shape),
        }
        if is_raw:
            raw.append(raw_data(tensor))
            part["parameters"] = {SIZE: len(raw[-1])}
        else:
            part["data"] = _json_data(tensor)
        told.append(part)
    named = {"id": request.id} if request.id else {}
    answer = {**named, "model_name": model, "model_version": "1", "outputs": told}
    head = json.dumps(answer).encode()
    if not raw:
        return [JSON_TYPE], head
    return [_RAW_TYPE, (LENGTH_HEADER, b"%d" % len(head))], b"".join([head, *raw])


def raw_data(tensor: Tensor) -> bytes:
    """As it goes over the wire."""
    if isinstance(tensor.data, bytes | bytearray | memoryview):
        return bytes(tensor.data)
    return pack(DATATYPES[tensor.datatype], tensor.data)


def joined(several: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Inputs of several requests as those of one, one after the other in the first dimension."""
    whole = {}
    for name, first in several[0].items():
        parts = [inputs[name] for inputs in several]
        rows = sum(part.shape[0] for part in parts)
        data: bytes | list[bytes]
        if first.datatype == BYTES.name:
            data = [item for part in parts for item in part.data if isinstance(item, bytes)]
        else:
            data = b"".join(raw_data(part) for part in parts)
        whole[name] = Tensor(name, first.datatype, (rows, *first.shape[1:]), data)
    return whole


def parted(tensor: Tensor, rows: Sequence[int]) -> list[Tensor]:
    """Of an output of joined requests what belongs to each.

    Raises:
        EngineFailed: it has another number of rows.
    """
    if not tensor.shape or tensor.shape[0] != sum(rows):
        shape = list(tensor.shape)
        text = f"output {tensor.name} has shape {shape}, and the batch has {sum(rows)} rows"
        raise EngineFailed(text, source="engine")
    step = math.prod(tensor.shape[1:])
    data: Any = tensor.data
    if isinstance(data, bytes | bytearray | memoryview):
        data, step = memoryview(data).cast("B"), step * DATATYPES[tensor.datatype].size
    parts, at = [], 0
    for count in rows:
        part = data[at : at + count * step]
        parts.append(Tensor(tensor.name, tensor.datatype, (count, *tensor.shape[1:]), part))
        at += count * step
    return parts


def _split(length: bytes | None, body: bytes) -> tuple[bytes, memoryview]:
    if length is None:
        return body, memoryview(b"")
    size = int(length) if length.isdigit() and len(length) < 18 else 0
    if not 0 < size <= len(body):
        _refuse(LENGTH_HEADER.decode(), "must be the bytes that the JSON of the body has")
    return body[:size], memoryview(body)[size:]


def _tensor(
    tensor: Mapping[str, Any], raw: memoryview | None, spec: TensorSpec, where: str
) -> Tensor:
    shape = [int(size) for size in tensor["shape"]]
    wanted = list(spec.shape)
    fits = len(shape) == len(wanted) and all(
        w in (-1, s) for s, w in zip(shape, wanted, strict=True)
    )
    if not fits:
        _refuse(f"{where}.shape", f"is {shape}, and the model wants {wanted}, -1 for any size")
    if tensor["datatype"] != spec.datatype:
        _refuse(f"{where}.datatype", f"must be {spec.datatype}")
    datatype = DATATYPES[spec.datatype]
    count, data = math.prod(shape), tensor.get("data")
    if (raw is None) == (data is None):
        _refuse(f"{where}.data", f"is required, or {SIZE} in parameters, and not both")
    try:
        found = _numbers(datatype, raw, data, count)
    except ValueError as e:
        _refuse(f"{where}.data", str(e))
    return Tensor(spec.name, spec.datatype, tuple(shape), found)


def _numbers(
    datatype: Datatype, raw: memoryview | None, data: Any, count: int
) -> bytes | list[bytes]:
    values: list[Any]
    if raw is not None and datatype is not BYTES:
        if len(raw) != count * datatype.size:
            text = f"has {len(raw)} bytes, and its shape needs {count * datatype.size}"
            raise ValueError(text)
        return bytes(raw)
    values = unpack(datatype, bytes(raw)) if raw is not None else checked(datatype, _flat(data))
    if len(values) != count:
        raise ValueError(f"has {len(values)} elements, and its shape needs {count}")
    return values if datatype is BYTES else pack(datatype, values)


def _flat(data: list[Any]) -> list[Any]:
    while data and isinstance(data[0], list):
        if not all(isinstance(item, list) for item in data):
            raise ValueError("is not nested evenly")
        data = [item for row in data for item in row]
    return data


def _wanted(asked: Mapping[str, Any], outputs: Sequence[TensorSpec]) -> dict[str, bool]:
    everything = bool((asked.get("parameters") or {}).get("binary_data_output"))
    known = [spec.name for spec in outputs]
    if not asked.get("outputs"):
        return dict.fromkeys(known, everything)
    wanted = {}
    for i, output in enumerate(asked["outputs"]):
        if output["name"] not in known:
            _refuse(f"outputs[{i}].name", f"must be one of {', '.join(known)}")
        is_raw = (output.get("parameters") or {}).get("binary_data", everything)
        wanted[output["name"]] = bool(is_raw)
    return wanted


def _json_data(tensor: Tensor) -> list[Any]:
    datatype = DATATYPES[tensor.datatype]
    hint = "which JSON has no word for; ask for it with binary_data"
    if datatype is BYTES:
        try:
            return [bytes(item).decode() for item in tensor.data if isinstance(item, bytes)]
        except UnicodeDecodeError:
            text = f"output {tensor.name} holds what is not UTF-8, {hint}"
            raise EngineFailed(text, source="engine") from None
    values = unpack(datatype, raw_data(tensor))
    if datatype.holds is float and not all(map(math.isfinite, values)):
        text = f"output {tensor.name} holds NaN or an infinity, {hint}"
        raise EngineFailed(text, source="engine")
    return values


def _refuse(where: str, why: str) -> NoReturn:
    raise InvalidRequest(f"{where} {why}", param=where, source="engine")
