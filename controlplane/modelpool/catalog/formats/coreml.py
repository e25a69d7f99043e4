"""CoreML, of Apple: packages, specifications in one file, and compiled models."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from modelpool.catalog.errors import BadModelFile
from modelpool.catalog.model_info import ModelInfo, TensorSpec

from .base import Candidate, Companion, Listing
from .coreml_spec import Blobs, Spec, read_blobs, read_spec
from .files import read_json, read_object, translated
from .json_values import JsonValues, Wrong
from .names import DOWNLOADING, file_names, file_problem, finished_name, promised

PACKAGE, COMPILED, SPEC = ".mlpackage", ".mlmodelc", ".mlmodel"
MANIFEST = "Manifest.json"
DATA = "Data"
COMPILED_METADATA = "metadata.json"
WEIGHT_FILES = "weight.bin"
MAX_FILES = 4096
# Keys that coremltools puts into what it converts.
COREMLTOOLS = "com.github.apple.coremltools."
MODALITIES: Mapping[str, str] = {"IMAGE": "image", "STRING": "text"}
TEXT_INPUTS = frozenset({"input_ids", "inputIds", "tokens"})


class CoreMl:
    """Models of CoreML."""

    name = "coreml"
    engine = "coreml"
    suffixes = (SPEC,)
    magic = b""

    def candidates(self, listing: Listing) -> Iterable[Candidate]:
        """Packages and compiled models in the folder, or the one that the folder is, and
        specifications in files, unless they belong to a package."""
        inside = [p for p in (listing.path, *listing.path.parents) if _is_bundle(p.name)]
        if inside:
            if inside[0] == listing.path and len(inside) == 1:
                yield _bundle(listing.path, listing)
            return
        for entry in listing.entries:
            later = finished_name(entry.name) if entry.is_folder else None
            if entry.is_folder and _is_bundle(entry.name):
                yield _bundle(listing.path / entry.name)
            elif later is not None and _is_bundle(later):
                path = listing.path / entry.name
                yield Candidate(self.name, path, (path,), DOWNLOADING)
        names = file_names(listing)
        for name, now in sorted(promised(names, SPEC).items()):
            path = listing.path / now
            yield Candidate(self.name, path, (path,), file_problem(name, names))

    def read(self, path: Path) -> ModelInfo:
        """What the specification, or a compiled model's description, says."""
        if path.name.endswith(COMPILED):
            return _compiled(path)
        if path.name.endswith(PACKAGE):
            return _package(path)
        with translated(path):
            size = path.stat().st_size
        return _info(read_spec(path), size, [])

    def companion(self, info: ModelInfo) -> Companion | None:
        """None is."""
        return None


def _is_bundle(name: str) -> bool:
    return name.endswith((PACKAGE, COMPILED))


def _bundle(path: Path, listing: Listing | None = None) -> Candidate:
    """What it holds is known only where it was looked into."""
    needed = MANIFEST if path.name.endswith(PACKAGE) else COMPILED_METADATA
    misses = listing is not None and needed not in file_names(listing)
    return Candidate(CoreMl.name, path, (path,), f"misses {needed}" if misses else "")


def _package(path: Path) -> ModelInfo:
    manifest = read_object(path / MANIFEST)
    if not manifest:
        raise BadModelFile(path, f"misses {MANIFEST}: it is no package, or not all of one")
    with translated(path / MANIFEST):
        root = manifest.part("itemInfoEntries").part(manifest.text("rootModelIdentifier") or "")
        place = PurePosixPath(root.text("path") or "")
        if not place.parts or place.is_absolute() or ".." in place.parts or "\0" in str(place):
            raise Wrong("is corrupt: it does not say which file is the model")
    spec = read_spec(path / DATA / place)
    files = list(_files(path))
    weights = [read_blobs(file) for file, _ in files if file.name == WEIGHT_FILES]
    return _info(spec, sum(size for _, size in files), weights)


def _files(path: Path) -> Iterator[tuple[Path, int]]:
    """All files of a package with their bytes."""
    count = 0
    with translated(path):
        for folder, _, names in os.walk(path):
            count += len(names)
            if count > MAX_FILES:
                raise Wrong(f"has over {MAX_FILES} files: it is no model")
            for name in names:
                file = Path(folder, name)
                yield file, file.stat().st_size


def _info(spec: Spec, file_bytes: int, weights: Sequence[Blobs]) -> ModelInfo:
    sizes = sum((w.sizes for w in weights), Counter())
    most = sizes.most_common(1)
    return ModelInfo(
        architecture=spec.kind,
        file_bytes=file_bytes,
        tensor_bytes=sizes.total(),
        parameter_count=sum(w.elements.total() for w in weights),
        quantization=most[0][0] if most else None,
        format=CoreMl.name,
        inputs=_modalities(spec.inputs),
        outputs=_modalities(spec.outputs),
        license=spec.license or None,
        input_tensors=tuple(spec.inputs),
        output_tensors=tuple(spec.outputs),
        format_version=spec.version,
        producer=_producer(spec.metadata),
        author=spec.author or None,
        description=spec.description or None,
        metadata=spec.metadata,
    )


def _modalities(features: Iterable[TensorSpec]) -> tuple[str, ...]:
    def word(feature: TensorSpec) -> str:
        text = feature.name in TEXT_INPUTS
        return "text" if text else MODALITIES.get(feature.type, "tensor")

    return tuple(dict.fromkeys(map(word, features)))


def _producer(metadata: Mapping[str, str]) -> str | None:
    version = metadata.get(f"{COREMLTOOLS}version")
    return f"coremltools {version}" if version else None


def _compiled(path: Path) -> ModelInfo:
    """Of a model that Xcode or CoreML itself compiled, by the description that lies in it."""
    found = read_json(path / COMPILED_METADATA)
    first = found[0] if isinstance(found, list) and found else None
    if not isinstance(first, dict):
        raise BadModelFile(path / COMPILED_METADATA, "is corrupt: it describes no model")
    with translated(path / COMPILED_METADATA):
        spec = _described(JsonValues(first, COMPILED_METADATA))
    files = list(_files(path))
    weights = [read_blobs(file) for file, _ in files if file.name == WEIGHT_FILES]
    return _info(spec, sum(size for _, size in files), weights)


def _described(said: JsonValues) -> Spec:
    kind = (said.part("modelType").text("name") or "").removeprefix("MLModelType_")
    if not kind:
        raise Wrong("is corrupt: it does not say what kind of model it is")
    return Spec(
        version=said.count("specificationVersion") or 0,
        kind=kind,
        inputs=_schema(said.raw("inputSchema")[1]),
        outputs=_schema(said.raw("outputSchema")[1]),
        description=said.text("shortDescription") or "",
        author=said.text("author") or "",
        license=said.text("license") or "",
        model_version=said.text("version") or "",
        metadata={
            k: v for k, v in said.part("userDefinedMetadata").items().items() if isinstance(v, str)
        },
    )


def _schema(features: Any) -> list[TensorSpec]:
    described = features if isinstance(features, list) else []
    return [_feature(JsonValues(f, COMPILED_METADATA)) for f in described if isinstance(f, dict)]


def _feature(said: JsonValues) -> TensorSpec:
    """``shape`` is a text such as ``[1, 3, 224, 224]``; of a picture, its sides are stated."""
    kind = (said.text("type") or "").upper()
    name = said.text("name") or ""
    if kind == "IMAGE":
        sides = (said.text(side) or "" for side in ("height", "width"))
        return TensorSpec(name, kind, tuple(int(s) if _is_number(s) else None for s in sides))
    numbers = [n.strip() for n in (said.text("shape") or "").strip("[]").split(",")]
    shape = tuple(int(n) for n in numbers if _is_number(n))
    return TensorSpec(name, (said.text("dataType") or kind).upper(), shape)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10
