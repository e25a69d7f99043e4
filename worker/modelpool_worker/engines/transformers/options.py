"""PURE. The load options of the engine ``transformers``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from modelpool_client.errors import LoadFailed
from modelpool_client.surfaces.schema import Schema

from modelpool_worker.batching import options as batching
from modelpool_worker.engine import GOALS
from modelpool_worker.engines import text_options

from .memory import DTYPE_BYTES, QUANTISED_BYTES
from .pooling import POOLINGS
from .source import TASKS

NAME = "transformers"
DEFAULT_CONTEXT = 4096
DEFAULT_PARALLEL = 8
# Tokens of prompts in one step, between two of which a client that left is noticed.
CPU_STEP_TOKENS = 256
DEVICE_STEP_TOKENS = 2048
MAX_TEMPLATE_BYTES = 1 << 20
DEVICE = re.compile(r"auto|cpu|mps|cuda(:[0-9]{1,2})?")
QUANTIZATION = "quantization"
FIRST_TOKEN, _, MANY_STREAMS = GOALS

OPTIONS: Mapping[str, Schema] = {
    "task": {
        "type": "string",
        "enum": TASKS,
        "description": "what the model is loaded for; default: by its architecture",
    },
    "context_length": text_options.context_length(
        f"what the model was trained with, for one that writes at most {DEFAULT_CONTEXT}"
    ),
    "parallel": text_options.parallel(
        DEFAULT_PARALLEL,
        tuning={
            "goals": (MANY_STREAMS,),
            "settings": tuple({"parallel": n} for n in (4, DEFAULT_PARALLEL, 16)),
        },
    ),
    "threads": text_options.threads(),
    "batch_size": text_options.batch_size(
        f"{CPU_STEP_TOKENS} on a CPU, {DEVICE_STEP_TOKENS} with a GPU",
        tuning={
            "goals": (FIRST_TOKEN, MANY_STREAMS),
            "settings": tuple({"batch_size": n} for n in (128, 512, 1024)),
        },
    ),
    "continuous_batching": text_options.continuous_batching(
        "those of a batch begin and step together"
    ),
    "dtype": {
        "type": "string",
        "enum": ("auto", *DTYPE_BYTES),
        "default": "auto",
        "description": "numbers of the weights; auto: float32 on a CPU, else bfloat16, or float16 "
        "where the device lacks that",
    },
    "device": {
        "type": "string",
        "default": "auto",
        "description": "auto, which is the first GPU where there is one, cpu, mps, cuda or cuda:1",
    },
    QUANTIZATION: {
        "type": "string",
        "enum": tuple(QUANTISED_BYTES),
        "description": "of the weights while they are loaded, by a library of its own that has to "
        "be installed",
    },
    "attention": {
        "type": "string",
        "enum": ("eager", "flash_attention_2", "flash_attention_3", "sdpa"),
        "description": "how attention is computed; default: what the library finds best",
    },
    "temperature": {
        "type": "number",
        "minimum": 0,
        "maximum": 2,
        "description": "for requests that say none; default: the model's own, else 1",
    },
    "chat_template": {
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_TEMPLATE_BYTES,
        "description": "Jinja; default: the model's own",
    },
    "chat_template_file": {
        "type": "string",
        "minLength": 1,
        "description": "absolute path of a file with the Jinja of chat_template",
    },
    "pooling": {
        "type": "string",
        "enum": POOLINGS,
        "description": "how the tokens of a text become its embedding; default: as the files of "
        "sentence-transformers say, else mean",
    },
    "normalize": {
        "type": "boolean",
        "default": True,
        "description": "embeddings have a length of 1",
    },
    "trust_remote_code": {
        "type": "boolean",
        "default": False,
        "only_in_config": True,
        "description": "run the Python code that the model brings along; only the config file may "
        "say so",
    },
    **batching.OPTIONS,
}


def quantizers(options: Mapping[str, Any]) -> tuple[str, ...]:
    """The libraries that quantise as the options say."""
    name = str(options.get(QUANTIZATION, ""))
    # Its kernels for four bits are a library of their own.
    more = ("mslk",) if name == "torchao-int4" else ()
    return (name.partition("-")[0], *more) if name else ()


def contradiction(options: Mapping[str, Any]) -> tuple[str, str] | None:
    """The name of an option and what is wrong with it beside the others; None where all fit."""
    if {"chat_template", "chat_template_file"} <= options.keys():
        return "chat_template_file", "and chat_template are given; leave one out"
    if QUANTIZATION in options and options.get("dtype") == "float32":
        return QUANTIZATION, "computes with 16 bits; leave dtype out"
    return None


def bad_option(name: str, why: str) -> LoadFailed:
    """One that a value of the options is to blame for."""
    param = f"options.{name}"
    text = f"{NAME}: {param} {why}"
    return LoadFailed(text, code="bad_config", param=param, source="engine")
