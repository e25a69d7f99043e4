"""Which files of a Hugging Face folder are one model, for safetensors and MLX. PURE."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from .base import Candidate, Companion, Listing
from .names import (
    companion_by_name,
    file_names,
    file_problem,
    folder_names,
    has_word,
    missing_part,
    part_of,
    parts_of,
    promised,
)

SUFFIX = ".safetensors"
CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
WEIGHTS = "model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapters.safetensors")
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
# What belongs to a model of its folder, beside weights.
BESIDE = (
    CONFIG,
    INDEX,
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "preprocessor_config.json",
    "processor_config.json",
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    *TOKENIZERS,
)
PICKLES = re.compile(r"pytorch_model.*\.bin|.*\.(pt|pth|ckpt|pkl)|adapter_model\.bin")
# Folders of sentence-transformers' modules, and files of diffusion pipelines' parts: of no use
# without the whole that they are in.
MODULE_FOLDER = re.compile(r"\d+_[A-Z]\w*")
PIPELINE_FILE = "diffusion_pytorch_model"
# Mistral's own copy of the weights beside those for transformers.
OTHER_COPY = "consolidated"
# Weights of other kinds, for which a folder with a tokenizer is more than a tokenizer.
OTHER_WEIGHTS = (".gguf", ".onnx", ".npz", ".h5", ".msgpack", ".mlmodel")
# How many folders up a name may say that the model was made for MLX: a hub's cache has
# ``models--mlx-community--NAME/snapshots/REVISION``.
MLX_DEPTH = 3


def is_for_mlx(path: Path) -> bool:
    """Whether the names of the folder and of those around it say so. What the files say counts
    more, see ``read_folder``."""
    return any(has_word(part, "mlx") for part in path.parts[-MLX_DEPTH:])


def candidates(listing: Listing, name: str) -> Iterable[Candidate]:
    """The model, the adapter or the tokenizer that the folder is, for the format of that name."""
    names = file_names(listing)
    if MODULE_FOLDER.fullmatch(listing.path.name):
        return
    if ADAPTER_CONFIG in names:
        yield _adapter(listing.path, name, names)
    weights = model_weights(names)
    pickles = [n for n in names if PICKLES.fullmatch(n) and not n.startswith("adapter_")]
    if CONFIG in names and weights:
        yield _model(listing.path, name, names, weights)
    elif CONFIG in names and pickles:
        problem = _only_pickles(pickles[0])
        yield Candidate(name, listing.path, _files(listing.path, names, pickles), problem)
    elif CONFIG in names and "weights.npz" in names:
        problem = "holds its weights as weights.npz, which is not read: safetensors are needed"
        yield Candidate(name, listing.path, _files(listing.path, names, ["weights.npz"]), problem)
    elif _is_tokenizer(names, folder_names(listing)) and ADAPTER_CONFIG not in names:
        yield Candidate(name, listing.path, _files(listing.path, names, []), companion="tokenizer")


def single_files(listing: Listing) -> Iterable[Candidate]:
    """Files of weights in a folder that says nothing of them."""
    names = file_names(listing)
    if CONFIG in names or ADAPTER_CONFIG in names or MODULE_FOLDER.fullmatch(listing.path.name):
        return
    files = _promised_weights(names)
    for name in sorted(files):
        part = part_of(name)
        if part is not None and part.index != 1:
            continue
        companion = companion_by_name(name)
        paths = parts_of(listing.path / name)
        problem = _weights_problem([p.name for p in paths], names)
        problem = problem or ("" if companion else f"misses {CONFIG}, which says what it is")
        there = tuple(listing.path / files[p.name] for p in paths if p.name in files)
        yield Candidate("safetensors", listing.path / files[name], there, problem, companion)


def model_weights(names: Mapping[str, int]) -> list[str]:
    """The files that hold the weights, by the names that they have or will have: all parts of a
    split model, those too that are not there; else the one of the usual name; else all there are.
    """
    files = [n for n in _promised_weights(names) if n not in ADAPTER_WEIGHTS]
    copies = [n for n in files if n.startswith(OTHER_COPY)]
    files = sorted(set(files) - set(copies)) or sorted(copies)
    splits = {(p.stem, p.count) for n in files if (p := part_of(n)) is not None}
    if splits:
        groups = [_split(stem, count) for stem, count in sorted(splits)]
        return max(groups, key=lambda g: (set(g) <= names.keys(), g[0].startswith("model-")))
    return [WEIGHTS] if WEIGHTS in files else files


def _split(stem: str, count: int) -> list[str]:
    return [p.name for p in parts_of(Path(f"{stem}-00001-of-{count:05}{SUFFIX}"))]


def _promised_weights(names: Mapping[str, int]) -> dict[str, str]:
    found = promised(names, SUFFIX)
    return {n: now for n, now in found.items() if not n.startswith(PIPELINE_FILE)}


def _model(folder: Path, name: str, names: Mapping[str, int], weights: list[str]) -> Candidate:
    problem = _weights_problem(weights, names) or file_problem(CONFIG, names)
    if not problem and len(weights) > 1 and part_of(weights[0]) and INDEX not in names:
        problem = f"misses {INDEX}, which says what is in which part"
    return Candidate(name, folder, _files(folder, names, weights), problem)


def _weights_problem(weights: list[str], names: Mapping[str, int]) -> str:
    """By its order: a download that goes on explains a part that is missing."""
    problems = {n: p for n in weights if (p := file_problem(n, names))}
    if problems:
        first = next(iter(problems))
        return (
            problems[first] if len(weights) == 1 else f"has a part that {problems[first]}: {first}"
        )
    return missing_part([Path(n) for n in weights], names)


def _adapter(folder: Path, name: str, names: Mapping[str, int]) -> Candidate:
    found = promised(names, SUFFIX)
    weights = next((n for n in ADAPTER_WEIGHTS if n in found), None)
    if weights is not None:
        problem = file_problem(weights, names)
    elif any(PICKLES.fullmatch(n) for n in names):
        problem = _only_pickles("adapter_model.bin")
    else:
        problem = f"misses {ADAPTER_WEIGHTS[0]}"
    files = tuple(folder / n for n in (ADAPTER_CONFIG, weights or "") if n in names)
    return Candidate(name, folder, files, problem, "adapter")


def _only_pickles(example: str) -> str:
    return (
        f"has its weights as pickles ({example}) only, which run code when they are read and are"
        " not: safetensors are needed"
    )


def _is_tokenizer(names: Mapping[str, int], folders: Collection[str]) -> bool:
    """It has a tokenizer, and nothing that could be weights, in a folder within it either."""
    others = any(n.lower().endswith((SUFFIX, *OTHER_WEIGHTS)) for n in names)
    within = folders - {f for f in folders if f.startswith(".")} if isinstance(folders, set) else ()
    is_more = others or any(PICKLES.fullmatch(n) for n in names) or bool(within)
    return not is_more and "tokenizer_config.json" in names and any(t in names for t in TOKENIZERS)


def _files(folder: Path, names: Mapping[str, int], weights: Iterable[str]) -> tuple[Path, ...]:
    found = promised(names, SUFFIX)
    now = [found.get(n, n) for n in weights]
    return tuple(folder / n for n in (*now, *BESIDE) if n in names)


def companion_of_kind(kind: str) -> Companion | None:
    """Of what ``read_folder`` says that the files are."""
    kinds: Mapping[str, Companion] = {"adapter": "adapter", "tokenizer": "tokenizer"}
    return kinds.get(kind)
