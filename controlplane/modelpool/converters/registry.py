"""The programs whose settings are understood."""

from __future__ import annotations

from collections.abc import Mapping

from .base import Converter
from .llama_swap.converter import LlamaSwap
from .lm_studio.converter import LmStudio
from .ollama.converter import Ollama

CONVERTERS: Mapping[str, Converter] = {
    each.name: each for each in (LlamaSwap(), LmStudio(), Ollama())
}
