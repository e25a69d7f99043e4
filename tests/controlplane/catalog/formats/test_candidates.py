"""Which models a folder holds, or is, by names and sizes alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from modelpool.catalog.formats.base import Candidate, Listing
from modelpool.catalog.formats.registry import formats
from support.model_files import listing

Told = tuple[str, str, str, str | None]
HALF = "is a download that has not ended"


def found(at: Listing) -> list[Candidate]:
    return [c for f in formats().values() for c in f.candidates(at)]


def told(at: Listing) -> list[Told]:
    """Format, name, problem, companion; the folder itself is ``.``."""
    return [(c.format, str(c.path.relative_to(at.path)), c.problem, c.companion) for c in found(at)]


GGUF: list[tuple[Sequence[str], list[Told]]] = [
    (["a-Q4_K_M.gguf", "a-Q8_0.gguf", "README.md"],
     [("gguf", "a-Q4_K_M.gguf", "", None), ("gguf", "a-Q8_0.gguf", "", None)]),
    (["a-00001-of-00002.gguf", "a-00002-of-00002.gguf"],
     [("gguf", "a-00001-of-00002.gguf", "", None)]),
    (["a-00001-of-00002.gguf"], [("gguf", "a-00001-of-00002.gguf", "misses part 2 of 2", None)]),
    (["a-00002-of-00003.gguf", "a-00003-of-00003.gguf"],
     [("gguf", "a-00002-of-00003.gguf", "misses part 1 of 3", None)]),
    (["a-00001-of-00002.gguf", "a-00002-of-00002.gguf.part"],
     [("gguf", "a-00001-of-00002.gguf", HALF, None)]),
    (["a.gguf.part"], [("gguf", "a.gguf.part", HALF, None)]),
    (["a.gguf.incomplete"], [("gguf", "a.gguf.incomplete", HALF, None)]),
    (["a.gguf.crdownload"], [("gguf", "a.gguf.crdownload", HALF, None)]),
    (["a.gguf.download"], [("gguf", "a.gguf.download", HALF, None)]),
    (["a.gguf", "a.gguf.aria2"], [("gguf", "a.gguf", HALF, None)]),
    (["a.gguf", "a.gguf.part"], [("gguf", "a.gguf", "", None)]),
    (["m.gguf", "mmproj-m-f16.gguf"],
     [("gguf", "m.gguf", "", None), ("gguf", "mmproj-m-f16.gguf", "", "projector")]),
    (["story.lora.gguf"], [("gguf", "story.lora.gguf", "", "adapter")]),
    (["m-lora-merged.gguf"], [("gguf", "m-lora-merged.gguf", "", None)]),
    (["qwen-draft.gguf"], [("gguf", "qwen-draft.gguf", "", "draft")]),
    (["ggml-vocab-bert.gguf"], [("gguf", "ggml-vocab-bert.gguf", "", "tokenizer")]),
    (["imatrix.gguf", "a.txt", "a.gguf.txt", ".DS_Store"], []),
    (["A.GGUF"], [("gguf", "A.GGUF", "", None)]),
]  # fmt: skip

CONFIG = ["config.json", "tokenizer.json", "tokenizer_config.json"]
PARTS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
INDEX = "model.safetensors.index.json"
NO_INDEX = f"misses {INDEX}, which says what is in which part"
NO_GRAPHS = "misses the .onnx files of its genai_config.json"
NO_CONFIG = "misses config.json, which says what it is"
FOLDERS: list[tuple[Sequence[str], list[Told]]] = [
    ([*CONFIG, "model.safetensors"], [("safetensors", ".", "", None)]),
    ([*CONFIG, *PARTS, INDEX], [("safetensors", ".", "", None)]),
    ([*CONFIG, *PARTS, INDEX, "consolidated.safetensors"], [("safetensors", ".", "", None)]),
    ([*CONFIG, "a.safetensors"], [("safetensors", ".", "", None)]),
    ([*CONFIG, *PARTS], [("safetensors", ".", NO_INDEX, None)]),
    ([*CONFIG, PARTS[1], INDEX], [("safetensors", ".", "misses part 1 of 2", None)]),
    ([*CONFIG, PARTS[0], f"{PARTS[1]}.part", INDEX],
     [("safetensors", ".", f"has a part that {HALF}: {PARTS[1]}", None)]),
    ([*CONFIG, "model.safetensors.incomplete"], [("safetensors", ".", HALF, None)]),
    (["model.safetensors"], [("safetensors", "model.safetensors", NO_CONFIG, None)]),
    (["style-lora.safetensors"], [("safetensors", "style-lora.safetensors", "", "adapter")]),
    (["adapter_config.json", "adapter_model.safetensors"], [("safetensors", ".", "", "adapter")]),
    (["adapter_config.json"],
     [("safetensors", ".", "misses adapter_model.safetensors", "adapter")]),
    (CONFIG, [("safetensors", ".", "", "tokenizer")]),
    ([*CONFIG, "m.gguf"], [("gguf", "m.gguf", "", None)]),
    (["config.json", "diffusion_pytorch_model.safetensors"], []),
    (["a.txt", "b.bin", "c.json"], []),
]  # fmt: skip

GRAPHS: list[tuple[Sequence[str], list[Told]]] = [
    (["model.onnx", "model.onnx_data", "model_q4.onnx"],
     [("onnx", "model.onnx", "", None), ("onnx", "model_q4.onnx", "", None)]),
    (["encoder_model.onnx", "decoder_model.onnx", "decoder_model_merged.onnx"],
     [("onnx", "decoder_model_merged.onnx", "", None)]),
    (["encoder_model.onnx", "decoder_model.onnx", "encoder_model_q4.onnx",
      "decoder_model_q4.onnx"],
     [("onnx", "decoder_model.onnx", "", None), ("onnx", "decoder_model_q4.onnx", "", None)]),
    (["genai_config.json", "model.onnx", "model.onnx.data"], [("onnx", ".", "", None)]),
    (["genai_config.json"], [("onnx", ".", NO_GRAPHS, None)]),
    (["model.onnx.part"], [("onnx", "model.onnx.part", HALF, None)]),
    (["a.mlmodel"], [("coreml", "a.mlmodel", "", None)]),
    (["a.mlmodel.download"], [("coreml", "a.mlmodel.download", HALF, None)]),
]  # fmt: skip


@pytest.mark.parametrize(("files", "expected"), [*GGUF, *FOLDERS, *GRAPHS])
def test_files_of_a_folder(files: Sequence[str], expected: list[Told]) -> None:
    assert told(listing("/models/x", *files)) == expected


def test_an_empty_file_is_told() -> None:
    at = listing("/m", "a.gguf", "b.onnx", empty=["a.gguf", "b.onnx"])
    assert [c.problem for c in found(at)] == ["is empty", "is empty"]
    at = listing("/m", *CONFIG, "model.safetensors", empty=["model.safetensors"])
    assert [c.problem for c in found(at)] == ["is empty"]


def test_pickles_are_named_and_what_is_needed_instead() -> None:
    at = listing("/m", *CONFIG, "pytorch_model-00001-of-00002.bin")
    (candidate,) = found(at)
    assert candidate.path == Path("/m")
    assert "as pickles (pytorch_model-00001-of-00002.bin) only" in candidate.problem
    assert "safetensors are needed" in candidate.problem
    assert found(listing("/m", *CONFIG, "pytorch_model.bin", "model.safetensors"))[0].problem == ""
    (adapter,) = found(listing("/m", "adapter_config.json", "adapter_model.bin"))
    assert (adapter.companion, "pickles" in adapter.problem) == ("adapter", True)


@pytest.mark.parametrize(
    "path",
    [
        "/hub/models--mlx-community--Qwen/snapshots/0123abc",
        "/lmstudio/mlx-community/Qwen-4bit",
        "/models/Qwen-MLX",
    ],
)
def test_a_folder_for_mlx_is_one_model(path: str) -> None:
    assert told(listing(path, *CONFIG, "model.safetensors")) == [("mlx", ".", "", None)]
    (old,) = found(listing(path, "config.json", "weights.npz"))
    assert old.problem.startswith("holds its weights as weights.npz")


def test_modules_of_sentence_transformers_are_no_models() -> None:
    assert found(listing("/m/2_Dense", "config.json", "model.safetensors")) == []


def test_a_tokenizer_beside_folders_of_weights_is_no_companion() -> None:
    assert found(listing("/m", *CONFIG, folders=["onnx"])) == []


def test_packages_of_coreml() -> None:
    at = listing(
        "/m", "a.mlmodel", folders=["b.mlpackage", "c.mlmodelc", "d.mlpackage.download", "e"]
    )
    assert told(at) == [
        ("coreml", "b.mlpackage", "", None),
        ("coreml", "c.mlmodelc", "", None),
        ("coreml", "d.mlpackage.download", HALF, None),
        ("coreml", "a.mlmodel", "", None),
    ]
    assert told(listing("/m/b.mlpackage", "Manifest.json")) == [("coreml", ".", "", None)]
    assert told(listing("/m/b.mlpackage", "x")) == [("coreml", ".", "misses Manifest.json", None)]
    assert told(listing("/m/b.mlpackage/Data/com.apple.CoreML", "model.mlmodel")) == []


def test_what_belongs_to_it_is_there() -> None:
    names = ["a-00001-of-00002.gguf", "a-00002-of-00002.gguf.part"]
    (split,) = found(listing("/m", *names))
    assert split.files == tuple(Path("/m", n) for n in names)
    (model,) = found(listing("/m", *CONFIG, *PARTS, INDEX, "other.txt"))
    assert {f.name for f in model.files} == {*CONFIG, *PARTS, INDEX}
    (graph,) = found(listing("/m", "m.onnx", "m.onnx_data", "m.onnx_data_1", "x_data"))
    assert [f.name for f in graph.files] == ["m.onnx", "m.onnx_data", "m.onnx_data_1"]
