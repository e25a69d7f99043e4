"""Read a Hugging Face folder: what its configuration and the headers of its weights say.

One reader for safetensors and MLX, which have the same files: what these say decides which of the
two it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modelpool.catalog.errors import BadModelFile
from modelpool.catalog.model_info import ModelInfo

from .base import Listing
from .files import opened, read_json, read_listing, read_object, translated
from .json_values import JsonValues, Wrong
from .names import file_names, part_of, parts_of
from .packed_weights import MLX, parameter_count, quantization
from .safetensors_header import Header, Tensor, read_header
from .template import digest, hints
from .transformers_config import NOTHING, FolderConfig, fields_of
from .transformers_files import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    CONFIG,
    INDEX,
    candidates,
    model_weights,
)

# The index of a model with 100,000 tensors has some ten megabytes.
MAX_INDEX_BYTES = 64 * 1_048_576
MAX_TEMPLATE_BYTES = 1_048_576
# The front matter of a model's card stands in its first lines.
CARD_BYTES = 16_384
LICENSE_LINE = re.compile(r"^license:[ \t]*[\"']?([\w.+-]{1,64})[\"']?[ \t]*$", re.MULTILINE)
FRONT_MATTER = re.compile(r"\A\ufeff?---\s*\n(.*?)\n---", re.DOTALL)


def read_folder(path: Path) -> ModelInfo:
    """What the model, the adapter or the tokenizer that the folder is says of itself.

    Raises:
        BadModelFile: something is missing, unreadable, truncated or corrupt, or does not fit
            together.
    """
    listing = read_listing(path)
    _refuse_unfit(listing)
    names = file_names(listing)
    if CONFIG in names and model_weights(names):
        return _model(path, names)
    if ADAPTER_CONFIG in names:
        return _adapter(path, names)
    return _tokenizer(path)


def read_file(path: Path) -> ModelInfo:
    """What a safetensors file alone says of itself: its tensors, and the metadata of whoever wrote
    it. A folder's ``config.json`` beside it counts.

    Raises:
        BadModelFile: it is missing, unreadable, truncated or corrupt.
    """
    headers = [read_header(part) for part in parts_of(path)]
    header = headers[0]
    model, generation, tokenizer = (read_object(path.parent / name) for name in _CONFIG_FILES)
    config = FolderConfig(model, generation, tokenizer)
    with translated(path.parent / CONFIG):
        fields = fields_of(config)
        counted = _weights(headers, config.model)
    told = header.metadata.get("modelspec.architecture", "")
    kind = "adapter" if _is_lora(header.tensors) else "model"
    named = fields | {"architecture": fields["architecture"] or told or kind}
    is_mlx = header.metadata.get("format") == "mlx" or MLX in config.model
    return ModelInfo(
        **named,
        **counted,
        format="mlx" if is_mlx else "safetensors",
        kind=kind,
        metadata=header.metadata,
    )


_CONFIG_FILES = (CONFIG, "generation_config.json", "tokenizer_config.json")


def _refuse_unfit(listing: Listing) -> None:
    """What names tell against it is told before anything is opened."""
    found = sorted(candidates(listing, ""), key=lambda c: c.companion is not None)
    if not found:
        raise BadModelFile(listing.path, f"is no model's folder: it misses {CONFIG} or weights")
    if found[0].problem:
        raise BadModelFile(listing.path, found[0].problem)


def _model(path: Path, names: dict[str, int]) -> ModelInfo:
    config = _read_config(path)
    weights = model_weights(names)
    headers = [read_header(path / name) for name in weights]
    if part_of(weights[0]) is not None:
        _check_index(path / INDEX, headers)
    with translated(path):
        fields = fields_of(config)
        if not fields["architecture"]:
            raise Wrong(
                f"does not say its architecture: {CONFIG} has neither architectures nor model_type"
            )
        counted = _weights(headers, config.model)
    is_mlx = headers[0].metadata.get("format") == "mlx" or MLX in config.model
    template = config.templates[0] if config.templates else ""
    return ModelInfo(
        **fields,
        **counted,
        format="mlx" if is_mlx else "safetensors",
        has_chat_template=bool(template),
        chat_template=digest(template),
        template_hints=hints(*config.templates),
        metadata=headers[0].metadata,
        base_model=config.model.text("base_model"),
    )


def _weights(headers: Sequence[Header], config: JsonValues) -> dict[str, Any]:
    tensors = [t for h in headers for t in h.tensors]
    return {
        "file_bytes": sum(h.file_bytes for h in headers),
        "tensor_bytes": sum(t.size for t in tensors),
        "parameter_count": parameter_count(tensors, config),
        "quantization": quantization(tensors, config),
        "parts": len(headers),
    }


def _check_index(path: Path, headers: Sequence[Header]) -> None:
    """Every tensor that the index names is where it says."""
    found = read_json(path, MAX_INDEX_BYTES)
    placed = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(placed, dict):
        raise BadModelFile(path, "is corrupt: it has no weight_map")
    there = {t.name: h.path.name for h in headers for t in h.tensors}
    for name, file in placed.items():
        if there.get(name) != file:
            raise BadModelFile(
                path, f"names the tensor {name[:80]!r} in {str(file)[:80]!r}, which is not there"
            )


def _read_config(path: Path) -> FolderConfig:
    model, generation, tokenizer = (read_object(path / name) for name in _CONFIG_FILES)
    modules = _modules(path / "modules.json")
    pooling = next((p for t, p in modules if t.endswith("Pooling")), "")
    return FolderConfig(
        model,
        generation,
        tokenizer,
        read_templates(path, tokenizer),
        read_object(path / "config_sentence_transformers.json"),
        read_object(path / pooling / CONFIG) if pooling else NOTHING,
        tuple(t for t, _ in modules),
        _license(path / "README.md"),
    )


def _modules(path: Path) -> list[tuple[str, str]]:
    """Types and folders of sentence-transformers' modules; no folder that is elsewhere."""
    with translated(path):
        if not path.exists():
            return []
    found = read_json(path)
    if not isinstance(found, list) or not all(isinstance(m, dict) for m in found):
        raise BadModelFile(path, "is corrupt: it is no list of modules")
    said = [(str(m.get("type", "")), str(m.get("path", ""))) for m in found[:64]]
    return [(t, p if p == Path(p).name else "") for t, p in said]


def read_templates(path: Path, tokenizer: JsonValues) -> tuple[str, ...]:
    """All of them, the one in use first: a file of its own, else the tokenizer's."""
    own = _text(path / "chat_template.jinja", MAX_TEMPLATE_BYTES)
    beside = read_object(path / "chat_template.json").raw("chat_template")[1]
    within = tokenizer.raw("chat_template")[1]
    named = within if isinstance(within, list) else [{"name": "default", "template": within}]
    named = sorted(
        (t for t in named if isinstance(t, dict)), key=lambda t: t.get("name") != "default"
    )
    texts = [own, beside, *(t.get("template") for t in named)]
    return tuple(t for t in texts if t and isinstance(t, str))


def _license(card: Path) -> str | None:
    """Of the front matter of a model's card."""
    front = FRONT_MATTER.match(_text(card, CARD_BYTES))
    found = LICENSE_LINE.search(front[1]) if front is not None else None
    return found[1] if found is not None else None


def _text(path: Path, most: int) -> str:
    """The beginning of a text; empty where there is no such file."""
    with translated(path):
        if not path.is_file():
            return ""
    with opened(path) as (file, _):
        return file.read(most).decode(errors="replace")


def _adapter(path: Path, names: dict[str, int]) -> ModelInfo:
    """Of PEFT, or of mlx_lm, which calls the same things otherwise."""
    config = read_object(path / ADAPTER_CONFIG)
    header = read_header(path / next(n for n in ADAPTER_WEIGHTS if n in names))
    with translated(path / ADAPTER_CONFIG):
        kind = config.text("peft_type", "fine_tune_type") or "LORA"
        base = config.text("base_model_name_or_path", "model")
    return ModelInfo(
        architecture=kind.upper(),
        **_weights([header], NOTHING),
        format="mlx" if header.path.name == ADAPTER_WEIGHTS[1] else "safetensors",
        kind="adapter",
        base_model=base,
        metadata=header.metadata,
        license=_license(path / "README.md"),
    )


def _tokenizer(path: Path) -> ModelInfo:
    config = _read_config(path)
    with translated(path):
        fields = fields_of(config)
    named = fields["architecture"] or fields["tokenizer"] or "tokenizer"
    template = config.templates[0] if config.templates else ""
    return ModelInfo(
        **(fields | {"architecture": named, "inputs": (), "outputs": ()}),
        file_bytes=0,
        tensor_bytes=0,
        parameter_count=0,
        format="safetensors",
        kind="tokenizer",
        has_chat_template=bool(template),
        chat_template=digest(template),
        template_hints=hints(*config.templates),
    )


def _is_lora(tensors: Sequence[Tensor]) -> bool:
    marks = (".lora_A.", ".lora_B.", ".lora_down.", ".lora_up.", ".lora_a", ".lora_b")
    return bool(tensors) and all(
        any(m in t.name for m in marks) or ".alpha" in t.name for t in tensors
    )
