"""Well-known families of models: what their names tell of what they can do. PURE, a table.

A name is the weakest of all signs: it counts only where nothing else speaks, see ``capabilities``.
The patterns are looked for in ids, file names and names in files, in small letters, with ``-`` for
spaces, ``_`` and ``:``; more specific families come first, and only the first that fits counts.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass

MAX_NAME_CHARACTERS = 512

_TEXT = ("chat", "completion")
_AGENT = (*_TEXT, "tools")


@dataclass(frozen=True)
class Family:
    """Models of one kind, by whoever published them.

    Attributes:
        name: for people.
        pattern: a regular expression that their names hold.
        capabilities: what they all can do.
        card: the repository on the Hugging Face hub whose card or configuration says so.
    """

    name: str
    pattern: str
    capabilities: tuple[str, ...]
    card: str


# Not in the middle of a word: "bge" is no part of "abgehoben".
_BEGIN = r"(?<![a-z0-9])"

FAMILIES: tuple[Family, ...] = (
    # Rerankers: before the embedding models whose names begin alike.
    Family("BGE reranker", r"bge-reranker", ("rerank",), "BAAI/bge-reranker-v2-m3"),
    Family(
        "Jina reranker", r"jina-reranker", ("rerank",), "jinaai/jina-reranker-v2-base-multilingual"
    ),
    Family("Qwen3 reranker", r"qwen3-reranker", ("rerank",), "Qwen/Qwen3-Reranker-0.6B"),
    Family("mxbai rerank", r"mxbai-rerank", ("rerank",), "mixedbread-ai/mxbai-rerank-base-v1"),
    Family(
        "GTE reranker",
        r"gte-(multilingual-)?reranker",
        ("rerank",),
        "Alibaba-NLP/gte-multilingual-reranker-base",
    ),
    Family(
        "MS MARCO cross-encoder",
        r"ms-marco-minilm|ms-marco-tinybert",
        ("rerank",),
        "cross-encoder/ms-marco-MiniLM-L6-v2",
    ),
    # Embeddings.
    Family("Qwen3 embedding", r"qwen3-embedding", ("embeddings",), "Qwen/Qwen3-Embedding-0.6B"),
    Family("Nomic embed", r"nomic-embed", ("embeddings",), "nomic-ai/nomic-embed-text-v1.5"),
    Family("BGE", r"bge-(m3|small|base|large|multilingual|en-icl)", ("embeddings",), "BAAI/bge-m3"),
    Family(
        "E5",
        r"e5-(small|base|large|mistral)|multilingual-e5",
        ("embeddings",),
        "intfloat/multilingual-e5-large",
    ),
    Family(
        "GTE",
        r"gte-(small|base|large|qwen|multilingual|modernbert)",
        ("embeddings",),
        "thenlper/gte-large",
    ),
    Family("mxbai embed", r"mxbai-embed", ("embeddings",), "mixedbread-ai/mxbai-embed-large-v1"),
    Family("Jina embeddings", r"jina-embeddings", ("embeddings",), "jinaai/jina-embeddings-v3"),
    Family(
        "Arctic embed",
        r"(snowflake-)?arctic-embed",
        ("embeddings",),
        "Snowflake/snowflake-arctic-embed-l-v2.0",
    ),
    Family(
        "MiniLM",
        r"all-minilm|paraphrase-multilingual-minilm",
        ("embeddings",),
        "sentence-transformers/all-MiniLM-L6-v2",
    ),
    Family("EmbeddingGemma", r"embeddinggemma", ("embeddings",), "google/embeddinggemma-300m"),
    Family(
        "Granite embedding",
        r"granite-embedding",
        ("embeddings",),
        "ibm-granite/granite-embedding-125m-english",
    ),
    Family(
        "OpenAI embeddings",
        r"text-embedding-(3|ada)",
        ("embeddings",),
        "Xenova/text-embedding-ada-002",
    ),
    # Speech and pictures.
    Family(
        "Whisper",
        r"whisper-?(tiny|base|small|medium|large|turbo|v\d)?",
        ("speech_to_text",),
        "openai/whisper-large-v3",
    ),
    Family("Parler TTS", r"parler-tts", ("text_to_speech",), "parler-tts/parler-tts-mini-v1"),
    Family("Kokoro", r"kokoro", ("text_to_speech",), "hexgrad/Kokoro-82M"),
    Family(
        "Stable Diffusion",
        r"sdxl|stable-diffusion|sd3(\.5)?-(medium|large)",
        ("image_generation",),
        "stabilityai/stable-diffusion-xl-base-1.0",
    ),
    Family(
        "FLUX",
        r"flux\.?1?-(dev|schnell|krea)",
        ("image_generation",),
        "black-forest-labs/FLUX.1-schnell",
    ),
    Family(
        "ViT classifier",
        r"vit-(base|large)-patch\d+-\d+(?!-in21k)",
        ("image_classification",),
        "google/vit-base-patch16-224",
    ),
    Family("Llama Guard", r"llama-guard", ("moderation",), "meta-llama/Llama-Guard-3-8B"),
    # Pictures beside text.
    Family(
        "Qwen2-VL, Qwen2.5-VL",
        r"qwen-?2(\.5)?-?vl",
        (*_TEXT, "vision"),
        "Qwen/Qwen2.5-VL-7B-Instruct",
    ),
    Family("Qwen3-VL", r"qwen-?3-?vl", (*_AGENT, "vision"), "Qwen/Qwen3-VL-8B-Instruct"),
    Family("LLaVA", r"llava|bakllava", (*_TEXT, "vision"), "llava-hf/llava-1.5-7b-hf"),
    Family("MiniCPM-V", r"minicpm-?(v|o)-?\d", (*_TEXT, "vision"), "openbmb/MiniCPM-V-2_6"),
    Family("Pixtral", r"pixtral", (*_AGENT, "vision"), "mistralai/Pixtral-12B-2409"),
    Family(
        "Mistral Small 3.1",
        r"mistral-small-?3\.[12]",
        (*_AGENT, "vision"),
        "mistralai/Mistral-Small-3.1-24B-Instruct-2503",
    ),
    Family(
        "Llama 3.2 Vision",
        r"llama-?3\.2.*vision",
        (*_TEXT, "vision"),
        "meta-llama/Llama-3.2-11B-Vision-Instruct",
    ),
    Family("Moondream", r"moondream", (*_TEXT, "vision"), "vikhyatk/moondream2"),
    Family("SmolVLM", r"smolvlm", (*_TEXT, "vision"), "HuggingFaceTB/SmolVLM-Instruct"),
    # Its 270M and 1B read text only.
    Family("Gemma 3, small", r"gemma-?3-(270m|1b)", _TEXT, "google/gemma-3-1b-it"),
    Family("Gemma 3", r"gemma-?3(?!n)", (*_TEXT, "vision"), "google/gemma-3-4b-it"),
    # Code.
    Family(
        "Qwen2.5-Coder", r"qwen-?2\.5-coder", (*_AGENT, "infill"), "Qwen/Qwen2.5-Coder-7B-Instruct"
    ),
    Family(
        "Code Llama, Python",
        r"code-?llama.*python",
        ("completion",),
        "codellama/CodeLlama-7b-Python-hf",
    ),
    Family(
        "Code Llama, instruct",
        r"code-?llama.*instruct",
        (*_TEXT, "infill"),
        "codellama/CodeLlama-7b-Instruct-hf",
    ),
    Family("Code Llama", r"code-?llama", ("completion", "infill"), "codellama/CodeLlama-7b-hf"),
    Family("StarCoder", r"starcoder", ("completion", "infill"), "bigcode/starcoder2-7b"),
    # Its instruct models were not trained to fill gaps.
    Family(
        "DeepSeek Coder, instruct",
        r"deepseek-coder.*instruct",
        _TEXT,
        "deepseek-ai/deepseek-coder-6.7b-instruct",
    ),
    Family(
        "DeepSeek Coder",
        r"deepseek-coder",
        ("completion", "infill"),
        "deepseek-ai/deepseek-coder-6.7b-base",
    ),
    Family("CodeGemma", r"code-?gemma", ("completion", "infill"), "google/codegemma-7b"),
    Family("Codestral", r"codestral", (*_TEXT, "infill"), "mistralai/Codestral-22B-v0.1"),
    # Reasoning.
    Family("DeepSeek-R1", r"deepseek-r1", (*_TEXT, "thinking"), "deepseek-ai/DeepSeek-R1"),
    Family("QwQ", r"qwq", (*_AGENT, "thinking"), "Qwen/QwQ-32B"),
    Family(
        "Qwen3 instruct 2507", r"qwen-?3-.*instruct-2507", _AGENT, "Qwen/Qwen3-4B-Instruct-2507"
    ),
    Family(
        "Qwen3",
        r"qwen-?3(?!-?(embedding|reranker|vl|omni))",
        (*_AGENT, "thinking"),
        "Qwen/Qwen3-8B",
    ),
    Family("gpt-oss", r"gpt-oss", (*_AGENT, "thinking"), "openai/gpt-oss-20b"),
    Family("Magistral", r"magistral", (*_AGENT, "thinking"), "mistralai/Magistral-Small-2506"),
    # Tools. Those first that are named after what they were made of, too.
    Family("Hermes", r"hermes-?[2-4]", _AGENT, "NousResearch/Hermes-3-Llama-3.1-8B"),
    Family("Functionary", r"functionary", _AGENT, "meetkai/functionary-small-v3.2"),
    Family("Llama 3.1 to 3.3", r"llama-?3\.[123]", _AGENT, "meta-llama/Llama-3.1-8B-Instruct"),
    Family("Qwen2.5", r"qwen-?2\.5", _AGENT, "Qwen/Qwen2.5-7B-Instruct"),
    Family("Mistral Nemo", r"mistral-nemo", _AGENT, "mistralai/Mistral-Nemo-Instruct-2407"),
    Family(
        "Mistral 7B v0.3",
        r"mistral-7b-instruct-v0\.3",
        _AGENT,
        "mistralai/Mistral-7B-Instruct-v0.3",
    ),
    Family("Command R", r"command-r", _AGENT, "CohereForAI/c4ai-command-r-plus"),
    Family("Granite 3", r"granite-?3", _AGENT, "ibm-granite/granite-3.3-8b-instruct"),
    # Text, and no more is known of all of them.
    Family("Mistral", r"mistral|mixtral|ministral", _TEXT, "mistralai/Mistral-7B-Instruct-v0.2"),
    Family("Llama", r"llama-?[23]|tinyllama", _TEXT, "meta-llama/Meta-Llama-3-8B-Instruct"),
    Family("Qwen", r"qwen", _TEXT, "Qwen/Qwen2-7B-Instruct"),
    Family("Gemma", r"gemma", _TEXT, "google/gemma-2-9b-it"),
    Family("Phi", r"phi-?[234]", _TEXT, "microsoft/phi-4"),
    Family("SmolLM", r"smollm", _TEXT, "HuggingFaceTB/SmolLM2-1.7B-Instruct"),
    Family("DeepSeek", r"deepseek", _TEXT, "deepseek-ai/DeepSeek-V3"),
)


def family_of(names: Iterable[str]) -> tuple[Family, str] | None:
    """The family that one of a model's names tells, and which name that was; the first of both that
    fit counts. None: nobody knows."""
    for name in names:
        found = _family(name)
        if found is not None:
            return found, name
    return None


def _family(name: str) -> Family | None:
    plain = re.sub(r"[\s_:]+", "-", name[-MAX_NAME_CHARACTERS:].casefold())
    if _any_of_them().search(plain) is None:
        return None
    return next((f for f, pattern in _patterns() if pattern.search(plain)), None)


@functools.cache
def _patterns() -> tuple[tuple[Family, re.Pattern[str]], ...]:
    return tuple((f, re.compile(f"{_BEGIN}(?:{f.pattern})")) for f in FAMILIES)


@functools.cache
def _any_of_them() -> re.Pattern[str]:
    return re.compile(f"{_BEGIN}(?:{'|'.join(f'(?:{f.pattern})' for f in FAMILIES)})")
