"""PURE. What requests of the Open Inference Protocol may hold, and the tensors of models that read
text: their names are those of Triton's vLLM and TensorRT-LLM backends."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from modelpool_client.capabilities import WRITES_NONE, WRITES_TEXT
from modelpool_client.surfaces.open_inference.datatypes import DATATYPES
from modelpool_client.surfaces.routes import EMBEDDINGS_PATH, TEXT_PATH
from modelpool_client.surfaces.schema import Schema, nullable

INFER, GENERATE, GENERATE_STREAM = "infer", "generate", "generate_stream"
# There is one of each model; it is called as Triton calls the first.
VERSION = "1"
# numpy's, with which clients make tensors.
_MAX_DIMENSIONS = 64
_MAX_TENSORS = 1024

_NAME: Schema = {"type": "string", "minLength": 1}
_OBJECT: Schema = {"type": "object"}
_INT63 = (1 << 63) - 1
# Of a tensor that does not come as a part of ``data``.
SIZE = "binary_data_size"
_INPUT: Schema = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": _NAME,
        "shape": {
            "type": "array",
            "maxItems": _MAX_DIMENSIONS,
            "items": {"type": "integer", "minimum": 0, "maximum": _INT63},
        },
        "datatype": {"type": "string", "enum": list(DATATYPES)},
        "parameters": nullable(
            {
                "type": "object",
                "properties": {
                    SIZE: nullable({"type": "integer", "minimum": 0, "maximum": _INT63})
                },
            }
        ),
        "data": nullable({"type": "array", "description": f"none with {SIZE}"}),
    },
}
_OUTPUT: Schema = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": _NAME,
        "parameters": nullable(
            {"type": "object", "properties": {"binary_data": nullable({"type": "boolean"})}}
        ),
    },
}
_ID: Schema = nullable({"type": "string"})
_GENERATE: Schema = {
    "type": "object",
    "required": ["text_input"],
    "properties": {
        "id": _ID,
        "text_input": {"type": "string"},
        "parameters": nullable(_OBJECT),
    },
}
# By the verb at the end of the path.
BODIES: Mapping[str, Schema] = {
    INFER: {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": _ID,
            "parameters": nullable(
                {
                    "type": "object",
                    "properties": {"binary_data_output": nullable({"type": "boolean"})},
                }
            ),
            "inputs": {
                "type": "array",
                "minItems": 1,
                "maxItems": _MAX_TENSORS,
                "items": _INPUT,
            },
            "outputs": nullable({"type": "array", "maxItems": _MAX_TENSORS, "items": _OUTPUT}),
        },
    },
    GENERATE: _GENERATE,
    GENERATE_STREAM: _GENERATE,
}


class Kind(StrEnum):
    """What becomes of the texts that a model reads."""

    TEXT = "text"
    EMBEDDING = "embedding"


def kind_of_model(capabilities: Collection[str]) -> Kind | None:
    """By its capabilities; one of which nothing is known writes text. None: it reads no text."""
    if not WRITES_TEXT.isdisjoint(capabilities) or WRITES_NONE.isdisjoint(capabilities):
        return Kind.TEXT
    return Kind.EMBEDDING if "embeddings" in capabilities else None


def kind_of_engine(serves: Collection[str]) -> Kind | None:
    """By the paths of OpenAI's that an engine serves for its model."""
    if TEXT_PATH in serves:
        return Kind.TEXT
    return Kind.EMBEDDING if EMBEDDINGS_PATH in serves else None


@dataclass(frozen=True)
class Tensor:
    """An input or output of a model.

    Attributes:
        shape: -1 is any size.
    """

    name: str
    datatype: str
    shape: tuple[int, ...] = (1,)
    is_optional: bool = True

    def body(self) -> dict[str, Any]:
        """As the metadata of a model have it."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


TEXT_INPUT = Tensor("text_input", "BYTES", (-1,), is_optional=False)
TEXT_OUTPUT = Tensor("text_output", "BYTES", (-1,))
FINISH_REASON = Tensor("finish_reason", "BYTES", (-1,))
EMBEDDING = Tensor("embedding", "FP32", (-1, -1))

SAMPLING = "sampling_parameters"
STOPS = ("stop", "stop_words")
# What of them completions call otherwise: those that OpenAI has no name for, by llama.cpp's.
RENAMED: Mapping[str, str] = {"random_seed": "seed", "repetition_penalty": "repeat_penalty"}
# A client may write them as text, too: the vLLM backend's own sample does.
NUMBERS: Mapping[str, str] = {
    "max_tokens": "INT32",
    "min_tokens": "INT32",
    "temperature": "FP32",
    "top_k": "INT32",
    "top_p": "FP32",
    "min_p": "FP32",
    "presence_penalty": "FP32",
    "frequency_penalty": "FP32",
    "repetition_penalty": "FP32",
    "length_penalty": "FP32",
    "seed": "UINT64",
    "random_seed": "UINT64",
    "end_id": "INT32",
    "pad_id": "INT32",
}
# They ask for what is not told here, or belong to completions' own words; only these values of
# them say nothing.
REFUSED: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "num_return_sequences": (1,),
    "beam_width": (1,),
    "logprobs": (0, False),
    "return_logprobs": (False,),
    "return_log_probs": (False,),
    "return_cumulative_logprob": (False,),
    "return_context_logits": (False,),
    "return_generation_logits": (False,),
    "return_perf_metrics": (False,),
    "return_num_input_tokens": (False,),
    "return_num_output_tokens": (False,),
    "echo": (False,),
    "prompt": (),
    "input": (),
    "encoding_format": ("float",),
    "model": (),
    "stream_options": (),
    "lora_name": ("",),
}
_WORDS = (*STOPS, "bad_words")
_FLAGS = ("stream", "exclude_input_in_output", "return_finish_reason")
INPUTS: Mapping[Kind, Mapping[str, Tensor]] = {
    Kind.TEXT: {
        tensor.name: tensor
        for tensor in (
            TEXT_INPUT,
            *(Tensor(name, "BOOL") for name in _FLAGS),
            Tensor(SAMPLING, "BYTES"),
            *(Tensor(name, datatype) for name, datatype in NUMBERS.items()),
            *(Tensor(name, "BYTES", (-1,)) for name in _WORDS),
            Tensor("num_return_sequences", "INT32"),
            Tensor("beam_width", "INT32"),
            *(Tensor(n, "BOOL") for n, v in REFUSED.items() if n.startswith("return_") and v),
        )
    },
    Kind.EMBEDDING: {TEXT_INPUT.name: TEXT_INPUT},
}
# The first is what a request gets that asks for none by name.
OUTPUTS: Mapping[Kind, Mapping[str, Tensor]] = {
    Kind.TEXT: {t.name: t for t in (TEXT_OUTPUT, FINISH_REASON)},
    Kind.EMBEDDING: {EMBEDDING.name: EMBEDDING},
}
# Of Triton's scheduler and its sequences, which there are none of here; the answer names them.
RESERVED = frozenset(
    {"sequence_id", "sequence_start", "sequence_end", "priority", "timeout", "headers"}
)
