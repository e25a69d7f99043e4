"""Read the specification of a CoreML model, and the headers of its weights' file.

Fields: https://apple.github.io/coremltools/mlmodel/index.html; weights: coremltools' MILBlob,
``StorageFormat.hpp``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from modelpool.catalog.model_info import TensorSpec

from .files import opened
from .json_values import Wrong
from .protobuf import Field, Wire

# Model.Type: the number of the field that holds the model, and its name.
KINDS: Mapping[int, str] = {
    200: "pipelineClassifier",
    201: "pipelineRegressor",
    202: "pipeline",
    300: "glmRegressor",
    301: "supportVectorRegressor",
    302: "treeEnsembleRegressor",
    303: "neuralNetworkRegressor",
    304: "bayesianProbitRegressor",
    400: "glmClassifier",
    401: "supportVectorClassifier",
    402: "treeEnsembleClassifier",
    403: "neuralNetworkClassifier",
    404: "kNearestNeighborsClassifier",
    500: "neuralNetwork",
    501: "itemSimilarityRecommender",
    502: "mlProgram",
    555: "customModel",
    556: "linkedModel",
    560: "classConfidenceThresholding",
    600: "oneHotEncoder",
    601: "imputer",
    602: "featureVectorizer",
    603: "dictVectorizer",
    604: "scaler",
    606: "categoricalMapping",
    607: "normalizer",
    609: "arrayFeatureExtractor",
    610: "nonMaximumSuppression",
    900: "identity",
    2000: "textClassifier",
    2001: "wordTagger",
    2002: "visionFeaturePrint",
    2003: "soundAnalysisPreprocessing",
    2004: "gazetteer",
    2005: "wordEmbedding",
    2006: "audioFeaturePrint",
    3000: "serializedModel",
}
# FeatureType: which field it is.
FEATURE_TYPES: Mapping[int, str] = {
    1: "INT64",
    2: "DOUBLE",
    3: "STRING",
    4: "IMAGE",
    5: "MULTIARRAY",
    6: "DICTIONARY",
    7: "SEQUENCE",
    8: "STATE",
}
IMAGE, MULTIARRAY = 4, 5
ARRAY_TYPES: Mapping[int, str] = {
    65552: "FLOAT16",
    65568: "FLOAT32",
    65600: "DOUBLE",
    131080: "INT8",
    131104: "INT32",
}
MAX_DIMENSIONS = 64
MAX_NAME_BYTES = 4096

# A file of weights: a header, and before the bytes of each blob a header of its own.
BLOB_HEADER_BYTES = 64
BLOB_MARK = 0xDEADBEEF
BLOB_VERSION = 2
MAX_BLOBS = 262_144
# BlobDataType -> name, bits of an element
BLOB_TYPES: Mapping[int, tuple[str, int]] = {
    1: ("F16", 16),
    2: ("F32", 32),
    3: ("U8", 8),
    4: ("I8", 8),
    5: ("BF16", 16),
    6: ("I16", 16),
    7: ("U16", 16),
    8: ("I4", 4),
    9: ("U1", 1),
    10: ("U2", 2),
    11: ("U4", 4),
    12: ("U3", 3),
    13: ("U6", 6),
    14: ("I32", 32),
    15: ("U32", 32),
    16: ("F8_E4M3", 8),
    17: ("F8_E5M2", 8),
}


Shape = tuple[int | str | None, ...]
NO_SHAPE: Shape = ()


@dataclass
class Spec:
    """What a specification says of itself."""

    version: int = 0
    kind: str = ""
    inputs: list[TensorSpec] = field(default_factory=list)
    outputs: list[TensorSpec] = field(default_factory=list)
    description: str = ""
    author: str = ""
    license: str = ""
    model_version: str = ""
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Blobs:
    """Elements and bytes of the weights in a file, by the name of their type."""

    elements: Counter[str]
    sizes: Counter[str]


def read_spec(path: Path) -> Spec:
    """The specification in a ``.mlmodel`` file.

    Raises:
        BadModelFile: it is missing, unreadable, truncated, corrupt or no specification.
    """
    with opened(path) as (file, size):
        if not size:
            raise Wrong("is empty")
        wire, spec, described = Wire(file, size), Spec(), False
        for part in wire.fields():
            if part.number == 1:
                spec.version = wire.number(part)
            elif part.number == 2:
                described = True
                _description(wire, part, spec)
            elif part.number in KINDS:
                spec.kind = KINDS[part.number]
        if not spec.version or not described:
            raise Wrong("is truncated, or no CoreML model: it holds no description")
        if not spec.kind:
            raise Wrong("is truncated, or of a kind that is not known: it holds no model")
    return spec


def _description(wire: Wire, whole: Field, spec: Spec) -> None:
    """A model of several functions has inputs and outputs in each; the default one's count."""
    functions: list[Field] = []
    default = ""
    for part in wire.fields(whole):
        match part.number:
            case 1:
                spec.inputs.append(_feature(wire, part))
            case 10:
                spec.outputs.append(_feature(wire, part))
            case 20:
                functions.append(part)
            case 21:
                default = wire.text(part, MAX_NAME_BYTES)
            case 100:
                _metadata(wire, part, spec)
    for function in functions:
        _function(wire, function, default, spec)


def _function(wire: Wire, whole: Field, default: str, spec: Spec) -> None:
    parts = list(wire.fields(whole))
    name = next((wire.text(p, MAX_NAME_BYTES) for p in parts if p.number == 1), "")
    if name == default:
        spec.inputs += [_feature(wire, p) for p in parts if p.number == 2]
        spec.outputs += [_feature(wire, p) for p in parts if p.number == 3]


def _metadata(wire: Wire, whole: Field, spec: Spec) -> None:
    for part in wire.fields(whole):
        match part.number:
            case 1:
                spec.description = wire.text(part)
            case 2:
                spec.model_version = wire.text(part, MAX_NAME_BYTES)
            case 3:
                spec.author = wire.text(part, MAX_NAME_BYTES)
            case 4:
                spec.license = wire.text(part, MAX_NAME_BYTES)
            case 100:
                key, value = wire.pair(part)
                spec.metadata[key] = value


def _feature(wire: Wire, whole: Field) -> TensorSpec:
    name, kind, shape = "", "", NO_SHAPE
    for part in wire.fields(whole):
        if part.number == 1:
            name = wire.text(part, MAX_NAME_BYTES)
        elif part.number == 3:
            kind, shape = _type(wire, part)
    return TensorSpec(name, kind, shape)


def _type(wire: Wire, whole: Field) -> tuple[str, Shape]:
    for part in wire.fields(whole):
        if part.number == IMAGE:
            sizes = {p.number: wire.number(p) for p in wire.fields(part) if p.number in (1, 2)}
            return "IMAGE", (sizes.get(2, 0), sizes.get(1, 0))
        if part.number == MULTIARRAY:
            return _array(wire, part)
        if part.number in FEATURE_TYPES:
            return FEATURE_TYPES[part.number], NO_SHAPE
    return "", NO_SHAPE


def _array(wire: Wire, whole: Field) -> tuple[str, Shape]:
    shape: list[int] = []
    kind = "MULTIARRAY"
    for part in wire.fields(whole):
        if part.number == 1:
            shape += wire.numbers(part)
        elif part.number == 2:
            kind = ARRAY_TYPES.get(wire.number(part), kind)
    return kind, tuple(shape[:MAX_DIMENSIONS])


def read_blobs(path: Path) -> Blobs:
    """The headers in a file of weights.

    Raises:
        BadModelFile: it is missing, unreadable, truncated or corrupt.
    """
    elements: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    with opened(path) as (file, size):
        head = file.read(BLOB_HEADER_BYTES)
        count, version = int.from_bytes(head[:4], "little"), int.from_bytes(head[4:8], "little")
        if len(head) < BLOB_HEADER_BYTES or version != BLOB_VERSION or count > MAX_BLOBS:
            raise Wrong("is truncated, or no file of CoreML weights")
        at = BLOB_HEADER_BYTES
        for _ in range(count):
            file.seek(at)
            head = file.read(BLOB_HEADER_BYTES)
            mark, kind = int.from_bytes(head[:4], "little"), int.from_bytes(head[4:8], "little")
            length, place = (int.from_bytes(head[i : i + 8], "little") for i in (8, 16))
            if mark != BLOB_MARK or place < at or place + length > size:
                raise Wrong(f"is truncated or corrupt: not all of its {count} weights are there")
            name, bits = BLOB_TYPES.get(kind, (f"type {kind}", 8))
            elements[name] += length * 8 // bits
            sizes[name] += length
            at = -(-(place + length) // BLOB_HEADER_BYTES) * BLOB_HEADER_BYTES
    return Blobs(elements, sizes)
