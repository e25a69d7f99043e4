"""PURE but for the files that it names, whose headers are read. The options of llama.cpp as the
flags of its own server, ``llama-server``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from modelpool_client.surfaces import pooling
from modelpool_client.surfaces.chat_template import PLAIN_TEMPLATES

from modelpool_worker.engines.gguf import Header, read_header

from . import lora as llama_lora
from . import rope as llama_rope
from .speculation import DRAFT_MODEL, NONE, SPEC_TYPE, is_wanted

# Without these a server that does not know them does as well.
DISPENSABLE = frozenset(
    {"--no-webui", "--cors-origins", "--cache-ram", "--fit", "--verbosity", "--slots", "--no-jinja"}
)


def flags(
    options: Mapping[str, Any],
    header: Header,
    *,
    context_length: int,
    parallel: int,
    threads: int,
    cpu_batch: int | None,
) -> Iterator[str]:
    """In their order; those without a value stand alone.

    Args:
        context_length: tokens that a request has at most.
        cpu_batch: tokens in one step where there is no device to compute them; None: there is one.

    Raises:
        LoadFailed: code ``bad_file``: a draft model or an adapter cannot be read.
    """
    is_unified = options.get("kv_unified", False)
    cells = context_length if is_unified else context_length * parallel
    yield from ("--ctx-size", str(cells), "--parallel", str(parallel))
    if is_unified:
        yield "--kv-unified"
    yield from ("--threads", str(threads), "--threads-batch", str(threads))
    # One per open stream: a request that waits for a slot must not keep others from the server.
    yield from ("--threads-http", str(4 * parallel + 8))
    yield from ("--no-warmup", "--metrics", "--slots", "--no-webui")
    # What idle slots held would be there and not in the slots, which alone can be saved.
    yield from ("--cache-ram", "0", "--cors-origins", "http://localhost", "--verbosity", "1")
    yield from _memory(options, header, context_length, cpu_batch)
    yield from _template(options)
    yield from _speculation(options)
    yield from llama_lora.flags(options)
    yield from llama_rope.flags(options)
    known = {"temperature": "--temp", "seed": "--seed", "mmproj": "--mmproj"}
    yield from _given(options, {**known, "sleep_idle_seconds": "--sleep-idle-seconds"})


def _memory(
    options: Mapping[str, Any], header: Header, context_length: int, cpu_batch: int | None
) -> Iterator[str]:
    batch = options.get("batch_size", cpu_batch)
    micro = options.get("micro_batch_size")
    name = pooling.pooling_of(header.architecture, header.pooling, options)
    if pooling.purposes_of(header.architecture, header.pooling, options) != ("text",):
        yield from ("--embeddings", "--pooling", name)
        if pooling.is_read_whole(header.architecture, name):
            batch = micro = options.get("batch_size", context_length)
    if batch is not None:
        yield from ("--batch-size", str(batch))
    if micro is not None:
        yield from ("--ubatch-size", str(micro if batch is None else min(micro, batch)))
    if "flash_attention" in options:
        yield from ("--flash-attn", options["flash_attention"])
    for option in ("cache_type_k", "cache_type_v"):
        if option in options:
            yield from (f"--{option.replace('_', '-')}", options[option])
    if "mmap" in options:
        yield from ("--load-mode", "mmap" if options["mmap"] else "none")
    if "gpu_layers" in options:
        yield from ("--gpu-layers", str(options["gpu_layers"]))
    if "tensor_split" in options:
        yield from ("--tensor-split", ",".join(f"{part:g}" for part in options["tensor_split"]))
    # To fit layers into device memory it reads the file twice: not where there is no device.
    yield from ("--fit", "off" if "gpu_layers" in options or cpu_batch is not None else "on")


def _template(options: Mapping[str, Any]) -> Iterator[str]:
    if options.get("chat_template") in PLAIN_TEMPLATES:
        yield "--no-jinja"  # before the name, which is judged at once
    for option in ("chat_template", "chat_template_file"):
        if option in options:
            yield from (f"--{option.replace('_', '-')}", options[option])
    if "reasoning" in options:
        yield from ("--reasoning", "on" if options["reasoning"] else "off")


def _speculation(options: Mapping[str, Any]) -> Iterator[str]:
    if not is_wanted(options):
        return
    kind, path = options.get(SPEC_TYPE, NONE), options.get(DRAFT_MODEL)
    names = [name for name in (kind, "draft-simple" if path else NONE) if name != NONE]
    yield from ("--spec-type", ",".join(names))
    known = {}
    if path is not None:
        read_header(path)
        yield from ("--spec-draft-model", path)
        for option, flag in (("cache_type_k", "type-k"), ("cache_type_v", "type-v")):
            known[option] = f"--spec-draft-{flag}"
        known |= {
            "gpu_layers": "--spec-draft-ngl",
            "draft_max": "--spec-draft-n-max",
            "draft_min": "--spec-draft-n-min",
            "draft_p_min": "--spec-draft-p-min",
        }
    yield from _given(options, known)
    if kind == "ngram-mod":
        of_kind = {"draft_max": "n-max", "draft_min": "n-min"}
    elif kind.startswith("ngram-") and kind != "ngram-cache":
        of_kind = {"draft_max": "size-m"}
    else:
        of_kind = {}
    yield from _given(options, {k: f"--spec-{kind}-{v}" for k, v in of_kind.items()})


def _given(options: Mapping[str, Any], known: Mapping[str, str]) -> Iterator[str]:
    for option, flag in known.items():
        if option in options:
            yield from (flag, str(options[option]))
