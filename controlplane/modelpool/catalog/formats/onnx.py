"""ONNX: graphs in files of their own, folders of several, and those of onnxruntime-genai."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from modelpool.catalog.errors import BadModelFile
from modelpool.catalog.model_info import ModelInfo, TensorSpec

from .base import Candidate, Companion, Listing
from .files import read_listing, read_object, translated
from .json_values import JsonValues, Wrong
from .names import file_names, file_problem, promised
from .onnx_graph import Graph, read_graph
from .template import digest, hints
from .transformers_config import NOTHING, FolderConfig, fields_of
from .transformers_files import BESIDE, CONFIG
from .transformers_folder import read_templates

SUFFIX = ".onnx"
GENAI = "genai_config.json"
# The graphs that one model is exported as, of optimum and transformers.js, with whatever tells the
# quantisation behind it; the first that is there is the one that an engine is given.
COMPONENTS = (
    "decoder_model_merged",
    "decoder_with_past_model",
    "decoder_model",
    "decoder",
    "encoder_model",
    "encoder",
    "embed_tokens",
    "vision_encoder",
    "audio_encoder",
)
COMPONENT = re.compile(rf"({'|'.join(COMPONENTS)})((?:[_-].*)?)")
# A folder in a repository for transformers, whose configuration is one folder up.
SUBFOLDER = "onnx"
# Names of inputs, and what comes in by them.
MODALITIES: Mapping[str, str] = {
    "input_ids": "text",
    "pixel_values": "image",
    "image": "image",
    "input_features": "audio",
    "input_values": "audio",
    "audio": "audio",
}
TYPE_NAMES: Mapping[str, str] = {"FLOAT": "F32", "FLOAT16": "F16", "BFLOAT16": "BF16"}
# Of shapes and indices, hardly of weights.
INDEX_TYPES = frozenset({"INT64", "INT32", "BOOL", "STRING"})
# In genai_config.json, under "model": the graphs.
GENAI_PARTS = ("decoder", "encoder", "embedding", "vision", "speech")


class Onnx:
    """Graphs of ONNX."""

    name = "onnx"
    engine = "onnx"
    suffixes = (SUFFIX,)
    magic = b""

    def candidates(self, listing: Listing) -> Iterable[Candidate]:
        """The folder, where onnxruntime-genai's configuration is; else every graph, and one for
        all graphs of a model that was exported as several."""
        names = file_names(listing)
        files = promised(names, SUFFIX)
        if GENAI in names:
            yield _genai_folder(listing.path, names, files)
            return
        for group in _groups(files):
            problem = next((p for n in group if (p := file_problem(n, names))), "")
            kept = [found for n in group for found in (files[n], *_data(n, names))]
            paths = tuple(listing.path / n for n in dict.fromkeys(kept))
            yield Candidate(self.name, paths[0], paths, problem)

    def read(self, path: Path) -> ModelInfo:
        """What the graphs say, and the configuration beside them."""
        if os.path.isdir(path):
            return _read_genai(path)
        graphs = [read_graph(file) for file in _with_components(path)]
        config = FolderConfig(_config_of(path), NOTHING, NOTHING)
        with translated(path):
            fields = fields_of(config) if config.model else {}
        # What stands around a graph by itself is no part of it: nobody puts its text together.
        said = fields.get("outputs") or ()
        outputs = tuple(word for word in said if word != "text") or ("tensor",)
        return _info(graphs, {**fields, "outputs": outputs} if fields else {})

    def companion(self, info: ModelInfo) -> Companion | None:
        """None is."""
        return None


def _genai_folder(path: Path, names: Mapping[str, int], files: Mapping[str, str]) -> Candidate:
    problem = next((p for n in sorted(files) if (p := file_problem(n, names))), "")
    problem = problem or ("" if files else f"misses the {SUFFIX} files of its {GENAI}")
    data = [d for n in sorted(files) for d in _data(n, names)]
    kept = [GENAI, *sorted(files.values()), *data, *(n for n in BESIDE if n in names)]
    return Candidate(Onnx.name, path, tuple(path / n for n in dict.fromkeys(kept)), problem)


def _groups(files: Iterable[str]) -> list[list[str]]:
    """Graphs that are one model, the one that stands for all first."""
    components: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
    groups = []
    for name in sorted(files):
        match = COMPONENT.fullmatch(name[: -len(SUFFIX)])
        if match is None:
            groups.append([name])
        else:
            components[match[2]].append((COMPONENTS.index(match[1]), name))
    groups += [[name for _, name in sorted(group)] for group in components.values()]
    return groups


def _data(name: str, names: Mapping[str, int]) -> list[str]:
    """Files that usually hold the weights of a graph of that name."""
    stem = name[: -len(SUFFIX)]
    usual = (f"{name}.data", f"{name}_data", f"{stem}.data", f"{stem}.weight", f"{stem}.weights")
    return [n for n in names if n in usual or n.startswith(f"{name}_data_")]


def _with_components(path: Path) -> list[Path]:
    """The graph, and the others of the same model."""
    if COMPONENT.fullmatch(path.name[: -len(SUFFIX)]) is None:
        return [path]
    with translated(path):
        path.stat()
    files = file_names(read_listing(path.parent))
    groups = _groups(n for n in files if n.lower().endswith(SUFFIX))
    return [path.parent / n for n in next((g for g in groups if g[0] == path.name), [path.name])]


def _config_of(path: Path) -> JsonValues:
    """``config.json`` beside the graph, or one folder up where an export has it."""
    found = read_object(path.parent / CONFIG)
    if not found and path.parent.name == SUBFOLDER:
        found = read_object(path.parent.parent / CONFIG)
    return found


def _read_genai(path: Path) -> ModelInfo:
    config = read_object(path / GENAI)
    if not config:
        raise BadModelFile(path, f"is no model's folder: it misses {GENAI}; name an {SUFFIX} file")
    with translated(path / GENAI):
        model = config.part("model")
        files = _genai_files(model)
        fields = _genai_fields(model)
    graphs = [read_graph(path / name) for name in files]
    templates = read_templates(path, read_object(path / "tokenizer_config.json"))
    about = {
        "has_chat_template": bool(templates),
        "chat_template": digest(templates[0]) if templates else "",
        "template_hints": hints(*templates),
    }
    return _info(graphs, {**fields, **about})


def _genai_files(model: JsonValues) -> list[str]:
    named = [model.part(part).text("filename") for part in GENAI_PARTS]
    stages = model.part("decoder").raw("pipeline")[1]
    for stage in stages if isinstance(stages, list) else ():
        steps = stage.values() if isinstance(stage, dict) else ()
        named += [step.get("filename") for step in steps if isinstance(step, dict)]
    files = list(dict.fromkeys(n for n in named if isinstance(n, str) and n))
    if not files or any(n != Path(n).name or "\0" in n for n in files):
        raise Wrong("is corrupt: it names no graphs of its own folder")
    return files


def _genai_fields(model: JsonValues) -> dict[str, Any]:
    decoder = model.part("decoder")
    size = decoder.count("head_size")
    tokens = {n: model.raw(f"{n}_token_id")[1] for n in ("bos", "eos", "pad")}
    firsts = {n: v[0] if isinstance(v, list) and v else v for n, v in tokens.items()}
    parts = [word for word, key in (("image", "vision"), ("audio", "speech")) if model.part(key)]
    kind = model.text("type") or ""
    return {
        "architecture": kind,
        "context_length": model.count("context_length"),
        "vocabulary_size": model.count("vocab_size"),
        "block_count": decoder.count("num_hidden_layers"),
        "embedding_length": decoder.count("hidden_size"),
        "head_count": decoder.count("num_attention_heads"),
        "head_count_kv": decoder.count("num_key_value_heads"),
        "key_length": size,
        "value_length": size,
        "special_tokens": {n: v for n, v in firsts.items() if type(v) is int and v >= 0},
        "inputs": ("audio",) if kind == "whisper" else ("text", *parts),
        "outputs": ("text",),
    }


def _info(graphs: Sequence[Graph], fields: Mapping[str, Any]) -> ModelInfo:
    """The first graph stands for all but in what is counted."""
    first = graphs[0]
    data = {g.path.parent / name: size for g in graphs for name, size in g.external.items()}
    sizes = sum((g.sizes for g in graphs), Counter())
    named = dict(fields) or {
        "inputs": _modalities(first.inputs),
        "outputs": ("tensor",),
    }
    named["architecture"] = named.get("architecture") or first.metadata.get("model_type") or "onnx"
    return ModelInfo(
        **named,
        file_bytes=sum(g.file_bytes for g in graphs) + sum(map(_data_bytes, data, data.values())),
        tensor_bytes=sizes.total(),
        parameter_count=sum(g.elements.total() for g in graphs),
        quantization=_quantization(graphs, sizes),
        format=Onnx.name,
        parts=len(graphs),
        input_tensors=tuple(first.inputs),
        output_tensors=tuple(first.outputs),
        opsets=first.opsets,
        format_version=first.ir_version,
        producer=first.producer or None,
        description=first.description or None,
        metadata=first.metadata,
    )


def _data_bytes(path: Path, needed: int) -> int:
    """The size of a file with weights.

    Raises:
        BadModelFile: it is missing or too short.
    """
    with translated(path):
        size = path.stat().st_size
        if size < needed:
            raise Wrong(
                f"is truncated: it has {size} bytes, the graph's tensors need {needed};"
                " was the download interrupted?"
            )
    return size


def _quantization(graphs: Sequence[Graph], sizes: Counter[str]) -> str | None:
    bits = Counter(b for g in graphs for b in g.packed.values())
    if bits:
        return f"{bits.most_common(1)[0][0]}-bit"
    weights = Counter({k: v for k, v in sizes.items() if k not in INDEX_TYPES}) or sizes
    most = weights.most_common(1)
    return TYPE_NAMES.get(most[0][0], most[0][0]) if most else None


def _modalities(inputs: Sequence[TensorSpec]) -> tuple[str, ...]:
    found = dict.fromkeys(MODALITIES[i.name] for i in inputs if i.name in MODALITIES)
    return tuple(found) or ("tensor",)
