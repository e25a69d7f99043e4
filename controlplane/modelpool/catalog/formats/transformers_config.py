"""What the configuration files of a Hugging Face folder say, whatever holds the weights. PURE.

The keys are those of transformers' own configuration classes, old names with new ones:
https://huggingface.co/docs/transformers/main_classes/configuration
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelpool_client.surfaces.pooling import POOLINGS

from .json_values import MAX_COUNT, JsonValues

# Where models of several modalities keep the text model's values.
TEXT_CONFIGS = ("text_config", "llm_config", "language_config", "thinker_config")
IMAGE_CONFIGS = ("vision_config", "visual", "vision_tower", "mm_vision_tower")
AUDIO_CONFIGS = ("audio_config", "audio_encoder_config", "speech_config")
# The end of an architecture's name, and what such a model takes and gives.
HEADS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("ForCausalLM", ("text",), ("text",)),
    ("LMHeadModel", ("text",), ("text",)),
    ("ForSpeechSeq2Seq", ("audio",), ("text",)),
    ("ForCTC", ("audio",), ("text",)),
    ("ForAudioClassification", ("audio",), ("tensor",)),
    ("ForImageClassification", ("image",), ("tensor",)),
    ("ForObjectDetection", ("image",), ("tensor",)),
    ("ForSequenceClassification", ("text",), ("tensor",)),
    ("ForTokenClassification", ("text",), ("tensor",)),
    ("ForMaskedLM", ("text",), ("tensor",)),
    ("ForConditionalGeneration", ("text",), ("text",)),
    ("ForVision2Seq", ("text", "image"), ("text",)),
    ("ForImageTextToText", ("text", "image"), ("text",)),
)
# Families whose architectures end like others and take something else.
AUDIO_FAMILIES = ("Whisper", "Speech2Text", "Moonshine")
SPECIAL_TOKENS = ("bos", "eos", "pad", "unk", "sep", "cls", "mask")
CROSS_ENCODER = "CrossEncoder"
NOTHING = JsonValues({}, "")


@dataclass(frozen=True)
class FolderConfig:
    """The files of a folder that describe a model, each empty where there is none.

    Attributes:
        model: ``config.json``.
        generation: ``generation_config.json``.
        tokenizer: ``tokenizer_config.json``.
        templates: the texts of chat templates; the first is the one in use.
        sentences: ``config_sentence_transformers.json``.
        pooling: ``config.json`` of the module that pools, of sentence-transformers.
        modules: the types of its modules, of ``modules.json``.
        license: as the model's card has it.
    """

    model: JsonValues
    generation: JsonValues
    tokenizer: JsonValues
    templates: Sequence[str] = ()
    sentences: JsonValues = NOTHING
    pooling: JsonValues = NOTHING
    modules: Sequence[str] = ()
    license: str | None = None


def fields_of(config: FolderConfig) -> dict[str, Any]:
    """Fields of ``ModelInfo`` that configuration files tell.

    Raises:
        Wrong: a value is of another type than it must be.
    """
    model = config.model
    text = text_config(model)
    pooling = _pooling(config)
    inputs, outputs = _modalities(model, pooling)
    heads = text.counts(
        "num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads"
    )
    return {
        "architecture": architecture_of(model),
        "name": model.text("_name_or_path", "model_name"),
        "context_length": context_length(text),
        "block_count": text.count(
            "num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers"
        ),
        "embedding_length": _widest(text, "hidden_size", "n_embd", "d_model", "dim"),
        "feed_forward_length": _widest(
            text,
            "intermediate_size",
            "n_inner",
            "ffn_dim",
            "d_ff",
            "ffn_hidden_size",
            "encoder_ffn_dim",
        ),
        "vocabulary_size": text.count("vocab_size", "padded_vocab_size")
        or model.count("vocab_size"),
        "expert_count": text.count("num_local_experts", "n_routed_experts", "num_experts"),
        "expert_used_count": text.count("num_experts_per_tok", "num_experts_per_token", "moe_topk"),
        **_attention(text, heads),
        "rope_scaling": _rope_scaling(text),
        "tokenizer": config.tokenizer.text("tokenizer_class"),
        "special_tokens": _special_tokens(config, text),
        "pooling": pooling,
        "inputs": inputs,
        "outputs": outputs,
        "license": config.license,
    }


def architecture_of(model: JsonValues) -> str:
    """The class that transformers would make of it, else the family's name; empty for neither."""
    named = model.texts("architectures")
    return next((n for n in named if n), "") or model.text("model_type") or ""


def text_config(model: JsonValues) -> JsonValues:
    """The values of the part that reads and writes text."""
    for key in TEXT_CONFIGS:
        if isinstance(model.raw(key)[1], dict):
            return text_config(model.part(key))
    return model


def context_length(text: JsonValues) -> int | None:
    """Tokens that it was made for."""
    return text.count(
        "max_position_embeddings",
        "n_positions",
        "max_seq_len",
        "max_sequence_length",
        "seq_length",
        "n_ctx",
        "max_source_positions",
    )


def _widest(text: JsonValues, *keys: str) -> int | None:
    value = text.counts(*keys)
    return max(value, default=None) if isinstance(value, tuple) else value


def _attention(text: JsonValues, heads: int | tuple[int, ...] | None) -> dict[str, Any]:
    hidden = _widest(text, "hidden_size", "n_embd", "d_model", "dim")
    most = max(heads, default=0) if isinstance(heads, tuple) else heads
    size = text.count("head_dim", "kv_channels", "d_kv")
    if size is None and hidden is not None and most:
        size = hidden // most
    rope, plain = text.count("qk_rope_head_dim"), text.count("qk_nope_head_dim")
    kv_heads = text.counts(
        "num_key_value_heads", "n_head_kv", "num_kv_heads", "multi_query_group_num"
    )
    if text.raw("multi_query")[1] is True and kv_heads is None:
        kv_heads = 1
    return {
        "head_count": heads,
        "head_count_kv": heads if kv_heads is None else kv_heads,
        "key_length": rope + plain if rope is not None and plain is not None else size,
        "value_length": text.count("v_head_dim") or size,
        **_window(text),
    }


def _window(text: JsonValues) -> dict[str, Any]:
    """``layer_types`` names each layer's kind; before there was such a list, every so-manieth
    layer had no window, or all had one."""
    window = text.count("sliding_window")
    if window is None or text.raw("use_sliding_window")[1] is False:
        return {"window": None, "window_pattern": None}
    kinds = text.texts("layer_types")
    if kinds:
        return {"window": window, "window_pattern": tuple("sliding" in kind for kind in kinds)}
    period = text.count("sliding_window_pattern", "_sliding_window_pattern")
    return {"window": window, "window_pattern": period or 0}


def _rope_scaling(text: JsonValues) -> dict[str, Any]:
    rope = text.part("rope_scaling", "rope_parameters")
    kind = rope.text("rope_type", "type")
    stated = {
        "type": kind,
        "factor": rope.real("factor"),
        "original_context_length": rope.count("original_max_position_embeddings")
        or text.count("original_max_position_embeddings"),
    }
    if kind in (None, "default"):
        return {}
    return {k: v for k, v in stated.items() if v is not None}


def _special_tokens(config: FolderConfig, text: JsonValues) -> dict[str, int]:
    """A list of ids is one of the same meaning; the first counts, as in transformers."""
    found = {}
    for name in SPECIAL_TOKENS:
        for source in (config.generation, config.model, text):
            value = source.raw(f"{name}_token_id")[1]
            first = next(iter(value), None) if isinstance(value, list) else value
            if isinstance(first, int) and not isinstance(first, bool) and 0 <= first <= MAX_COUNT:
                found[name] = first
                break
    return found


def _pooling(config: FolderConfig) -> int | None:
    """llama.cpp's number for what sentence-transformers does with the vectors of tokens."""
    if is_cross_encoder(config):
        return POOLINGS["rank"]
    said = config.pooling
    mode = said.text("pooling_mode")
    flags = {
        "cls": ("pooling_mode_cls_token",),
        "mean": ("pooling_mode_mean_tokens",),
        "last": ("pooling_mode_lasttoken",),
    }
    named = {"cls": "cls", "mean": "mean", "lasttoken": "last"}.get(mode or "")
    if named is None:
        named = next((n for n, keys in flags.items() if any(said.flag(k) for k in keys)), None)
    if named is not None:
        return POOLINGS[named]
    return POOLINGS["mean"] if any(t.endswith("Pooling") for t in config.modules) else None


def is_cross_encoder(config: FolderConfig) -> bool:
    """It scores a pair of texts. sentence-transformers says so; of others, a classifier with one
    class is one, which is also how sentence-transformers itself tells."""
    if config.sentences.text("model_type") == CROSS_ENCODER:
        return True
    if isinstance(config.model.raw("sentence_transformers")[1], dict) and not config.modules:
        return True
    classes = config.model.raw("id2label")[1]
    number = len(classes) if isinstance(classes, Mapping) else config.model.raw("num_labels")[1]
    return architecture_of(config.model).endswith("ForSequenceClassification") and number == 1


def _modalities(model: JsonValues, pooling: int | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    architecture = architecture_of(model)
    if pooling:
        return ("text",), ("tensor",)
    inputs, outputs = next(
        ((i, o) for end, i, o in HEADS if architecture.endswith(end)), (("text",), ("tensor",))
    )
    if architecture.startswith(AUDIO_FAMILIES):
        return ("audio",), outputs
    if not architecture and "patch_size" in model:
        inputs = ("image",)
    more = [
        word
        for word, keys in (("image", IMAGE_CONFIGS), ("audio", AUDIO_CONFIGS))
        if _has_part(model, keys) and word not in inputs
    ]
    return (*inputs, *more), outputs


def _has_part(model: JsonValues, keys: tuple[str, ...]) -> bool:
    nested = model.raw("thinker_config")[1]
    within = isinstance(nested, dict) and any(nested.get(key) for key in keys)
    return within or any(model.raw(key)[1] for key in keys)
