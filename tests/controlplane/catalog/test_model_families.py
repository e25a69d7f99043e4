"""Thirty and more well-known models: what their names and their files tell of what they can do.

The facts are those of the models' public repositories: architecture and pooling of ``config.json``,
``1_Pooling/config.json`` and the keys that llama.cpp's converter makes of them, what the chat
template of ``tokenizer_config.json`` mentions, special tokens of the vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from modelpool.catalog.capabilities import Detected, Evidence, Source, detect
from modelpool.catalog.model_families import family_of
from modelpool.catalog.model_info import ModelInfo

MEAN, CLS, LAST, RANK = 1, 2, 3, 4
OF_LLAMA_CPP = ("streaming", "json_mode", "json_schema", "logprobs")
LLAMA_CPP = frozenset(
    {*OF_LLAMA_CPP, "chat", "completion", "embeddings", "rerank", "tools", "thinking", "infill"}
)


@dataclass(frozen=True)
class Case:
    """A repository; what its files state; what the name, the files, and all together tell. Beside
    ``found`` whatever writes text in a GGUF file has what llama.cpp gives to each."""

    card: str
    info: ModelInfo | None
    by_name: str
    by_files: str
    found: str

    @property
    def is_gguf(self) -> bool:
        return self.info is not None and self.info.format == "gguf"

    def detected(self) -> Detected:
        engine, can = ("llama.cpp", LLAMA_CPP) if self.is_gguf else ("", None)
        evidence = Evidence(info=self.info, names=(self.card,), engine=engine, engine_can=can)
        return detect(evidence)

    def said(self, source: Source) -> set[str]:
        """By one method alone."""
        if source == "name":
            family = family_of((self.card,))
            return set(family[0].capabilities) if family else set()
        return set(detect(Evidence(info=self.info)).capabilities)


def gguf(architecture: str, pooling: int | None = None, **values: Any) -> ModelInfo:
    return ModelInfo(architecture, 0, 0, 0, pooling=pooling, **values)


def other(architecture: str, **values: Any) -> ModelInfo:
    return ModelInfo(architecture, 0, 0, 0, format="safetensors", **values)


def template(*hints: str) -> dict[str, Any]:
    return {"has_chat_template": True, "template_hints": (*hints, "system")}


FIM = {"special_tokens": {"bos": 1, "fim_pre": 2, "fim_suf": 3, "fim_mid": 4}}

CASES = (
    # Embeddings and reranking.
    Case("nomic-ai/nomic-embed-text-v1.5", gguf("nomic-bert", MEAN), *["embeddings"] * 3),
    Case("BAAI/bge-m3", gguf("bert", CLS), *["embeddings"] * 3),
    Case("mixedbread-ai/mxbai-embed-large-v1", gguf("bert", CLS), *["embeddings"] * 3),
    Case("jinaai/jina-embeddings-v2-base-en", gguf("jina-bert-v2", MEAN), *["embeddings"] * 3),
    Case("Qwen/Qwen3-Embedding-0.6B", gguf("qwen3", LAST), *["embeddings"] * 3),
    Case("intfloat/multilingual-e5-large", other("XLMRobertaModel"), *["embeddings"] * 3),
    Case("thenlper/gte-large", other("BertModel"), *["embeddings"] * 3),
    Case("sentence-transformers/all-MiniLM-L6-v2", other("BertModel"), *["embeddings"] * 3),
    Case("BAAI/bge-reranker-v2-m3", gguf("bert", RANK), *["rerank"] * 3),
    Case(
        "jinaai/jina-reranker-v2-base-multilingual",
        other("XLMRobertaForSequenceClassification", pooling=RANK),
        *["rerank"] * 3,
    ),
    # Pictures beside text.
    Case(
        "Qwen/Qwen2.5-VL-7B-Instruct",
        other("Qwen2_5_VLForConditionalGeneration", **template("images")),
        *["chat completion vision"] * 3,
    ),
    Case(
        "llava-hf/llava-1.5-7b-hf",
        other("LlavaForConditionalGeneration", **template("images")),
        *["chat completion vision"] * 3,
    ),
    Case(
        "google/gemma-3-4b-it",
        other("Gemma3ForConditionalGeneration", **template("images")),
        *["chat completion vision"] * 3,
    ),
    # The same as a GGUF file, whose eyes are in another one.
    Case(
        "ggml-org/gemma-3-4b-it-GGUF",
        gguf("gemma3", **template("images")),
        "chat completion vision",
        *["chat completion"] * 2,
    ),
    Case(
        "google/gemma-3-1b-it",
        other("Gemma3ForCausalLM", **template()),
        *["chat completion"] * 3,
    ),
    Case(
        "openbmb/MiniCPM-V-2_6",
        other("MiniCPMV", **template()),
        *["chat completion vision"] * 3,
    ),
    Case(
        "mistral-community/pixtral-12b",
        other("LlavaForConditionalGeneration", **template("images")),
        "chat completion tools vision",
        *["chat completion vision"] * 2,
    ),
    # Tools.
    Case(
        "meta-llama/Llama-3.1-8B-Instruct",
        gguf("llama", **template("tools")),
        *["chat completion tools"] * 3,
    ),
    Case(
        "Qwen/Qwen2.5-7B-Instruct",
        gguf("qwen2", **template("tools")),
        *["chat completion tools"] * 3,
    ),
    Case(
        "mistralai/Mistral-7B-Instruct-v0.3",
        other("MistralForCausalLM", **template("tools")),
        *["chat completion tools"] * 3,
    ),
    Case(
        "NousResearch/Hermes-3-Llama-3.1-8B",
        gguf("llama", **template("tools")),
        *["chat completion tools"] * 3,
    ),
    Case(
        "meetkai/functionary-small-v3.2",
        gguf("llama", **template("tools")),
        *["chat completion tools"] * 3,
    ),
    # Code.
    Case(
        "Qwen/Qwen2.5-Coder-7B-Instruct",
        gguf("qwen2", **template("tools"), **FIM),
        *["chat completion infill tools"] * 3,
    ),
    Case(
        "codellama/CodeLlama-7b-hf",
        gguf("llama", special_tokens={"prefix": 1}),
        *["completion infill"] * 3,
    ),
    Case(
        "bigcode/starcoder2-7b",
        other("Starcoder2ForCausalLM"),
        "completion infill",
        "completion",
        "completion infill",
    ),
    Case(
        "deepseek-ai/deepseek-coder-6.7b-base",
        gguf("llama"),
        "completion infill",
        "completion",
        "completion infill",
    ),
    Case("google/codegemma-7b", gguf("gemma", **FIM), *["completion infill"] * 3),
    # Reasoning.
    Case(
        "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B",
        gguf("qwen2", **template("tools", "thinking")),
        "chat completion thinking",
        *["chat completion tools thinking"] * 2,
    ),
    Case(
        "Qwen/QwQ-32B",
        gguf("qwen2", **template("tools", "thinking")),
        *["chat completion tools thinking"] * 3,
    ),
    Case(
        "Qwen/Qwen3-8B",
        gguf("qwen3", **template("tools", "thinking")),
        *["chat completion tools thinking"] * 3,
    ),
    Case(
        "openai/gpt-oss-20b",
        gguf("gpt-oss", **template("tools", "thinking")),
        *["chat completion tools thinking"] * 3,
    ),
    # Text alone.
    Case(
        "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
        gguf("llama", **template()),
        *["chat completion"] * 3,
    ),
    Case("microsoft/phi-4", gguf("phi3", **template()), *["chat completion"] * 3),
    # Speech and pictures.
    Case(
        "openai/whisper-large-v3",
        other("WhisperForConditionalGeneration"),
        *["speech_to_text"] * 3,
    ),
    Case(
        "parler-tts/parler-tts-mini-v1",
        other("ParlerTTSForConditionalGeneration"),
        *["text_to_speech"] * 3,
    ),
    Case("hexgrad/Kokoro-82M", None, "text_to_speech", "", "text_to_speech"),
    Case(
        "stabilityai/stable-diffusion-xl-base-1.0",
        other("StableDiffusionXLPipeline"),
        *["image_generation"] * 3,
    ),
    Case("black-forest-labs/FLUX.1-schnell", other("FluxPipeline"), *["image_generation"] * 3),
    Case(
        "google/vit-base-patch16-224",
        other("ViTForImageClassification"),
        *["image_classification"] * 3,
    ),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.card)
def test_what_each_method_says(case: Case) -> None:
    detected = case.detected()
    row = (case.said("name"), case.said("metadata"), detected.capabilities)
    print(case.card, *(" ".join(sorted(words)) or "-" for words in row), sep=" | ")
    assert case.said("name") == set(case.by_name.split())
    assert case.said("metadata") == set(case.by_files.split())
    given = set(OF_LLAMA_CPP) if case.is_gguf and "completion" in case.found else set()
    assert set(detected.capabilities) == set(case.found.split()) | given
    assert set(detected.presumed) == set(case.found.split()) - set(case.by_files.split())


def test_there_are_thirty_of_them() -> None:
    families = {found[0].name for case in CASES if (found := family_of((case.card,)))}
    assert len(families) >= 30
