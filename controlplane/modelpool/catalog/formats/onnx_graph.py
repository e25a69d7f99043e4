"""Read an ONNX file: inputs, outputs, operators and the sizes of weights, not the weights.

Fields: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from modelpool.catalog.model_info import TensorSpec

from .files import opened
from .json_values import Wrong
from .protobuf import Field, Wire

# TensorProto.DataType -> name, bits of an element
TYPES: Mapping[int, tuple[str, int]] = {
    1: ("FLOAT", 32),
    2: ("UINT8", 8),
    3: ("INT8", 8),
    4: ("UINT16", 16),
    5: ("INT16", 16),
    6: ("INT32", 32),
    7: ("INT64", 64),
    8: ("STRING", 0),
    9: ("BOOL", 8),
    10: ("FLOAT16", 16),
    11: ("DOUBLE", 64),
    12: ("UINT32", 32),
    13: ("UINT64", 64),
    14: ("COMPLEX64", 64),
    15: ("COMPLEX128", 128),
    16: ("BFLOAT16", 16),
    17: ("FLOAT8E4M3FN", 8),
    18: ("FLOAT8E4M3FNUZ", 8),
    19: ("FLOAT8E5M2", 8),
    20: ("FLOAT8E5M2FNUZ", 8),
    21: ("UINT4", 4),
    22: ("INT4", 4),
    23: ("FLOAT4E2M1", 4),
    24: ("FLOAT8E8M0", 8),
    25: ("UINT2", 2),
    26: ("INT2", 2),
    27: ("FLOAT6E2M3", 6),
    28: ("FLOAT6E3M2", 6),
}
# Of onnxruntime: weights of some bits packed into bytes, its second input.
PACKED_OPERATOR = "MatMulNBits"
PACKED_INPUT = 1
MAX_DIMENSIONS = 64
MAX_NAME_BYTES = 4096
EXTERNAL = 1


Shape = tuple[int | str | None, ...]
NO_SHAPE: Shape = ()


@dataclass
class Graph:
    """What a graph says of itself; of weights, elements and bytes by the name of their type.

    Attributes:
        external: files with weights, relative to the graph's, with the bytes that each must have.
        packed: tensors of which each byte holds several weights, with the bits of one.
    """

    path: Path
    file_bytes: int
    ir_version: int | None = None
    producer: str = ""
    opsets: dict[str, int] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    description: str = ""
    name: str = ""
    inputs: list[TensorSpec] = field(default_factory=list)
    outputs: list[TensorSpec] = field(default_factory=list)
    elements: Counter[str] = field(default_factory=Counter)
    sizes: Counter[str] = field(default_factory=Counter)
    external: dict[str, int] = field(default_factory=dict)
    packed: dict[str, int] = field(default_factory=dict)
    weights: set[str] = field(default_factory=set)


def read_graph(path: Path) -> Graph:
    """The graph of a file whose fields all lie within it; files that it refers to are not opened.

    Raises:
        BadModelFile: it is missing, unreadable, truncated, corrupt or no ONNX file.
    """
    with opened(path) as (file, size):
        if not size:
            raise Wrong("is empty")
        graph = Graph(path, size)
        _model(Wire(file, size), graph)
        # Of old, weights were listed among the inputs, too.
        graph.inputs = [i for i in graph.inputs if i.name not in graph.weights]
    return graph


def _model(wire: Wire, graph: Graph) -> None:
    producer, has_graph = ["", ""], False
    for part in wire.fields():
        match part.number:
            case 1:
                graph.ir_version = wire.number(part)
            case 2 | 3:
                producer[part.number - 2] = wire.text(part, MAX_NAME_BYTES)
            case 6:
                graph.description = wire.text(part)
            case 7:
                has_graph = True
                _graph(wire, part, graph)
            case 8:
                domain, version = _opset(wire, part)
                graph.opsets[domain] = version
            case 14:
                key, value = wire.pair(part)
                graph.metadata[key] = value
    if graph.ir_version is None or not has_graph:
        raise Wrong("is truncated, or no ONNX file: it holds no graph")
    if not graph.opsets:
        raise Wrong("is truncated or corrupt: it does not say its operators' version")
    graph.producer = " ".join(p for p in producer if p)


def _graph(wire: Wire, whole: Field, graph: Graph) -> None:
    for part in wire.fields(whole):
        match part.number:
            case 1:
                _node(wire, part, graph)
            case 2:
                graph.name = wire.text(part, MAX_NAME_BYTES)
            case 5:
                _weight(wire, part, graph)
            case 15:
                for inner in wire.fields(part):
                    if inner.number == 1:
                        _weight(wire, inner, graph)
            case 11:
                graph.inputs.append(_value(wire, part))
            case 12:
                graph.outputs.append(_value(wire, part))


def _node(wire: Wire, whole: Field, graph: Graph) -> None:
    inputs: list[Field] = []
    bits = 0
    operator = ""
    for part in wire.fields(whole):
        if part.number == 1 and len(inputs) <= PACKED_INPUT:
            inputs.append(part)
        elif part.number == 4:
            operator = wire.text(part, MAX_NAME_BYTES)
        elif part.number == 5 and operator == PACKED_OPERATOR:
            name, value = _attribute(wire, part)
            bits = value if name == "bits" else bits
    if operator == PACKED_OPERATOR and 1 <= bits <= 8 and len(inputs) > PACKED_INPUT:
        graph.packed[wire.text(inputs[PACKED_INPUT], MAX_NAME_BYTES)] = bits


def _attribute(wire: Wire, whole: Field) -> tuple[str, int]:
    name, value = "", 0
    for part in wire.fields(whole):
        if part.number == 1:
            name = wire.text(part, MAX_NAME_BYTES)
        elif part.number == 3:
            value = wire.number(part)
    return name, value


def _weight(wire: Wire, whole: Field, graph: Graph) -> None:
    shape: list[int] = []
    kind, name, raw, location = 0, "", None, 0
    entries: dict[str, str] = {}
    for part in wire.fields(whole):
        match part.number:
            case 1:
                shape += wire.numbers(part)
            case 2:
                kind = wire.number(part)
            case 8:
                name = wire.text(part, MAX_NAME_BYTES)
            case 9:
                raw = part.end - part.begin
            case 13:
                key, value = wire.pair(part)
                entries[key] = value
            case 14:
                location = wire.number(part)
    type_name, bits = TYPES.get(kind, (f"type {kind}", 0))
    if len(shape) > MAX_DIMENSIONS or any(not 0 <= d < 2**48 for d in shape):
        raise Wrong(f"is corrupt: the tensor {name[:80]!r} has no possible shape")
    elements = math.prod(shape)
    size = -(-elements * bits // 8)
    if raw is not None and location != EXTERNAL and bits and raw != size:
        raise Wrong(f"is corrupt: the tensor {name[:80]!r} has {raw} bytes in place of {size}")
    if location == EXTERNAL:
        _external(graph, name, entries, size)
    elif size > graph.file_bytes:
        raise Wrong(f"is corrupt: the tensor {name[:80]!r} is larger than the file")
    graph.weights.add(name)
    graph.elements[type_name] += (
        elements * 8 // graph.packed[name] if name in graph.packed else elements
    )
    graph.sizes[type_name] += size


def _external(graph: Graph, name: str, entries: Mapping[str, str], size: int) -> None:
    where = entries.get("location", "")
    place = PurePosixPath(where.replace("\\", "/"))
    if not where or place.is_absolute() or ".." in place.parts or "\0" in where:
        raise Wrong(f"is corrupt: the tensor {name[:80]!r} lies outside its folder: {where[:80]!r}")
    offset, length = (_whole(entries.get(k)) for k in ("offset", "length"))
    end = (offset or 0) + (size if length is None else length)
    graph.external[str(place)] = max(graph.external.get(str(place), 0), end)


def _whole(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise Wrong(f"is corrupt: a tensor's place is {text[:40]!r}")
    return int(text)


def _value(wire: Wire, whole: Field) -> TensorSpec:
    name, kind, shape = "", "UNDEFINED", NO_SHAPE
    for part in wire.fields(whole):
        if part.number == 1:
            name = wire.text(part, MAX_NAME_BYTES)
        elif part.number == 2:
            kind, shape = _type(wire, part)
    return TensorSpec(name, kind, shape)


def _type(wire: Wire, whole: Field) -> tuple[str, Shape]:
    others = {4: "SEQUENCE", 5: "MAP", 9: "OPTIONAL"}
    kind, shape = "UNDEFINED", NO_SHAPE
    for part in wire.fields(whole):
        if part.number in (1, 8):
            kind, shape = _tensor_type(wire, part)
        elif part.number in others:
            kind = others[part.number]
    return kind, shape


def _tensor_type(wire: Wire, whole: Field) -> tuple[str, Shape]:
    kind, shape = "UNDEFINED", NO_SHAPE
    for part in wire.fields(whole):
        if part.number == 1:
            number = wire.number(part)
            kind = TYPES.get(number, (f"type {number}", 0))[0]
        elif part.number == 2:
            found = [_dimension(wire, d) for d in wire.fields(part) if d.number == 1]
            shape = tuple(found[:MAX_DIMENSIONS])
    return kind, shape


def _dimension(wire: Wire, whole: Field) -> int | str | None:
    found: int | str | None = None
    for part in wire.fields(whole):
        if part.number == 1:
            found = wire.number(part)
        elif part.number == 2:
            found = wire.text(part, MAX_NAME_BYTES) or None
    return found


def _opset(wire: Wire, whole: Field) -> tuple[str, int]:
    domain, version = "", 0
    for part in wire.fields(whole):
        if part.number == 1:
            domain = wire.text(part, MAX_NAME_BYTES)
        elif part.number == 2:
            version = wire.number(part)
    return domain or "ai.onnx", version
