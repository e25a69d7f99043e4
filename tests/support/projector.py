"""A projector (mmproj) of llama.cpp with random weights: a CLIP encoder and two layers after it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

PATCH = 14


@dataclass(frozen=True)
class VisionShape:
    """Of a ViT: ``image`` is the side of a picture in pixels, of which a patch has 14; ``text`` the
    width of the model that it is for."""

    text: int
    layers: int = 12
    hidden: int = 768
    ffn: int = 3072
    heads: int = 12
    image: int = 336


def write_projector(path: Path, shape: VisionShape) -> Path:
    """Half-precision matrices, as projectors are published."""
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_string("clip.projector_type", "mlp")
    writer.add_bool("clip.use_gelu", True)
    numbers = {
        "image_size": shape.image,
        "patch_size": PATCH,
        "embedding_length": shape.hidden,
        "feed_forward_length": shape.ffn,
        "projection_dim": shape.text,
        "block_count": shape.layers,
        "attention.head_count": shape.heads,
    }
    for name, number in numbers.items():
        writer.add_uint32(f"clip.vision.{name}", number)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
    for name in ("image_mean", "image_std"):
        writer.add_array(f"clip.vision.{name}", [0.5, 0.5, 0.5])
    random = np.random.default_rng(0)

    def add(name: str, *size: int) -> None:
        values = random.standard_normal(size, dtype=np.float32) * 0.02
        writer.add_tensor(name, values.astype(np.float16) if len(size) > 1 else values)

    def layer(name: str, rows: int, columns: int) -> None:
        add(f"{name}.weight", rows, columns)
        add(f"{name}.bias", rows)

    def norm(name: str) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(hidden, np.float32))
        writer.add_tensor(f"{name}.bias", np.zeros(hidden, np.float32))

    hidden = shape.hidden
    add("v.class_embd", hidden)
    add("v.patch_embd.weight", hidden, 3, PATCH, PATCH)
    positions = random.standard_normal(((shape.image // PATCH) ** 2 + 1, hidden), np.float32)
    writer.add_tensor("v.position_embd.weight", positions * np.float32(0.02))
    norm("v.pre_ln")
    for i in range(shape.layers):
        block = f"v.blk.{i}"
        for part in ("attn_q", "attn_k", "attn_v", "attn_out"):
            layer(f"{block}.{part}", hidden, hidden)
        norm(f"{block}.ln1")
        norm(f"{block}.ln2")
        layer(f"{block}.ffn_up", shape.ffn, hidden)
        layer(f"{block}.ffn_down", hidden, shape.ffn)
    layer("mm.0", shape.text, hidden)
    layer("mm.2", shape.text, shape.text)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
