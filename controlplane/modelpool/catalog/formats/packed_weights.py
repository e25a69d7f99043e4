"""How many weights quantised tensors hold, and how that is called, in safetensors files. PURE.

Several of them are packed into each number of a tensor, and more tensors hold scales and the like.
MLX: ``mlx.nn.quantize``; GPTQ, AWQ, bitsandbytes, compressed-tensors, FP8 and MXFP4: as
transformers loads them, https://huggingface.co/docs/transformers/quantization/overview
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from .json_values import JsonValues
from .safetensors_header import BITS, Tensor

# Ends of names of tensors that belong to a packed one and are no weights.
AUXILIARY = (
    ".scales",
    ".biases",
    ".qzeros",
    ".g_idx",
    ".absmax",
    ".quant_map",
    ".nested_absmax",
    ".nested_quant_map",
    ".SCB",
    ".weight_format",
    ".weight_scale",
    ".weight_scale_inv",
    ".weight_shape",
    ".weight_zero_point",
    ".input_scale",
    "_scales",
)
# Ends of names of tensors in whose numbers weights are packed; the numbers' own bits say how many.
PACKED = (".qweight", ".weight_packed", "_blocks")
BITSANDBYTES_STATE = ".quant_state."
DEFAULT_BITS = 4
MLX = "quantization"
OTHERS = "quantization_config"


def parameter_count(tensors: Sequence[Tensor], config: JsonValues) -> int:
    """Weights, those that are packed counted one by one.

    Raises:
        Wrong: the configuration of the quantisation holds something else than it must.
    """
    settings = config.part(MLX, OTHERS)
    if not settings:
        return sum(t.elements for t in tensors)
    names = {t.name for t in tensors}
    return sum(_weights(t, names, settings) for t in tensors if not _is_auxiliary(t, names))


def _weights(tensor: Tensor, names: Collection[str], settings: JsonValues) -> int:
    base = tensor.name.removesuffix(".weight")
    is_packed = tensor.name.endswith(PACKED)
    is_mlx = tensor.dtype == "U32" and f"{base}.scales" in names
    is_bitsandbytes = tensor.dtype == "U8" and f"{tensor.name}.absmax" in names
    if not (is_packed or is_mlx or is_bitsandbytes):
        return tensor.elements
    return tensor.elements * BITS[tensor.dtype] // _bits(base, settings)


def _bits(base: str, settings: JsonValues) -> int:
    """Of one layer: MLX may state it for each."""
    own = settings.raw(base)[1]
    if isinstance(own, dict):
        settings = JsonValues(own, settings.name)
    return min(max(settings.count("bits", "w_bit") or DEFAULT_BITS, 1), 32)


def _is_auxiliary(tensor: Tensor, names: Collection[str]) -> bool:
    if BITSANDBYTES_STATE in tensor.name:
        return True
    end = next((end for end in AUXILIARY if tensor.name.endswith(end)), None)
    if end is None:
        return False
    base = tensor.name.removesuffix(end)
    others = (f"{base}.weight", base, f"{base}.qweight", f"{base}.weight_packed", f"{base}_blocks")
    return any(other in names for other in others)


def quantization(tensors: Sequence[Tensor], config: JsonValues) -> str | None:
    """What the configuration calls it, else the type that most bytes have.

    Raises:
        Wrong: the configuration of the quantisation holds something else than it must.
    """
    mlx, other = config.part(MLX), config.part(OTHERS)
    if mlx:
        mode = mlx.text("mode") or "affine"
        return f"{mlx.count('bits') or DEFAULT_BITS}-bit" if mode == "affine" else mode.upper()
    method = other.text("quant_method")
    if method == "bitsandbytes":
        return _bitsandbytes(other)
    if method is not None:
        bits = other.count("bits", "w_bit")
        return f"{method.upper()} {bits}-bit" if bits else method.upper()
    sizes: Counter[str] = Counter()
    for tensor in tensors:
        sizes[tensor.dtype] += tensor.size
    return sizes.most_common(1)[0][0] if sizes else None


def _bitsandbytes(settings: JsonValues) -> str:
    if settings.flag("load_in_4bit"):
        return (settings.text("bnb_4bit_quant_type") or "fp4").upper()
    return "LLM.int8()"
