"""PURE. The contract of a converter: settings of another program become keys of our config file,
and remarks on all that they cannot say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from modelpool_client.errors import InvalidRequest

# What ours take without being asked for it.
TTL_BOUNDS = (5, 60)
# Long ones, behind what is one line.
IN_THE_END = ("discovery_paths", "providers", "models", "aliases", "virtual_models")


class BadSettings(InvalidRequest):
    """Settings that cannot be read or make no sense there either; the text says where."""

    default_code = "bad_settings"


@dataclass(frozen=True)
class Remark:
    """What became of a setting that is not carried over as it is.

    Attributes:
        setting: its name there, with the place: ``models.coder.ttl``.
        text: why, and what to do; the rest of a sentence that begins with the setting.
    """

    setting: str
    text: str

    def __str__(self) -> str:
        return f"{self.setting}: {self.text}"


@dataclass(frozen=True)
class Conversion:
    """A config file of ours, as keys and values, and what has to be said about it."""

    config: Mapping[str, Any]
    remarks: tuple[Remark, ...] = ()


@dataclass
class Draft:
    """A conversion that is being made: every setting ends in one of the two."""

    config: dict[str, Any] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)
    ttls: list[float] = field(default_factory=list)

    def remark(self, setting: str, text: str) -> None:
        """Say what became of a setting; the same is said once."""
        remark = Remark(setting, text)
        if remark not in self.remarks:
            self.remarks.append(remark)

    def minutes(self, seconds: float) -> float:
        """A TTL of ours, 0 being never; the bounds of the config make room for it."""
        value = plain_number(seconds / 60)
        if value:
            self.ttls.append(value)
        return value

    def done(self) -> Conversion:
        """With the bounds that its TTLs need."""
        low, high = TTL_BOUNDS
        if self.ttls and min(self.ttls) < low:
            self.config["min_ttl_minutes"] = min(self.ttls)
        if self.ttls and max(self.ttls) > high:
            self.config["max_ttl_minutes"] = max(self.ttls)
        lists = [key for key in IN_THE_END if key in self.config]
        order = [*(key for key in self.config if key not in lists), *lists]
        return Conversion({key: self.config[key] for key in order}, tuple(self.remarks))


def plain_number(value: float) -> float:
    """Without a fraction where there is none, else with four digits."""
    rounded = round(value, 4)
    return int(rounded) if rounded == int(rounded) else rounded


def literal(value: Any) -> Any:
    """A value for a config file, in which ``${`` begins a variable, as it is."""
    if isinstance(value, str):
        return value.replace("${", "$${")
    if isinstance(value, Mapping):
        return {key: literal(v) for key, v in value.items()}
    return [literal(v) for v in value] if isinstance(value, list) else value


@dataclass(frozen=True)
class Found:
    """A model for llama.cpp in another program's folder.

    Attributes:
        options, request: what its program would use it with, as discovery takes them over.
    """

    model_id: str
    source: str
    options: Mapping[str, Any] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    request: Mapping[str, Any] = field(default_factory=dict)


class Converter(Protocol):
    """One program.

    Attributes:
        name: as users write it.
        title: its own spelling.
        reads: what its path may be, and what is read without one; for the help.
    """

    name: str
    title: str
    reads: str

    def read(self, path: Path | None, environ: Mapping[str, str], home: Path) -> Any:
        """Its settings, from the files and the environment. Blocks.

        Raises:
            BadSettings: there are none, or they cannot be read.
        """
        ...

    def convert(self, settings: Any) -> Conversion:
        """PURE. What they are here.

        Raises:
            BadSettings: one of them makes no sense.
        """
        ...
