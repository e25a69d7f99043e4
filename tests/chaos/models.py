"""The cast: sound models, a real one among them, and one for each way to fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

DEMO = "demo"
DEMO_FILE = Path(__file__).parents[2] / "configs" / "models" / "pool-demo.gguf"
# What the fake engine is told; it answers with what it was asked.
SOUND: dict[str, dict[str, Any]] = {
    "swift": {},
    "steady": {"tokens_per_second": 60},
    "long": {"tokens_per_second": 15},
    "single": {"tokens_per_second": 60, "parallel": 1},
    "org/slow:7b": {"load_seconds": 1.5, "load_steps": 6},
    "stubborn": {"ignore_term": True, "leak_process": True},
    "drowsy": {"sleeps": 1, "memory_mb": 20},
}
DROWSY = "drowsy"
BAD: dict[str, dict[str, Any]] = {
    "refuses": {"fail_load": "oom", "message": "told to fail"},
    "crashes": {"die_while_loading": "SIGKILL", "load_seconds": 0.2},
    "exits": {"die_while_loading": 7},
    "never": {"never_ready": True},
    "liar": {"lie_ready": True},
    "garbage": {"garbage": True},
    "curt": {"end_early": True},
    "mortal": {"die_after_tokens": 3},
    "mute": {"hang_everything": True},
    "sleeper": {"hang_after_tokens": 3, "tokens_per_second": 60},
}
GUESTS = ("guest-1", "guest-2", "org/guest:3b")
MEMORY_MB = 100
SHORT_MINUTES = 0.01


def entry(model_id: str, script: dict[str, Any]) -> dict[str, Any]:
    """A catalog entry of the fake engine."""
    return {
        "model_id": model_id,
        "engine": "fake",
        "source": "none",
        "memory_mb": MEMORY_MB,
        "ttl_minutes": SHORT_MINUTES if "sleeps" in script else None,
        "options": script,
    }


def catalog() -> list[dict[str, Any]]:
    """Every entry of the pool's config."""
    scripts = {**SOUND, **BAD}
    demo = {"model_id": DEMO, "source": str(DEMO_FILE), "memory_mb": 2 * MEMORY_MB}
    return [demo, *(entry(model_id, script) for model_id, script in scripts.items())]
