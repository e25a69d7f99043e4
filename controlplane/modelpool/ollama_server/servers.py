"""PURE. Which servers of Ollama a model's workers are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from modelpool.catalog.model import Model

ENGINE = "ollama"
SERVERS_OPTION = "servers"


def with_ollama_servers(model: Model, servers: Sequence[str]) -> Model:
    """The model with the pool's servers, where it is Ollama's and names none of its own."""
    if model.engine != ENGINE or SERVERS_OPTION in model.options or not servers:
        return model
    return replace(model, options={**model.options, SERVERS_OPTION: list(servers)})
