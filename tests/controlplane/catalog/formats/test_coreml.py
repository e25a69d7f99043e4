"""CoreML models: written by hand, and by Apple's own library."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from modelpool.catalog.errors import BadModelFile
from modelpool.catalog.formats.registry import formats, read
from modelpool.catalog.model_info import TensorSpec
from support.model_files import blobs, coreml, folder, message, mlpackage


def test_a_package(tmp_path: Path) -> None:
    path = mlpackage(tmp_path / "m.mlpackage")
    info = read(path)
    assert (info.architecture, info.format, info.format_version) == ("mlProgram", "coreml", 7)
    assert info.input_tensors == (
        TensorSpec("x", "FLOAT32", (1, 32)),
        TensorSpec("picture", "IMAGE", (112, 224)),
    )
    assert info.output_tensors == (TensorSpec("y", "FLOAT16", (1, 64)),)
    assert (info.author, info.license, info.description) == ("Ada", "MIT", "Doubles")
    assert info.metadata == {"com.github.apple.coremltools.version": "9.0"}
    assert (info.producer, info.inputs) == ("coremltools 9.0", ("tensor", "image"))
    assert (info.quantization, info.parameter_count, info.tensor_bytes) == ("F16", 2050, 4104)
    assert info.file_bytes == sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
    assert formats()[info.format].engine == "coreml"


def test_a_specification_alone(tmp_path: Path) -> None:
    path = folder(tmp_path, {"m.mlmodel": coreml(500)}) / "m.mlmodel"
    info = read(path)
    assert (info.architecture, info.file_bytes) == ("neuralNetwork", len(coreml(500)))


def test_functions(tmp_path: Path) -> None:
    def function(name: str) -> bytes:
        said = message((1, f"x_{name}"), (3, message((3, b""))))
        return message((1, name), (2, said), (3, said))

    description = message((20, function("a")), (20, function("b")), (21, "b"))
    data = message((1, 9), (2, description), (502, b""))
    info = read(folder(tmp_path, {"m.mlmodel": data}) / "m.mlmodel")
    assert info.input_tensors == (TensorSpec("x_b", "STRING"),)


def test_a_compiled_model(tmp_path: Path) -> None:
    said = {
        "modelType": {"name": "MLModelType_mlProgram"},
        "specificationVersion": 8,
        "author": "Ada",
        "license": "MIT",
        "shortDescription": "Doubles",
        "inputSchema": [
            {"name": "x", "type": "MultiArray", "dataType": "Float16", "shape": "[1, 32]"},
            {"name": "p", "type": "Image", "width": "224", "height": "112"},
        ],
        "outputSchema": [{"name": "y", "type": "MultiArray", "dataType": "Float32", "shape": "[]"}],
        "userDefinedMetadata": {"com.github.apple.coremltools.version": "8.1", "n": 1},
    }
    path = folder(
        tmp_path / "m.mlmodelc", {"metadata.json": [said], "weights/weight.bin": blobs((4, 10))}
    )
    info = read(path)
    assert (info.architecture, info.author, info.producer) == (
        "mlProgram",
        "Ada",
        "coremltools 8.1",
    )
    assert info.input_tensors == (
        TensorSpec("x", "FLOAT16", (1, 32)),
        TensorSpec("p", "IMAGE", (112, 224)),
    )
    assert (info.quantization, info.parameter_count, info.metadata.get("n")) == ("I8", 10, None)
    for wrong in ([], {}, [{"modelType": {}}], [{"modelType": 3}]):
        with pytest.raises(BadModelFile, match="is corrupt"):
            read(folder(path, {"metadata.json": json.dumps(wrong)}))


def manifest(path: str) -> dict[str, Any]:
    items = {"A": {"path": path}}
    return {"Manifest.json": {"rootModelIdentifier": "A", "itemInfoEntries": items}}


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"Manifest.json": {}}, "does not say which file is the model|misses"),
        ({"Manifest.json": "{"}, "no JSON"),
        (manifest("../x"), "does not say which file"),
        (manifest("/x"), "does not say which file"),
        (manifest("x"), "there is no such file"),
        ({"Data/com.apple.CoreML/model.mlmodel": b""}, "is empty"),
        ({"Data/com.apple.CoreML/model.mlmodel": coreml()[:30]}, "is truncated"),
        ({"Data/com.apple.CoreML/model.mlmodel": message((1, 7), (2, b""))}, "holds no model"),
        ({"Data/com.apple.CoreML/weights/weight.bin": blobs((1, 64))[:-1]}, "not all of its 1"),
        ({"Data/com.apple.CoreML/weights/weight.bin": b"\xff" * 64}, "no file of CoreML weights"),
        ({"Data/com.apple.CoreML/weights/weight.bin": b""}, "no file of CoreML weights"),
    ],
)  # fmt: skip
def test_bad_packages(tmp_path: Path, files: dict[str, Any], problem: str) -> None:
    path = mlpackage(tmp_path / "m.mlpackage")
    with pytest.raises(BadModelFile, match=problem):
        read(folder(path, files))


def test_a_package_without_its_manifest(tmp_path: Path) -> None:
    path = mlpackage(tmp_path / "m.mlpackage")
    (path / "Manifest.json").unlink()
    with pytest.raises(BadModelFile, match=r"misses Manifest\.json"):
        read(path)


# Run by a process of its own: the library is too large for one in which other tests run.
CONVERT = """
import json, sys
import coremltools as ct, numpy as np
from coremltools.converters.mil import Builder as mb

@mb.program(input_specs=[mb.TensorSpec(shape=(1, 32))], opset_version=ct.target.iOS16)
def program(x):
    return mb.linear(x=x, weight=np.random.rand(64, 32).astype(np.float32), name="y")

model = ct.convert(program, convert_to="mlprogram", minimum_deployment_target=ct.target.iOS16)
model.author, model.license, model.short_description = "Ada", "MIT", "Doubles"
model.user_defined_metadata["key"] = "value"
model.save(sys.argv[1])
spec = ct.utils.load_spec(sys.argv[1])
about = spec.description.metadata
print(json.dumps({
    "version": spec.specificationVersion,
    "kind": spec.WhichOneof("Type"),
    "inputs": [[f.name, list(f.type.multiArrayType.shape)] for f in spec.description.input],
    "outputs": [[f.name, list(f.type.multiArrayType.shape)] for f in spec.description.output],
    "about": [about.author, about.license, about.shortDescription],
    "metadata": dict(about.userDefined),
    "library": ct.__version__,
}))
"""


@pytest.mark.slow
def test_as_the_library_reads_it(tmp_path: Path) -> None:
    is_imported = "coremltools" in sys.modules
    path = tmp_path / "m.mlpackage"
    ran = subprocess.run([sys.executable, "-c", CONVERT, path], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    said, info = json.loads(ran.stdout.splitlines()[-1]), read(path)
    assert (info.format_version, info.architecture) == (said["version"], said["kind"])
    assert [[t.name, list(t.shape)] for t in info.input_tensors] == said["inputs"]
    assert [[t.name, list(t.shape)] for t in info.output_tensors] == said["outputs"]
    assert [info.author, info.license, info.description] == said["about"]
    assert info.metadata == said["metadata"]
    assert info.producer == f"coremltools {said['library']}"
    assert (info.quantization, info.parameter_count) == ("F16", 64 * 32 + 64)
    assert ("coremltools" in sys.modules) == is_imported
