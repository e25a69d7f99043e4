"""The list of models as the types of OpenAI's and Anthropic's packages want it."""

from __future__ import annotations

from typing import Any

import pytest
from modelpool_client.surfaces.models import Listed, as_llama_cpp, listing
from support.lazy import Lazy

anthropic = Lazy("anthropic")
openai = Lazy("openai")
KNOWN = Listed("m", ("nick",), 86400.5, "M", ("chat", "json_schema"), 4096, {"state": "COLD"})
BARE = Listed("n", (), 0)


@pytest.mark.parametrize("entry", [*KNOWN.entries(), *BARE.entries()], ids=lambda e: e["id"])
def test_both_packages_read_an_entry(entry: dict[str, Any]) -> None:
    found = openai.types.Model.model_validate(entry)
    assert found.created == int(KNOWN.created if entry["root"] == "m" else 0)
    other = anthropic.types.ModelInfo.model_validate({**entry, "capabilities": None})
    assert other.created_at.timestamp() == found.created
    assert (other.type, other.lifecycle) == ("model", "active")
    assert other.display_name == {"m": "M", "nick": "M", "n": "n"}[entry["id"]]
    assert other.max_input_tokens == entry["context_length"]


def test_capabilities_are_ours_and_those_that_anthropic_asks_of() -> None:
    said = KNOWN.entry("m")["capabilities"]
    assert {name for name, how in said.items() if how["supported"]} == {
        "chat",
        "json_schema",
        "structured_outputs",
    }
    assert said.keys() > set(anthropic.types.ModelCapabilities.model_fields)
    assert BARE.entry("n")["capabilities"] is None


def test_what_llama_cpp_says_of_its_models() -> None:
    models = [KNOWN, Listed("v", (), 0, capabilities=("chat", "vision", "embeddings")), BARE]
    told = as_llama_cpp(models)["models"]
    assert [model["name"] for model in told] == ["m", "v", "n"]
    assert [model["capabilities"] for model in told] == [
        ["completion"],
        ["completion", "multimodal", "embedding"],
        [],
    ]
    assert told[0]["aliases"] == ["nick"]


def test_a_page_is_the_only_one() -> None:
    page = listing([KNOWN, BARE])
    assert [entry["id"] for entry in page["data"]] == ["m", "nick", "n"]
    assert (page["first_id"], page["last_id"], page["has_more"]) == ("m", "n", False)
    assert listing([])["first_id"] is None
