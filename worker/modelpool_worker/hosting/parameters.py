"""PURE. Which parameters the kit itself honours, for the ``honours`` of an engine."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from modelpool_client.surfaces.routes import CHAT_PATH, TEXT_PATH

# The kit sees to these, whatever a model samples with.
_TEXT = ("max_tokens", "n", "stop")
_CHAT = ("max_completion_tokens", "chat_template_kwargs", "tools", "parallel_tool_calls")
# Names of ``contract.Sampling``, which an engine may honour: those of OpenAI and llama.cpp.
SAMPLING = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "seed",
)


def text_honours(
    sampling: Sequence[str] = ("temperature", "top_p", "top_k", "seed"),
    *,
    logprobs: bool = False,
    grammar: bool = False,
) -> Mapping[str, Collection[str]]:
    """For an engine that hosts a ``TextModel``.

    Args:
        sampling: what of ``SAMPLING`` its models read.
        logprobs: its tokens have their log probabilities.
        grammar: its steps follow a ``Constraint``; a model without ``vocabulary`` is told so.
    """
    common = (*_TEXT, *sampling, *(("logprobs",) if logprobs else ()))
    chat = (*_CHAT, *(("top_logprobs",) if logprobs else ()))
    chat = (*chat, *(("response_format",) if grammar else ()))
    return {CHAT_PATH: (*common, *chat), TEXT_PATH: common}
