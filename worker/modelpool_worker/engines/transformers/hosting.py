"""What a loaded model can do, for the kit. Importing this is heavy."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

import torch
from modelpool_client.errors import LoadFailed

from modelpool_worker.engine import Status
from modelpool_worker.engines.cpu import physical_cores
from modelpool_worker.hosting.contract import Hosted

from .continuous import Unfit, batched_continuously
from .load import Loaded, load
from .options import (
    CPU_STEP_TOKENS,
    DEFAULT_CONTEXT,
    DEFAULT_PARALLEL,
    DEVICE_STEP_TOKENS,
    MAX_TEMPLATE_BYTES,
    NAME,
    bad_option,
)
from .pooling import read_sentences
from .source import Source, read_json
from .steps import SteppedWords
from .vectors import TextClasses, TextScores, TextVectors, layer_of
from .words import TextWords

CONTINUOUS = "continuous_batching"
# Tokenizers that know no limit say an absurd one.
_NO_LIMIT = 1 << 24
# Of these the first positions stand for padding.
_SHIFTED = ("camembert", "longformer", "mpnet", "roberta", "xlm-roberta", "xlm-roberta-xl")
_NO_VOCABULARY = "its tokenizer is of a kind whose tokens are not known as bytes"


def hosted(source: Source, options: Mapping[str, Any], status: Status) -> Hosted:
    """Load it for what it is for.

    Raises:
        LoadFailed: as ``transformers_load.load``.
    """
    torch.set_num_threads(options.get("threads") or physical_cores())
    template = given_template(options)
    task = options.get("task", source.task)
    loaded = load(source, task, options, status)
    if template is not None:
        loaded.tokenizer.chat_template = template
    if task == "text":
        return _text(source, loaded, options, status)
    if loaded.model.config.pad_token_id is None:
        loaded.model.config.pad_token_id = loaded.tokenizer.pad_token_id
    length = whole_length(source, loaded, options)
    if task == "embeddings":
        return Hosted(embeddings=_vectors(source, loaded, options, length))
    if task == "rerank":
        return Hosted(rerank=TextScores(loaded.model, loaded.tokenizer, length))
    return Hosted(classify=TextClasses(loaded.model, loaded.tokenizer, length))


def given_template(options: Mapping[str, Any]) -> str | None:
    """The chat template that the options say, if they say one.

    Raises:
        LoadFailed: code ``bad_config``: the file cannot be read or is no template.
    """
    path = options.get("chat_template_file")
    if path is None:
        return options.get("chat_template")
    name = "chat_template_file"
    if os.path.exists(path) and not os.path.isfile(path):
        raise bad_option(name, f"{path} is not a file")
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_TEMPLATE_BYTES + 1)
        text = data.decode()
    except OSError as e:
        raise bad_option(name, f"{path}: {e.strerror or e}") from None
    except UnicodeDecodeError:
        raise bad_option(name, f"{path} is not UTF-8 text") from None
    if len(data) > MAX_TEMPLATE_BYTES or "{" not in text:
        raise bad_option(name, f"{path} holds no Jinja, or more than a megabyte")
    return text


def _text(source: Source, loaded: Loaded, options: Mapping[str, Any], status: Status) -> Hosted:
    model, tokenizer = loaded.model, loaded.tokenizer
    size = model.config.get_text_config().vocab_size
    words = TextWords(tokenizer, end_tokens(model, tokenizer), size)
    if words.chat_error is not None and _is_given(options):
        name = "chat_template" if "chat_template" in options else "chat_template_file"
        raise bad_option(name, f"is no chat template that can be used: {words.chat_error}")
    status.progress("cache")
    trained = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    given: dict[str, Any] = {
        "context_length": options.get("context_length")
        or min(trained or DEFAULT_CONTEXT, DEFAULT_CONTEXT),
        "slots": options.get("parallel", DEFAULT_PARALLEL),
        "defaults": defaults_of(source, options),
    }
    text = _continuous(loaded, words, options, given) or SteppedWords(model, words, **given)
    unable = {} if words.vocabulary is not None else {"response_format": _NO_VOCABULARY}
    if not words.tool_format:
        why = "the model's chat template shows no way of calling tools that is known here"
        unable |= {"tools": why, "parallel_tool_calls": why}
    return Hosted(text=text, chat_error=words.chat_error, unable=unable)


def _is_given(options: Mapping[str, Any]) -> bool:
    return bool({"chat_template", "chat_template_file"} & options.keys())


def _continuous(
    loaded: Loaded, words: TextWords, options: Mapping[str, Any], given: Mapping[str, Any]
) -> Any:
    """None where it is not wanted, or cannot be."""
    if not options.get(CONTINUOUS, True):
        return None
    is_host = loaded.device.type == "cpu"
    tokens = options.get("batch_size") or (CPU_STEP_TOKENS if is_host else DEVICE_STEP_TOKENS)
    try:
        if loaded.model.config.is_encoder_decoder:
            raise Unfit("it reads a prompt as a whole before it writes")
        return batched_continuously(loaded.model, words, step_tokens=tokens, **given)
    except (torch.OutOfMemoryError, MemoryError) as e:
        text = f"{NAME}: there is not enough memory for the cache: {e}"
        raise LoadFailed(text[:1500], code="oom", source="engine") from e
    except Unfit as e:
        why = f"requests are not batched continuously: {e}"
        if options.get(CONTINUOUS):
            raise LoadFailed(f"{NAME}: {why}", code="unsupported_arch", source="engine") from e
        print(f"{NAME}: {why}", file=sys.stderr, flush=True)
        return None


def end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """The tokenizer's own first, then the others that end an answer."""
    told = getattr(model.generation_config, "eos_token_id", None)
    told = told if told is not None else model.config.eos_token_id
    several = told if isinstance(told, list | tuple) else [told]
    found = [i for i in (tokenizer.eos_token_id, *several) if isinstance(i, int) and i >= 0]
    return list(dict.fromkeys(found))


def defaults_of(source: Source, options: Mapping[str, Any]) -> dict[str, Any]:
    """How the model wants its tokens chosen, by names of ``Sampling``."""
    path = os.path.join(source.folder, "generation_config.json")
    told = {} if source.gguf_file else read_json(path, {})
    names = {"temperature": "temperature", "top_p": "top_p", "top_k": "top_k", "min_p": "min_p"}
    names |= {"repetition_penalty": "repeat_penalty"}
    found = {ours: told[name] for name, ours in names.items() if told.get(name) is not None}
    if told.get("do_sample") is False:
        found["temperature"] = 0.0
    if "temperature" in options:
        found["temperature"] = options["temperature"]
    return found


def whole_length(source: Source, loaded: Loaded, options: Mapping[str, Any]) -> int:
    """Tokens of a text that is read as a whole: as asked, and no more than the model has places
    for."""
    config = loaded.model.config.get_text_config()
    places = getattr(config, "max_position_embeddings", None) or DEFAULT_CONTEXT
    if config.model_type in _SHIFTED:
        places -= (config.pad_token_id or 0) + 1
    asked = options.get("context_length")
    if asked is not None:
        return int(min(asked, places))
    limit = loaded.tokenizer.model_max_length
    said = read_sentences(source.folder).max_length
    known = [n for n in (limit if limit < _NO_LIMIT else None, said) if n]
    return int(min([places, *known]))


def _vectors(
    source: Source, loaded: Loaded, options: Mapping[str, Any], length: int
) -> TextVectors:
    said = read_sentences(source.folder)
    return TextVectors(
        loaded.model,
        loaded.tokenizer,
        length,
        pooling=options.get("pooling") or said.pooling or "mean",
        normalises=options.get("normalize", True),
        layers=[layer_of(module) for module in said.dense],
    )
