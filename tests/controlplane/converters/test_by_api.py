"""What of a conversion a pool that runs may be told."""

from __future__ import annotations

from modelpool.converters.by_api import by_api


def test_each_part_goes_where_it_may() -> None:
    plain = {"model_id": "a", "source": "/a.gguf", "options": {"parallel": 1}}
    config = {
        "default_ttl_minutes": 5,
        "llama_server": "/x",
        "allowed_origins": ["${ORIGIN}"],
        "models": [
            plain,
            {"model_id": "b", "source": "b", "options": {"command": ["x"]}},
            {"model_id": "c", "source": "${HOME}/c.gguf"},
        ],
        "virtual_models": {"v": {"kind": "alias", "target": "a"}},
        "aliases": {"w": "a", "x": "b", "y": "p:m"},
        "providers": {"p": {"models": ["m"]}},
    }
    parts = by_api(config, {"default_ttl_minutes", "allowed_origins"})
    assert parts.config == {"default_ttl_minutes": 5}
    assert parts.models == [plain]
    assert parts.virtual_models == {"v": {"kind": "alias", "target": "a"}, "w": "a"}
    assert set(parts.left) == {
        *("llama_server", "allowed_origins", "providers"),
        *("model b", "model c", "virtual model x", "virtual model y"),
    }
