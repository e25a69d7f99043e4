"""PURE. The paths under which models answer: which are served, and what a model must be for them.

The one table for gateway and workers: what is not in it is no route, and what nobody here speaks
is known by name only.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from modelpool_client.capabilities import WRITES_NONE, WRITES_TEXT
from modelpool_client.errors import InvalidRequest, MethodNotAllowed, NotFound, NotSupported

CHAT_PATH = "/v1/chat/completions"
TEXT_PATH = "/v1/completions"
CHAT_TOKENS_PATH = "/v1/chat/completions/input_tokens"
EMBEDDINGS_PATH = "/v1/embeddings"
RERANK_PATH = "/v1/rerank"
CLASSIFY_PATH = "/v1/classify"
TRANSCRIPTIONS_PATH = "/v1/audio/transcriptions"
TRANSLATIONS_PATH = "/v1/audio/translations"
INFER_PATH = "/v2/models/{model}/infer"
GENERATE_PATH = "/v2/models/{model}/generate"
GENERATE_STREAM_PATH = "/v2/models/{model}/generate_stream"
RESPONSES_PATH = "/v1/responses"
RESPONSE_TOKENS_PATH = "/v1/responses/input_tokens"
SPEECH_PATH = "/v1/audio/speech"
VOICES_PATH = "/v1/audio/voices"
IMAGES_PATH = "/v1/images/generations"
IMAGE_EDITS_PATH = "/v1/images/edits"
# Chat completions, each message of a WebSocket one request.
WEBSOCKET_PATH = "/v1/ws"
NATIVE_EMBEDDINGS_PATH = "/embedding"
# Of other servers, see ``peers``.
TEI_EMBED_PATH = "/embed"
COHERE_EMBED_PATH = "/v2/embed"
FIM_PATH = "/v1/fim/completions"
SCORE_PATH = "/score"

# Of a model's capabilities, any of which a route may need.
EMBEDS = frozenset({"embeddings"})
RANKS = frozenset({"rerank"})
HEARS = frozenset({"audio", "speech_to_text"})
INFERS = WRITES_TEXT | EMBEDS | {"tensor_inference"}
SPEAKS = frozenset({"text_to_speech"})
DRAWS = frozenset({"image_generation"})

ModelIn: TypeAlias = Literal["path", "query", "body"]


@dataclass(frozen=True)
class Surface:
    """One route of an API that clients speak to models.

    Attributes:
        path: where it stands; ``{model}`` in it is the model's name, which may hold slashes, and
            any other word in braces has none.
        task: what a model makes of it, for errors that people read.
        needs: capabilities, any of which a model must have; empty where any model will do.
        source: where a request that is too long for the model says what is too long.
        family: the API that it belongs to, see ``families``.
        engine_paths: at any of which an engine is asked that does not answer it itself.
        codec: how its bodies are written, see ``codecs``.
        methods: it takes. Only POST is work; what is asked with GET neither loads a model nor
            counts as its use.
        is_of_model: what it answers is true of that very model: none may answer in its place.
        is_told: it changes something in the one worker that is asked, and is no work.
    """

    path: str
    task: str
    needs: frozenset[str] = frozenset()
    source: str = ""
    family: str = "openai"
    engine_paths: tuple[str, ...] = ()
    codec: str = "json"
    methods: tuple[str, ...] = ("POST",)
    is_of_model: bool = False
    is_told: bool = False

    @property
    def has_names(self) -> bool:
        """Its path names something."""
        return "{" in self.path

    def at(self, path: str) -> str:
        """Its path, with the names that a request's has."""
        return path if self.has_names else self.path

    @property
    def model_in(self) -> ModelIn:
        """Where the model's name stands."""
        if self.has_names:
            return "path"
        return "body" if self.is_work else "query"

    @property
    def asks(self) -> tuple[str, ...]:
        """Paths at any of which an engine may be asked for it."""
        return (self.path, *self.engine_paths)

    @property
    def is_work(self) -> bool:
        """Its requests are what a model is loaded for."""
        return "POST" in self.methods and not self.is_told

    def is_answered(self, serves: Collection[str]) -> bool:
        """By an engine that serves these paths."""
        return self.path in serves or any(path in serves for path in self.engine_paths)


def _pattern(template: str) -> re.Pattern[str]:
    words = re.escape(template).replace(r"\{", "{").replace(r"\}", "}")
    words = words.replace("{model}", "(?P<model>.+?)")
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", words), re.DOTALL)


# What an engine serves that says nothing of it.
BASIC = (CHAT_PATH, TEXT_PATH)
_TEXT_IN = (TEXT_PATH, EMBEDDINGS_PATH)
_NONE: Mapping[str, str] = {}
_ALL = (
    Surface(CHAT_PATH, "chat", WRITES_TEXT, "messages"),
    Surface(TEXT_PATH, "text completions", WRITES_TEXT, "prompt"),
    Surface(EMBEDDINGS_PATH, "embeddings", EMBEDS, "input"),
    Surface(RERANK_PATH, "reranking", RANKS, "documents"),
    Surface(CLASSIFY_PATH, "classification", source="input"),
    Surface(TRANSCRIPTIONS_PATH, "transcription", HEARS, "file", codec="form"),
    Surface(TRANSLATIONS_PATH, "speech translation", HEARS, "file", codec="form"),
    Surface(SPEECH_PATH, "speech", SPEAKS, "input"),
    Surface(VOICES_PATH, "voices", SPEAKS, methods=("GET",)),
    Surface(IMAGES_PATH, "pictures", DRAWS, "prompt"),
    Surface(IMAGE_EDITS_PATH, "changing pictures", DRAWS, "prompt", codec="form"),
    Surface(RESPONSES_PATH, "responses", WRITES_TEXT, "input", "responses", (CHAT_PATH,)),
    Surface(
        RESPONSE_TOKENS_PATH,
        "counting",
        WRITES_TEXT,
        "input",
        "responses",
        (CHAT_PATH,),
        is_of_model=True,
    ),
    Surface("/v1/messages", "messages", WRITES_TEXT, "messages", "anthropic", (CHAT_PATH,)),
    Surface(
        "/v1/messages/count_tokens",
        "counting",
        WRITES_TEXT,
        "messages",
        "anthropic",
        (CHAT_PATH,),
        is_of_model=True,
    ),
    Surface("/api/chat", "chat", WRITES_TEXT, "messages", "ollama", (CHAT_PATH,)),
    Surface("/api/generate", "text", WRITES_TEXT, "prompt", "ollama", (CHAT_PATH,)),
    Surface("/api/embed", "embeddings", EMBEDS, "input", "ollama", (EMBEDDINGS_PATH,)),
    Surface("/api/embeddings", "embeddings", EMBEDS, "prompt", "ollama", (EMBEDDINGS_PATH,)),
    Surface(
        INFER_PATH, "inference", INFERS, "text_input", "open_inference", _TEXT_IN, codec="tensors"
    ),
    Surface(GENERATE_PATH, "text", WRITES_TEXT, "text_input", "open_inference", BASIC),
    Surface(GENERATE_STREAM_PATH, "text", WRITES_TEXT, "text_input", "open_inference", BASIC),
    Surface(TEI_EMBED_PATH, "embeddings", EMBEDS, "inputs", "tei", (EMBEDDINGS_PATH,)),
    Surface(COHERE_EMBED_PATH, "embeddings", EMBEDS, "texts", "cohere", (EMBEDDINGS_PATH,)),
    Surface(FIM_PATH, "filling in", WRITES_TEXT, "prompt", "mistral", (TEXT_PATH,)),
    Surface(SCORE_PATH, "scores", RANKS | EMBEDS, "text_2", "vllm", (RERANK_PATH, EMBEDDINGS_PATH)),
    # llama.cpp's own.
    Surface("/completion", "llama.cpp's completions", WRITES_TEXT, "prompt"),
    Surface("/infill", "llama.cpp's infill", WRITES_TEXT, "input_prefix"),
    Surface(NATIVE_EMBEDDINGS_PATH, "llama.cpp's embeddings", EMBEDS, "input"),
    Surface(CHAT_TOKENS_PATH, "counting", WRITES_TEXT, "messages", is_of_model=True),
    Surface("/apply-template", "llama.cpp's chat templates", WRITES_TEXT, is_of_model=True),
    Surface("/tokenize", "llama.cpp's tokenizer", is_of_model=True),
    Surface("/detokenize", "llama.cpp's tokenizer", is_of_model=True),
    Surface("/props", "llama.cpp's properties", methods=("GET",)),
    Surface("/slots", "llama.cpp's slots", methods=("GET",)),
    Surface("/lora-adapters", "llama.cpp's LoRA adapters", methods=("GET",)),
)
# Where a stream is what is answered to whoever asks for one, whatever the engine; anywhere else
# nothing of it may be told before the engine answers.
STREAMED = frozenset(
    {CHAT_PATH, TEXT_PATH, "/completion", "/infill", RESPONSES_PATH, "/v1/messages", FIM_PATH}
)
# By path.
SURFACES: Mapping[str, Surface] = {surface.path: surface for surface in _ALL}
# Other spellings that clients and servers know.
SPELLINGS: Mapping[str, str] = {
    "/rerank": RERANK_PATH,
    "/reranking": RERANK_PATH,
    "/v1/reranking": RERANK_PATH,
    "/v2/rerank": RERANK_PATH,
    "/classify": CLASSIFY_PATH,
    "/v1/score": SCORE_PATH,
    **{
        path.replace("{model}", "{model}/versions/{version}"): path
        for path in (INFER_PATH, GENERATE_PATH, GENERATE_STREAM_PATH)
    },
    "/chat/completions": CHAT_PATH,
    "/chat/completions/input_tokens": CHAT_TOKENS_PATH,
    "/completions": "/completion",
    "/responses": RESPONSES_PATH,
    "/responses/input_tokens": RESPONSE_TOKENS_PATH,
    "/audio/transcriptions": TRANSCRIPTIONS_PATH,
    "/embeddings": NATIVE_EMBEDDINGS_PATH,
}
# Routes of the APIs that clients try, and that no engine here speaks yet.
NOT_SERVED = frozenset(
    {
        "/v1/images/variations",
        "/v1/moderations",
    }
)


# Of Ollama's API, where no model is asked.
OLLAMA_MANAGEMENT = frozenset(
    {f"/api/{word}" for word in ("tags", "ps", "version", "show")}
    | {f"/api/{word}" for word in ("delete", "pull", "copy", "create", "push")}
)

# llama.cpp's routes that change something in one worker: what POST tells it there.
CHAT_CONTROL_PATH = "/v1/chat/completions/control"
_OF_ONE_WORKER = re.compile(r"(/v1)?/chat/completions/control|/slots/[0-9]{1,9}")
_TOLD = re.compile(rf"{_OF_ONE_WORKER.pattern}|/lora-adapters")


# Of those with names in them.
PATTERNS: Mapping[str, re.Pattern[str]] = {
    template: _pattern(template) for template in (*SPELLINGS, *SURFACES) if "{" in template
}


def is_surface(path: str) -> bool:
    """Does a model answer there, or did somebody expect one to?"""
    if path in SURFACES or path in SPELLINGS or path in NOT_SERVED or path.startswith("/v1/"):
        return True
    if _OF_ONE_WORKER.fullmatch(path):
        return True
    return any(pattern.fullmatch(path) for pattern in PATTERNS.values())


def surface_of(path: str, method: str) -> Surface:
    """What is asked for with a request of clients: to be found out before its body is read.

    Raises:
        NotFound: there is no such route.
        NotSupported: there is one, in the APIs that clients know, and nobody here speaks it.
        MethodNotAllowed: it takes another method.
    """
    surface = _find(path)
    if path in NOT_SERVED:
        served = ", ".join(p for p, s in SURFACES.items() if p.startswith("/v1/"))
        raise NotSupported(f"{path} is not supported by any engine here; these are: {served}")
    if _OF_ONE_WORKER.fullmatch(path):
        raise MethodNotAllowed.of(path, method, ("POST",))
    if surface is None:
        raise NotFound(f"there is no route {path[:200]!r}; /openapi.json describes those there are")
    if ("GET" if method == "HEAD" else method) not in surface.methods:
        raise MethodNotAllowed.of(path, method, surface.methods)
    return surface


def told_surface(path: str, method: str) -> Surface | None:
    """Of what changes something in one worker; None: it is no such request."""
    if method != "POST" or _TOLD.fullmatch(path) is None:
        return None
    return Surface(path, "what one worker is told", is_told=True)


def of_one_worker(path: str, model_id: str) -> NotSupported:
    """What it changes would be true of some of a model's workers."""
    text = f"{path} is of one worker, and {model_id} may have several: ask the one that is meant"
    return NotSupported(f"{text}, at its own port, which GET /models/{{id}}/endpoint tells")


def codec_of(path: str) -> str:
    """How what is sent there is written, see ``codecs``."""
    surface = _find(path)
    return surface.codec if surface is not None else "json"


def _find(path: str) -> Surface | None:
    if found := SURFACES.get(path) or SURFACES.get(SPELLINGS.get(path, "")):
        return found
    for template, pattern in PATTERNS.items():
        if pattern.fullmatch(path):
            return SURFACES[SPELLINGS.get(template, template)]
    return None


def route_of(path: str) -> str:
    """The route that a path is one of; empty where there is none."""
    surface = _find(path)
    return surface.path if surface is not None else path if path in NOT_SERVED else ""


def names_in(path: str) -> Mapping[str, str]:
    """What a path names, by the words in braces of its route."""
    for pattern in PATTERNS.values():
        if found := pattern.fullmatch(path):
            return found.groupdict()
    return _NONE


def with_model(path: str, model_id: str) -> str:
    """The same path with another model's name, where it has one."""
    for pattern in PATTERNS.values():
        if found := pattern.fullmatch(path):
            start, end = found.span("model")
            return path[:start] + model_id + path[end:]
    return path


def check_capabilities(surface: Surface, model_id: str, capabilities: Sequence[str]) -> None:
    """Whether a model can do what a surface asks of it, as far as its capabilities tell.

    Raises:
        InvalidRequest: it cannot; the text names what it can do.
    """
    if capabilities and not _can(surface, capabilities):
        raise InvalidRequest(
            f"{model_id} cannot do {surface.task} ({surface.path}); "
            f"it can do: {', '.join(capabilities)}",
            param="model",
            code="missing_capability",
        )


def _can(surface: Surface, capabilities: Collection[str]) -> bool:
    if not surface.needs or not surface.needs.isdisjoint(capabilities):
        return True
    # Words that nobody here knows say nothing.
    return surface.needs >= WRITES_TEXT and WRITES_NONE.isdisjoint(capabilities)


def check_engine(
    surface: Surface,
    model_id: str,
    engine: str,
    serves: Collection[str],
    capabilities: Sequence[str] = (),
) -> None:
    """Whether an engine serves it for a model, as far as ``capabilities`` tell what that can do.

    Raises:
        NotSupported: it does not; the text names what it serves.
    """
    if surface.is_answered(serves):
        return
    answered = [s for s in SURFACES.values() if s.is_answered(serves)]
    able = [s.path for s in answered if not capabilities or _can(s, capabilities)]
    raise NotSupported(
        f"{model_id} does not answer {surface.task} ({surface.path}) with engine {engine}; "
        f"it answers: {', '.join(able)}",
        code="missing_capability",
        source="worker",
    )
