"""What the class of a model in a ``config.json`` tells of what it can do. PURE, a table.

The names are those of transformers and diffusers, whose last words say what stands behind the
network: a head that writes, a head that sorts into classes, or none.
"""

from __future__ import annotations

from collections.abc import Mapping

# The first that the architecture ends in counts.
BY_ENDING: Mapping[str, tuple[str, ...]] = {
    "WhisperForConditionalGeneration": ("speech_to_text",),
    "ParlerTTSForConditionalGeneration": ("text_to_speech",),
    "ForSpeechSeq2Seq": ("speech_to_text",),
    "Speech2TextForConditionalGeneration": ("speech_to_text",),
    "ForCTC": ("speech_to_text",),
    "ForTextToSpeech": ("text_to_speech",),
    "ForTextToWaveform": ("text_to_speech",),
    "VitsModel": ("text_to_speech",),
    "ForImageClassification": ("image_classification",),
    "ForSequenceClassification": ("classification",),
    "ForTokenClassification": ("classification",),
    "Pipeline": ("image_generation",),
    "ForCausalLM": ("completion",),
    "LMHeadModel": ("completion",),
    "ForConditionalGeneration": ("completion",),
    "ForCausalLMWithValueHead": ("completion",),
}
# Encoders without a head: what comes out of them is pooled into a vector.
ENCODERS = frozenset(
    {
        "BertModel",
        "DistilBertModel",
        "Gemma3TextModel",
        "GteModel",
        "MPNetModel",
        "ModernBertModel",
        "NewModel",
        "NomicBertModel",
        "RobertaModel",
        "XLMRobertaModel",
    }
)
# That read pictures, though their last words do not say so; the whole name counts.
READS_PICTURES = frozenset(
    {
        "Gemma3ForConditionalGeneration",
        "Idefics3ForConditionalGeneration",
        "InternVLChatModel",
        "LlavaForConditionalGeneration",
        "LlavaNextForConditionalGeneration",
        "LlavaOnevisionForConditionalGeneration",
        "MiniCPMO",
        "MiniCPMV",
        "Mistral3ForConditionalGeneration",
        "MllamaForConditionalGeneration",
        "MolmoForCausalLM",
        "PaliGemmaForConditionalGeneration",
        "Phi3VForCausalLM",
        "Qwen2VLForConditionalGeneration",
        "Qwen2_5_VLForConditionalGeneration",
        "Qwen3VLForConditionalGeneration",
        "SmolVLMForConditionalGeneration",
    }
)


def tasks_of(architecture: str) -> tuple[str, ...]:
    """The capabilities that the class stands for; empty where nobody here knows it."""
    if architecture in ENCODERS:
        return ("embeddings",)
    if architecture in READS_PICTURES:
        return ("completion", "vision")
    return next((can for end, can in BY_ENDING.items() if architecture.endswith(end)), ())
