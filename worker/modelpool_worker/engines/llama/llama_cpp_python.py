"""GGUF models through ``llama-cpp-python``, one request after the other.

For whoever has it already, built for a GPU perhaps; the engine ``llama.cpp`` can more, and works on
many requests at once.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, ClassVar

from modelpool_client.errors import InvalidRequest, LoadFailed
from modelpool_client.surfaces import pooling
from modelpool_client.surfaces.chat_template import CHATML, PLAIN_TEMPLATES
from modelpool_client.surfaces.routes import BASIC, CHAT_TOKENS_PATH, EMBEDDINGS_PATH
from modelpool_client.surfaces.schema import Schema

from modelpool_worker.engine import Engine, EngineJob, Status, Usable
from modelpool_worker.engines.cpu import physical_cores
from modelpool_worker.engines.gguf import CHAT_TEMPLATE, Header, read_header
from modelpool_worker.engines.library import Library
from modelpool_worker.hosting.contract import Hosted, TextRequest, Token
from modelpool_worker.hosting.parameters import text_honours
from modelpool_worker.hosting.tool_calls import format_of
from modelpool_worker.leaving import Leaving, leaving

from . import llama_cpp
from . import lora as llama_lora

LIBRARY = Library(
    {"llama_cpp": "llama-cpp-python"},
    "llama-cpp-python",
    note=" (builds llama.cpp: ten minutes and more)",
)
# Python with numpy and the library, and buffers of a step.
LIBRARY_BYTES = 150_000_000
DEFAULT_TEMPERATURE = 0.8
# The only one to which the library gives no name.
GGML_TYPE_BF16 = 30
NO_TEMPLATE = "the file has no chat template; options.chat_template says one"
# What the library takes of the options of the engine llama.cpp.
SHARED = (
    "context_length",
    "threads",
    "batch_size",
    "cache_type_k",
    "cache_type_v",
    "temperature",
    "seed",
    "mmap",
    "gpu_layers",
    "tensor_split",
    "chat_template",
    "chat_template_file",
    pooling.OPTION,
)
OPTIONS: Mapping[str, Schema] = {
    **{name: llama_cpp.OPTIONS[name] for name in SHARED},
    "flash_attention": {
        "type": "boolean",
        "description": "compute attention without holding all of its scores; a cache_type_v other "
        "than f32, f16 and bf16 needs it",
        "default": False,
    },
    **llama_lora.OPTIONS,
}
SAMPLING = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
    "seed",
)


class LlamaCppPython(Engine):
    """See ``OPTIONS``; the source is a GGUF file, the first part if there are several."""

    name = "llama-cpp-python"
    extra = "llama-cpp-python"
    formats = ("gguf",)
    capabilities = ("chat", "completion", "embeddings", "tools", "thinking", "streaming")
    options: ClassVar[Mapping[str, Schema]] = OPTIONS
    surfaces: ClassVar[Collection[str]] = (*BASIC, CHAT_TOKENS_PATH, EMBEDDINGS_PATH)
    after_leaving: ClassVar[Mapping[str, Leaving]] = leaving(surfaces)
    honours: ClassVar[Mapping[str, Collection[str]]] = text_honours(SAMPLING)

    def probe(self) -> Usable:
        return LIBRARY.probe()

    def inspect(self, source: str) -> None:
        header = read_header(source)
        if "rerank" in pooling.purposes_of(header.architecture, header.pooling, {}):
            text = f"{source} ranks documents: engine {llama_cpp.LlamaCpp.name} does that"
            raise LoadFailed(text, code="unsupported_arch", param="source", source="engine")

    def memory_bytes(self, source: str, options: Mapping[str, Any]) -> int | None:
        header = read_header(source)
        cache = bytes_per_token(header, options) * length_of(header, options)
        files = [source, *llama_lora.paths(options)]
        return LIBRARY_BYTES + sum(map(os.path.getsize, files)) + int(cache)

    def check(self, options: Mapping[str, Any]) -> None:
        super().check(options)
        if {"chat_template", "chat_template_file"} <= options.keys():
            raise _bad_option("chat_template_file", "and chat_template are given; leave one out")

    def check_each(self, options: Mapping[str, Any]) -> None:
        super().check_each(options)
        path = options.get("chat_template_file")
        if path is not None and not os.path.isabs(path):
            raise _bad_option("chat_template_file", f"must be an absolute path, not {path[:200]!r}")
        if (name := options.get("chat_template")) in PLAIN_TEMPLATES:
            text = (
                f"is {name}, which only {llama_cpp.LlamaCpp.name} has by that name; say it in Jinja"
            )
            raise _bad_option("chat_template", text)
        if (wrong := llama_lora.contradiction(options)) is not None:
            raise _bad_option(*wrong)
        if options.get(pooling.OPTION) == "rank":
            raise _bad_option(pooling.OPTION, f"rank: engine {llama_cpp.LlamaCpp.name} ranks")

    def prepare(self) -> None:
        llama_cpp.limit_spinning(os.environ)
        import llama_cpp as library  # noqa: F401

    def serve(self, job: EngineJob, status: Status) -> None:
        from modelpool_worker.hosting.server import serve

        self.inspect(job.source)
        header = read_header(job.source)
        try:
            self.prepare()
            import llama_cpp as library
        except (ImportError, OSError, RuntimeError) as e:  # of its shared library, too
            text = f"llama-cpp-python cannot be imported ({e}): {LIBRARY.install_hint}"
            raise LoadFailed(text, code="missing_dependency", source="engine") from e
        given = llama_cpp.given_template(job.options)
        llama = loaded(library, job, header)
        if "text" not in purposes_of(header, job.options):
            serve(job, status, Hosted(embeddings=Embedder(library, llama)))
            return
        template = given or llama.metadata.get(CHAT_TEMPLATE, "")
        error = (
            None if template else "the file has no chat template; options.chat_template says one"
        )
        model = Writer(library, llama, template, job.options)
        serve(job, status, Hosted(text=model, chat_error=error))


def _bad_option(name: str, why: str) -> LoadFailed:
    param = f"options.{name}"
    text = f"{LlamaCppPython.name}: {param} {why}"
    return LoadFailed(text, code="bad_config", param=param, source="engine")


def length_of(header: Header, options: Mapping[str, Any]) -> int:
    """Tokens of a request, prompt and answer."""
    trained = header.context_length or llama_cpp.DEFAULT_CONTEXT
    return int(options.get("context_length") or min(trained, llama_cpp.DEFAULT_CONTEXT))


def bytes_per_token(header: Header, options: Mapping[str, Any]) -> float:
    """Of the KV cache; 0 where the file does not say."""
    widths = header.cache_widths or (0, 0)
    kinds = (options.get(f"cache_type_{x}", llama_cpp.DEFAULT_CACHE_TYPE) for x in "kv")
    return sum(n * llama_cpp.CACHE_TYPES[kind] for n, kind in zip(widths, kinds, strict=True))


def purposes_of(header: Header, options: Mapping[str, Any]) -> tuple[pooling.Purpose, ...]:
    """What the model does: one context of the library writes or embeds, so that a model that is
    told to pool writes nothing."""
    found = pooling.purposes_of(header.architecture, header.pooling, options)
    return ("embeddings",) if "embeddings" in found else found


def loaded(library: Any, job: EngineJob, header: Header) -> Any:
    """The library's model with its adapters.

    Raises:
        LoadFailed: it cannot be loaded; the reason is on standard error, or is told: an option
            asks for what only the engine llama.cpp does.
    """
    try:
        llama = library.Llama(**arguments(library, job, header))
        _set_adapters(library, llama, job.options.get("lora", ()))
    except (RuntimeError, ValueError, AssertionError) as e:
        text = f"llama-cpp-python cannot load the model: {e}"
        raise LoadFailed(text, source="engine") from e
    return llama


def arguments(library: Any, job: EngineJob, header: Header) -> dict[str, Any]:
    """What the library's model is made with."""
    options, length = job.options, length_of(header, job.options)
    threads = options.get("threads") or physical_cores()
    batch = min(options.get("batch_size", llama_cpp.CPU_BATCH), length)
    given: dict[str, Any] = {
        "model_path": job.source,
        "n_ctx": length,
        "n_batch": batch,
        "n_ubatch": batch,
        "n_threads": threads,
        "n_threads_batch": threads,
        # As the engine llama.cpp: on whatever device there is.
        "n_gpu_layers": options.get("gpu_layers", -1),
        "use_mmap": options.get("mmap", True),
        "flash_attn": options.get("flash_attention", False),
        "verbose": False,
    }
    if "tensor_split" in options:
        given["tensor_split"] = [float(part) for part in options["tensor_split"]]
    for key in ("k", "v"):
        if (kind := options.get(f"cache_type_{key}")) is not None:
            given[f"type_{key}"] = getattr(library, f"GGML_TYPE_{kind.upper()}", GGML_TYPE_BF16)
    if "text" not in purposes_of(header, options):
        name = pooling.pooling_of(header.architecture, header.pooling, options)
        if name == "none":
            text = f"none: engine {llama_cpp.LlamaCpp.name} gives a vector a token"
            raise _bad_option(pooling.OPTION, text)
        given["pooling_type"] = getattr(library, f"LLAMA_POOLING_TYPE_{name.upper()}")
        # A text is read in one step.
        given |= {"embedding": True, "n_batch": length, "n_ubatch": length}
    return given


def _set_adapters(library: Any, llama: Any, adapters: Sequence[Mapping[str, Any]]) -> None:
    if not adapters:
        return
    import ctypes

    found = []
    for adapter in adapters:
        read_header(adapter["path"])
        made = library.llama_adapter_lora_init(llama.model, adapter["path"].encode())
        if not made:
            text = f"{adapter['path']} is no LoRA adapter of this model"
            raise LoadFailed(text, code="bad_file", param="options.lora", source="engine")
        found.append(made)
    scales = [float(adapter.get("scale", 1)) for adapter in adapters]
    count = len(found)
    handles = (library.llama_adapter_lora_p_ctypes * count)(*found)
    if library.llama_set_adapters_lora(
        llama.ctx, handles, count, (ctypes.c_float * count)(*scales)
    ):
        raise LoadFailed("llama.cpp cannot apply the LoRA adapters", source="engine")


class Writer:
    """Writes; a model of the kit. The library holds one conversation: what it has read of it is
    read no second time."""

    slots = 1

    def __init__(self, library: Any, llama: Any, template: str, options: Mapping[str, Any]) -> None:
        self._library, self._llama = library, llama
        self.steps = 0
        self.context_length = int(llama.n_ctx())
        self._temperature = options.get("temperature", DEFAULT_TEMPERATURE)
        self._seed = options.get("seed")
        self._step = int(llama.n_batch)
        vocabulary = library.llama_model_get_vocab(llama.model)
        count = library.llama_vocab_n_tokens(vocabulary)
        self.vocabulary_size: int = count
        self.end_tokens: Collection[int] = frozenset(
            i for i in range(count) if library.llama_vocab_is_eog(vocabulary, i)
        )
        self.tool_format = format_of(template)
        self._format: Any = None
        if template:
            begin, end = (
                library.llama_vocab_get_text(vocabulary, token).decode() if token >= 0 else ""
                for token in (llama.token_bos(), llama.token_eos())
            )
            if template == CHATML:
                template = CHATML_TEMPLATE
            formatter = library.llama_chat_format.Jinja2ChatFormatter
            self._format = formatter(template=template, eos_token=end, bos_token=begin)

    def encode(self, text: str) -> list[int]:
        """See ``TextModel``."""
        return list(self._llama.tokenize(text.encode(), add_bos=True, special=True))

    def chat_prompt(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]],
        settings: Mapping[str, Any],
    ) -> list[int]:
        """See ``TextModel``."""
        try:
            made = self._format(messages=list(messages), tools=list(tools) or None, **settings)
        except Exception as e:  # whatever a template raises
            text = f"the model's chat template refuses the messages: {e}"
            raise InvalidRequest(text, param="messages", source="engine") from None
        # A template that wants a begin token writes it.
        return list(self._llama.tokenize(made.prompt.encode(), add_bos=False, special=True))

    def generate(self, request: TextRequest) -> Iterator[Token]:
        """See ``StepText``; between two steps of a prompt a client that left is noticed, too."""
        sampling = request.sampling
        seed = sampling.seed if sampling.seed is not None else self._seed
        self._llama.set_seed(random.getrandbits(32) if seed is None else seed % (1 << 32))
        given = {
            "temp": self._temperature if sampling.temperature is None else sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "min_p": sampling.min_p,
            "repeat_penalty": sampling.repeat_penalty,
            "presence_penalty": sampling.presence_penalty,
            "frequency_penalty": sampling.frequency_penalty,
        }
        how = {name: value for name, value in given.items() if value is not None}
        prompt = list(request.prompt)
        self._read(prompt, request)
        request.cancel.check()
        with closing(self._llama.generate(prompt, **how)) as tokens:
            for token in itertools.islice(tokens, request.max_tokens):
                self.steps += 1
                yield Token(int(token), self._llama.detokenize([token]))
                if request.cancel.is_set:
                    return

    def _read(self, prompt: list[int], request: TextRequest) -> None:
        """All of a prompt but its last step: the library reads any in one go, so it is asked for
        more and more of it, and keeps what it has read."""
        llama = self._llama
        known = llama.longest_token_prefix(llama.eval_tokens, prompt)
        for end in range(known + self._step, len(prompt), self._step):
            request.cancel.check()
            self.steps += 1
            with closing(llama.generate(prompt[:end], temp=0.0)) as tokens:
                next(tokens)


# Which llama.cpp knows by its name.
CHATML_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class Embedder:
    """Makes vectors; a model of the kit."""

    def __init__(self, library: Any, llama: Any) -> None:
        self.context_length = int(llama.n_ctx())
        self.vocabulary_size = int(llama.n_vocab())
        self._llama = llama
        self._tokenizer = llama.tokenizer_
        # The library embeds texts, and asks a tokenizer: this one reads tokens that are written
        # out, for the kit has counted them.
        llama.tokenizer_ = WrittenTokens()

    def encode(self, text: str) -> list[int]:
        """See ``EmbeddingModel``."""
        return list(self._tokenizer.tokenize(text.encode(), True, False))

    def embed(self, batch: Sequence[Sequence[int]]) -> Sequence[Sequence[float]]:
        """See ``EmbeddingModel``."""
        written = [" ".join(map(str, tokens)) for tokens in batch]
        found: Sequence[Sequence[float]] = self._llama.embed(written, normalize=True)
        return found


class WrittenTokens:
    """A tokenizer of texts that are the numbers of tokens."""

    def tokenize(self, text: bytes, add_bos: bool = True, special: bool = True) -> list[int]:
        """The tokens."""
        return [int(number) for number in text.split()]
