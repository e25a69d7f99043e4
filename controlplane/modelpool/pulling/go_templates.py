"""Ollama's chat templates, which are written for Go: recognised, as far as they are known. PURE.

A GGUF file has a template of its own, as Jinja, or it has none. Where it has none, the one that
Ollama's registry has for it says how the model was taught to hear a conversation: not by what Go
would make of it, which nothing here runs, but by the words that it puts around messages.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

# The name that llama.cpp knows by itself.
CHATML = "chatml"
_ROLES = "{% for m in messages %}"
_END = "{% endfor %}"
# What says how to behave stands within the first thing that the user says.
_SYSTEM_FIRST = (
    "{% if messages[0].role == 'system' %}{% set system = messages[0].content %}"
    "{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}"
)


@dataclass(frozen=True)
class KnownTemplate:
    """A way of writing conversations down.

    Attributes:
        marks: a Go template that holds all of them is it.
        jinja: the same for llama.cpp, or the name that it knows it by.
    """

    name: str
    marks: Collection[str]
    jinja: str


KNOWN: Sequence[KnownTemplate] = (
    KnownTemplate("chatml", ("<|im_start|>", "<|im_end|>"), CHATML),
    KnownTemplate(
        "llama3",
        ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        _ROLES
        + "<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content }}<|eot_id|>"
        + _END
        + "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n"
        "{% endif %}",
    ),
    KnownTemplate(
        "gemma",
        ("<start_of_turn>", "<end_of_turn>"),
        _SYSTEM_FIRST + _ROLES + "{% if m.role == 'assistant' %}<start_of_turn>model\n"
        "{{ m.content }}<end_of_turn>\n{% elif m.role == 'user' %}<start_of_turn>user\n"
        "{% if system and loop.first %}{{ system }}\n\n{% endif %}"
        "{{ m.content }}<end_of_turn>\n{% endif %}"
        + _END
        + "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
    ),
    KnownTemplate(
        "llama2",
        ("[INST]", "<<SYS>>"),
        _SYSTEM_FIRST
        + _ROLES
        + "{% if m.role == 'user' %}[INST] {% if system and loop.first %}<<SYS>>\n"
        "{{ system }}\n<</SYS>>\n\n{% endif %}{{ m.content }} [/INST]"
        "{% elif m.role == 'assistant' %} {{ m.content }}</s>{% endif %}" + _END,
    ),
    KnownTemplate(
        "mistral",
        ("[INST]", "[/INST]"),
        _SYSTEM_FIRST + _ROLES + "{% if m.role == 'user' %}[INST] {% if system and loop.first %}"
        "{{ system }}\n\n{% endif %}{{ m.content }} [/INST]"
        "{% elif m.role == 'assistant' %} {{ m.content }}</s>{% endif %}" + _END,
    ),
    KnownTemplate(
        "phi3",
        ("<|user|>", "<|assistant|>", "<|end|>"),
        _ROLES
        + "<|{{ m.role }}|>\n{{ m.content }}<|end|>\n"
        + _END
        + "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
    ),
    KnownTemplate(
        "zephyr",
        ("<|user|>", "<|assistant|>", "</s>"),
        _ROLES
        + "<|{{ m.role }}|>\n{{ m.content }}</s>\n"
        + _END
        + "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
    ),
    KnownTemplate(
        "alpaca",
        ("### Instruction:", "### Response:"),
        _ROLES + "{% if m.role == 'system' %}{{ m.content }}\n\n{% elif m.role == 'user' %}"
        "### Instruction:\n{{ m.content }}\n\n{% else %}### Response:\n{{ m.content }}\n\n"
        "{% endif %}" + _END + "{% if add_generation_prompt %}### Response:\n{% endif %}",
    ),
    KnownTemplate(
        "vicuna",
        ("USER:", "ASSISTANT:"),
        _ROLES + "{% if m.role == 'system' %}{{ m.content }}\n\n{% elif m.role == 'user' %}"
        "USER: {{ m.content }}\n{% else %}ASSISTANT: {{ m.content }}</s>\n{% endif %}"
        + _END
        + "{% if add_generation_prompt %}ASSISTANT:{% endif %}",
    ),
)


def recognised(template: str) -> KnownTemplate | None:
    """The first whose marks it holds; None for one that is not known."""
    return next((k for k in KNOWN if all(mark in template for mark in k.marks)), None)


def applied(template: str, *, has_own: bool) -> tuple[str, str]:
    """What a model's option ``chat_template`` is to be, empty for nothing, and what is to be told.

    Args:
        template: Ollama's.
        has_own: the model's file has one.
    """
    if has_own:
        return "", "its template is Ollama's own kind and kept; the file's own is used"
    known = recognised(template)
    if known is not None:
        return known.jinja, f"its file has no chat template; Ollama's is that of {known.name}: set"
    text = "its file has no chat template, and Ollama's is written for Go and none that is known"
    return "", f"{text}: it is not applied, llama.cpp falls back to {CHATML}; set chat_template"
