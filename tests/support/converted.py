"""The demo model in the formats of other engines, made by their own tools; each once a process."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
DEMO_FOLDER = ROOT / "configs" / "models" / "pool-demo"
QUESTIONS = ROOT / "configs" / "models" / "pool-demo.questions.json"
SECONDS = 600


def run(folder: Path, *command: str) -> None:
    """A tool that asks nobody for anything."""
    offline = {"HF_HUB_OFFLINE": "1", "ORT_DISABLE_TELEMETRY": "1", "TMPDIR": str(folder)}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        env={**os.environ, **offline},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


@cache
def folder() -> Path:
    """Where they lie, until the process ends."""
    made = tempfile.TemporaryDirectory(prefix="converted-")
    _kept.append(made)
    return Path(made.name)


_kept: list[tempfile.TemporaryDirectory[str]] = []


@cache
def genai(precision: str) -> Path:
    """Of onnxruntime-genai: ``fp32`` or ``int4``."""
    out = folder() / f"genai-{precision}"
    builder = "onnxruntime_genai.models.builder"
    where = ("-i", str(DEMO_FOLDER), "-o", str(out), "-c", str(folder() / "cache"))
    run(folder(), builder, *where, "-p", precision, "-e", "cpu")
    return out


@cache
def mlx(bits: int | None) -> Path:
    """Of mlx-lm: quantised to so many bits, or not at all."""
    out = folder() / f"mlx-{bits or 'plain'}"
    how = ("-q", "--q-bits", str(bits), "--q-group-size", "32") if bits else ()
    run(folder(), "mlx_lm", "convert", "--hf-path", str(DEMO_FOLDER), "--mlx-path", str(out), *how)
    return out
