"""PURE. Chat templates that llama.cpp has by name, and what is told of a model whose own does not
work."""

from __future__ import annotations

from modelpool_client.errors import InvalidRequest

from .routes import TEXT_PATH

FAULT = "the chat template in its file does not work"
# One that llama.cpp has as Jinja, too ...
CHATML = "chatml"
# ... and those that it writes by hand (src/llama-chat.cpp): messages only, no tools, no arguments.
PLAIN_TEMPLATES = frozenset(
    {
        "llama2",
        "llama2-sys",
        "llama2-sys-bos",
        "llama2-sys-strip",
        "llama3",
        "llama4",
        "mistral-v1",
        "mistral-v3",
        "mistral-v3-tekken",
        "mistral-v7",
        "mistral-v7-tekken",
        "bailing",
        "bailing-think",
        "bailing2",
        "chatglm3",
        "chatglm4",
        "command-r",
        "deepseek",
        "deepseek-ocr",
        "deepseek2",
        "deepseek3",
        "exaone-moe",
        "exaone3",
        "exaone4",
        "falcon3",
        "gemma",
        "gigachat",
        "glmedge",
        "gpt-oss",
        "granite",
        "granite-4.0",
        "granite-4.1",
        "grok-2",
        "hunyuan-dense",
        "hunyuan-moe",
        "hunyuan-vl",
        "kimi-k2",
        "megrez",
        "minicpm",
        "monarch",
        "openchat",
        "orion",
        "pangu-embedded",
        "phi3",
        "phi4",
        "rwkv-world",
        "seed_oss",
        "smolvlm",
        "solar-open",
        "vicuna",
        "vicuna-orca",
        "yandex",
        "zephyr",
    }
)


def names_a_template(text: str) -> bool:
    """Whether llama.cpp has a chat template of that name."""
    return text == CHATML or text in PLAIN_TEMPLATES


def no_chat(model_id: str, why: str) -> InvalidRequest:
    """The refusal of a chat; ``why`` begins with ``FAULT``."""
    return InvalidRequest(
        f"{model_id} cannot chat: {why}; set the model's option chat_template or "
        f"chat_template_file and load it again, or use {TEXT_PATH}",
        code="chat_template_error",
        source="engine",
    )
