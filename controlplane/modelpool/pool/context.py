"""PURE: what a decision may know besides the replica itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from modelpool.config import EnvironmentSettings, PoolConfig


@dataclass
class Settings:
    """What is in force for the whole pool; the pool alone writes it, at run time too."""

    config: PoolConfig
    is_stopping: bool = False

    @property
    def memory_limit_bytes(self) -> int:
        """Of the host, that all models together may use."""
        return self.config.memory_limit_bytes

    @property
    def device_budgets(self) -> Mapping[str, int]:
        """Bytes that all models together may use of each device."""
        return self.config.device_budgets

    @property
    def environments(self) -> Mapping[str, EnvironmentSettings]:
        """Virtual environments that workers may run from, by name."""
        return self.config.environments

    @property
    def state_dir(self) -> Path:
        """Where the pool keeps its own."""
        return self.config.state_dir


class Context(NamedTuple):
    """One moment.

    Attributes:
        now: seconds of the pool's clock.
        wall: seconds since 1970.
        is_kept: the replica stays however idle it is, for its model wants that many copies while
            one of them is used.
    """

    now: float
    wall: float
    config: PoolConfig
    is_stopping: bool
    is_kept: bool = False
