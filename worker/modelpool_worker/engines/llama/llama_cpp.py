"""GGUF models through llama.cpp's own server core, in-process by way of ``xllamacpp``.

The server answers HTTP on the unix socket by itself, with continuous batching; Python only loads.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import itertools
import os
import sys
import threading
from collections.abc import Collection, Mapping, MutableMapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from modelpool_client.errors import LoadFailed
from modelpool_client.surfaces import pooling, slot_actions
from modelpool_client.surfaces.chat_template import CHATML, PLAIN_TEMPLATES, names_a_template
from modelpool_client.surfaces.routes import (
    CHAT_PATH,
    CHAT_TOKENS_PATH,
    EMBEDDINGS_PATH,
    NATIVE_EMBEDDINGS_PATH,
    RERANK_PATH,
    TEXT_PATH,
)
from modelpool_client.surfaces.schema import Schema
from modelpool_client.wire_base import PromptCacheLimits

from modelpool_worker.engine import GOALS, NOTES_SETTING, Engine, EngineJob, Status, Usable
from modelpool_worker.engines.cpu import logical_cores, physical_cores
from modelpool_worker.engines.gguf import CHAT_TEMPLATE, Header, read_chat_templates, read_header
from modelpool_worker.engines.gguf_identity import identity
from modelpool_worker.engines.local_client import LocalClient
from modelpool_worker.engines.template_check import template_error
from modelpool_worker.leaving import Leaving, leaving
from modelpool_worker.prompt_cache.store import PromptStore, clear, key_of

from . import lora as llama_lora
from . import parameters as llama_parameters
from . import prefault
from . import props as llama_props
from . import rope as llama_rope
from . import slots as llama_slots
from . import speculation as llama_speculation

INSTALL_HINT = "pip install 'modelpool[llama]'"
DEFAULT_CONTEXT = 4096
DEFAULT_PARALLEL = 8
# llama.cpp's own 2048 keep a CPU busy for many seconds after a client has left, and the streams of
# others waiting. Prompts of 512 tokens were 0 to 3 % slower with 256 than in one step, and 3 to 6 %
# with 128 (0.4 and 0.7 billion parameters, f16, q8_0 and q4_0, two cores).
CPU_BATCH = 256
# Turns in which a thread that waits for the others looks again before it sleeps. libgomp's own
# 300,000 let two busy engines, or one beside a build, take the cores from each other: 2 to 25
# tokens/s for two on two cores, where one alone gives 30. By count, for two beside each other over
# one alone, and for eight streams of one over libgomp's own: 1,000: 1.04, 0.94; 1,500: 0.89, 0.98;
# 2,000: 0.84, 0.98; 4,000: 0.68; 10,000: 0.47, 1.02 (0.5 billion parameters, q4_0, two cores).
SPIN_COUNT = 1500
SPINNING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
# Errors only: every reason of a failed load is one; warnings come with ordinary requests.
VERBOSITY = 1
# What it takes to start a thread of its HTTP server, and more: 0.04 ms on two cores.
HTTP_THREAD_SECONDS = 0.0001
# The server that has just come up answers at once.
SLOTS_SECONDS = 10.0
MAX_TEMPLATE_BYTES = 1 << 20
# llama.cpp counts them as milliseconds of 32 bits.
MAX_SLEEP_SECONDS = 1_000_000
# As many numbers are in llama.cpp's tensor_split.
MAX_DEVICES = 128
# Types of the KV cache, and their bytes per number.
CACHE_TYPES = {
    "f32": 4.0,
    "f16": 2.0,
    "bf16": 2.0,
    "q8_0": 34 / 32,
    "q5_1": 24 / 32,
    "q5_0": 22 / 32,
    "q4_1": 20 / 32,
    "q4_0": 18 / 32,
    "iq4_nl": 18 / 32,
}
DEFAULT_CACHE_TYPE = "f16"
# As llama.cpp calls them.
FLASH_ATTENTION = {"auto": "AUTO", "on": "ENABLED", "off": "DISABLED"}
PROMPT_CACHE = "prompt_cache"
KV_UNIFIED = "kv_unified"
SLEEP = "sleep_idle_seconds"
REASONING = "reasoning"
# Options that name a file.
FILES = ("chat_template_file", "mmproj", llama_speculation.DRAFT_MODEL, slot_actions.OPTION)

FIRST_TOKEN, ONE_STREAM, MANY_STREAMS = GOALS


def _thread_counts() -> tuple[int, ...]:
    """Half the cores, all of them, and all hyper-threads; one fewer leaves a core to others."""
    cores = physical_cores()
    return tuple(sorted({max(1, cores // 2), max(1, cores - 1), cores, logical_cores()}))


# What llama.cpp's server answers, by what a model is for.
SURFACES: Mapping[pooling.Purpose, tuple[str, ...]] = {
    "text": (
        CHAT_PATH,
        CHAT_TOKENS_PATH,
        TEXT_PATH,
        "/completion",
        "/infill",
        "/apply-template",
    ),
    "embeddings": (EMBEDDINGS_PATH, NATIVE_EMBEDDINGS_PATH),
    "rerank": (RERANK_PATH,),
}
ALWAYS = ("/tokenize", "/detokenize", "/props", "/slots", "/lora-adapters")

OPTIONS: Mapping[str, Schema] = {
    "context_length": {
        "type": "integer",
        "minimum": 16,
        "maximum": 1 << 24,
        "description": "tokens of one request, prompt and answer; "
        f"default: what the model was trained with, at most {DEFAULT_CONTEXT}, "
        "and no more than the pool has memory for",
    },
    "parallel": {
        "type": "integer",
        "minimum": 1,
        "maximum": 256,
        "description": f"requests at once, each with its own context; default: {DEFAULT_PARALLEL}, "
        "or as many as the pool has memory for",
        "default": DEFAULT_PARALLEL,
        "tuning": {
            "goals": (MANY_STREAMS,),
            "settings": tuple({"parallel": n} for n in (4, DEFAULT_PARALLEL, 16)),
        },
    },
    KV_UNIFIED: {
        "type": "boolean",
        "description": "all requests share one context of context_length tokens, of which each "
        "takes what it needs; where they need more together, all that are under way fail",
        "default": False,
    },
    "threads": {
        "type": "integer",
        "minimum": 1,
        "maximum": 512,
        "description": "default: cores",
        "default": physical_cores(),
        "tuning": {"goals": GOALS, "settings": tuple({"threads": n} for n in _thread_counts())},
    },
    "batch_size": {
        "type": "integer",
        "minimum": 1,
        "maximum": 1 << 16,
        "description": "prompt tokens in one step, between two of which a client that left is "
        f"noticed; default: {CPU_BATCH} on a CPU, llama.cpp's with a GPU",
        "tuning": {
            "goals": (FIRST_TOKEN, MANY_STREAMS),
            "settings": tuple({"batch_size": n} for n in (64, 128, 512, 1024)),
        },
    },
    "micro_batch_size": {
        "type": "integer",
        "minimum": 1,
        "maximum": 1 << 16,
        "description": "prompt tokens that are computed together, no more than batch_size",
        "default": 512,
        "tuning": {
            "goals": (FIRST_TOKEN, MANY_STREAMS),
            "settings": tuple({"micro_batch_size": n} for n in (64, 128)),
        },
    },
    "flash_attention": {
        "type": "string",
        "enum": tuple(FLASH_ATTENTION),
        "description": "compute attention without holding all of its scores; a cache_type_v other "
        "than f32, f16 and bf16 needs it",
        "default": "auto",
        "tuning": {
            "goals": GOALS,
            "settings": tuple({"flash_attention": value} for value in ("on", "off")),
        },
    },
    "cache_type_k": {
        "type": "string",
        "enum": tuple(CACHE_TYPES),
        "description": "of the KV cache's keys",
        "default": DEFAULT_CACHE_TYPE,
        # Coarser ones change what is answered.
        "tuning": {
            "goals": GOALS,
            "settings": (
                {"cache_type_k": "q8_0"},
                {"cache_type_k": "q8_0", "cache_type_v": "q8_0"},
            ),
        },
    },
    "cache_type_v": {
        "type": "string",
        "enum": tuple(CACHE_TYPES),
        "description": "of the KV cache's values",
        "default": DEFAULT_CACHE_TYPE,
    },
    PROMPT_CACHE: {
        "type": "boolean",
        "description": "keep the KV cache of conversations on disk while the model is not loaded; "
        "default: true, if the pool keeps any (prompt_cache_disk_mb)",
    },
    slot_actions.OPTION: {
        "type": "string",
        "minLength": 1,
        "only_in_config": True,
        "description": "absolute path of a folder for what clients of a worker save of its slots "
        "(POST /slots/{id_slot}?action=save, restore or erase), any number of files; the pool then "
        "keeps no prompt caches of the model",
    },
    SLEEP: {
        "type": "integer",
        "minimum": 1,
        "maximum": MAX_SLEEP_SECONDS,
        "description": "after so many seconds without a request the engine frees what the model "
        "takes, to read it again for the next one; for the pool it stays loaded, and its memory "
        "taken: ttl_minutes gives that to others. No prompt caches of the model are kept; "
        "default: never",
    },
    "temperature": {
        "type": "number",
        "minimum": 0,
        "maximum": 2,
        "description": "for requests that say none",
    },
    "seed": {"type": "integer", "minimum": 0, "maximum": (1 << 32) - 2},
    "mmap": {"type": "boolean", "description": "map the file instead of reading it; default: auto"},
    "gpu_layers": {
        "type": "integer",
        "minimum": 0,
        "maximum": 10_000,
        "description": "layers on the GPU; default: as many as fit",
        "tuning": {"goals": GOALS, "fractions": (0, 0.5, 1), "needs": "device"},
    },
    "tensor_split": {
        "type": "array",
        "items": {"type": "number", "minimum": 0},
        "minItems": 1,
        "maxItems": MAX_DEVICES,
        "description": "in which proportions several GPUs get layers, in their order; default: by "
        "their free memory",
    },
    "mmproj": {
        "type": "string",
        "minLength": 1,
        "description": "absolute path of the GGUF of a projector, which makes tokens of pictures "
        "or sounds for the model",
    },
    "chat_template": {
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_TEMPLATE_BYTES,
        "description": f"Jinja, the name {CHATML}, or another that llama.cpp has a "
        "template by (llama3, mistral-v7 …), which takes messages only: no tools, no "
        "chat_template_kwargs; default: the file's own",
    },
    "chat_template_file": {
        "type": "string",
        "minLength": 1,
        "description": "absolute path of a file with the Jinja of chat_template",
    },
    REASONING: {
        "type": "boolean",
        "description": "whether models that can think before they answer do, unless a request says "
        "so in chat_template_kwargs; default: as the chat template has it",
    },
    pooling.OPTION: {
        "type": "string",
        "enum": tuple(pooling.POOLINGS),
        "description": "how the tokens of a text become its embedding; with it a model that writes "
        "text embeds as well, and with rank it ranks; default: the file's own",
    },
    **llama_speculation.OPTIONS,
    **llama_lora.OPTIONS,
    **llama_rope.OPTIONS,
}


class LlamaCpp(Engine):
    """See ``OPTIONS``; the source is a GGUF file, the first part if there are several."""

    name = "llama.cpp"
    extra = "llama"
    formats = ("gguf",)
    capabilities = (
        "chat",
        "completion",
        "embeddings",
        "rerank",
        "tools",
        "vision",
        "audio",
        "thinking",
        "infill",
        "streaming",
        "json_mode",
        "json_schema",
        "logprobs",
    )
    options: ClassVar[Mapping[str, Schema]] = OPTIONS
    surfaces: ClassVar[Collection[str]] = (*itertools.chain(*SURFACES.values()), *ALWAYS)
    after_leaving: ClassVar[Mapping[str, Leaving]] = leaving(surfaces, otherwise="answer")
    honours: ClassVar[Mapping[str, Collection[str]]] = llama_parameters.HONOURS

    def __init__(self) -> None:
        self._prompts: Prompts | None = None  # of the job that is served

    def probe(self) -> Usable:
        if importlib.util.find_spec("xllamacpp") is None:
            return Usable(False, "xllamacpp is not installed", INSTALL_HINT)
        from importlib import metadata

        return Usable(True, version=f"xllamacpp {metadata.version('xllamacpp')}")

    def inspect(self, source: str) -> None:
        read_header(source)

    def check(self, options: Mapping[str, Any]) -> None:
        super().check(options)
        if {"chat_template", "chat_template_file"} <= options.keys():
            raise bad_option("chat_template_file", "and chat_template are given; leave one out")
        if REASONING in options and options.get("chat_template") in PLAIN_TEMPLATES:
            why = f"has no place in the template {options['chat_template']}; leave it out"
            raise bad_option(REASONING, why)
        for rules in (llama_speculation, llama_lora, llama_rope):
            if (wrong := rules.contradiction(options)) is not None:
                raise bad_option(*wrong)

    def check_each(self, options: Mapping[str, Any]) -> None:
        super().check_each(options)
        for name in FILES:
            path = options.get(name)
            if path is not None and not os.path.isabs(path):
                raise bad_option(name, f"must be an absolute path, not {path[:200]!r}")
        text = options.get("chat_template")
        if text is not None and "{" not in text and not names_a_template(text):
            known = ", ".join(sorted({CHATML, *PLAIN_TEMPLATES}))
            raise bad_option("chat_template", f"must be Jinja or one of these names: {known}")

    def prepare(self) -> None:
        limit_spinning(os.environ)
        import xllamacpp  # noqa: F401

    def serve(self, job: EngineJob, status: Status) -> None:
        header = read_header(job.source)
        length = job.options.get("context_length") or min(
            header.context_length or DEFAULT_CONTEXT, DEFAULT_CONTEXT
        )
        try:
            self.prepare()
            import xllamacpp
        except ImportError as e:
            message = f"xllamacpp cannot be imported ({e}): {INSTALL_HINT}"
            raise LoadFailed(message, code="missing_dependency", source="engine") from e
        template = given_template(job.options)
        params = parameters(xllamacpp, job, length)
        set_pooling(xllamacpp, params, job.options, header, length)
        params.chat_template = template or ""
        # With it llama.cpp would take the name for the text of a template.
        params.use_jinja = template not in PLAIN_TEMPLATES
        params.slot_save_path = slot_folder(job.options) or ""
        prompts = _prompts(xllamacpp, job, params, header)
        chat_error = None
        try:
            with _prefaulted(xllamacpp, job, params):
                server = xllamacpp.Server(params)
        except RuntimeError as e:
            chat_error = template_fault(job, template)
            if chat_error is None:
                raise _load_failed() from e
            server = _serve_without_chat(xllamacpp, params, job.socket, chat_error)
        if llama_speculation.is_wanted(job.options):
            slots = llama_slots.SlotServer(job.socket).slots(SLOTS_SECONDS)
            llama_speculation.check_in_force(job.options, slots)
        if prompts is not None:
            prompts.restore(job.prompt_cache_limits)
            self._prompts = prompts
        status.ready(
            context_length=length,
            chat_error=chat_error,
            slots=params.n_parallel,
            serves=surfaces_of(header, job.options),
            saves_prompts=prompts is not None,
            unable=unable_of(job.socket, template),
            has_metrics=True,
            adapters=llama_lora.told(job.options),
        )
        threading.Event().wait()
        del server

    def save_prompts(self, limits: PromptCacheLimits) -> None:
        if self._prompts is not None:
            self._prompts.save(limits)


def unable_of(path: str, template: str | None) -> dict[str, str]:
    """See ``Status.ready``; ``template`` is the one that the options say."""
    with LocalClient(path) as server:
        capabilities = llama_props.template_capabilities(server, SLOTS_SECONDS)
        can_fill_in = llama_props.can_fill_in(server, SLOTS_SECONDS)
    if template in PLAIN_TEMPLATES:
        capabilities[llama_parameters.ARGUMENTS] = False
    return llama_parameters.unable(capabilities, can_fill_in)


@dataclass(frozen=True)
class Prompts:
    """The prompts of one served model: where they are, where they are kept."""

    server: llama_slots.SlotServer
    store: PromptStore
    slots: int
    bytes_per_token: float

    def restore(self, limits: PromptCacheLimits) -> None:
        llama_slots.restore(self.server, self.store, self.slots, limits)

    def save(self, limits: PromptCacheLimits) -> None:
        llama_slots.save(self.server, self.store, self.slots, self.bytes_per_token, limits)


def _prefaulted(library: Any, job: EngineJob, params: Any) -> AbstractContextManager[None]:
    """See ``prefault``. What a device takes is not this process's, and what sleeps is to give back
    all that it had."""
    note = None
    if SLEEP not in job.options and not _has_device(library):
        depends_on = {"version": library.__version__, "options": dict(job.options)}
        note = prefault.note_of(job.settings.get(NOTES_SETTING), job.source, depends_on)
    delay = HTTP_THREAD_SECONDS * params.n_threads_http
    return prefault.prefaulted(note, logical_cores(), delay)


def _prompts(library: Any, job: EngineJob, params: Any, header: Header) -> Prompts | None:
    """Where prompts are kept, as ``params`` are told; None if none are, nor are former ones."""
    if not job.prompt_cache_dir:
        return None
    if not keeps_prompts(job):
        clear(job.prompt_cache_dir)
        return None
    try:
        key = key_of(what_a_cache_depends_on(library, job, params))
    except OSError:  # the load will say what is wrong with the file
        return None
    store = PromptStore(job.prompt_cache_dir, job.worker_id, key, llama_slots.tokens_of)
    if not store.open():
        return None
    params.slot_save_path = os.path.join(job.prompt_cache_dir, "")
    server, per_token = llama_slots.SlotServer(job.socket), bytes_per_token(header, job.options)
    return Prompts(server, store, params.n_parallel, per_token)


def keeps_prompts(job: EngineJob) -> bool:
    """Whether saved prompts are wanted and sound; with adapters they are not, for requests scale
    them, and a saved slot does not say how they stood. One that sleeps has forgotten its slots, and
    would wake up to tell so. A server has one folder: that of its clients, if the options say
    one."""
    options = job.options
    wanted = options.get(PROMPT_CACHE, True) and slot_actions.OPTION not in options
    is_sound = not llama_lora.paths(options) and SLEEP not in options
    return bool(wanted and is_sound and job.prompt_cache_limits.max_bytes)


def slot_folder(options: Mapping[str, Any]) -> str | None:
    """Where clients save slots, if they may; ends with a slash.

    Raises:
        LoadFailed: code ``bad_config``: it is no folder that can be written.
    """
    path = options.get(slot_actions.OPTION)
    if path is None:
        return None
    if not (os.path.isdir(path) and os.access(path, os.W_OK)):
        raise bad_option(slot_actions.OPTION, f"{path}: there is no folder that can be written")
    return os.path.join(path, "")


def what_a_cache_depends_on(library: Any, job: EngineJob, params: Any) -> dict[str, Any]:
    """What ``key_of`` is made of; more than there need be: threads, for one, change nothing.

    Raises:
        OSError: a part of the model cannot be read.
    """
    return {
        "engine": LlamaCpp.name,
        "version": library.__version__,
        "build": library.BUILD_INFO,
        "devices": [(d["name"], d["description"]) for d in library.get_device_info()],
        "model": job.model_id,
        "files": [identity(job.source)],
        "options": {k: v for k, v in job.options.items() if k != PROMPT_CACHE},
        "context": (params.n_ctx, params.n_parallel, params.kv_unified),
        "types": (str(params.cache_type_k), str(params.cache_type_v)),
    }


def bytes_per_token(header: Header, options: Mapping[str, Any]) -> float:
    """Of the KV cache; 0 where the file does not say."""
    widths = header.cache_widths or (0, 0)
    types = (options.get(f"cache_type_{x}", DEFAULT_CACHE_TYPE) for x in "kv")
    return sum(n * CACHE_TYPES[kind] for n, kind in zip(widths, types, strict=True))


def limit_spinning(environment: MutableMapping[str, str]) -> None:
    """Let threads that wait go to sleep, unless the user has said how they wait. To be called
    before OpenMP's library is loaded, which reads it once."""
    if not any(name in environment for name in SPINNING):
        environment["GOMP_SPINCOUNT"] = str(SPIN_COUNT)


def given_template(options: Mapping[str, Any]) -> str | None:
    """The chat template that the options say, if they say one.

    Raises:
        LoadFailed: code ``bad_config``: the file cannot be read or is no template.
    """
    path = options.get("chat_template_file")
    if path is None:
        return options.get("chat_template")
    try:
        # A pipe would wait for a writer.
        if not os.path.isfile(path) and os.path.exists(path):
            raise ValueError("is not a file")
        with open(path, "rb") as f:
            data = f.read(MAX_TEMPLATE_BYTES + 1)
        if len(data) > MAX_TEMPLATE_BYTES:
            raise ValueError(f"is larger than {MAX_TEMPLATE_BYTES >> 20} MB")
        text = data.decode()
        if "{" not in text and text.strip() != CHATML:
            raise ValueError("holds no Jinja")
    except OSError as e:
        raise bad_option("chat_template_file", f"{path}: {e.strerror or e}") from None
    except UnicodeDecodeError:
        raise bad_option("chat_template_file", f"{path} is not UTF-8 text") from None
    except ValueError as e:
        raise bad_option("chat_template_file", f"{path} {e}") from None
    return CHATML if text.strip() == CHATML else text


def bad_option(name: str, why: str) -> LoadFailed:
    param = f"options.{name}"
    text = f"{LlamaCpp.name}: {param} {why}"
    return LoadFailed(text, code="bad_config", param=param, source="engine")


def template_fault(job: EngineJob, template: str | None) -> str | None:
    """After a load that failed: what is wrong with the file's own chat template, if anything is.

    Raises:
        LoadFailed: it is one that the options say, and wrong.
    """
    if template in PLAIN_TEMPLATES:
        return None
    given = {} if template is None else {CHAT_TEMPLATE: template}
    templates = given or read_chat_templates(job.source)
    error = template_error(templates) if templates else None
    if error is None or not given:
        return error
    name = "chat_template" if "chat_template" in job.options else "chat_template_file"
    raise bad_option(name, f"is no chat template that llama.cpp understands: {error}")


def _serve_without_chat(library: Any, params: Any, socket: str, error: str) -> Any:
    """The server with a template that stands in, which the front lets nobody use."""
    print(f"chat is refused, the rest is served: {error}", file=sys.stderr, flush=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(socket)  # the first try may have bound it
    params.chat_template = CHATML
    try:
        return library.Server(params)
    except RuntimeError as e:
        raise _load_failed() from e


def _load_failed() -> LoadFailed:
    """The reason is on standard error, where the front finds it."""
    # A thread writes it, and may not have come to it before this process ends. The package offers
    # no call to wait for that thread; a build without the symbols can only hope.
    with contextlib.suppress(AttributeError, KeyError, OSError):
        library = ctypes.CDLL(sys.modules["xllamacpp.xllamacpp"].__file__)
        main, flush = library._Z15common_log_mainv, library._Z16common_log_flushP10common_log
        main.restype, flush.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)
        flush(main())
    return LoadFailed("llama.cpp cannot load the model", source="engine")


def parameters(library: Any, job: EngineJob, context_length: int) -> Any:
    """llama.cpp's parameters for a job; a request has up to ``context_length`` tokens."""
    options = job.options
    p = library.CommonParams()
    p.model.path = job.source
    p.model_alias = {job.model_id}
    p.n_parallel = options.get("parallel", DEFAULT_PARALLEL)
    p.kv_unified = options.get(KV_UNIFIED, False)
    p.n_ctx = context_length if p.kv_unified else context_length * p.n_parallel
    threads = options.get("threads") or physical_cores()
    p.cpuparams.n_threads = p.cpuparams_batch.n_threads = threads
    p.warmup = False
    # What idle slots held would be there and not in the slots, which alone can be saved.
    p.cache_ram_mib = 0
    p.verbosity = VERBOSITY
    _set_server(p, job.socket)
    _set_memory(library, p, options)
    llama_speculation.set_speculation(library, p, options)
    llama_lora.set_adapters(library, p, options)
    llama_rope.set_rope(library, p, options)
    if "temperature" in options:
        p.sampling.temp = options["temperature"]
    if "seed" in options:
        p.sampling.seed = options["seed"]
    if REASONING in options:
        p.enable_reasoning = int(options[REASONING])
    if SLEEP in options:
        p.sleep_idle_seconds = options[SLEEP]
    return p


def surfaces_of(header: Header, options: Mapping[str, Any]) -> tuple[str, ...]:
    """The paths that a model answers."""
    purposes = pooling.purposes_of(header.architecture, header.pooling, options)
    return (*(path for purpose in purposes for path in SURFACES[purpose]), *ALWAYS)


def set_pooling(
    library: Any, p: Any, options: Mapping[str, Any], header: Header, context_length: int
) -> None:
    """Of llama.cpp's parameters those for models that embed or rank."""
    if pooling.purposes_of(header.architecture, header.pooling, options) == ("text",):
        return
    p.embedding = True
    name = pooling.pooling_of(header.architecture, header.pooling, options)
    p.pooling_type = getattr(library.llama_pooling_type, f"LLAMA_POOLING_TYPE_{name.upper()}")
    if pooling.is_read_whole(header.architecture, name):
        p.n_batch = p.n_ubatch = options.get("batch_size", context_length)


def _set_server(p: Any, socket: str) -> None:
    p.hostnames = [socket]
    # Not used for a unix socket, but with 0 it would look for a free one, and fail.
    p.port = 1
    # One per open stream: a request that waits for a slot must not keep others from the server.
    p.n_threads_http = 4 * p.n_parallel + 8
    p.endpoint_metrics = True
    p.ui = False
    p.cors_origins = "http://localhost"


def _set_memory(library: Any, p: Any, options: Mapping[str, Any]) -> None:
    has_device = _has_device(library)
    if "batch_size" in options or not has_device:
        p.n_batch = options.get("batch_size", CPU_BATCH)
    if "micro_batch_size" in options:
        p.n_ubatch = min(options["micro_batch_size"], p.n_batch)
    if "flash_attention" in options:
        name = FLASH_ATTENTION[options["flash_attention"]]
        p.flash_attn_type = getattr(library.llama_flash_attn_type, f"LLAMA_FLASH_ATTN_TYPE_{name}")
    for key in ("cache_type_k", "cache_type_v"):
        if key in options:
            setattr(p, key, getattr(library.ggml_type, f"GGML_TYPE_{options[key].upper()}"))
    if "mmap" in options:
        mode = "MMAP" if options["mmap"] else "NONE"
        p.load_mode = getattr(library.llama_load_mode, f"LLAMA_LOAD_MODE_{mode}")
    if "gpu_layers" in options:
        p.n_gpu_layers = options["gpu_layers"]
    if "tensor_split" in options:
        parts = [float(part) for part in options["tensor_split"]]
        p.tensor_split = [*parts, *[0.0] * (MAX_DEVICES - len(parts))]
    if "mmproj" in options:
        p.mmproj.path = options["mmproj"]
    # To fit layers into device memory it reads the file twice: not where there is no device.
    p.fit_params = "gpu_layers" not in options and has_device


def _has_device(library: Any) -> bool:
    cpu = library.ggml_backend_dev_type.GGML_BACKEND_DEVICE_TYPE_CPU
    return any(d["type"] != cpu for d in library.get_device_info())
