"""PURE. Servers that many people run, as data: how each is started, how it says that it is ready,
what it answers. An entry of the config key ``engine_presets`` has the same keys, and its own name
in the catalog; one that is called as an entry here changes just what it says.

``looked_at`` is where, and of which version, the flags were read; nothing but llama-server was run
here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from modelpool_client.errors import InvalidRequest
from modelpool_client.surfaces.routes import (
    BASIC,
    CHAT_PATH,
    EMBEDDINGS_PATH,
    IMAGE_EDITS_PATH,
    IMAGES_PATH,
    RERANK_PATH,
    TEXT_PATH,
    TRANSCRIPTIONS_PATH,
)
from modelpool_client.surfaces.schema import Schema, check

from modelpool_worker.sleep import WAYS, Sleep, read_ways

from .command_line import Part

DEFAULT_STOP_SECONDS = 2.0


@dataclass(frozen=True)
class Preset:
    """One kind of server.

    Attributes:
        command: see ``command_line``. Beside the options it may name ``port``, ``socket``,
            ``source``, ``model_id``, ``worker_id``, ``program`` and ``arguments``.
        program: what ``{program}`` is unless the option says otherwise; empty: the Python that the
            worker runs in.
        module: without that Python module it cannot be used.
        api: what it answers, by our paths; ``paths`` are those that it calls otherwise.
        options: its own, beside those that all have.
        environment: variables; one that is ``{?option}`` is 1 or not there.
        ready_path: answers 200 when it can be used; empty: the port answers.
        ready_asks: it is ready before it has loaded, so a token is asked for.
        stop_command: in place of a signal.
        model_name: what a request must call the model; empty: nothing.
        stops_plain: see ``Status.ready``.
        is_outside: its processes are not below ours, as those of a container.
        sleep: how, by level, where it can; then its models have the options ``sleep`` and
            ``sleep_level``.
    """

    name: str
    command: tuple[Part, ...] = ()
    description: str = ""
    program: str = ""
    module: str = ""
    install_hint: str = ""
    formats: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    api: tuple[str, ...] = BASIC
    paths: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Schema] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    ready_path: str = "/health"
    ready_log: str = ""
    ready_asks: bool = False
    stop_command: tuple[Part, ...] = ()
    stop_signal: str = "TERM"
    stop_seconds: float = DEFAULT_STOP_SECONDS
    model_name: str = "{model_id}"
    headers: Mapping[str, str] = field(default_factory=dict)
    stops_plain: bool = False
    has_metrics: bool = False
    is_outside: bool = False
    sleep: Mapping[int, Sleep] = field(default_factory=dict)
    looked_at: str = ""


_TEXT: Schema = {"type": "string"}
_TEXTS: Schema = {"type": "array", "items": _TEXT}
_FLAG: Schema = {"type": "boolean"}
_WORDS: Schema = {"type": "object", "additionalProperties": _TEXT}
COMMAND: Schema = {
    "type": "array",
    "items": {"anyOf": [_TEXT, {**_TEXTS, "minItems": 1}]},
    "minItems": 1,
    "maxItems": 500,
}
# What an entry of ``engine_presets`` may hold.
ENTRY: Schema = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "command": COMMAND,
        "description": _TEXT,
        "program": _TEXT,
        "module": _TEXT,
        "install_hint": _TEXT,
        "formats": _TEXTS,
        "capabilities": _TEXTS,
        "api": _TEXTS,
        "paths": _WORDS,
        "options": {"type": "object", "additionalProperties": {"type": "object"}},
        "environment": _WORDS,
        "ready_path": _TEXT,
        "ready_log": _TEXT,
        "ready_asks": _FLAG,
        "stop_command": COMMAND,
        "stop_signal": {"type": "string", "enum": ("TERM", "INT", "QUIT", "HUP", "KILL")},
        "stop_seconds": {"type": "number", "minimum": 0, "maximum": 60},
        "model_name": _TEXT,
        "headers": _WORDS,
        "stops_plain": _FLAG,
        "has_metrics": _FLAG,
        "is_outside": _FLAG,
        "sleep": WAYS,
    },
}


def preset_of(name: str, entry: Any) -> Preset:
    """A user's own, or one of ours as the user wants it.

    Raises:
        InvalidRequest: the entry is wrong, naming the key; or it has no command.
    """
    where = f"engine_presets.{name}"
    check(ENTRY, entry, where)
    before = PRESETS.get(name, Preset(name))
    kept = {f.name: getattr(before, f.name) for f in fields(Preset)}
    said = {key: _frozen(kept[key], value) for key, value in entry.items()}
    if "sleep" in said:
        said["sleep"] = read_ways(entry["sleep"], f"{where}.sleep")
    preset = replace(before, **said)
    if not preset.command:
        raise InvalidRequest(f"{where}.command is required", param=f"{where}.command")
    return preset


def _frozen(kind: Any, value: Any) -> Any:
    return tuple(map(_part, value)) if isinstance(kind, tuple) else value


def _part(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def sleep_options(ways: Mapping[int, Sleep]) -> dict[str, Schema]:
    """Those of a server that can sleep in these ways; else none."""
    if not ways:
        return {}
    told = {1: "its weights wait in the host's memory", 2: "they are read again"}
    return {
        "sleep": _switch(
            "let it sleep in place of an unload: off the GPU, and back in a fraction of a load"
        ),
        "sleep_level": {
            "type": "integer",
            "enum": tuple(sorted(ways)),
            "description": ", ".join(f"{level}: {told[level]}" for level in sorted(ways)),
            "default": min(ways),
        },
    }


def _integer(description: str, maximum: int = 1 << 24) -> Schema:
    return {"type": "integer", "minimum": 1, "maximum": maximum, "description": description}


def _word(description: str) -> Schema:
    return {"type": "string", "minLength": 1, "maxLength": 4096, "description": description}


def _switch(description: str) -> Schema:
    return {"type": "boolean", "description": description, "default": False}


_GPU_FRACTION: Schema = {
    "type": "number",
    "minimum": 0.01,
    "maximum": 1,
    "description": "share of each GPU's memory that it takes at its start",
}
_TENSOR_PARALLEL = _integer("over how many GPUs each layer is split", 1024)
_DTYPE = _word("type of the weights, such as bfloat16; default: the model's own")
_TEXT_MODEL = ("chat", "completion", "streaming", "tools", "json_mode", "json_schema", "logprobs")

# What sleeps at level 2 has forgotten its weights: they are read into their places before there is
# a cache again.
_VLLM_SLEEP = read_ways(
    (
        {
            "level": 1,
            "sleep": ("/sleep?level=1",),
            "wake": ("/wake_up",),
            "check": "/is_sleeping",
        },
        {
            "level": 2,
            "sleep": ("/sleep?level=2",),
            "wake": (
                "/wake_up?tags=weights",
                {"path": "/collective_rpc", "body": {"method": "reload_weights"}},
                "/wake_up?tags=kv_cache",
            ),
            "check": "/is_sleeping",
        },
    ),
    "vllm",
)

_ALL = (
    Preset(
        name="vllm",
        description="vLLM: safetensors on GPUs, continuous batching",
        command=(
            "{program}",
            *("serve", "{source}", "--host", "127.0.0.1", "--port", "{port}"),
            *("--served-model-name", "{model_id}"),
            ("--max-model-len", "{context_length}"),
            ("--max-num-seqs", "{parallel}"),
            ("--gpu-memory-utilization", "{gpu_memory_fraction}"),
            ("--tensor-parallel-size", "{tensor_parallel}"),
            ("--dtype", "{dtype}"),
            ("--quantization", "{quantization}"),
            ("--runner", "{runner}"),
            ("--enable-sleep-mode", "{?sleep}"),
            "{*arguments}",
        ),
        program="vllm",
        install_hint="pip install vllm, or say where it is in the option program",
        formats=("safetensors",),
        capabilities=(*_TEXT_MODEL, "embeddings", "rerank", "vision", "thinking"),
        options={
            "gpu_memory_fraction": _GPU_FRACTION,
            "tensor_parallel": _TENSOR_PARALLEL,
            "dtype": _DTYPE,
            "quantization": _word("how the weights are quantised, such as awq"),
            "runner": {
                "type": "string",
                "enum": ("auto", "generate", "pooling"),
                "description": "pooling for models that embed or rank; say so in api, too",
            },
        },
        # Its routes for that are there in this mode only; they stand on loopback.
        environment={"VLLM_SERVER_DEV_MODE": "{?sleep}"},
        has_metrics=True,
        sleep=_VLLM_SLEEP,
        stop_seconds=4.0,
        looked_at="docs.vllm.ai: serve and sleep mode, v0.14",
    ),
    Preset(
        name="sglang",
        description="SGLang: safetensors on GPUs, continuous batching",
        command=(
            *("{program}", "-m", "sglang.launch_server", "--model-path", "{source}"),
            *("--host", "127.0.0.1", "--port", "{port}", "--served-model-name", "{model_id}"),
            ("--context-length", "{context_length}"),
            ("--max-running-requests", "{parallel}"),
            ("--mem-fraction-static", "{gpu_memory_fraction}"),
            ("--tp-size", "{tensor_parallel}"),
            ("--dtype", "{dtype}"),
            ("--quantization", "{quantization}"),
            ("--is-embedding", "{?embedding}"),
            "{*arguments}",
        ),
        module="sglang",
        install_hint="pip install 'sglang[all]', or name the Python that has it in program",
        formats=("safetensors",),
        capabilities=(*_TEXT_MODEL, "embeddings", "vision", "thinking"),
        options={
            "gpu_memory_fraction": _GPU_FRACTION,
            "tensor_parallel": _TENSOR_PARALLEL,
            "dtype": _DTYPE,
            "quantization": _word("how the weights are quantised, such as awq"),
            "embedding": _switch("the model embeds; say so in api, too"),
        },
        stop_seconds=4.0,
        looked_at="docs.sglang.io: server arguments, read 2026-11",
    ),
    Preset(
        name="tgi",
        description="Hugging Face's text-generation-inference",
        command=(
            *("{program}", "--model-id", "{source}"),
            *("--hostname", "127.0.0.1", "--port", "{port}"),
            ("--max-total-tokens", "{context_length}"),
            ("--max-concurrent-requests", "{parallel}"),
            ("--cuda-memory-fraction", "{gpu_memory_fraction}"),
            ("--num-shard", "{tensor_parallel}"),
            ("--dtype", "{dtype}"),
            ("--quantize", "{quantization}"),
            "{*arguments}",
        ),
        program="text-generation-launcher",
        install_hint="see huggingface.co/docs/text-generation-inference, or run its container",
        formats=("safetensors",),
        capabilities=(*_TEXT_MODEL, "vision"),
        options={
            "gpu_memory_fraction": _GPU_FRACTION,
            "tensor_parallel": _TENSOR_PARALLEL,
            "dtype": _DTYPE,
            "quantization": _word("how the weights are quantised, such as awq"),
        },
        # Any other name is one of an adapter.
        model_name="tgi",
        has_metrics=True,
        stop_seconds=4.0,
        looked_at="huggingface.co/docs/text-generation-inference: launcher, v3",
    ),
    Preset(
        name="tei",
        description="Hugging Face's text-embeddings-inference: embeddings",
        command=(
            *("{program}", "--model-id", "{source}"),
            *("--hostname", "127.0.0.1", "--port", "{port}"),
            ("--max-concurrent-requests", "{parallel}"),
            ("--pooling", "{pooling}"),
            ("--dtype", "{dtype}"),
            "{*arguments}",
        ),
        program="text-embeddings-router",
        install_hint="see huggingface.co/docs/text-embeddings-inference, or run its container",
        formats=("safetensors", "onnx"),
        capabilities=("embeddings",),
        # Its /rerank has other words than everybody else's.
        api=(EMBEDDINGS_PATH,),
        options={
            "pooling": {
                "type": "string",
                "enum": ("cls", "mean", "splade", "last-token"),
                "description": "default: the model's own",
            },
            "dtype": _DTYPE,
        },
        has_metrics=True,
        stops_plain=True,
        looked_at="huggingface.co/docs/text-embeddings-inference: CLI arguments, v1",
    ),
    Preset(
        name="infinity",
        description="Infinity: embeddings and reranking, of many architectures",
        command=(
            *("{program}", "v2", "--model-id", "{source}", "--served-model-name", "{model_id}"),
            *("--host", "127.0.0.1", "--port", "{port}", "--url-prefix", "/v1"),
            ("--batch-size", "{batch_size}"),
            ("--device", "{device}"),
            "{*arguments}",
        ),
        program="infinity_emb",
        install_hint="pip install 'infinity-emb[all]'",
        formats=("safetensors", "onnx"),
        capabilities=("embeddings", "rerank"),
        api=(EMBEDDINGS_PATH, RERANK_PATH),
        options={
            "batch_size": _integer("texts that are computed together"),
            "device": _word("such as cpu, cuda or mps; default: the best that is there"),
        },
        stops_plain=True,
        looked_at="infinity-emb 0.0.77: cli v2; version 3 has another",
    ),
    Preset(
        name="whisper.cpp",
        description="whisper.cpp's server: transcription of speech",
        command=(
            *("{program}", "--model", "{source}", "--host", "127.0.0.1", "--port", "{port}"),
            *("--inference-path", TRANSCRIPTIONS_PATH),
            ("--threads", "{threads}"),
            ("--language", "{language}"),
            ("--translate", "{?translate}"),
            ("--convert", "{?convert}"),
            "{*arguments}",
        ),
        program="whisper-server",
        install_hint="brew install whisper-cpp, or build it: github.com/ggml-org/whisper.cpp",
        formats=("ggml",),
        capabilities=("speech_to_text",),
        api=(TRANSCRIPTIONS_PATH,),
        options={
            "threads": _integer("default: 4", 512),
            "language": _word("such as en, or auto; default: en"),
            "translate": _switch("answer in English whatever is spoken"),
            "convert": _switch("take any sound that ffmpeg reads, which it needs then"),
        },
        model_name="",
        looked_at="examples/server/README.md of whisper.cpp, v1.8",
    ),
    Preset(
        name="stable-diffusion.cpp",
        description="stable-diffusion.cpp's server: pictures",
        command=(
            *("{program}", "--model", "{source}"),
            *("--listen-ip", "127.0.0.1", "--listen-port", "{port}"),
            ("--threads", "{threads}"),
            ("--vae", "{vae}"),
            ("--steps", "{steps}"),
            ("--cfg-scale", "{cfg_scale}"),
            ("--diffusion-fa", "{?flash_attention}"),
            ("--offload-to-cpu", "{?offload}"),
            "{*arguments}",
        ),
        program="sd-server",
        install_hint="build it: github.com/leejet/stable-diffusion.cpp",
        formats=("gguf", "safetensors"),
        capabilities=("image_generation",),
        api=(IMAGES_PATH, IMAGE_EDITS_PATH),
        options={
            "threads": _integer("default: cores", 512),
            "vae": _word("path of a VAE of its own"),
            "steps": _integer("of sampling, for requests that say none", 1000),
            "cfg_scale": {
                "type": "number",
                "minimum": 0,
                "maximum": 100,
                "description": "guidance",
            },
            "flash_attention": _switch("in the diffusion model"),
            "offload": _switch("keep weights in host memory until they are needed"),
        },
        ready_path="/v1/models",
        model_name="",
        looked_at="examples/server/README.md and api.md of stable-diffusion.cpp, master-2026-03",
    ),
    Preset(
        name="mlx-lm-server",
        description="mlx_lm's own server, on Apple silicon and elsewhere",
        command=(
            *("{program}", "-m", "mlx_lm", "server", "--model", "{source}"),
            *("--host", "127.0.0.1", "--port", "{port}"),
            ("--decode-concurrency", "{parallel}"),
            ("--draft-model", "{draft_model}"),
            "{*arguments}",
        ),
        module="mlx_lm",
        install_hint="pip install mlx-lm, or name the Python that has it in program",
        formats=("mlx", "safetensors"),
        capabilities=("chat", "completion", "streaming", "logprobs", "tools"),
        options={"draft_model": _word("path of a small model that proposes tokens")},
        # Its word for the model that it was started with. It is healthy before that is loaded.
        model_name="default_model",
        ready_asks=True,
        looked_at="mlx_lm/SERVER.md, 0.31 and 0.32",
    ),
    Preset(
        name="transformers-serve",
        description="the server that transformers brings",
        command=(
            *("{program}", "serve", "{source}", "--host", "127.0.0.1", "--port", "{port}"),
            ("--device", "{device}"),
            ("--continuous-batching", "{?continuous_batching}"),
            "{*arguments}",
        ),
        program="transformers",
        install_hint="pip install 'transformers[serving]' 'torch'",
        formats=("safetensors",),
        capabilities=("chat", "completion", "streaming"),
        options={
            "device": _word("such as cpu or cuda"),
            "continuous_batching": _switch(
                "answer several at once; its cache takes half of the memory unless arguments bound"
                " it (--cb-num-blocks)"
            ),
        },
        model_name="{source}",
        ready_asks=True,
        looked_at="transformers 5.23: transformers serve --help",
    ),
    Preset(
        name="container",
        description="a server in a container of Docker or Podman",
        command=(
            *("{program}", "run", "--rm", "--name", "modelpool-{worker_id}"),
            *("--publish", "127.0.0.1:{port}:{container_port}"),
            ("--gpus", "{gpus}"),
            ("--volume", "{*volumes}"),
            *("{image}", "{*arguments}"),
        ),
        program="docker",
        install_hint="install Docker, or Podman and set program: podman",
        capabilities=(*_TEXT_MODEL, "embeddings", "rerank"),
        options={
            "image": {**_word("what is run"), "only_in_config": True},
            "container_port": {**_integer("on which it listens in there", 65535), "default": 8000},
            "gpus": {**_word("such as all"), "only_in_config": True},
            "volumes": {
                "type": "array",
                "items": {"type": "string", "minLength": 1},
                "description": "folders that it sees, as HERE:THERE:ro",
                "only_in_config": True,
            },
        },
        stop_command=("{program}", "stop", "--time", "{stop_seconds}", "modelpool-{worker_id}"),
        stop_seconds=10.0,
        model_name="",
        is_outside=True,
        looked_at="docs.docker.com: container run, container stop; Podman takes the same",
    ),
)
# By name.
PRESETS: Mapping[str, Preset] = {preset.name: preset for preset in _ALL}
# What is asked for of a server that is ready before it has loaded.
QUESTIONS: Mapping[str, Mapping[str, Any]] = {
    CHAT_PATH: {"messages": [{"role": "user", "content": "1"}], "max_tokens": 1},
    TEXT_PATH: {"prompt": "1", "max_tokens": 1},
    EMBEDDINGS_PATH: {"input": "1"},
    RERANK_PATH: {"query": "1", "documents": ["1"]},
}
