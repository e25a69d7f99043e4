"""``python -m chaos.rounds``: load, ask, unload, many times for each engine that there is here, and
whether all of its memory is back.

After each round no process of the worker's group may be left, nor a zombie. At the end the worker
must take no more than in its first rounds, and the manager have no more descriptors. Prints a row
for each engine and exits with 0, or with 1 where something stays.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
from e2e.helpers import chat, fake
from e2e.support import PoolProcess
from support import converted
from support.speech import GRAMMAR, SENTENCES

ROUNDS = 50
# Of a worker's memory, at the end over the begin.
MOST_GROWTH = 1.1
SPARE_DESCRIPTORS = 2  # a connection that is just being closed
MB = 1e6
KEYS: Mapping[str, Any] = {"log_level": "warning", "min_residency_seconds": 0.1}
GGUF = converted.ROOT / "configs" / "models" / "pool-demo.gguf"


@dataclass(frozen=True)
class Trial:
    """An engine with a small model.

    Attributes:
        needs: a module or a program without which it cannot be tried.
        entry: of the catalog, made when it is tried.
        ask: path, arguments of the request, and what its answer must hold.
    """

    needs: str
    entry: Callable[[Path], dict[str, Any]]
    ask: Callable[[], tuple[str, dict[str, Any], str]]


def text() -> tuple[str, dict[str, Any], str]:
    question = json.loads(converted.QUESTIONS.read_text())[3]
    body = {"messages": question["messages"], "temperature": 0, "max_tokens": 64}
    return "/v1/chat/completions", {"json": body}, json.dumps(question["answer"])[1:-1]


def echo() -> tuple[str, dict[str, Any], str]:
    return "/v1/chat/completions", {"json": chat("", "a few words")}, "words"


def vectors() -> tuple[str, dict[str, Any], str]:
    return "/v1/embeddings", {"json": {"input": ["one text", "another"]}}, "embedding"


def spoken() -> tuple[str, dict[str, Any], str]:
    body = {"input": SENTENCES[0], "voice": "", "response_format": "wav"}
    return "/v1/audio/speech", {"json": body}, "WAVE"


def heard() -> tuple[str, dict[str, Any], str]:
    sound = _said(SENTENCES[0])
    return "/v1/audio/transcriptions", {"files": {"file": ("said.wav", sound)}}, SENTENCES[0]


def _said(sentence: str) -> bytes:
    return subprocess.run(
        ["espeak-ng", "--stdout", sentence], capture_output=True, check=True
    ).stdout


def _of(engine: str, source: Callable[[], object], **options: Any) -> Callable[[Path], Any]:
    return lambda _: {"engine": engine, "source": str(source()), "options": options}


def _embedder(folder: Path) -> dict[str, Any]:
    from engines.test_arrays import embedder

    path = embedder(folder / "embedder")
    return {"engine": "onnx", "source": str(path), "capabilities": ["embeddings"]}


def _speaking(engine: str, make: str, source: str) -> Callable[[Path], dict[str, Any]]:
    def entry(folder: Path) -> dict[str, Any]:
        from support import speech_models

        path = getattr(speech_models, make)(folder / source)
        return {"engine": engine, "source": str(path)}

    return entry


def noise() -> tuple[str, dict[str, Any], str]:
    from engines.test_speech_models import recording

    return "/v1/audio/transcriptions", {"files": {"file": ("noise.wav", recording())}}, "text"


TRIALS: Mapping[str, Trial] = {
    "fake": Trial("json", lambda _: fake(""), echo),
    "llama.cpp": Trial("xllamacpp", _of("llama.cpp", lambda: GGUF), text),
    "llama.cpp, vectors": Trial(
        "xllamacpp", _of("llama.cpp", lambda: GGUF, pooling_type="mean"), vectors
    ),
    "espeak-ng": Trial("espeak-ng", _of("espeak-ng", lambda: "builtin"), spoken),
    "pocketsphinx": Trial(
        "pocketsphinx", _of("pocketsphinx", lambda: "builtin", grammar=GRAMMAR), heard
    ),
    "piper": Trial("piper", _speaking("piper", "piper_voice", "voice.onnx"), spoken),
    "kokoro": Trial("kokoro_onnx", _speaking("kokoro", "kokoro_model", "kokoro.onnx"), spoken),
    "faster-whisper": Trial(
        "faster_whisper", _speaking("faster-whisper", "whisper_folder", "whisper"), noise
    ),
    "onnx, vectors": Trial("onnxruntime", _embedder, vectors),
    "onnx": Trial("onnxruntime", _of("onnx", lambda: converted.genai("int4")), text),
    "onnxruntime-genai": Trial(
        "onnxruntime_genai",
        _of("onnx", lambda: converted.genai("int4"), continuous_batching=False),
        text,
    ),
    "mlx": Trial("mlx_lm", _of("mlx", lambda: converted.mlx(4)), text),
    "transformers": Trial(
        "torch", _of("transformers", lambda: converted.DEMO_FOLDER, context_length=512), text
    ),
}


def usable() -> list[str]:
    """Names of those that can be tried here."""
    return [
        name
        for name, trial in TRIALS.items()
        if find_spec(trial.needs) or shutil.which(trial.needs)
    ]


@dataclass(frozen=True)
class Round:
    """Of a worker with its model, and after its unload.

    Attributes:
        mb: with its part of what it shares (PSS), which depends on who else has the same files.
        private_mb: without files.
        zombies, descriptors, own_mb: of the manager, after the unload.
    """

    mb: float
    private_mb: float
    zombies: int
    descriptors: int
    own_mb: float


def rounds(pool: PoolProcess, name: str, count: int) -> Iterator[Round]:
    """Of a model in a pool that has it; nothing else must be loaded.

    Raises:
        AssertionError: it did not answer right, or something of its worker stayed.
    """
    path, asked, expected = TRIALS[name].ask()
    manager = psutil.Process(pool.pid)
    key = "json" if "json" in asked else "data"
    body = {**asked, key: {**asked.get(key, {}), "model": name}}
    for _ in range(count):
        answer = pool.http.post(path, timeout=300, **body)
        assert answer.status_code == 200, answer.text
        assert expected.encode() in answer.content, answer.content[:500]
        (front,) = pool.fronts(name)
        group = os.getpgid(front.pid)
        processes = (front, *front.children(recursive=True))
        mb = sum(map(_pss, processes)) / MB
        private = sum(map(_private, processes)) / MB
        unloaded = pool.http.post(f"/models/{name}/unload", json={})
        assert unloaded.status_code == 200, unloaded.text
        assert not (left := _members(group)), f"left of the worker: {left}"
        pool.assert_none_but_the_manager()
        held = pool.http.get(f"/models/{name}").json()["memory"]["current_mb"]
        assert held is None, held
        zombies = sum(p.status() == psutil.STATUS_ZOMBIE for p in manager.children())
        yield Round(mb, private, zombies, manager.num_fds(), _pss(manager) / MB)


def _pss(process: psutil.Process) -> int:
    return int(process.memory_full_info().pss)


def _private(process: psutil.Process) -> int:
    info = process.memory_info()
    return int(info.rss - getattr(info, "shared", 0))


def _members(group: int) -> list[int]:
    """Processes of a group that live."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (ProcessLookupError, psutil.Error):
            continue
    return found


def faults(made: Sequence[Round]) -> list[str]:
    """What is wrong with the rounds of an engine; the first of them is not looked at, in which
    files are read and caches made."""
    looked = made[1:]
    part = max(1, len(looked) // 5)
    first, last = (
        statistics.median(r.mb for r in some) for some in (looked[:part], looked[-part:])
    )
    found = []
    if last > first * MOST_GROWTH:
        found.append(f"the worker takes {last:.0f} MB at the end, {first:.0f} at the begin")
    if any(r.zombies for r in made):
        found.append(f"{max(r.zombies for r in made)} zombies")
    if looked[-1].descriptors > looked[0].descriptors + SPARE_DESCRIPTORS:
        found.append(f"descriptors {looked[0].descriptors} → {looked[-1].descriptors}")
    return found


def row(name: str, made: Sequence[Round]) -> str:
    """Of the table."""
    mbs = [r.mb for r in made[1:]]
    low, middle, high = min(mbs), statistics.median(mbs), max(mbs)
    one, last = made[1], made[-1]
    return (
        f"| {name} | {len(made)} | {low:.0f} / {middle:.0f} / {high:.0f} | 0 | "
        f"{max(r.zombies for r in made)} | {one.descriptors} → {last.descriptors} | "
        f"{one.own_mb:.1f} → {last.own_mb:.1f} |"
    )


HEAD = (
    "| engine | rounds | MB loaded: least / median / most | MB after the unload | zombies | "
    "descriptors of the manager | MB of the manager |\n|---|---|---|---|---|---|---|"
)


def try_engine(name: str, count: int) -> list[Round]:
    """In a pool of its own.

    Raises:
        AssertionError: as ``rounds``.
    """
    with tempfile.TemporaryDirectory(prefix="rounds-") as made:
        folder = Path(made)
        entry = {**TRIALS[name].entry(folder), "model_id": name}
        with PoolProcess(folder, [entry], ports=4, **KEYS) as pool:
            found = list(rounds(pool, name, count))
            # Kernels that MLX has compiled, which it keeps for the next process.
            shutil.rmtree(pool.tmp / "mlx", ignore_errors=True)
    return found


def main() -> int:
    """See the module."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is ended, too
    parser = argparse.ArgumentParser(prog="make rounds", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--engine", choices=TRIALS, action="append")
    given = parser.parse_args()
    print(HEAD, flush=True)
    found: dict[str, list[str]] = {}
    for name in given.engine or usable():
        made = try_engine(name, max(given.rounds, 2))
        print(row(name, made), flush=True)
        found[name] = faults(made)
    wrong = [f"{name}: {fault}" for name, several in found.items() for fault in several]
    print("\n".join(wrong) or "nothing stays")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
