"""Any graph of onnxruntime as arrays in, arrays out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from modelpool_client.errors import EngineFailed, InvalidRequest, LoadFailed

from modelpool_worker.hosting.contract import Tensor, TensorSpec

# onnxruntime's names of types, the protocol's, and numpy's.
TYPES: Mapping[str, tuple[str, str]] = {
    "tensor(bool)": ("BOOL", "?"),
    "tensor(uint8)": ("UINT8", "u1"),
    "tensor(uint16)": ("UINT16", "<u2"),
    "tensor(uint32)": ("UINT32", "<u4"),
    "tensor(uint64)": ("UINT64", "<u8"),
    "tensor(int8)": ("INT8", "i1"),
    "tensor(int16)": ("INT16", "<i2"),
    "tensor(int32)": ("INT32", "<i4"),
    "tensor(int64)": ("INT64", "<i8"),
    "tensor(float16)": ("FP16", "<f2"),
    "tensor(float)": ("FP32", "<f4"),
    "tensor(double)": ("FP64", "<f8"),
    "tensor(string)": ("BYTES", "O"),
}
_DTYPES = dict(TYPES.values())
# Sizes that nobody named: exporters count them.
_NUMBERED = re.compile(r"\?|unk__\d+|p2o\.DynamicDimension\.\d+|dynamic_axes_\d+|.*_dim_\d+")
# Sizes that count parts of one sample.
_INNER = re.compile(r"seq|time|frame|length|token|height|width|step", re.IGNORECASE)

Size = int | str | None


class OnnxTensors:
    """See ``TensorModel``."""

    def __init__(self, session: Any, path: str, is_batched: bool | None = None) -> None:
        """``is_batched``: None where the graph is to tell.

        Raises:
            LoadFailed: ``unsupported_arch``: an input is no array, or of a type that the protocol
                has not.
        """
        import numpy as np

        self._np = np
        self._session = session
        inputs, outputs = session.get_inputs(), session.get_outputs()
        for node in inputs:
            if node.type not in TYPES:
                text = f"{path}: its input {node.name!r} is of type {node.type}, which cannot be "
                text += "given over HTTP"
                raise LoadFailed(text, code="unsupported_arch", source="engine")
        outputs = [node for node in outputs if node.type in TYPES]
        self.inputs: Sequence[TensorSpec] = [_spec(node) for node in inputs]
        self.outputs: Sequence[TensorSpec] = [_spec(node) for node in outputs]
        shapes = [node.shape for node in inputs], [node.shape for node in outputs]
        self._is_told = is_batched is not None
        self.is_batched = counts_samples(*shapes) if is_batched is None else is_batched

    def infer(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> Sequence[Tensor]:
        """See ``TensorModel``.

        Raises:
            InvalidRequest: the graph does not take arrays of these sizes.
        """
        given = {name: self._array(tensor) for name, tensor in inputs.items()}
        try:
            found = self._session.run(list(outputs), given)
        except Exception as e:  # its exceptions have RuntimeError in common, or nothing
            raise _failure(e) from e
        if self.is_batched and not self._is_told:
            rows = next(iter(given.values())).shape[0]
            self.is_batched = all(a.ndim and a.shape[0] == rows for a in found)
        return [self._tensor(n, a) for n, a in zip(outputs, found, strict=True)]

    def _array(self, tensor: Tensor) -> Any:
        np = self._np
        if tensor.datatype == "BYTES":
            items = [_text(tensor.name, item) for item in tensor.data]
            flat = np.array(items, dtype=object)
        else:
            flat = np.frombuffer(tensor.data, dtype=_DTYPES[tensor.datatype])
        return flat.reshape(tensor.shape)

    def _tensor(self, name: str, array: Any) -> Tensor:
        if array.dtype.kind in "OUS":
            items = [str(item).encode() for item in array.reshape(-1)]
            return Tensor(name, "BYTES", array.shape, items)
        datatype = next(t for t, code in _DTYPES.items() if self._np.dtype(code) == array.dtype)
        return Tensor(name, datatype, array.shape, array.tobytes())


def counts_samples(inputs: Sequence[Sequence[Size]], outputs: Sequence[Sequence[Size]]) -> bool:
    """Whether the first size of everything seems to count samples: it is free, and where it has
    names, one that fits. A graph that was exported with numbers in place of names is believed."""
    shapes = [*inputs, *outputs]
    if not outputs or any(not shape or isinstance(shape[0], int) for shape in shapes):
        return False
    names = {str(shape[0]) for shape in shapes if shape[0] is not None}
    named = {name for name in names if name and not _NUMBERED.fullmatch(name)}
    return len(named) <= 1 and not any(_INNER.search(name) for name in named)


def _spec(node: Any) -> TensorSpec:
    shape = [size if isinstance(size, int) and size >= 0 else -1 for size in node.shape]
    return TensorSpec(node.name, TYPES[node.type][0], shape)


def _text(name: str, item: object) -> str:
    assert isinstance(item, bytes)
    try:
        return item.decode()
    except UnicodeDecodeError:
        text = f"inputs: {name} has text that is not UTF-8"
        raise InvalidRequest(text, param="inputs", source="engine") from None


def _failure(error: Exception) -> Exception:
    """Sizes that do not fit each other are only seen while they are computed."""
    text = f"the model cannot compute this: {error}"[:1000]
    if type(error).__name__ in ("InvalidArgument", "RuntimeException", "Fail"):
        return InvalidRequest(text, param="inputs", source="engine")
    return EngineFailed(text, source="engine")
