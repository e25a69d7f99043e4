"""PURE but for the two tables of the package. What is known of providers and of their models."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

# Of a name the part that says of which day it is: gpt-4o-2024-08-06, claude-haiku-4-5-20251001.
_DAY = re.compile(r"-(?:\d{4}-\d{2}-\d{2}|\d{8}|latest)$")


@dataclass(frozen=True)
class Preset:
    """A provider that is well known.

    Attributes:
        engine: that speaks its API.
        variables: of the environment, any of which may hold its key; none: it wants none.
        base_url_variable: of the environment, which may say where it is.
        options: of the engine, that this one needs.
        source: its documentation, as of that month.
    """

    engine: str
    base_url: str
    variables: tuple[str, ...]
    base_url_variable: str
    source: str
    as_of: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def where(self, environ: Mapping[str, str]) -> str:
        """Where its API begins."""
        return environ.get(self.base_url_variable, "") or self.base_url

    def key_variable(self, environ: Mapping[str, str]) -> str:
        """The variable that holds its key, or would; empty where it wants none."""
        found = (name for name in self.variables if environ.get(name))
        return next(found, self.variables[0] if self.variables else "")


@cache
def presets() -> Mapping[str, Preset]:
    """By the provider's name."""
    return {
        name: Preset(
            about["engine"],
            about["base_url"],
            tuple(about["variables"]),
            about.get("base_url_variable", ""),
            about["source"],
            about["as_of"],
            about.get("options", {}),
        )
        for name, about in _read("presets.json").items()
    }


def known_model(
    provider: str, name: str, extra: Mapping[str, Mapping[str, Any]] = {}
) -> dict[str, Any]:
    """Capabilities, context and prices (dollars for a million tokens) of a provider's model; empty
    where nothing is known.

    Args:
        extra: a user's own table, ``{"PROVIDER:NAME": {…}}``, which counts before ours.
    """
    plain = _DAY.sub("", name)
    own = extra.get(f"{provider}:{name}") or extra.get(f"{provider}:{plain}") or {}
    table = _read("remote_models.json").get(provider, {})
    models = table.get("models", {})
    found = models.get(name) or models.get(plain) or {}
    merged = {**found, **own}
    if "prices" in found and "prices" not in own:
        merged["prices"] = {**found["prices"], "as_of": table["as_of"]}
    return merged


@cache
def _read(name: str) -> dict[str, Any]:
    text = files("modelpool.providers").joinpath(name).read_text(encoding="utf-8")
    return dict(json.loads(text))
