"""PURE: which model is measured next, while nobody is at work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# A core that is busy a quarter of the time would spoil what is measured beside it.
QUIET_LOAD = 0.25
# What failed, for others came, is not tried over and over.
AGAIN_SECONDS = 3600.0


@dataclass(frozen=True)
class Candidate:
    """A model that is loaded, and what is known of it.

    Attributes:
        is_profiled: there is a profile that holds.
        is_tuned: it was tuned for the goal, or there is nothing to find, as things are.
    """

    model_id: str
    is_profiled: bool
    is_tuned: bool


@dataclass(frozen=True)
class Wish:
    """What is asked for in the configuration: profiles, and tuning for a goal (empty: none)."""

    profiles: bool
    goal: str
    idle_seconds: float


def next_job(
    wish: Wish,
    candidates: Sequence[Candidate],
    *,
    idle_seconds: float,
    host_load: float,
    tried: Mapping[tuple[str, str], float],
    now: float,
) -> tuple[str, str] | None:
    """The kind of job to begin and its model; None where nothing is to be done, or not now.

    Args:
        idle_seconds: since anybody used any model.
        host_load: of each core.
        tried: when a kind of job was last begun for a model, on the clock of ``now``.
    """
    if idle_seconds < wish.idle_seconds or host_load > QUIET_LOAD:
        return None
    for each in candidates:
        wanted = [
            ("tune", bool(wish.goal) and not each.is_tuned),
            ("profile", wish.profiles and not each.is_profiled),
        ]
        for kind, is_wanted in wanted:
            last = tried.get((kind, each.model_id))
            if is_wanted and (last is None or now - last >= AGAIN_SECONDS):
                return kind, each.model_id
    return None
