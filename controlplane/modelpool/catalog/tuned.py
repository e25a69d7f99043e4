"""PURE: options that were found by trying, the layers that options come in, and which one counts.

From below: the engine's defaults; what was tuned; what the model's entry says (saved). Where the
defaults need more memory than there is, ``fitting`` chooses less, before what is left of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .model import Model

Layer = Literal["default", "memory", "tuned", "saved"]


@dataclass(frozen=True)
class Tuned:
    """Options that are better for a goal than the defaults, and how that was found.

    Attributes:
        options: what is set beside the entry's own options.
        gain: how many times as fast, the median of the last pairs; ``low`` all but one of them
            reached.
        saved: the entry's options at that time, without values from the environment.
        fingerprint: of the model's files.
        at: seconds since 1970.
        tried: the candidates, each with what became of it.
    """

    options: Mapping[str, Any]
    goal: str
    gain: float
    low: float
    high: float
    engine: str
    engine_version: str
    source: str
    fingerprint: str
    saved: Mapping[str, Any]
    at: float
    tried: tuple[Mapping[str, Any], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Tuned:
        """The reverse of ``as_dict`` for data of our own; keys of other versions are ignored."""
        known = {f.name for f in dataclasses.fields(cls)}
        values = {k: v for k, v in data.items() if k in known}
        return cls(**{**values, "tried": tuple(values.get("tried", ()))})


def why_unused(tuned: Tuned, model: Model, fingerprint: str) -> str:
    """Why the next load does without them, in words; empty where it does not."""
    if tuned.engine != model.engine:
        return f"they are for {tuned.engine}"
    if tuned.source != model.source or tuned.fingerprint != fingerprint:
        return "they are for other files"
    return ""


def why_doubtful(tuned: Tuned, model: Model, engine_version: str) -> str:
    """Why they should be looked for anew, though they are used; empty where nothing speaks for
    that."""
    if engine_version != tuned.engine_version:
        return f"{model.engine} is {engine_version or '?'}, was {tuned.engine_version or '?'}"
    if model.shown_options(model.options) != dict(tuned.saved):
        return "the saved options were others"
    return ""


def with_tuned(model: Model, tuned: Tuned | None, fingerprint: str) -> Model:
    """The model as it is started, but for what memory has a say in: what its entry says counts
    before what was tuned."""
    if tuned is None or why_unused(tuned, model, fingerprint):
        return model
    return dataclasses.replace(model, options={**tuned.options, **model.options})


@dataclass(frozen=True)
class Option:
    """One option in its layers; a value that a layer does not have is None.

    Attributes:
        default: the engine's, where it is one value; ``about`` says what it is otherwise.
        effective: with which the next load happens; None is left to the engine.
        source: the layer that it comes from.
        running: with which the present worker was started.
    """

    name: str
    default: Any
    tuned: Any
    saved: Any
    effective: Any
    source: Layer
    running: Any = None
    about: str = ""


@dataclass(frozen=True)
class Layers:
    """Options of a model by layer; ``running`` None where no worker runs, or nobody knows."""

    schema: Mapping[str, Mapping[str, Any]]
    tuned: Mapping[str, Any]
    saved: Mapping[str, Any]
    effective: Mapping[str, Any]
    running: Mapping[str, Any] | None = None

    @property
    def needs_reload(self) -> bool:
        """The present worker was started with others than the next load takes."""
        return self.running is not None and dict(self.running) != dict(self.effective)

    def options(self) -> Iterator[Option]:
        """Every option that the engine has or the model sets, in the engine's order."""
        for name in dict.fromkeys((*self.schema, *self.effective, *self.saved)):
            about = self.schema.get(name, {})
            default = about.get("default")
            yield Option(
                name,
                default,
                self.tuned.get(name),
                self.saved.get(name),
                self.effective.get(name, default),
                self._source(name),
                None if self.running is None else self.running.get(name, default),
                str(about.get("description", "")),
            )

    def _source(self, name: str) -> Layer:
        if name in self.saved:
            return "saved"
        if name in self.tuned:
            return "tuned"
        return "memory" if name in self.effective else "default"


@dataclass
class TunedOptions:
    """What was tuned of each model, in memory for everybody who plans or starts one; ``edition`` is
    another number after every change."""

    edition: int = 0
    _by_model: dict[str, Tuned] = field(default_factory=dict)

    def get(self, model_id: str) -> Tuned | None:
        return self._by_model.get(model_id)

    def put(self, model_id: str, tuned: Tuned) -> None:
        self.edition += 1
        self._by_model[model_id] = tuned

    def drop(self, model_id: str) -> Tuned | None:
        """What was there, if there was any."""
        self.edition += 1
        return self._by_model.pop(model_id, None)

    def applied(self, model: Model, fingerprint: str) -> Model:
        """See ``with_tuned``."""
        return with_tuned(model, self.get(model.model_id), fingerprint)
