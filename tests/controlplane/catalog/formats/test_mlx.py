"""MLX folders as Apple's library writes them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from modelpool.catalog.formats.registry import read
from support.model_files import QWEN, folder

# Run by a process of its own.
QUANTIZE = """
import json, sys
import mlx.core as mx, mlx.nn as nn
from mlx.utils import tree_flatten

model = nn.Sequential(nn.Linear(128, 64, bias=False), nn.RMSNorm(64), nn.Linear(64, 128))
count = sum(value.size for _, value in tree_flatten(model.parameters()))
nn.quantize(model, group_size=64, bits=4)
weights = dict(tree_flatten(model.parameters()))
mx.save_safetensors(sys.argv[1], weights, metadata={"format": "mlx"})
again, metadata = mx.load(sys.argv[1], return_metadata=True)
print(json.dumps([count, sum(value.nbytes for value in again.values()), metadata]))
"""


@pytest.mark.slow
def test_as_the_library_reads_it(tmp_path: Path) -> None:
    config = QWEN | {"quantization": {"group_size": 64, "bits": 4}}
    path = folder(tmp_path / "m", {"config.json": config})
    command = [sys.executable, "-c", QUANTIZE, path / "model.safetensors"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    count, size, metadata = json.loads(ran.stdout)
    info = read(path)
    assert (info.parameter_count, info.tensor_bytes, info.metadata) == (count, size, metadata)
    assert (info.format, info.quantization) == ("mlx", "4-bit")
