"""Quantisations by their names in names of files, and which of them is taken first. PURE data."""

from __future__ import annotations

import re

# In order of preference, after the advice of llama.cpp's `quantize` tool: Q4_K_M is "recommended",
# with the least loss for its size; then its neighbours of four bits; then more bits, which lose
# nothing that is noticed and only take room; then three bits and two, of which the tool says "high
# quality loss"; last whole floats, of which Q8_0 is a copy for half the bytes.
PREFERENCE = (
    "Q4_K_M", "Q4_K_XL", "Q4_K_L", "Q4_K_S", "Q4_0", "MXFP4", "NVFP4", "IQ4_NL", "IQ4_XS", "Q4_1",
    "Q5_K_M", "Q5_K_XL", "Q5_K_L", "Q5_K_S", "Q5_0", "Q5_1",
    "Q6_K", "Q6_K_XL", "Q6_K_L", "Q8_0", "Q8_K_XL",
    "Q3_K_L", "Q3_K_XL", "Q3_K_M", "IQ3_M", "Q3_K_S", "IQ3_S", "IQ3_XS", "IQ3_XXS",
    "Q2_K_XL", "Q2_K_L", "Q2_K", "IQ2_M", "Q2_K_S", "IQ2_S", "IQ2_XS", "IQ2_XXS",
    "TQ2_0", "IQ1_M", "TQ1_0", "IQ1_S", "Q1_0",
    "BF16", "F16", "F32",
)  # fmt: skip
# Longest first, so that Q4_K_M is not read as a Q4 of something.
_WORDS = "|".join(sorted(PREFERENCE, key=len, reverse=True))
_NAMED = re.compile(rf"(?<![A-Za-z0-9])({_WORDS}|FP16|FP32)(?![A-Za-z0-9])", re.IGNORECASE)
_SPELLINGS = {"FP16": "F16", "FP32": "F32"}


def quantization_of(name: str) -> str | None:
    """``Q4_K_M`` of ``model-q4_k_m.gguf``; the last one that a name holds; None for none."""
    found = _NAMED.findall(name)
    word = str(found[-1]).upper() if found else ""
    return _SPELLINGS.get(word, word) or None


def rank(quantization: str | None) -> int:
    """Its place in ``PREFERENCE``; what is not known comes last."""
    known = quantization in PREFERENCE
    return PREFERENCE.index(quantization) if known and quantization else len(PREFERENCE)
