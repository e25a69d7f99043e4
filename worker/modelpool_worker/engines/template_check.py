"""Whether llama.cpp understands a chat template: tried with the least model that it will load.

A process of its own, ``python -m modelpool_worker.engines.template_check``: the reason is told on
standard error only, by native code, which nobody can redirect safely while a real model loads.
"""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from typing import Any, NoReturn

# The check itself takes some tenths of a second.
SECONDS = 20.0
_COMMAND = (sys.executable, "-m", "modelpool_worker.engines.template_check")
_FILE = "smallest.gguf"
# In the last line that llama.cpp writes when it does not load a model.
_END = "exiting due to"
_PARSER = re.compile(r"common_chat_templates_init: error: (.+)")
_SERVER = re.compile(r"chat template parsing error: (.+)")
# At the end of several lines that show the place.
_RENDERER = re.compile(r"^Error: (.+)", re.MULTILINE)

_UINT32, _FLOAT32, _STRING = 4, 6, 8
_GGUF_VERSION = 3
_ALIGNMENT = 32
_WIDTH = 32
_VOCABULARY = 32
# Names and shapes of a llama of one layer and one head; the output is tied to the embedding.
_TENSORS = {
    "token_embd.weight": (_WIDTH, _VOCABULARY),
    "output_norm.weight": (_WIDTH,),
    "blk.0.attn_norm.weight": (_WIDTH,),
    "blk.0.attn_q.weight": (_WIDTH, _WIDTH),
    "blk.0.attn_k.weight": (_WIDTH, _WIDTH),
    "blk.0.attn_v.weight": (_WIDTH, _WIDTH),
    "blk.0.attn_output.weight": (_WIDTH, _WIDTH),
    "blk.0.ffn_norm.weight": (_WIDTH,),
    "blk.0.ffn_gate.weight": (_WIDTH, _WIDTH),
    "blk.0.ffn_up.weight": (_WIDTH, _WIDTH),
    "blk.0.ffn_down.weight": (_WIDTH, _WIDTH),
}


def template_error(templates: Mapping[str, str]) -> str | None:
    """Why llama.cpp does not take the chat templates, by their keys in a GGUF file; None if it
    does, or if it cannot be found out."""
    try:
        with tempfile.TemporaryDirectory(prefix="modelpool-") as folder:
            with open(os.path.join(folder, _FILE), "wb") as f:
                f.write(smallest_model(templates))
            return error_in(_words_about(folder))
    except OSError:
        return None


def _words_about(folder: str) -> str:
    with subprocess.Popen(
        [*_COMMAND, folder],
        # A device that is full, or slow to start, has no part in it.
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as process:
        assert process.stderr is not None
        limit = threading.Timer(SECONDS, process.kill)
        limit.start()
        words = []
        for line in process.stderr:
            words.append(line)
            if _END in line:
                break
        limit.cancel()
        process.kill()
    return "".join(words)


def error_in(words: str) -> str | None:
    """PURE. What llama.cpp says of a chat template, among all that it wrote."""
    said = _SERVER.search(words)
    if said is None:
        return None
    reason = _PARSER.search(words) or _RENDERER.search(words) or said
    return reason[1].strip()


def smallest_model(templates: Mapping[str, str]) -> bytes:
    """PURE. A GGUF file of 40 kB that says nothing but these templates."""
    values: dict[str, Any] = {
        "general.architecture": "llama",
        "llama.context_length": 32,
        "llama.embedding_length": _WIDTH,
        "llama.block_count": 1,
        "llama.feed_forward_length": _WIDTH,
        "llama.attention.head_count": 1,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.vocab_size": _VOCABULARY,
        "tokenizer.ggml.model": "none",
        **templates,
    }
    keys = b"".join(_text(key) + _value(value) for key, value in values.items())
    infos, offset = b"", 0
    for name, shape in _TENSORS.items():
        infos += (
            _text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
        )
        infos += struct.pack("<IQ", 0, offset)
        offset += 4 * _elements(shape)
    head = b"GGUF" + struct.pack("<IQQ", _GGUF_VERSION, len(_TENSORS), len(values)) + keys + infos
    return head + bytes(-len(head) % _ALIGNMENT) + bytes(offset)


def _elements(shape: tuple[int, ...]) -> int:
    return shape[0] * (shape[1] if len(shape) > 1 else 1)


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: str | int | float) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", _STRING) + _text(value)
    if isinstance(value, int):
        return struct.pack("<II", _UINT32, value)
    return struct.pack("<If", _FLOAT32, value)


def main(folder: str) -> NoReturn:
    """Load the smallest model that lies in a folder, and end."""
    import xllamacpp

    p = xllamacpp.CommonParams()
    p.model.path = os.path.join(folder, _FILE)
    p.hostnames = [os.path.join(folder, "http.sock")]
    p.port = 1
    p.n_ctx, p.n_parallel, p.n_threads_http = 32, 1, 1
    p.n_gpu_layers, p.fit_params, p.warmup, p.cache_ram_mib = 0, False, False, 0
    p.cpuparams.n_threads = p.cpuparams_batch.n_threads = 1
    p.verbosity = 1
    try:
        server = xllamacpp.Server(p)
    except RuntimeError:
        # A thread writes the native log, and would be cut off: whoever reads it says when to end.
        sys.stdin.read()
        os._exit(1)
    # Not by way of its destructor, which may wait for ever for a server that has just begun.
    os._exit(0 if server else 1)


if __name__ == "__main__":
    main(sys.argv[1])
