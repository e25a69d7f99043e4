#!/usr/bin/env python3
"""Make a valid GGUF of any size with random weights, for benchmarks and for fast tests.

    python scripts/make_bench_gguf.py bench.gguf --type q4_0
    python scripts/make_bench_gguf.py tiny.gguf --layers 2 --hidden 64 --ffn 192 --heads 4 \
        --kv 2 --vocab 1024 --ctx 512

It loads, tokenises, chats and computes like a trained model of its shape; what it says is noise.
Needs ``gguf`` and ``numpy`` only.
"""

from __future__ import annotations

import argparse
import itertools
import string
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from gguf_export import (
    SPECIAL_TOKENS,
    About,
    ModelShape,
    Tensor,
    Vocabulary,
    Weights,
    WeightType,
    parameter_count,
    write_gguf,
)

# Qwen2.5-0.5B, with a smaller vocabulary: the same work per layer, a lighter output layer.
BENCH_SHAPE = ModelShape(
    "qwen2",
    vocab=32_000,
    layers=24,
    hidden=896,
    ffn=4864,
    heads=14,
    kv_heads=2,
    context=8192,
    rope_base=1e6,
    norm_epsilon=1e-6,
)
TINY_SHAPE = ModelShape(
    "qwen2", vocab=1024, layers=2, hidden=64, ffn=192, heads=4, kv_heads=2, context=512
)

# llama.cpp's numbers.
POOLINGS = {"mean": 1, "cls": 2, "last": 3, "rank": 4}
# Tensors through which a layer's work reaches the next one.
INTO_THE_STREAM = ("attn_output.weight", "ffn_down.weight")

_SPACE = "\u0120"  # how byte-level BPE spells a leading space


def write_random_gguf(
    path: Path,
    shape: ModelShape = TINY_SHAPE,
    *,
    weight_type: WeightType = "q8_0",
    seed: int = 0,
    idle_layers: int = 0,
) -> None:
    """Write a model of this shape with random weights; the same seed gives the same file.

    The last ``idle_layers`` cost what others cost and change nothing: the model says what the one
    of its seed says that ends before them, which drafts for it without a mistake.
    """
    generator = np.random.default_rng(seed)
    idle = tuple(f"blk.{n}." for n in range(shape.layers - idle_layers, shape.layers))

    def fill(tensor: Tensor) -> Weights:
        if tensor.is_vector:
            return np.full(tensor.shape, tensor.name.endswith("norm.weight"), dtype=np.float32)
        if tensor.name.startswith(idle) and tensor.name.endswith(INTO_THE_STREAM):
            return np.zeros(tensor.shape, dtype=np.float32)
        # Keeps activations the same size at any width; smaller weights would only echo the prompt.
        spread = np.float32(tensor.shape[-1] ** -0.5)
        return generator.standard_normal(tensor.shape, dtype=np.float32) * spread

    name = f"random-{shape.layers}x{shape.hidden}"
    about = About(name, "Random weights: for benchmarks and tests only.")
    vocabulary = syllable_vocabulary(shape.vocab)
    write_gguf(path, shape, vocabulary, fill, weight_type=weight_type, about=about)


def syllable_vocabulary(size: int) -> Vocabulary:
    """A BPE vocabulary of exactly ``size`` tokens: special ones, all bytes, runs of letters."""
    tokens = [*SPECIAL_TOKENS, *_byte_alphabet()]
    if size < len(tokens):
        raise ValueError(f"a vocabulary holds at least {len(tokens)} tokens, not {size}")
    pairs = list(itertools.islice(_letter_pairs(), size - len(tokens)))
    tokens += [left + right for left, right in pairs]
    if len(tokens) < size:
        raise ValueError(f"a vocabulary holds at most {len(tokens)} tokens, not {size}")
    return Vocabulary(tokens, [f"{left} {right}" for left, right in pairs])


def _byte_alphabet() -> list[str]:
    """The character that stands for each byte in GPT-2's vocabulary, in the order of the bytes."""
    printable = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    stand_ins = itertools.count(0x100)
    return [chr(byte if byte in printable else next(stand_ins)) for byte in range(256)]


def _letter_pairs() -> Iterator[tuple[str, str]]:
    """Merges of a shorter run and one more letter, so that both parts are tokens already."""
    letters = string.ascii_lowercase
    for length in range(2, 6):
        for *run, letter in itertools.product([_SPACE, *letters], *[letters] * (length - 1)):
            yield "".join(run), letter


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Make a GGUF with random weights.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--type", choices=["f16", "q8_0", "q4_0"], default="q8_0")
    parser.add_argument("--seed", type=int, default=0)
    shape = parser.add_argument_group("shape (by default Qwen2.5-0.5B's, vocabulary 32000)")
    shape.add_argument("--vocab", type=int, default=BENCH_SHAPE.vocab)
    shape.add_argument("--layers", type=int, default=BENCH_SHAPE.layers)
    shape.add_argument("--idle-layers", type=int, default=0, help="so many at the end do nothing")
    shape.add_argument("--hidden", type=int, default=BENCH_SHAPE.hidden)
    shape.add_argument("--ffn", type=int, default=BENCH_SHAPE.ffn)
    shape.add_argument("--heads", type=int, default=BENCH_SHAPE.heads)
    shape.add_argument("--kv", type=int, default=BENCH_SHAPE.kv_heads, help="key-value heads")
    shape.add_argument("--pooling", choices=sorted(POOLINGS), help="for a model that embeds")
    shape.add_argument("--ctx", type=int, default=BENCH_SHAPE.context, help="tokens of context")
    return parser.parse_args(argv)


def _shape(options: argparse.Namespace) -> ModelShape:
    return ModelShape(
        "qwen2",
        vocab=options.vocab,
        layers=options.layers,
        hidden=options.hidden,
        ffn=options.ffn,
        heads=options.heads,
        kv_heads=options.kv,
        context=options.ctx,
        pooling=POOLINGS.get(options.pooling),
        rope_base=BENCH_SHAPE.rope_base,
        norm_epsilon=BENCH_SHAPE.norm_epsilon,
    )


def main(argv: list[str] | None = None) -> int:
    options = _arguments(argv)
    started = time.perf_counter()
    try:
        shape = _shape(options)
        write_random_gguf(
            options.out,
            shape,
            weight_type=options.type,
            seed=options.seed,
            idle_layers=options.idle_layers,
        )
    except (ValueError, OSError) as error:
        print(f"make_bench_gguf: {error}", file=sys.stderr)
        return 1
    parameters = parameter_count(shape) / 1e6
    size = options.out.stat().st_size / 2**20
    seconds = time.perf_counter() - started
    print(f"{options.out}: {parameters:.1f} M parameters, {size:.1f} MiB, {seconds:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
