"""A model of CoreML as arrays in, arrays out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from modelpool_client.errors import InvalidRequest, LoadFailed

from modelpool_worker.hosting.contract import Tensor, TensorSpec

# ArrayFeatureType.ArrayDataType -> the protocol's name, numpy's.
ARRAYS: Mapping[int, tuple[str, str]] = {
    65552: ("FP16", "<f2"),
    65568: ("FP32", "<f4"),
    65600: ("FP64", "<f8"),
    131080: ("INT8", "i1"),
    131104: ("INT32", "<i4"),
}
_DEFAULT_ARRAY = 65568
# ImageFeatureType.ColorSpace -> the mode of PIL, channels.
COLORS: Mapping[int, tuple[str, int]] = {10: ("L", 1), 20: ("RGB", 3), 30: ("RGB", 3)}
SCALARS: Mapping[str, tuple[str, str]] = {
    "int64Type": ("INT64", "<i8"),
    "doubleType": ("FP64", "<f8"),
    "stringType": ("BYTES", "O"),
}
_DTYPES = {**dict(ARRAYS.values()), **dict(SCALARS.values()), "UINT8": "u1"}


class CoreMlTensors:
    """See ``TensorModel``. Pictures are ``UINT8`` of height, width and channels; numbers and texts
    that are no arrays have one element; dictionaries, such as the chances of classes, come as
    JSON."""

    is_batched = False

    def __init__(
        self, description: Any, predict: Callable[[dict[str, Any]], Mapping[str, Any]]
    ) -> None:
        """
        Args:
            description: a ``ModelDescription`` of CoreML's specification.
            predict: takes and gives what CoreML's own does, by name.

        Raises:
            LoadFailed: ``unsupported_arch``: an input can be given by no array.
        """
        self._predict = predict
        self._kinds = {f.name: f.type.WhichOneof("Type") for f in description.input}
        self._types = {f.name: f.type for f in description.input}
        inputs = [(feature, _spec(feature)) for feature in description.input]
        unknown = [feature.name for feature, spec in inputs if spec is None]
        if unknown:
            text = f"its input {unknown[0]!r} is no array, picture, number or text"
            raise LoadFailed(text, code="unsupported_arch", source="engine")
        self.inputs: Sequence[TensorSpec] = [spec for _, spec in inputs if spec is not None]
        outputs = [_spec(f, is_output=True) for f in description.output]
        self.outputs: Sequence[TensorSpec] = [spec for spec in outputs if spec is not None]
        self._told = {spec.name: spec for spec in self.outputs}

    def infer(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> Sequence[Tensor]:
        """See ``TensorModel``.

        Raises:
            InvalidRequest: the model does not take arrays of these sizes.
        """
        given = {name: self._value(tensor) for name, tensor in inputs.items()}
        try:
            found = self._predict(given)
        except (ValueError, RuntimeError, TypeError) as e:
            text = f"the model cannot compute this: {e}"[:1000]
            raise InvalidRequest(text, param="inputs", source="engine") from e
        return [_tensor(self._told[name], found[name]) for name in outputs if name in found]

    def _value(self, tensor: Tensor) -> Any:
        import numpy as np

        kind = self._kinds[tensor.name]
        if tensor.datatype == "BYTES":
            (item,) = tensor.data
            assert isinstance(item, bytes)
            return item.decode(errors="replace")
        data: Any = tensor.data
        array = np.frombuffer(data, dtype=_DTYPES[tensor.datatype]).reshape(tensor.shape)
        if kind in SCALARS:
            return array.reshape(-1)[0].item()
        if kind == "imageType":
            from PIL import Image

            mode, _ = COLORS[self._types[tensor.name].imageType.colorSpace]
            return Image.fromarray(array[:, :, 0] if mode == "L" else array, mode)
        return array


def _spec(feature: Any, *, is_output: bool = False) -> TensorSpec | None:
    """None where it is no tensor."""
    kind = feature.type.WhichOneof("Type")
    if kind == "multiArrayType":
        array = feature.type.multiArrayType
        datatype, _ = ARRAYS.get(array.dataType, ARRAYS[_DEFAULT_ARRAY])
        # What a model gives may be of other sizes than its description says.
        shape = [] if is_output and not array.shape else list(array.shape)
        if array.WhichOneof("ShapeFlexibility") is not None:
            shape = [-1] * len(shape)
        return TensorSpec(feature.name, datatype, shape or [-1])
    if kind == "imageType" and feature.type.imageType.colorSpace in COLORS:
        image = feature.type.imageType
        sizes = [image.height, image.width]
        if image.WhichOneof("SizeFlexibility") is not None:
            sizes = [-1, -1]
        return TensorSpec(feature.name, "UINT8", [*sizes, COLORS[image.colorSpace][1]])
    if kind in SCALARS:
        return TensorSpec(feature.name, SCALARS[kind][0], [1])
    if kind == "dictionaryType" and is_output:
        return TensorSpec(feature.name, "BYTES", [1])
    return None


def _tensor(spec: TensorSpec, value: Any) -> Tensor:
    import numpy as np

    if spec.datatype == "BYTES":
        is_text = isinstance(value, str)
        text = value if is_text else json.dumps({str(k): v for k, v in value.items()})
        return Tensor(spec.name, "BYTES", (1,), [text.encode()])
    array = np.ascontiguousarray(np.asarray(value), dtype=_DTYPES[spec.datatype])
    if spec.datatype == "UINT8" and array.ndim == 2:
        array = array[:, :, None]
    shape = array.shape or (1,)
    return Tensor(spec.name, spec.datatype, shape, array.tobytes())
