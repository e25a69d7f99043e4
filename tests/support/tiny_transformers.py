"""Small random models for ``transformers``, saved as folders. Needs torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WORDS = "a the red green blue fox dog bird sky sea runs swims flies is not and what who where"


def word_tokenizer(**more: Any) -> Any:
    """BERT's kind: a word is a token."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS.split()]
    inner = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, "[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]"}
    names_of_inputs = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        sep_token="[SEP]",
        model_input_names=names_of_inputs,
        **special,
        **more,
    )


def bert(folder: Path, kind: str = "BertModel", seed: int = 1, **config: Any) -> Path:
    """A BERT of two layers with random weights, of that class."""
    import torch
    import transformers

    torch.manual_seed(seed)
    shape = transformers.BertConfig(
        vocab_size=4 + len(WORDS.split()),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.6,
        **config,
    )
    getattr(transformers, kind)(shape).eval().save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    return folder


def sentence_modules(folder: Path, pooling: str) -> None:
    """As sentence-transformers describes such a folder."""
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    told = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(told))
    (folder / "1_Pooling").mkdir()
    config = {"word_embedding_dimension": 32, f"pooling_mode_{pooling}": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(config))


def causal(folder: Path, tokenizer_from: Path, kind: str = "llama", **config: Any) -> Path:
    """A model that writes, with random weights and the tokenizer of another."""
    import torch
    import transformers

    torch.manual_seed(3)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tokenizer_from)
    shape = transformers.AutoConfig.for_model(
        kind, vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=2, pad_token_id=0, **config
    )
    model = transformers.AutoModelForCausalLM.from_config(shape).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
