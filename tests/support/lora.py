"""A LoRA adapter of a small model, with random weights."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

RANK = 4


def write_adapter(path: Path, architecture: str, hidden: int, layers: int, strength: float) -> Path:
    """One that changes what every layer's attention gives."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(RANK))
    random = np.random.default_rng(0)
    for layer in range(layers):
        name = f"blk.{layer}.attn_output.weight"
        a, b = random.standard_normal((2, RANK, hidden)).astype(np.float32) * strength
        writer.add_tensor(f"{name}.lora_a", a)
        writer.add_tensor(f"{name}.lora_b", np.ascontiguousarray(b.T))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
