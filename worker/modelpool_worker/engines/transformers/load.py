"""Loading by ``transformers``: device, number format, quantisation, weights and tokenizer."""

from __future__ import annotations

import contextlib
import importlib.util
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import transformers

# What every load needs, so that a child that waits for its job has it.
import transformers.models.auto
from modelpool_client.errors import LoadFailed
from transformers.utils import logging as library_log

from modelpool_worker.engine import Status

from .options import QUANTIZATION, quantizers
from .source import Source, Task, bad_file

# Of a vocabulary, say, that was never trained: what is not in the files and not used either.
_UNUSED = re.compile(r"(^|\.)(pooler|cls|lm_head|position_ids)\b")
_NO_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory", re.IGNORECASE)
_NO_CLASS = ("Unrecognized configuration class", "does not recognize this architecture")
_NO_CLASS_EITHER = ("Unrecognized model in", "is not supported", "not supported yet")
_AUTO: Mapping[Task, str] = {
    "text": "AutoModelForCausalLM",
    "embeddings": "AutoModel",
    "rerank": "AutoModelForSequenceClassification",
    "classify": "AutoModelForSequenceClassification",
}
_READS_AND_WRITES = "AutoModelForSeq2SeqLM"


@dataclass(frozen=True)
class Loaded:
    """``model`` is in evaluation mode, on ``device``."""

    model: Any
    tokenizer: Any
    device: Any


def load(source: Source, task: Task, options: Mapping[str, Any], status: Status) -> Loaded:
    """Read it.

    Raises:
        LoadFailed: ``bad_file``, ``unsupported_arch``, ``oom``, ``missing_dependency``,
            ``bad_config``.
    """
    device = device_of(options.get("device", "auto"))
    trusts = bool(options.get("trust_remote_code"))
    if source.needs_code and not trusts and not _is_known(source):
        text = f"the architecture {source.architecture} is Python code in {source.folder}, which is"
        text += " not run unless the config file says trust_remote_code: true in its options"
        raise LoadFailed(text, code="unsupported_arch", param="source", source="engine")
    common: dict[str, Any] = {"local_files_only": True, "trust_remote_code": trusts}
    if source.gguf_file:
        common["gguf_file"] = source.gguf_file
    with _told(source), _progress(status):
        status.progress("tokenizer")
        tokenizer = transformers.AutoTokenizer.from_pretrained(source.folder, **common)
        status.progress("weights", 0.0, bytes_done=0, bytes_total=source.bytes)
        kind = _class_name(source, task)
        more = _how(options, device)
        model, told = getattr(transformers, kind).from_pretrained(
            source.folder, use_safetensors=True, output_loading_info=True, **common, **more
        )
        _check_whole(source, told.get("missing_keys") or ())
        if "quantization_config" not in more:
            model = model.to(device)
    return Loaded(model.eval(), tokenizer, device)


def device_of(name: str) -> Any:
    """``auto`` is the first GPU that there is.

    Raises:
        LoadFailed: ``bad_config``: it is not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", 0)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, _, number = name.partition(":")
    count = {
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
    }.get(kind, 1)
    if int(number or 0) >= count:
        there = "no such device" if count == 0 else f"{kind} has {count}, counted from 0"
        text = f"transformers: options.device {name!r}: there is {there}"
        raise LoadFailed(text, code="bad_config", param="options.device", source="engine")
    return torch.device(kind, int(number)) if number else torch.device(kind)


def dtype_of(name: str, device: Any) -> Any:
    """Of the weights: ``auto`` is float32 on a CPU, where the others are slower, else bfloat16 if
    the device has it."""
    if name != "auto":
        return getattr(torch, name)
    if device.type == "cpu":
        return torch.float32
    if device.type == "cuda" and not torch.cuda.is_bf16_supported():
        return torch.float16
    return torch.bfloat16


def _how(options: Mapping[str, Any], device: Any) -> dict[str, Any]:
    """Number format, quantisation and attention, as ``from_pretrained`` wants them."""
    dtype = dtype_of(options.get("dtype", "auto"), device)
    told: dict[str, Any] = {"dtype": dtype}
    if "attention" in options:
        told["attn_implementation"] = options["attention"]
    name = options.get(QUANTIZATION)
    if name is not None:
        _check_quantizers(options)
        told |= {"quantization_config": _quantization(name, dtype), "device_map": {"": device}}
    return told


def _check_quantizers(options: Mapping[str, Any]) -> None:
    missing = [n for n in quantizers(options) if importlib.util.find_spec(n) is None]
    if missing:
        text = f"options.{QUANTIZATION} {options[QUANTIZATION]!r} needs {' and '.join(missing)}"
        text += f": pip install {' '.join(missing)}"
        raise LoadFailed(text, code="missing_dependency", source="engine")


def _quantization(name: str, dtype: Any) -> Any:
    library, _, kind = name.partition("-")
    if library == "bitsandbytes":
        if kind == "8bit":
            return transformers.BitsAndBytesConfig(load_in_8bit=True)
        return transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=dtype)
    from torchao import quantization

    is_int4 = kind == "int4"
    config = quantization.Int4WeightOnlyConfig if is_int4 else quantization.Int8WeightOnlyConfig
    return transformers.TorchAoConfig(config())


def _class_name(source: Source, task: Task) -> str:
    kinds = transformers.models.auto.modeling_auto
    if task == "text":
        family = source.config.get("model_type")
        if family in kinds.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES and (
            source.config.get("is_encoder_decoder", family in _ENCODER_DECODERS)
        ):
            return _READS_AND_WRITES
    return _AUTO[task]


_ENCODER_DECODERS = ("bart", "mbart", "mt5", "pegasus", "t5", "umt5", "marian")


def _is_known(source: Source) -> bool:
    """The library has a class for it, too, which needs none of the folder's code."""
    return (
        source.config.get("model_type")
        in transformers.models.auto.configuration_auto.CONFIG_MAPPING
    )


def _check_whole(source: Source, missing: Any) -> None:
    """The library makes up random weights for those that are not there."""
    lacking = sorted(name for name in missing if not _UNUSED.search(name))
    if lacking:
        text = f"{len(lacking)} of its weights are missing, {lacking[0]} for one"
        raise bad_file(source.folder, text)


@contextlib.contextmanager
def _told(source: Source) -> Iterator[None]:
    """What the library raises, as one of our codes."""
    try:
        yield
    except LoadFailed:
        raise
    except (MemoryError, torch.OutOfMemoryError) as e:
        raise _failed("oom", f"there is not enough memory: {e}") from e
    except ImportError as e:
        raise _failed("missing_dependency", str(e)) from e
    except (OSError, KeyError, ValueError, RuntimeError) as e:
        text = f"{type(e).__name__}: {e}"
        if _NO_MEMORY.search(text):
            raise _failed("oom", text) from e
        if any(words in text for words in (*_NO_CLASS, *_NO_CLASS_EITHER)):
            first = text.split("\n")[0]
            known = f"the architecture {source.architecture} is not known here: {first}"
            raise _failed("unsupported_arch", known) from e
        raise bad_file(source.folder, text[:1000]) from e
    except Exception as e:  # SafetensorError, and others of their own kinds
        raise bad_file(source.folder, f"{type(e).__name__}: {e}"[:1000]) from e


def _failed(code: str, text: str) -> LoadFailed:
    return LoadFailed(f"transformers: {text}"[:1500], code=code, source="engine")


@contextlib.contextmanager
def _progress(status: Status) -> Iterator[None]:
    """The library's own bars tell how far it is."""

    def bar(make: Callable[..., Any], given: Any, named: Mapping[str, Any]) -> _Bar:
        return _Bar(status, *given, **named)

    before = library_log.set_tqdm_hook(bar)
    try:
        yield
    finally:
        library_log.set_tqdm_hook(before)


class _Bar:
    """Has what the library uses of a bar of ``tqdm``; tells a hundred steps at most."""

    def __init__(self, status: Status, iterable: Any = None, **named: Any) -> None:
        self._status = status
        self._iterable = iterable
        self._total = named.get("total") or (len(iterable) if hasattr(iterable, "__len__") else 0)
        self._done = self._told = 0

    def __iter__(self) -> Iterator[Any]:
        for item in self._iterable or ():
            yield item
            self.update()

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None

    def update(self, count: int = 1) -> None:
        """So many more are done."""
        self._done += count
        if self._total and (self._done - self._told) * 100 >= self._total:
            self._told = self._done
            self._status.progress("weights", min(1.0, self._done / self._total))
