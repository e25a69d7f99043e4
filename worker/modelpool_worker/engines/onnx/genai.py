"""Models that write, in folders of onnxruntime-genai.

On a CPU the decoder is computed without that library, for which many sequences can step together
(``onnx_continuous``). Whatever cannot be computed so is left to it, one sequence at a time: its
``Engine`` steps several, but without paged attention, which no CPU has, it takes nobody new until
all of them have ended, and it tells neither logits nor seeds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelpool_client.errors import LoadFailed

from modelpool_worker.engines.cpu import physical_cores
from modelpool_worker.engines.sampling import Sampler
from modelpool_worker.engines.tokenizer_folder import FolderTokenizer, bad_file, read_json
from modelpool_worker.hosting.contract import TextRequest, Token

from .continuous import ContinuousDecoder
from .decoder import Decoder, Unfit, check_decoder, decoder_names, shapes
from .session import (
    DEFAULT_OPTIMIZATION,
    OPTIMIZATIONS,
    PROVIDERS,
    SPINNING,
    load_failure,
    providers_of,
    session,
)

CONFIG = "genai_config.json"
DEFAULT_CONTEXT = 4096
DEFAULT_PARALLEL = 8
# Prompt tokens of one step, in which no client can leave.
DEFAULT_BATCH = 64
# Kinds that read more than tokens.
UNSUPPORTED = ("whisper", "marian-ssru")


@dataclass(frozen=True)
class GenaiConfig:
    """What ``genai_config.json`` says.

    Attributes:
        graph: the decoder's file, relative to the folder.
        cache_width: numbers that the KV cache holds of one token.
        decoder: all that is said of it.
        defaults: for ``Sampling``, where the model is meant to sample.
    """

    kind: str
    graph: str
    context_length: int
    vocabulary_size: int
    end_tokens: tuple[int, ...]
    begin_token: int | None
    cache_width: int
    decoder: Mapping[str, Any]
    defaults: Mapping[str, Any]


def read_config(folder: str) -> GenaiConfig:
    """Of a folder.

    Raises:
        LoadFailed: ``bad_file``, or ``unsupported_arch``.
    """
    path = os.path.join(folder, CONFIG)
    said = read_json(path)
    try:
        model, search = said["model"], said.get("search") or {}
        decoder = model["decoder"]
        ends = model.get("eos_token_id", [])
        heads = decoder.get("num_key_value_heads") or decoder.get("num_attention_heads") or 0
        config = GenaiConfig(
            kind=str(model["type"]),
            graph=str(decoder.get("filename") or ""),
            context_length=int(model["context_length"]),
            vocabulary_size=int(model["vocab_size"]),
            end_tokens=tuple(map(int, ends if isinstance(ends, list) else [ends])),
            begin_token=model.get("bos_token_id"),
            cache_width=2
            * int(decoder.get("num_hidden_layers") or 0)
            * int(heads)
            * int(decoder.get("head_size") or 0),
            decoder=decoder,
            defaults=_defaults(search),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        what = f"misses {e}" if isinstance(e, KeyError) else f"is damaged: {e}"
        raise bad_file(path, what) from None
    if config.kind in UNSUPPORTED:
        text = f"{path}: models of the type {config.kind} are not served by this engine"
        raise LoadFailed(text, code="unsupported_arch", source="engine")
    if config.graph and not os.path.isfile(os.path.join(folder, config.graph)):
        raise bad_file(path, f"names {config.graph}, which is missing")
    return config


def context_length(config: GenaiConfig, options: Mapping[str, Any]) -> int:
    """Tokens of one request, whose cache is allocated whole."""
    wanted = options.get("context_length") or DEFAULT_CONTEXT
    return min(int(wanted), config.context_length)


def _defaults(search: Mapping[str, Any]) -> dict[str, Any]:
    """Of ``Sampling``. A model that is not meant to sample has others for those who ask for it."""
    found = {
        "temperature": search.get("temperature") if search.get("do_sample") else 0,
        "top_k": search.get("top_k"),
        "top_p": search.get("top_p"),
        "repeat_penalty": search.get("repetition_penalty"),
    }
    return {name: value for name, value in found.items() if value is not None}


def batched_decoder(
    library: Any, folder: str, config: GenaiConfig, options: Mapping[str, Any]
) -> ContinuousDecoder:
    """Load a model that steps many sequences together. ``library``: onnxruntime.

    Raises:
        LoadFailed: with a code that says why.
        Unfit: it is to be left to onnxruntime-genai.
    """
    providers = options.get("execution_providers")
    own = (config.decoder.get("session_options") or {}).get("provider_options")
    if own if providers is None else providers != ["cpu"]:
        raise Unfit("it is not computed by a CPU alone")
    if not config.graph:
        raise Unfit("it is made of several graphs")
    cpu = {**options, "execution_providers": ["cpu"]}
    loaded = session(library, os.path.join(folder, config.graph), cpu)
    inputs, outputs = shapes(loaded.get_inputs()), shapes(loaded.get_outputs())
    names = decoder_names(config.decoder, inputs, outputs)
    slots, length = options.get("parallel", DEFAULT_PARALLEL), context_length(config, options)
    check_decoder(Decoder(loaded, names, 2, 8), config.kind, length)
    return ContinuousDecoder(
        Decoder(loaded, names, slots, length),
        FolderTokenizer(folder),
        context_length=length,
        vocabulary_size=config.vocabulary_size,
        end_tokens=config.end_tokens,
        slots=slots,
        step=options.get("batch_size", DEFAULT_BATCH),
        defaults=config.defaults,
    )


class GenaiText:
    """See ``StepText``.

    Attributes:
        steps: how often the model was computed.
    """

    def __init__(
        self, library: Any, folder: str, config: GenaiConfig, options: Mapping[str, Any]
    ) -> None:
        """Load it. ``library``: onnxruntime-genai.

        Raises:
            LoadFailed: with a code that says why.
        """
        self._library = library
        self._config = config
        self._tokenizer = FolderTokenizer(folder)
        try:
            settings = library.Config(folder)
            _configure(settings, options)
            self._model = library.Model(settings)
        except LoadFailed:
            raise
        except Exception as e:  # RuntimeError for everything
            raise load_failure(folder, e) from e
        self.context_length = context_length(config, options)
        self.end_tokens: Collection[int] = config.end_tokens
        self.slots = options.get("parallel", DEFAULT_PARALLEL)
        self.steps = 0
        self._step = options.get("batch_size", DEFAULT_BATCH)
        self.chat_error = self._tokenizer.chat_error
        self.tool_format = self._tokenizer.tool_format
        end = config.end_tokens[0] if config.end_tokens else 0
        self.vocabulary_size = config.vocabulary_size
        self.vocabulary = self._tokenizer.vocabulary(config.vocabulary_size, end)

    def encode(self, text: str) -> list[int]:
        """See ``TextModel``."""
        return self._tokenizer.encode(text)

    def chat_prompt(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]],
        settings: Mapping[str, Any],
    ) -> list[int]:
        """See ``TextModel``."""
        return self._tokenizer.chat_prompt(messages, tools, settings)

    def generate(self, request: TextRequest) -> Iterator[Token]:
        """See ``StepText``."""
        sampler = Sampler(request, self._config.defaults, self._tokenizer.token_bytes)
        pieces = self._tokenizer.pieces()
        parameters = self._library.GeneratorParams(self._model)
        # One more than there will be: it ends by itself when it is full.
        room = min(len(request.prompt) + request.max_tokens + 1, self._config.context_length)
        parameters.set_search_options(max_length=room)
        generator = self._library.Generator(self._model, parameters)
        prompt = list(request.prompt)
        for at in range(0, len(prompt), self._step):
            if request.cancel.is_set:
                return
            self.steps += 1
            generator.append_tokens(prompt[at : at + self._step])
        for count in range(1, request.max_tokens + 1):
            if request.cancel.is_set:
                return
            token = sampler.choose(generator.get_logits()[0, -1], pieces.add)
            yield token
            if token.id in self.end_tokens or count == request.max_tokens:
                return
            self.steps += 1
            generator.append_tokens([token.id])


def _configure(settings: Any, options: Mapping[str, Any]) -> None:
    """Threads, optimisation and execution providers, as the load options say."""
    level = OPTIMIZATIONS[options.get("graph_optimization", DEFAULT_OPTIMIZATION)]
    said = {
        "intra_op_num_threads": options.get("threads") or physical_cores(),
        "graph_optimization_level": level,
        SPINNING: "0",
    }
    settings.overlay(json.dumps({"model": {"decoder": {"session_options": said}}}))
    if "execution_providers" not in options:
        return  # as the folder says, which was made for some
    import onnxruntime

    names = providers_of(onnxruntime.get_available_providers(), options)
    short = {full: name for name, full in PROVIDERS.items()}
    settings.clear_providers()
    for name in names:
        if short[name] != "cpu":  # always there, and an error if it is named
            settings.append_provider(short[name])
