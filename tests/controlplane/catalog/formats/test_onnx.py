"""ONNX graphs, against those that the library of ONNX makes and reads."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from modelpool.catalog.errors import BadModelFile
from modelpool.catalog.formats.onnx_graph import TYPES
from modelpool.catalog.formats.registry import formats, read
from onnx import TensorProto, external_data_helper, helper, numpy_helper
from support import model_files
from support.model_files import QWEN, folder, message, onnx_external, onnx_tensor


def library_model(**metadata: str) -> onnx.ModelProto:
    weights = [
        numpy_helper.from_array(np.zeros((64, 32), dtype=np.float16), "w"),
        helper.make_tensor("b", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0]),
        numpy_helper.from_array(np.array([2, 2], dtype=np.int64), "shape"),
        helper.make_tensor("q", TensorProto.INT4, [5], [1, 2, 3, 4, 5]),
    ]
    graph = helper.make_graph(
        [helper.make_node("Add", ["input_ids", "w"], ["y"])],
        "main",
        [
            helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", 32, None]),
            helper.make_tensor_value_info("b", TensorProto.FLOAT, [3]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, [])],
        initializer=weights,
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    made = helper.make_model(
        graph, producer_name="tests", producer_version="3", opset_imports=opsets
    )
    made.doc_string = "what it does"
    helper.set_model_props(made, metadata)
    return made


def test_as_the_library_reads_it(tmp_path: Path) -> None:
    onnx.save(library_model(author="Ada", licence="MIT"), tmp_path / "m.onnx")
    info, reference = read(tmp_path / "m.onnx"), onnx.load(tmp_path / "m.onnx")
    assert info.opsets == {o.domain or "ai.onnx": o.version for o in reference.opset_import}
    assert info.metadata == {p.key: p.value for p in reference.metadata_props}
    assert info.producer == f"{reference.producer_name} {reference.producer_version}"
    assert (info.format_version, info.description) == (reference.ir_version, "what it does")
    weights = reference.graph.initializer
    names = {w.name for w in weights}
    for ours, theirs in (
        (info.input_tensors, [i for i in reference.graph.input if i.name not in names]),
        (info.output_tensors, reference.graph.output),
    ):
        assert [t.name for t in ours] == [t.name for t in theirs]
        for mine, other in zip(ours, theirs, strict=True):
            tensor = other.type.tensor_type
            assert mine.type == TensorProto.DataType.Name(tensor.elem_type)
            dims = (getattr(d, d.WhichOneof("value") or "", None) for d in tensor.shape.dim)
            assert mine.shape == tuple(dims)
    arrays = [numpy_helper.to_array(w) for w in weights]
    assert info.parameter_count == sum(a.size for a in arrays)
    assert info.tensor_bytes == 64 * 32 * 2 + 3 * 4 + 2 * 8 + 3
    assert (info.quantization, info.inputs, info.outputs) == ("F16", ("text",), ("tensor",))
    assert (info.architecture, info.format) == ("onnx", "onnx")
    assert formats()[info.format].engine == "onnx"


def test_types_are_the_library_s() -> None:
    named = {number: name for name, number in TensorProto.DataType.items() if number}
    assert {number: name for number, (name, _) in TYPES.items()} == named


def test_weights_in_files_of_their_own(tmp_path: Path) -> None:
    made = library_model()
    external_data_helper.convert_model_to_external_data(
        made, location="m.onnx.data", size_threshold=0
    )
    onnx.save(made, tmp_path / "m.onnx")
    data = tmp_path / "m.onnx.data"
    info = read(tmp_path / "m.onnx")
    assert info.file_bytes == (tmp_path / "m.onnx").stat().st_size + data.stat().st_size
    assert info.tensor_bytes == read_whole(tmp_path / "whole").tensor_bytes
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(BadModelFile, match=r"m\.onnx\.data: is truncated"):
        read(tmp_path / "m.onnx")
    data.unlink()
    with pytest.raises(BadModelFile, match=r"m\.onnx\.data: there is no such file"):
        read(tmp_path / "m.onnx")


def read_whole(path: Path) -> Any:
    path.mkdir()
    onnx.save(library_model(), path / "m.onnx")
    return read(path / "m.onnx")


def test_weights_packed_into_bytes(tmp_path: Path) -> None:
    node = helper.make_node(
        "MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft", bits=4, K=64, N=8
    )
    packed = onnx_tensor("w", 2, (8, 2, 16), 256)
    data = model_files.onnx(
        packed, onnx_tensor("s", 1, (16,), 64), nodes=[node.SerializeToString()]
    )
    info = read(folder(tmp_path, {"m.onnx": data}) / "m.onnx")
    assert (info.quantization, info.parameter_count) == ("4-bit", 8 * 64 + 16)


def test_configuration_beside_it(tmp_path: Path) -> None:
    folder(tmp_path, {"config.json": QWEN, "onnx/model_q4.onnx": model_files.onnx()})
    info = read(tmp_path / "onnx" / "model_q4.onnx")
    assert (info.architecture, info.block_count) == ("Qwen2ForCausalLM", 2)
    parts = {"encoder_model.onnx": model_files.onnx(), "decoder_model.onnx": model_files.onnx()}
    info = read(folder(tmp_path / "b", parts) / "decoder_model.onnx")
    assert (info.parts, info.parameter_count) == (2, 12)


def test_folders_of_onnxruntime_genai(tmp_path: Path) -> None:
    decoder = {"filename": "model.onnx", "num_hidden_layers": 24, "hidden_size": 896,
               "num_attention_heads": 14, "num_key_value_heads": 2, "head_size": 64}  # fmt: skip
    model = {"type": "qwen2", "context_length": 32768, "vocab_size": 151936, "decoder": decoder}
    config = {"model": model | {"eos_token_id": [7, 8], "vision": {"filename": "vision.onnx"}}}
    files = {"model.onnx": model_files.onnx(), "vision.onnx": model_files.onnx()}
    path = folder(tmp_path / "g", {"genai_config.json": config, **files})
    info = read(path)
    assert (info.architecture, info.context_length, info.block_count) == ("qwen2", 32768, 24)
    assert (info.parts, info.special_tokens) == (2, {"eos": 7})
    assert (info.head_count_kv, info.key_length, info.inputs) == (2, 64, ("text", "image"))
    for name in ("../model.onnx", "/etc/passwd", ""):
        wrong = {"model": model | {"decoder": {"filename": name}}}
        with pytest.raises(BadModelFile, match="names no graphs of its own folder"):
            read(folder(path, {"genai_config.json": wrong}))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is empty"),
        (b"<xml>", "is corrupt, or of another format"),
        (message((1, 9)), "it holds no graph"),
        (message((7, b"")), "it holds no graph"),
        (message((1, 9), (7, b"")), "does not say its operators' version"),
        (message((1, "text"), (7, b"")), "a number is none"),
        (message((7, 3)), "a number stands where a message should"),
        (model_files.onnx()[:40], "is truncated"),
        (b"\x08" + b"\xff" * 20, "a number does not end"),
        (b"\x00\x01", "a field has the number 0"),
        (b"\x0b\x01", "a field is encoded as 3"),
        (model_files.onnx(onnx_tensor("w", 1, (2, 3), 23)), "has 23 bytes in place of 24"),
        (model_files.onnx(onnx_tensor("w", 1, (-1,), 4)), "no possible shape"),
        (model_files.onnx(onnx_external("w", (1,), "../x")), "lies outside its folder"),
        (model_files.onnx(onnx_external("w", (1,), "/x")), "lies outside its folder"),
        (model_files.onnx(onnx_external("w", (1,), "")), "lies outside its folder"),
        (model_files.onnx(onnx_external("w", (1,), "x", offset=-3)), "a tensor's place is '-3'"),
        (model_files.onnx(onnx_external("w", (1,), "x", length=2**62)), "no such file"),
        (message((1, 9), (7, message((5, message((1, 2**40), (2, 1)))))), "larger than the file"),
    ],
)
def test_bad_graphs(tmp_path: Path, data: bytes, problem: str) -> None:
    with pytest.raises(BadModelFile, match=problem):
        read(folder(tmp_path, {"m.onnx": data}) / "m.onnx")


def test_an_end_to_what_is_looked_at(tmp_path: Path) -> None:
    data = message((1, 9), (7, message((1, b"")) * 1_000_001), (8, message((2, 1))))
    with pytest.raises(BadModelFile, match="over 1000000 fields"):
        read(folder(tmp_path, {"m.onnx": data}) / "m.onnx")


def test_sizes_of_every_type(tmp_path: Path) -> None:
    sizes = Counter[str]()
    for number, (name, bits) in TYPES.items():
        sizes[name] = -(-7 * bits // 8)
        data = model_files.onnx(onnx_tensor("w", number, (7,), sizes[name]))
        assert read(folder(tmp_path, {"m.onnx": data}) / "m.onnx").tensor_bytes == sizes[name]
