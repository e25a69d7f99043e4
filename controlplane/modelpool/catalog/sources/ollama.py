"""Ollama's store: ``manifests/HOST/NAMESPACE/NAME/TAG`` name the layers of a model, which are
``blobs/sha256-…``; the layer with the weights is a GGUF file, used in place.

https://github.com/ollama/ollama, ``manifest/`` and ``server/``; newer versions have
``manifests-v2`` beside it, with links to manifests among the blobs.
"""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelpool.catalog.formats.base import Candidate, Listing

from .base import Sighting, Tree

MANIFESTS = ("manifests-v2", "manifests")
REGISTRY = "registry.ollama.ai"
LIBRARY = "library"
UNFINISHED = "-partial"
LAYER = "application/vnd.ollama.image."
# Layers of text that say how the model is to be used, and those that go with it.
TEXTS = ("template", "system", "params", "license", "messages")
COMPANIONS = {"projector": "projector", "adapter": "adapter"}
MAX_KEPT_TEXT = 16_384
# As blobs are called: no more than a name, wherever it is put.
DIGEST = re.compile(r"[a-z0-9]+-[0-9A-Za-z]+")


@dataclass(frozen=True)
class Layer:
    """A part of a model: what it is, which blob, bytes."""

    kind: str
    digest: str
    size: int


class Ollama:
    """Models are called as there: ``llama3.2:3b``, ``someone/model:latest``."""

    name = "ollama"

    def default_paths(self, environ: Mapping[str, str], home: Path) -> Iterable[Path]:
        """OLLAMA_MODELS, else the user's own store and that of the system's service."""
        if environ.get("OLLAMA_MODELS"):
            return (Path(os.path.expanduser(environ["OLLAMA_MODELS"])),)
        return (home / ".ollama" / "models", Path("/usr/share/ollama/.ollama/models"))

    def is_at(self, listing: Listing) -> bool:
        """It has manifests and blobs."""
        folders = {e.name for e in listing.entries if e.is_folder}
        return "blobs" in folders and not folders.isdisjoint(MANIFESTS)

    def sightings(self, tree: Tree, root: Listing) -> Iterator[Sighting]:
        """One for each blob of weights; all that name it are names of it."""
        blobs = tree.listing(root.path / "blobs")
        sizes = {e.name: e.size for e in blobs.entries} if blobs is not None else {}
        for name in sorted(n for n in sizes if n.endswith(UNFINISHED)):
            tree.trouble(root.path / "blobs" / name, "is a download that has not ended")
        paths: dict[str, Path] = {}
        by_weights: defaultdict[Layer, dict[str, Sequence[Layer]]] = defaultdict(dict)
        for path, name in _named(tree, root):
            layers = _layers(tree, path)
            weights = next((each for each in layers if each.kind == "model"), None)
            if weights is not None:
                paths[name] = path
                by_weights[weights].setdefault(name, layers)
        for weights, names in by_weights.items():
            by_weights[weights] = _alike(tree, names, paths)
        for weights, names in by_weights.items():
            yield _sighting(tree, root.path / "blobs", sizes, weights, names)


def _alike(
    tree: Tree, names: Mapping[str, Sequence[Layer]], paths: Mapping[str, Path]
) -> dict[str, Sequence[Layer]]:
    """Those that have the same adapters as the first: others are other models, and a file can be
    found as one only. One without adapters is the file's own."""
    first = min(names, key=lambda name: len(_adapters(names[name])))
    for name, layers in names.items():
        if (adapters := _adapters(layers)) != _adapters(names[first]):
            which = "other adapters" if adapters else "no adapter"
            text = f"is {name}, which has the weights of {first} with {which}"
            tree.trouble(paths[name], f"{text}: register that file once more with the option lora")
    same = {n: each for n, each in names.items() if _adapters(each) == _adapters(names[first])}
    return {first: same.pop(first), **same}


def _adapters(layers: Iterable[Layer]) -> list[str]:
    return [each.digest for each in layers if each.kind == "adapter"]


def blobs(root: Path, sha256: str) -> Iterator[Path]:
    """Where a store has the file with that digest, of hexadecimal digits."""
    yield root / "blobs" / f"sha256-{sha256}"


def _named(tree: Tree, root: Listing) -> Iterator[tuple[Path, str]]:
    """Every manifest with the name that its path says."""
    for top in MANIFESTS:
        listing = tree.listing(root.path / top)
        for folder in tree.walk(listing) if listing is not None else ():
            parts = folder.path.relative_to(root.path / top).parts
            if len(parts) != 3:
                continue
            for entry in folder.entries:
                if not entry.is_folder and not entry.name.startswith("."):
                    yield folder.path / entry.name, _name(*parts, entry.name)


def _name(host: str, namespace: str, name: str, tag: str) -> str:
    """As Ollama itself says it: without what is the default."""
    before = [host, namespace] if host != REGISTRY else [namespace]
    shown = [] if before == [LIBRARY] else before
    return f"{'/'.join([*shown, name])}:{tag}"


def _layers(tree: Tree, path: Path) -> list[Layer]:
    """Of a manifest, or of the first with a model among several for different engines. None, and
    trouble, where it has none that can be used."""
    text = tree.read_text(path)
    if text is None:
        return []
    try:
        manifest = json.loads(text)
        several = manifest.get("manifests") or [manifest]
        found = [[_layer(each) for each in m.get("layers") or ()] for m in several]
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        tree.trouble(path, "is corrupt: it is no manifest of Ollama")
        return []
    for layers in found:
        if any(layer.kind == "model" for layer in layers):
            return layers
    has_tensors = any(layer.kind == "tensor" for layers in found for layer in layers)
    how = "is kept as single tensors" if has_tensors else "has no weights here"
    tree.trouble(path, f"{how}: only Ollama itself can run it")
    return []


def _layer(data: Mapping[str, Any]) -> Layer:
    digest = str(data["digest"]).replace(":", "-", 1)
    if not DIGEST.fullmatch(digest):
        raise ValueError(digest)
    return Layer(str(data["mediaType"]).removeprefix(LAYER), digest, int(data["size"]))


def _sighting(
    tree: Tree,
    blobs: Path,
    sizes: Mapping[str, int],
    weights: Layer,
    names: Mapping[str, Sequence[Layer]],
) -> Sighting:
    path, has = blobs / weights.digest, sizes.get(weights.digest)
    problem = ""
    if has is None:
        problem = f"is missing; {', '.join(names)} of Ollama cannot be run without"
    elif has != weights.size:
        problem = f"has {has} of {weights.size} bytes: its download has not ended"
    first, *others = names
    name, _, tag = first.rpartition(":")
    companions = {
        kind: tuple(str(blobs / each.digest) for each in names[first] if each.kind == layer)
        for layer, kind in COMPANIONS.items()
    }
    return Sighting(
        Candidate("gguf", path, (path,), problem),
        name,
        str(path),
        tag=tag,
        other_names=tuple(others),
        digest=weights.digest.replace("-", ":", 1),
        companions={kind: paths for kind, paths in companions.items() if paths},
        facts={"ollama": {n: _texts(tree, blobs, layers) for n, layers in names.items()}},
    )


def _texts(tree: Tree, blobs: Path, layers: Iterable[Layer]) -> dict[str, Any]:
    """Template, parameters and what else says how it is to be used."""
    said: dict[str, Any] = {}
    for layer in layers:
        if layer.kind in TEXTS and (text := tree.read_text(blobs / layer.digest)) is not None:
            said.setdefault(layer.kind, _value(layer.kind, text[:MAX_KEPT_TEXT]))
    return said


def _value(kind: str, text: str) -> Any:
    if kind not in ("params", "messages"):
        return text
    try:
        return json.loads(text)
    except (RecursionError, ValueError):
        return text
