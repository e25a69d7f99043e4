"""PURE. What suites, figures and systems are called: rows, targets and comparisons meet by name."""

from __future__ import annotations

RELAY, MEMORY, CATALOG = "relay", "memory", "catalog"
TOKENS, COLD, IDLE = "tokens", "cold", "idle"
CONCURRENCY, SPECULATION = "concurrency", "speculation"
OBSERVED, VIEW = "observed", "view"
SURFACES = "surfaces"

# relay, memory
CONNECTIONS = 32
CROWD = 200
CHUNKS = 200
STREAMS_AT_A_TIME = 8
# What a front puts together where its engine gives streams only.
PUT_TOGETHER = 16
UPSTREAM, NGINX, GATEWAY = "upstream itself", "nginx", "gateway"
FRONT, WHOLE = "worker front", "gateway + front"
FRONT_TOGETHER = f"worker front, {PUT_TOGETHER} tokens put together"
WHOLE_TOGETHER = f"gateway + front, {PUT_TOGETHER} tokens put together"
REQUESTS = f"requests/s, {CONNECTIONS} connections"
MEDIAN = "median of a request, 1 connection"
SLOWEST = f"p99 of a request, {CROWD} connections"
STREAMS = f"streams/s, {CHUNKS} chunks, {STREAMS_AT_A_TIME} at a time"
PER_STREAM = "memory per open stream"

# tokens, cold
BARE, WORKER_PORT = "bare engine", "worker port"
FIRST_TOKEN = "first token, nothing loaded"
SWAP = "first token, another model leaves first"
UNLOAD = "unload"
PORT_CLOSED, ALL_GONE = "port closed", "COLD, all processes gone"
ROUTER, LLAMA_CPP_PYTHON = "llama-server's router mode", "llama-cpp-python's server"
# The same binary on both sides, and in its router mode.
NATIVE_BARE, NATIVE_GATEWAY = "bare llama-server", "gateway, engine llama-server"

# surfaces
CHAT_API, TEXT_API = "chat completions", "completions"
MESSAGES_API, COUNT_API = "Anthropic messages", "Anthropic count_tokens"
RESPONSES_API, KEPT_API = "Responses", "Responses, kept"
OLLAMA_CHAT_API, OLLAMA_GENERATE_API = "Ollama chat", "Ollama generate"
FIM_API, OIP_API = "Mistral fim", "Open Inference generate"
EMBEDDINGS_API, RERANK_API = "embeddings", "rerank"
OLLAMA_EMBED_API, TEI_API, COHERE_API = "Ollama embed", "TEI embed", "Cohere embed"
SCORE_API = "vLLM score"
NATIVE_API, INFILL_API = "llama.cpp completion", "llama.cpp infill"
TOKENIZE_API = "llama.cpp tokenize"
RELAYED_APIS = (
    *(TEXT_API, MESSAGES_API, EMBEDDINGS_API, RERANK_API),
    *(NATIVE_API, INFILL_API, TOKENIZE_API),
)
# Told as chats; with streams; put together of streams where need be; and all.
CHATTED_APIS = (MESSAGES_API, RESPONSES_API, OLLAMA_CHAT_API, OLLAMA_GENERATE_API)
STREAMED_APIS = (*CHATTED_APIS, FIM_API, OIP_API)
TOGETHER_APIS = (*STREAMED_APIS, KEPT_API)
TRANSLATED_APIS = (
    *TOGETHER_APIS,
    *(COUNT_API, OLLAMA_EMBED_API, TEI_API, COHERE_API, SCORE_API),
)
RELAYED, TRANSLATED = "relayed", "translated"
TRANSLATED_TOGETHER = f"translated, {PUT_TOGETHER} tokens put together"

# catalog, idle
SIZES = (10, 1_000, 10_000)
LOOK_UP = "look-up: median of a request by name"
ADMISSION = "admission: manager's processor time of a plan"
PAGE = "a page of the list: manager's processor time"
SEARCH = "a search by state, words and size: manager's processor time"
SCRAPE = "a scrape of the metrics: manager's processor time"
START = "start: manager's processor time until it answers"
HELD = "manager's resident memory"
IDLE_MODELS = 1_000
WORKERS = 49
MANAGER = "manager"
ENGINE_CHILD = "engine child"
OVERHEAD = "worker over bare engine"
PROCESSOR = f"processor time in 10 idle seconds, {IDLE_MODELS:,} models"
PROCESSOR_BEATS = f"{PROCESSOR}, {WORKERS} workers"
RESIDENT = "resident memory"
RESIDENT_BEATS = f"{RESIDENT}, {IDLE_MODELS:,} models, {WORKERS} workers"
SHARED = "memory, shared pages divided (PSS)"

# observed: each with what the one before it has
UNOBSERVED = "no request log, no traces"
FACTS, TRACED, LOGGED = "usage and request log", "and traces", "and access log"
PER_REQUEST = "manager's processor time of a request"

# view
WEB_PAGE = "web page"
FIRST_VIEW, FETCHED = "first view, nothing kept", "fetched for it"

# concurrency
LINEAR, COLLAPSING, FLAT = "linear up to 16", "collapsing beyond 6", "flat"
BEST_FIXED, ADAPTIVE = "best fixed limit", "adaptive limit"

# speculation
REPEATED, RANDOM = "tokens/s, a text that repeats itself", "tokens/s, a text at random"
FORESEEN = "tokens/s, a text that the draft model foresees"
NO_SPECULATION, DRAFTED = "no speculation", "draft model"
NGRAM_MAP_K, NGRAM_MOD = "ngram-map-k", "ngram-mod"


def of_request(kind: str, way: str) -> str:
    """The figure of the time of a request of that kind of surfaces, there."""
    return f"{kind}: median of a request, 1 connection, {way}"


def spent_on_request(kind: str, way: str) -> str:
    """The figure of the processor time that the pool's processes there spend on one."""
    return f"{kind}: processor time of a request, {way}"


def spent_on_token(way: str) -> str:
    """The figure of the processor time that they spend on each token of a stream."""
    return f"processor time of a token, {CHUNKS} at 1,000/s, {way}"


def served(workload: str) -> str:
    """The figure of what an engine of that kind gets done."""
    return f"requests/s, {workload}"


def first_tokens(workload: str) -> str:
    """The figure of how long 95 of 100 wait for their first token."""
    return f"first token p95, {workload}"


def at_once(streams: int) -> str:
    """The figure of that many streams at a time, in tokens a second."""
    return f"tokens/s, {streams} stream{'s' if streams > 1 else ''}"


def of_size(models: int) -> str:
    """The system that is a pool with so many models in its catalog."""
    return f"{models:,} models"
