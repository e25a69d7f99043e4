"""GGUF, of llama.cpp: what such a file says about the model, and which files make one."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from modelpool.catalog.errors import BadModelFile
from modelpool.catalog.model_info import ModelInfo

from .base import Candidate, Companion, Listing
from .gguf_header import TENSOR_TYPES, Header, Tensor, read_header

__all__ = ["Gguf", "read_gguf", "shard_paths"]

MAX_COUNT = 2**31 - 1
MAX_SHARDS = 1024
SUFFIX = ".gguf"
SHARD_NAME = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf", re.DOTALL)

# general.architecture of files that are no model by themselves.
COMPANIONS: Mapping[str, Companion] = {"clip": "projector"}

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

    def candidates(self, listing: Listing) -> Iterable[Candidate]:
        """One for each file, and one for all parts of a split model."""
        names = {e.name for e in listing.entries if not e.is_folder}
        for name in sorted(n for n in names if n.endswith(SUFFIX)):
            match = SHARD_NAME.fullmatch(name)
            if match is None or int(match[2]) == 1:
                yield _candidate(listing.path / name, names)

    def read(self, path: Path) -> ModelInfo:
        """See ``read_gguf``."""
        return read_gguf(path)

    def companion(self, info: ModelInfo) -> Companion | None:
        """A projector or an adapter says so in its header."""
        return COMPANIONS.get(info.architecture)


def _candidate(path: Path, names: Collection[str]) -> Candidate:
    files = tuple(shard_paths(path))
    missing = [i for i, f in enumerate(files, 1) if f.name not in names]
    problem = f"misses part {missing[0]} of {len(files)}" if missing else ""
    return Candidate(Gguf.name, path, files, problem)


def read_gguf(path: Path | str) -> ModelInfo:
    """Read what a GGUF file, or the first of several parts, says about its model.

    Takes milliseconds, up to some tenths of a second for a large vocabulary: not for the event
    loop.

    Raises:
        BadModelFile: it is missing, unreadable, truncated, corrupt or no model; naming which.
    """
    first = read_header(Path(path))
    headers = [first, *map(read_header, _other_parts(first))]
    keys = _Keys(first)
    architecture = keys.text("general.architecture")
    if not architecture:
        raise BadModelFile(first.path, "does not say its architecture")
    return _info(keys, architecture, headers)


def _info(keys: _Keys, architecture: str, headers: list[Header]) -> ModelInfo:
    tensors = [t for h in headers for t in h.tensors]
    embedding = keys.count(f"{architecture}.embedding_length")
    heads = keys.counts(f"{architecture}.attention.head_count")
    head_size = _head_size(embedding, heads)
    key_length = keys.count(f"{architecture}.attention.key_length")
    value_length = keys.count(f"{architecture}.attention.value_length")
    kv_heads = keys.counts(f"{architecture}.attention.head_count_kv")
    return ModelInfo(
        architecture=architecture,
        file_bytes=sum(h.file_bytes for h in headers),
        tensor_bytes=sum(t.size or 0 for t in tensors),
        parameter_count=sum(t.elements for t in tensors),
        quantization=FILE_TYPES.get(_file_type(keys)) or _majority(tensors),
        name=keys.text("general.name"),
        context_length=keys.count(f"{architecture}.context_length"),
        block_count=keys.count(f"{architecture}.block_count"),
        embedding_length=embedding,
        head_count=heads,
        head_count_kv=heads if kv_heads is None else kv_heads,
        key_length=head_size if key_length is None else key_length,
        value_length=head_size if value_length is None else value_length,
        window=keys.count(f"{architecture}.attention.sliding_window"),
        window_pattern=keys.pattern(f"{architecture}.attention.sliding_window_pattern"),
        has_chat_template=keys.has("tokenizer.chat_template"),
        chat_template=keys.digest("tokenizer.chat_template"),
        parts=len(headers),
        pooling=keys.count(f"{architecture}.pooling_type"),
    )


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

    def digest(self, key: str) -> str:
        value = self._header.values.get(key)
        return hashlib.sha256(value.encode()).hexdigest()[:16] if isinstance(value, str) else ""

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
    match = SHARD_NAME.fullmatch(first.path.name)
    if match is None or int(match[3]) != count or count > MAX_SHARDS:
        raise BadModelFile(
            first.path, f"is one of {count} parts and not named -00001-of-{count:05}"
        )
    if int(match[2]) != 1:
        raise BadModelFile(first.path, f"is part {int(match[2])} of {count}: name the first")
    return shard_paths(first.path)[1:]


def shard_paths(path: Path) -> list[Path]:
    """All parts of a model whose first that is, by its name alone; itself where it has no others.
    PURE."""
    match = SHARD_NAME.fullmatch(path.name)
    count = int(match[3]) if match is not None else 1
    if match is None or int(match[2]) != 1 or not 1 < count <= MAX_SHARDS:
        return [path]
    return [path.with_name(f"{match[1]}-{i:05}-of-{count:05}.gguf") for i in range(1, count + 1)]
