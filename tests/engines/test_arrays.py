"""Graphs that come with public packages, and some that are made here, served as arrays and texts:
the results are those of onnxruntime itself."""

from __future__ import annotations

import asyncio
import base64
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
import tritonclient.http as triton
from e2e.support import PoolProcess
from modelpool_worker.batching.options import OPTIONS as BATCHING
from onnx import TensorProto, helper, numpy_helper
from support import converted

# Before the library is imported: it would tell its maker of its use.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime

pytestmark = pytest.mark.slow
Array = np.ndarray[Any, Any]
RANDOM = np.random.default_rng(7)
MAX_BATCH_SIZE = int(BATCHING["max_batch_size"]["default"])


def packaged(package: str, place: str) -> str:
    """A file that an installed package brings, which is not imported."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations
    return str(Path(spec.submodule_search_locations[0], place))


def floats(*shape: int) -> Array:
    return RANDOM.random(shape, dtype=np.float32)


# Their inputs, each twice: by themselves, and with others in a batch.
GRAPHS: dict[str, tuple[str, Callable[[], dict[str, Array]]]] = {
    "magika": (
        packaged("magika", "models/standard_v3_3/model.onnx"),
        lambda: {"bytes": RANDOM.integers(0, 256, (1, 2048)).astype(np.int32)},
    ),
    "ocr-classes": (
        packaged("rapidocr_onnxruntime", "models/ch_ppocr_mobile_v2.0_cls_infer.onnx"),
        lambda: {"x": floats(1, 3, 48, 192)},
    ),
    "ocr-finds": (
        packaged("rapidocr_onnxruntime", "models/ch_PP-OCRv4_det_infer.onnx"),
        lambda: {"x": floats(1, 3, 96, 128)},
    ),
    "ocr-reads": (
        packaged("rapidocr_onnxruntime", "models/ch_PP-OCRv4_rec_infer.onnx"),
        lambda: {"x": floats(2, 3, 48, 96)},
    ),
    "voice": (
        packaged("silero_vad", "data/silero_vad.onnx"),
        lambda: {
            "input": floats(1, 512),
            "state": np.zeros((2, 1, 128), np.float32),
            "sr": np.array(16000, np.int64),
        },
    ),
}


def embedder(folder: Path) -> Path:
    """A folder with a tokenizer and a graph that makes vectors of tokens, with much to multiply."""
    folder.mkdir()
    shutil.copy(converted.DEMO_FOLDER / "tokenizer.json", folder)
    width, layers = 1024, 16
    weights = {"table": floats(1536, width) - 0.5}
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["words"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["wide"]),
        helper.make_node("Mul", ["words", "wide"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "middle"], ["x0"], keepdims=0),
    ]
    weights |= {"last": np.array([2], np.int64), "middle": np.array([1], np.int64)}
    for i in range(layers):
        weights[f"w{i}"] = (floats(width, width) - 0.5) / 8
        nodes.append(helper.make_node("MatMul", [f"x{i}", f"w{i}"], [f"y{i}"]))
        nodes.append(helper.make_node("Tanh", [f"y{i}"], [f"x{i + 1}"]))
    nodes.append(helper.make_node("Identity", [f"x{layers}"], ["sentence_embedding"]))
    inputs = [
        helper.make_tensor_value_info(n, TensorProto.INT64, ["batch", "sequence"])
        for n in ("input_ids", "attention_mask")
    ]
    shape: list[Any] = ["batch", width]
    output = helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, shape)
    kept = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "embedder", inputs, [output], kept)
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), folder / "model.onnx")
    return folder / "model.onnx"


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PoolProcess]:
    folder = tmp_path_factory.mktemp("arrays")
    models: list[dict[str, Any]] = [
        {"model_id": name, "engine": "onnx", "source": path} for name, (path, _) in GRAPHS.items()
    ]
    source = embedder(folder / "embedder")
    entry = {"engine": "onnx", "source": str(source), "capabilities": ["embeddings"]}
    models += [
        {"model_id": "embedder", **entry, "options": {"threads": 1}},
        {"model_id": "one-by-one", **entry, "options": {"threads": 1, "max_batch_size": 1}},
    ]
    with PoolProcess(folder, models, ports=9) as pool:
        yield pool


def own(path: str, arrays: dict[str, Array]) -> dict[str, Array]:
    """As onnxruntime itself has it."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_outputs()]
    return dict(zip(names, session.run(names, arrays), strict=True))


def asked(arrays: dict[str, Array]) -> list[triton.InferInput]:
    types = {"float32": "FP32", "int32": "INT32", "int64": "INT64"}
    made = []
    for name, array in arrays.items():
        made.append(triton.InferInput(name, list(array.shape), types[array.dtype.name]))
        made[-1].set_data_from_numpy(array)
    return made


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_of_public_packages(pool: PoolProcess, name: str) -> None:
    path, make = GRAPHS[name]
    several = [make() for _ in range(6)]
    expected = [own(path, arrays) for arrays in several]
    with triton.InferenceServerClient(f"127.0.0.1:{pool.port}", concurrency=6) as client:
        alone = [client.infer(name, asked(arrays)) for arrays in several]
        begun = [client.async_infer(name, asked(arrays)) for arrays in several]
        together = [one.get_result() for one in begun]
        for answers in (alone, together):
            for answer, arrays in zip(answers, expected, strict=True):
                for output, array in arrays.items():
                    found = answer.as_numpy(output)
                    assert found.shape == array.shape
                    np.testing.assert_allclose(found, array, rtol=1e-3, atol=1e-5)
    inputs = [
        {
            "name": tensor,
            "shape": list(array.shape),
            "datatype": asked({tensor: array})[0].datatype(),
            "data": array.reshape(-1).tolist(),
        }
        for tensor, array in several[0].items()
    ]
    plain = pool.http.post(f"/v2/models/{name}/infer", json={"inputs": inputs})
    assert plain.status_code == 200, plain.text
    for tensor in plain.json()["outputs"]:
        found = np.array(tensor["data"], dtype=np.float32).reshape(tensor["shape"])
        np.testing.assert_allclose(found, expected[0][tensor["name"]], rtol=1e-3, atol=1e-5)


def test_wrong_arrays_are_refused_by_name(pool: PoolProcess) -> None:
    def infer(**more: Any) -> httpx.Response:
        tensor = {"name": "bytes", "shape": [1, 2048], "datatype": "INT32", "data": [0] * 2048}
        body = {"inputs": [{**tensor, **more}]}
        return pool.http.post("/v2/models/magika/infer", json=body)

    assert infer().status_code == 200
    for wrong in (
        {"name": "byte"},
        {"datatype": "FP32"},
        {"shape": [1, 2047], "data": [0] * 2047},
        {"shape": [2048]},
        {"data": [0] * 5},
    ):
        answer = infer(**wrong)
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]


def test_embeddings_are_the_graphs_own_and_padding_changes_nothing(pool: PoolProcess) -> None:
    texts = ["Ping", "What is the capital of France? " * 4, "Hello there"]
    answer = pool.http.post("/v1/embeddings", json={"model": "embedder", "input": texts})
    assert answer.status_code == 200, answer.text
    vectors = [np.array(item["embedding"]) for item in answer.json()["data"]]
    for text, vector in zip(texts, vectors, strict=True):
        alone = pool.http.post("/v1/embeddings", json={"model": "embedder", "input": text})
        np.testing.assert_allclose(alone.json()["data"][0]["embedding"], vector, atol=1e-4)
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-4)
    assert not np.allclose(vectors[0], vectors[2], atol=1e-3)
    long = pool.http.post("/v1/embeddings", json={"model": "embedder", "input": "ping " * 2000})
    assert long.json()["error"]["code"] == "context_length_exceeded"


def test_batches_take_fewer_steps_than_one_after_another(pool: PoolProcess) -> None:
    """A hundred texts: alone, each in its turn; all in one request; and in a hundred at once."""
    texts = [f"{i} plus {i}" for i in range(100)]

    def endpoint(model: str) -> str:
        pool.http.post(f"/models/{model}/load", params={"wait": 60}, timeout=70)
        found: str = pool.http.get(f"/models/{model}").json()["endpoint"]
        return found.removesuffix("/v1")

    def steps(address: str) -> int:
        page = httpx.get(f"{address}/metrics", trust_env=False, timeout=60).text.splitlines()
        mark = "modelpool_engine_steps_total{model="
        (line,) = [n for n in page if n.startswith(mark) and 'work="embeddings"' in n]
        return int(line.split()[-1])

    async def ask(model: str, at_once: int, given: list[Any]) -> list[list[float]]:
        """On as many connections; the vectors of all of ``given``."""
        limits = httpx.Limits(max_connections=at_once)
        async with httpx.AsyncClient(
            base_url=endpoint(model), limits=limits, timeout=60, trust_env=False
        ) as client:

            async def one(said: Any) -> list[list[float]]:
                body = {"model": model, "input": said, "encoding_format": "base64"}
                answer = await client.post("/v1/embeddings", json=body)
                assert answer.status_code == 200, answer.text
                data = [base64.b64decode(item["embedding"]) for item in answer.json()["data"]]
                return [np.frombuffer(each, "<f4").tolist() for each in data]

            answers = await asyncio.gather(*map(one, given))
            return [vector for answer in answers for vector in answer]

    def asked(model: str, at_once: int, given: list[Any]) -> tuple[list[list[float]], int]:
        """The vectors, and the steps that they took."""
        before = steps(endpoint(model))
        vectors = asyncio.run(ask(model, at_once, given))
        return vectors, steps(endpoint(model)) - before

    alone, most = asked("one-by-one", 1, texts)
    in_one, fewest = asked("embedder", 1, [texts])
    at_once, few = asked("embedder", 100, texts)
    np.testing.assert_allclose(in_one, alone, atol=1e-4)
    np.testing.assert_allclose(at_once, alone, atol=1e-4)
    assert (most, fewest) == (100, math.ceil(100 / MAX_BATCH_SIZE))
    # How many come together is up to the machine; that all come alone is not.
    assert few < most


# -- CoreML ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package that coremltools makes on any system."""
    path = tmp_path_factory.mktemp("coreml") / "doubles.mlpackage"
    code = (
        "import sys, numpy as np, coremltools as ct\n"
        "from coremltools.converters.mil import Builder as mb\n"
        "@mb.program(input_specs=[mb.TensorSpec(shape=(2, 3))])\n"
        "def doubles(x):\n"
        "    return mb.mul(x=x, y=np.float32(2.0), name='twice')\n"
        "ct.convert(doubles, convert_to='mlprogram').save(sys.argv[1])\n"
    )
    (path.parent / "convert.py").write_text(code)
    subprocess.run([sys.executable, "convert.py", path.name], cwd=path.parent, check=True)
    return path


@pytest.mark.filterwarnings("ignore")
def test_a_package_of_coreml_is_read_anywhere(package: Path) -> None:
    from coremltools.proto import Model_pb2
    from modelpool_worker.engines.coreml.engine import CoreMl, specification_of
    from modelpool_worker.engines.coreml.tensors import CoreMlTensors
    from modelpool_worker.hosting.contract import Tensor

    CoreMl().inspect(str(package))
    model = Model_pb2.Model()
    model.ParseFromString(Path(specification_of(str(package))).read_bytes())
    tensors = CoreMlTensors(model.description, lambda given: {"twice": given["x"] * 2})
    (spec,) = tensors.inputs
    assert (spec.name, list(spec.shape)) == ("x", [2, 3])
    dtype = {"FP32": np.float32, "FP16": np.float16}[spec.datatype]
    data = np.arange(6, dtype=dtype)
    (answer,) = tensors.infer({"x": Tensor("x", spec.datatype, (2, 3), data.tobytes())}, ["twice"])
    told = {"FP32": np.float32, "FP16": np.float16}[answer.datatype]
    assert isinstance(answer.data, bytes)
    assert np.frombuffer(answer.data, told).tolist() == [0, 2, 4, 6, 8, 10]


@pytest.mark.skipif("sys.platform == 'darwin'", reason="it would compute")
def test_elsewhere_than_on_macos_the_load_says_what_is_needed(
    pool: PoolProcess, package: Path
) -> None:
    entry = {"model_id": "doubles", "engine": "coreml", "source": str(package)}
    assert pool.http.post("/models/register", json=entry).status_code == 201
    info = pool.http.get("/models/doubles").json()
    assert "tensor_inference" in info["capabilities"]
    answer = pool.http.post("/models/doubles/load", params={"wait": 30}, timeout=40)
    error = answer.json()["error"]
    assert error["code"] == "missing_dependency", answer.text
    assert "CoreML computes on macOS only" in error["message"]
