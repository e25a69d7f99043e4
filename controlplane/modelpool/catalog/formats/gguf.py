"""GGUF, of llama.cpp: what such a file says about the model, and which files make one."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from modelpool_client.surfaces.pooling import ENCODERS

from modelpool.catalog.errors import BadModelFile
from modelpool.catalog.model_info import ModelInfo

from .base import Candidate, Companion, Listing
from .gguf_header import MAGIC, TENSOR_TYPES, Header, Tensor, read_header
from .names import (
    companion_by_name,
    file_names,
    file_problem,
    has_word,
    missing_part,
    part_of,
    parts_of,
    promised,
)
from .template import digest, hints

__all__ = ["Gguf", "read_gguf", "shard_paths"]

MAX_COUNT = 2**31 - 1
SUFFIX = ".gguf"

# general.type of files that are no model by themselves, and the general.architecture of those that
# are older than that key.
KINDS: Mapping[str, Companion] = {
    "adapter": "adapter",
    "controlvector": "adapter",
    "mmproj": "projector",
    "clip": "projector",
    "eagle3": "draft",
    "vocab": "tokenizer",
}
TEMPLATE = "tokenizer.chat_template"
TOKENS = "tokenizer.ggml.tokens"
TOKEN_ID = "_token_id"
TOKEN_PREFIX = "tokenizer.ggml."
# llama.cpp's words for tokens that everybody else calls otherwise; the last is its own spelling.
TOKEN_NAMES: Mapping[str, str] = {
    "unknown": "unk",
    "padding": "pad",
    "separator": "sep",
    "seperator": "sep",
}
# The type of GGUF's value for an id that means: none.
NO_TOKEN = 2**32 - 1

# The input and the output layer, as llama.cpp names their tensors.
TABLE = "token_embd.weight"
OUTPUT = "output.weight"

# general.file_type -> name; llama.cpp's own numbers for a mixture of tensor types.
FILE_TYPES: Mapping[int, str] = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
    19: "IQ2_XXS",
    20: "IQ2_XS",
    21: "Q2_K_S",
    22: "IQ3_XS",
    23: "IQ3_XXS",
    24: "IQ1_S",
    25: "IQ4_NL",
    26: "IQ3_S",
    27: "IQ3_M",
    28: "IQ2_S",
    29: "IQ2_M",
    30: "IQ4_XS",
    31: "IQ1_M",
    32: "BF16",
    36: "TQ1_0",
    37: "TQ2_0",
    38: "MXFP4",
    39: "NVFP4",
    40: "Q1_0",
}
# Set in general.file_type when the converter only guessed it.
GUESSED = 1024


class Gguf:
    """GGUF files, one or several to a model."""

    name = "gguf"
    engine = "llama.cpp"
    suffixes = (SUFFIX,)
    magic = MAGIC

    def candidates(self, listing: Listing) -> Iterable[Candidate]:
        """One for each file, and one for all parts of a split model."""
        names = file_names(listing)
        files = promised(names, SUFFIX)
        for name in sorted(files):
            part = part_of(name)
            if has_word(name, "imatrix"):  # what a quantisation is made with
                continue
            if part is None or part.index == _first_present(name, files):
                yield _candidate(listing.path, name, files, names)

    def read(self, path: Path) -> ModelInfo:
        """What the file, or the first of several parts, says; of a vocabulary alone, too."""
        first = read_header(path)
        headers = [first, *map(read_header, _other_parts(first))]
        keys = _Keys(first)
        architecture = keys.text("general.architecture")
        if not architecture:
            raise BadModelFile(first.path, "does not say its architecture")
        info = _info(keys, architecture, headers)
        if not first.tensors and not info.vocabulary_size and not info.parameter_count:
            raise BadModelFile(first.path, "holds no tensors: it is no model")
        return info

    def companion(self, info: ModelInfo) -> Companion | None:
        """Projectors, adapters and vocabularies say so in their headers; of drafts, those that are
        of no use but to draft."""
        return KINDS.get(info.kind) or KINDS.get(info.architecture)


def _first_present(name: str, files: Mapping[str, str]) -> int:
    """The lowest index among those parts of the same model that are there."""
    part = part_of(name)
    assert part is not None
    return next(
        i
        for i in range(1, part.count + 1)
        if f"{part.stem}-{i:05}-of-{part.count:05}{part.suffix}" in files
    )


def _candidate(
    folder: Path, name: str, files: Mapping[str, str], names: Mapping[str, int]
) -> Candidate:
    part = part_of(name)
    first = name if part is None else f"{part.stem}-00001-of-{part.count:05}{part.suffix}"
    parts = parts_of(folder / first)
    problem = next((p for p in (file_problem(f.name, names) for f in parts) if p), "")
    path = folder / files.get(first, files[name])
    there = tuple(folder / files[f.name] for f in parts if f.name in files)
    problem = problem or missing_part(parts, files)
    return Candidate(Gguf.name, path, there, problem, companion_by_name(name))


def read_gguf(path: Path | str) -> ModelInfo:
    """Read what a GGUF file, or the first of several parts, says about a model to be loaded.

    Takes milliseconds, up to some tenths of a second for a large vocabulary: not for the event
    loop.

    Raises:
        BadModelFile: it is missing, unreadable, truncated, corrupt or no model; naming which.
    """
    info = Gguf().read(Path(path))
    if not info.parameter_count:
        raise BadModelFile(path, "holds no tensors: it is no model")
    return info


def _info(keys: _Keys, architecture: str, headers: list[Header]) -> ModelInfo:
    tensors = [t for h in headers for t in h.tensors]
    kind = keys.text("general.type") or "model"
    template = keys.text(TEMPLATE) or ""
    inputs, outputs = _modalities(keys, architecture, kind)
    # A projector says how its encoder of pictures is made.
    part = "clip.vision" if architecture == "clip" else architecture
    return ModelInfo(
        architecture=architecture,
        file_bytes=sum(h.file_bytes for h in headers),
        tensor_bytes=sum(t.size or 0 for t in tensors),
        parameter_count=sum(t.elements for t in tensors),
        quantization=FILE_TYPES.get(_file_type(keys)) or _majority(tensors),
        name=keys.text("general.name"),
        context_length=keys.count(f"{architecture}.context_length"),
        block_count=keys.count(f"{part}.block_count"),
        embedding_length=keys.count(f"{part}.embedding_length"),
        **_attention(keys, part),
        has_chat_template=keys.has(TEMPLATE),
        chat_template=digest(template),
        parts=len(headers),
        pooling=keys.count(f"{architecture}.pooling_type"),
        vocabulary_size=keys.count(f"{architecture}.vocab_size")
        or keys.length(TOKENS)
        or _vocabulary_size(tensors),
        feed_forward_length=_widest(keys.counts(f"{part}.feed_forward_length")),
        patches=_patches(keys),
        expert_count=keys.count(f"{architecture}.expert_count"),
        expert_used_count=keys.count(f"{architecture}.expert_used_count"),
        rope_scaling=_rope_scaling(keys, architecture),
        tokenizer=keys.text("tokenizer.ggml.model"),
        special_tokens=_special_tokens(keys),
        inputs=inputs,
        outputs=outputs,
        template_hints=hints(*keys.texts(TEMPLATE)),
        license=keys.text("general.license"),
        kind=kind if tensors or kind != "model" else "vocab",
        base_model=keys.text("general.base_model.0.name"),
        format_version=headers[0].version,
        author=keys.text("general.author"),
        description=keys.text("general.description"),
        table_bytes=sum(t.size or 0 for t in tensors if t.name == TABLE),
        output_bytes=sum(t.size or 0 for t in tensors if t.name == OUTPUT),
        matrix_bytes=_matrices(tensors),
    )


def _attention(keys: _Keys, architecture: str) -> dict[str, Any]:
    heads = keys.counts(f"{architecture}.attention.head_count")
    kv_heads = keys.counts(f"{architecture}.attention.head_count_kv")
    head_size = _head_size(keys.count(f"{architecture}.embedding_length"), heads)
    key_length = keys.count(f"{architecture}.attention.key_length")
    value_length = keys.count(f"{architecture}.attention.value_length")
    return {
        "head_count": heads,
        "head_count_kv": heads if kv_heads is None else kv_heads,
        "key_length": head_size if key_length is None else key_length,
        "value_length": head_size if value_length is None else value_length,
        "window": keys.count(f"{architecture}.attention.sliding_window"),
        "window_pattern": keys.pattern(f"{architecture}.attention.sliding_window_pattern"),
    }


def _widest(lengths: int | tuple[int, ...] | None) -> int | None:
    return max(lengths, default=None) if isinstance(lengths, tuple) else lengths


def _rope_scaling(keys: _Keys, architecture: str) -> dict[str, Any]:
    """Older files have ``rope.scale_linear`` alone, some only the context that was trained."""
    rope = f"{architecture}.rope"
    linear = keys.real(f"{rope}.scale_linear")
    stated = {
        "type": keys.text(f"{rope}.scaling.type") or ("linear" if linear else None),
        "factor": keys.real(f"{rope}.scaling.factor") or linear,
        "original_context_length": keys.count(f"{rope}.scaling.original_context_length"),
    }
    known = {k: v for k, v in stated.items() if v is not None}
    trained = {"original_context_length": keys.count(f"{architecture}.context_length")}
    return {} if stated["type"] == "none" or known == trained else known


def _special_tokens(keys: _Keys) -> dict[str, int]:
    found = {}
    for key in keys.names(TOKEN_PREFIX, TOKEN_ID):
        name = key[len(TOKEN_PREFIX) : -len(TOKEN_ID)]
        token = keys.token(key)
        if token is not None:
            found[TOKEN_NAMES.get(name, name)] = token
    return found


def _patches(keys: _Keys) -> int | None:
    side, patch = (keys.count(f"clip.vision.{name}") for name in ("image_size", "patch_size"))
    return (side // patch) ** 2 if side and patch else None


def _modalities(
    keys: _Keys, architecture: str, kind: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if KINDS.get(kind) == "projector" or KINDS.get(architecture) == "projector":
        encoders = {"image": "clip.has_vision_encoder", "audio": "clip.has_audio_encoder"}
        return tuple(word for word, key in encoders.items() if keys.flag(key)), ()
    if kind != "model":
        return (), ()
    pools = architecture in ENCODERS or bool(keys.count(f"{architecture}.pooling_type"))
    return ("text",), ("tensor",) if pools else ("text",)


class _Keys:
    """A header's values by type; one of another type is the file's fault."""

    def __init__(self, header: Header) -> None:
        self._header = header

    def has(self, key: str) -> bool:
        return key in self._header.values

    def text(self, key: str) -> str | None:
        value = self._header.values.get(key)
        if value is not None and not isinstance(value, str):
            raise self._wrong(key, value)
        return value or None

    def texts(self, prefix: str) -> tuple[str, ...]:
        """All texts whose keys begin so."""
        values = self._header.values
        return tuple(v for k, v in values.items() if k.startswith(prefix) and isinstance(v, str))

    def names(self, prefix: str, suffix: str) -> tuple[str, ...]:
        """All keys that begin and end so."""
        return tuple(k for k in self._header.values if k.startswith(prefix) and k.endswith(suffix))

    def length(self, key: str) -> int | None:
        """The number of items of an array."""
        return self._header.lengths.get(key)

    def flag(self, key: str) -> bool:
        value = self._header.values.get(key, False)
        if not isinstance(value, bool):
            raise self._wrong(key, value)
        return value

    def real(self, key: str) -> float | None:
        value = self._header.values.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(key, value)
        return float(value) if math.isfinite(value) else None

    def token(self, key: str) -> int | None:
        value = self._header.values.get(key)
        return None if value in (NO_TOKEN, -1) else self.count(key)

    def count(self, key: str) -> int | None:
        value = self._header.values.get(key)
        if value is not None and not _is_count(value):
            raise self._wrong(key, value)
        return value

    def counts(self, key: str) -> int | tuple[int, ...] | None:
        value = self._header.values.get(key)
        if isinstance(value, tuple) and all(map(_is_count, value)):
            return value
        return self.count(key)

    def pattern(self, key: str) -> int | tuple[bool, ...] | None:
        value = self._header.values.get(key)
        if isinstance(value, tuple) and all(isinstance(v, bool) for v in value):
            return value
        return value if _is_count(value) else None

    def _wrong(self, key: str, value: object) -> BadModelFile:
        return BadModelFile(self._header.path, f"is corrupt: {key} is {str(value)[:80]!r}")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT


def _file_type(keys: _Keys) -> int:
    value = keys.count("general.file_type")
    return -1 if value is None else value & ~GUESSED


def _matrices(tensors: list[Tensor]) -> Mapping[str, int]:
    """Bytes by type of what is neither a vector nor the table of embeddings."""
    sizes: Counter[str] = Counter()
    for tensor in tensors:
        if tensor.rows > 1 and tensor.name != TABLE and tensor.type in TENSOR_TYPES:
            sizes[TENSOR_TYPES[tensor.type][0]] += tensor.size or 0
    return dict(sizes)


def _vocabulary_size(tensors: list[Tensor]) -> int | None:
    """Rows of the table of embeddings."""
    return next((t.rows for t in tensors if t.name == TABLE), None)


def _majority(tensors: list[Tensor]) -> str | None:
    sizes: Counter[str] = Counter()
    for tensor in tensors:
        if tensor.type in TENSOR_TYPES:
            sizes[TENSOR_TYPES[tensor.type][0]] += tensor.size or 0
    return sizes.most_common(1)[0][0] if sizes else None


def _head_size(embedding: int | None, heads: int | tuple[int, ...] | None) -> int | None:
    most = max(heads, default=0) if isinstance(heads, tuple) else heads
    return embedding // most if embedding is not None and most else None


def _other_parts(first: Header) -> list[Path]:
    """The files that hold the rest of a split model."""
    count = _Keys(first).count("split.count") or 1
    if count == 1:
        return []
    part = part_of(first.path.name)
    if part is None or part.count != count:
        raise BadModelFile(
            first.path, f"is one of {count} parts and not named -00001-of-{count:05}"
        )
    if part.index != 1:
        raise BadModelFile(first.path, f"is part {part.index} of {count}: name the first")
    return parts_of(first.path)[1:]


def shard_paths(path: Path) -> list[Path]:
    """All parts of a model whose first that is, by its name alone; itself where it has no others.
    PURE."""
    part = part_of(path.name)
    return parts_of(path) if part is not None and part.suffix == SUFFIX else [path]
