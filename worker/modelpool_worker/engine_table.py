"""Names of engines, and where they are. A front reads it before anything else: it imports nothing.

A plug-in's package declares, in the group ``modelpool.engines``, ``name = "module:Class"``; in
``modelpool.remote_engines`` where it computes elsewhere, so that its worker has no child.
"""

from __future__ import annotations

GROUP = "modelpool.engines"
REMOTE_GROUP = "modelpool.remote_engines"
BUILT_IN = {
    "auto": "modelpool_worker.engines.auto:Auto",
    "llama.cpp": "modelpool_worker.engines.llama.llama_cpp:LlamaCpp",
    "llama-server": "modelpool_worker.engines.llama.llama_server:LlamaServer",
    "ollama": "modelpool_worker.engines.ollama:Ollama",
    "espeak-ng": "modelpool_worker.engines.speech.espeak:Espeak",
    "faster-whisper": "modelpool_worker.engines.speech.faster_whisper:FasterWhisper",
    "kokoro": "modelpool_worker.engines.speech.kokoro:Kokoro",
    "llama-cpp-python": "modelpool_worker.engines.llama.llama_cpp_python:LlamaCppPython",
    "piper": "modelpool_worker.engines.speech.piper:Piper",
    "pocketsphinx": "modelpool_worker.engines.speech.pocketsphinx:PocketSphinx",
    "onnx": "modelpool_worker.engines.onnx.engine:Onnx",
    "mlx": "modelpool_worker.engines.mlx.engine:Mlx",
    "coreml": "modelpool_worker.engines.coreml.engine:CoreMl",
    "openai": "modelpool_worker.engines.openai:OpenAI",
    "anthropic": "modelpool_worker.engines.anthropic:Anthropic",
    "http": "modelpool_worker.engines.http:Http",
    "transformers": "modelpool_worker.engines.transformers.engine:Transformers",
    "fake": "modelpool_worker.engines.fake:Fake",
}
# Of those the ones that compute elsewhere.
REMOTE = frozenset({"anthropic", "http", "ollama", "openai"})


def is_remote(name: str) -> bool:
    """Whether a worker of that engine has no child."""
    if name in BUILT_IN:
        return name in REMOTE
    return name in plugins(REMOTE_GROUP) and not _is_preset(name)


def _is_preset(name: str) -> bool:
    """Ours come before a stranger's of the same name, as in ``engines.get``."""
    from .engines.command_presets import PRESETS

    return name == "command" or name in PRESETS


def plugins(*groups: str) -> dict[str, str]:
    """Name and place of every engine that an installed package brings, of those groups or any."""
    from importlib.metadata import entry_points

    found = entry_points()  # once: each time the files of all packages are read
    wanted = groups or (GROUP, REMOTE_GROUP)
    return {e.name: e.value for group in wanted for e in found.select(group=group)}
