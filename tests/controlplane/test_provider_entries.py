"""What a provider of the config file becomes in the catalog."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest
from modelpool.providers.entries import provider_entry
from modelpool.providers.table import presets
from modelpool_worker import engines


@pytest.mark.parametrize(
    ("about", "stream_usage"),
    [
        ({}, False),
        ({"options": {"stream_usage": True}}, True),
        ({"engine": "anthropic"}, None),
    ],
)
def test_what_a_known_provider_needs_is_an_option(
    about: dict[str, Any], stream_usage: bool | None
) -> None:
    """Mistral refuses ``stream_options``: whoever speaks another API there is not told so."""
    options = provider_entry("mistral", about, ["m"], {})["options"]
    assert options.get("stream_usage") == stream_usage
    assert options["base_url"] == "https://api.mistral.ai/v1"


@pytest.mark.parametrize("name", list(presets()))
def test_every_known_provider_can_be_asked(name: str) -> None:
    preset = presets()[name]
    entry = provider_entry(name, {}, ["m"], {})
    engines.get(preset.engine).check(entry["options"])
    place = urlsplit(preset.base_url)
    assert place.scheme == "https" or place.hostname == "127.0.0.1"
    assert preset.source.startswith("https://")
    assert preset.as_of
