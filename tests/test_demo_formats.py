"""The demo model's folder says what its GGUF says, and any GGUF can be made of it."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
from demo_formats import DEMO_FOLDER, DEMO_GGUF, gguf_file, permuted, safetensors_folder, unpermuted
from gguf_export import WeightType


def test_an_order_of_rows_and_back() -> None:
    rows = np.arange(6 * 32 * 4).reshape(6 * 32, 4)
    assert (unpermuted(permuted(rows, 6), 6) == rows).all()
    assert not (permuted(rows, 6) == rows).all()


def test_the_folder_in_the_repository_is_what_the_script_makes(tmp_path: Path) -> None:
    safetensors_folder(DEMO_GGUF, tmp_path / "made")
    made = {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()}
    kept = {path.name: path.read_bytes() for path in DEMO_FOLDER.iterdir()}
    assert made == kept


@pytest.mark.parametrize("kind", ["f16", "q8_0", "q4_0"])
def test_a_gguf_of_it_has_the_same_weights_and_tokens(tmp_path: Path, kind: WeightType) -> None:
    path = tmp_path / f"demo-{kind}.gguf"
    gguf_file(DEMO_FOLDER, path, kind)
    made, kept = gguf.GGUFReader(path), gguf.GGUFReader(DEMO_GGUF)
    for name in ("tokenizer.ggml.tokens", "tokenizer.ggml.merges", "tokenizer.chat_template"):
        assert made.fields[name].contents() == kept.fields[name].contents()
    for one, other in zip(made.tensors, kept.tensors, strict=True):
        a = gguf.quants.dequantize(one.data, one.tensor_type)
        b = gguf.quants.dequantize(other.data, other.tensor_type)
        assert one.name == other.name
        assert (
            np.abs(a - b).max() <= {"f16": 1e-3, "q8_0": 0.02, "q4_0": 0.2}[kind] * np.abs(b).max()
        )
