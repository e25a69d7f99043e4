"""Which model suits a purpose best, why, and what speaks against the others. PURE."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelpool_client.capabilities import word_of

from .model import Model
from .search import MB, weight_of

MB_PER_GB = 1000
RUNNERS_UP = 3

# What people call a type of model, and the capabilities of which it has one.
TYPES: Mapping[str, frozenset[str]] = {
    "llm": frozenset({"chat", "completion"}),
    "embedding": frozenset({"embeddings"}),
    "embeddings": frozenset({"embeddings"}),
    "reranker": frozenset({"rerank"}),
    "vision": frozenset({"vision"}),
    "speech": frozenset({"speech_to_text", "audio"}),
}
# Tasks that older documents name among capabilities, and the tag that says so.
TASKS = {"code_generation": "code"}


@dataclass(frozen=True)
class Wanted:
    """What a model must be. None and empty are no condition.

    Attributes:
        model_type: a model's own, or a word of ``TYPES``.
        max_memory_bytes: that its load may take of the host.
        max_latency_ms: of a request, on average.
        required_capabilities: each is a capability, a tag or the type of the model.
        tags: all of them.
        repository: where it comes from: its ``repository``, or the owner in its id.
    """

    model_type: str | None = None
    max_memory_bytes: int | None = None
    max_latency_ms: float | None = None
    required_capabilities: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    repository: str | None = None


@dataclass(frozen=True)
class Facts:
    """What is known of a model beyond its entry; None: not known.

    Attributes:
        memory_bytes: of the host, that its load takes.
        is_loaded: it serves now.
        latency_ms: of a request, on average, as measured.
        latency_source: by what that was measured.
    """

    memory_bytes: int | None = None
    is_loaded: bool = False
    latency_ms: float | None = None
    latency_source: str = ""


@dataclass(frozen=True)
class Candidate:
    """A model that meets every condition, as far as is known, and what speaks for it."""

    model: Model
    facts: Facts
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Findings:
    """``best`` is None where no model will do. ``runners_up`` are the next best ones; ``excluded``
    says of others why they are not."""

    best: Candidate | None
    runners_up: tuple[Candidate, ...]
    excluded: Mapping[str, tuple[str, ...]]


class BestFinder:
    """Of the models that meet every condition: one whose latency is known before one whose latency
    is not, if that is a condition; then the largest, because of models that are quick and small
    enough the one with the most weights answers best; then one that is loaded, then the quickest.

    Args:
        facts_of: is asked only about models whose entry meets the conditions, and whether it must
            say how much memory they take: to work that out takes longer than all else, and most are
            neither measured by it nor told of.
        known: ids of those that are loaded or whose latency is known: of any other ``facts_of``
            says neither.
    """

    def __init__(
        self,
        wanted: Wanted,
        facts_of: Callable[[Model, bool], Facts],
        known: Collection[str] = frozenset(),
    ) -> None:
        self._wanted = wanted
        self._facts_of = facts_of
        self._known = known
        self._found: list[Model] = []

    def in_order(self, heaviest_first: Sequence[Model]) -> Iterator[Model]:
        """The best first, as far as nothing speaks against them. ``heaviest_first``: among equals
        by their ids."""
        known = [m for m in heaviest_first if m.model_id in self._known]
        known.sort(key=self._rank)
        others = (m for m in heaviest_first if m.model_id not in self._known)
        return heapq.merge(known, others, key=self._rank) if known else iter(heaviest_first)

    def look(self, models: Iterable[Model]) -> bool:
        """Look at more of them, ``in_order``; whether enough were found."""
        for model in models:
            if not self._judged(model)[1]:
                self._found.append(model)
            if len(self._found) > RUNNERS_UP:
                return True
        return False

    def findings(self, told: Iterable[Model] = ()) -> Findings:
        """The best of those that were looked at, and why some others are not among them.

        Args:
            told: of which it is said what speaks against them, where anything does.
        """
        against = {m.model_id: problems for m in told if (problems := self._judged(m)[1])}
        found = [(model, self._facts_of(model, True)) for model in self._found]
        best = [Candidate(m, facts, tuple(_for(m, facts, self._wanted))) for m, facts in found]
        return Findings(best[0] if best else None, tuple(best[1:]), against)

    def _judged(self, model: Model) -> tuple[Facts, tuple[str, ...]]:
        problems = tuple(_against(model, self._wanted))
        if problems:
            return Facts(), problems
        facts = self._facts_of(model, self._wanted.max_memory_bytes is not None)
        return facts, tuple(_against_facts(facts, self._wanted))

    def _rank(self, model: Model) -> tuple[Any, ...]:
        """The best has the least."""
        is_known = model.model_id in self._known
        facts = self._facts_of(model, False) if is_known else Facts()
        is_unsure = self._wanted.max_latency_ms is not None and facts.latency_ms is None
        latency = float("inf") if facts.latency_ms is None else facts.latency_ms
        return (is_unsure, -weight_of(model), not facts.is_loaded, latency, model.model_id)


def read_wanted(
    data: Mapping[str, Any],
) -> tuple[Wanted, list[str]]:
    """The conditions of a request, checked already, and what deserves a word about them.

    ``min_memory_gb`` is read as a maximum: the document that invented it says "Max 8GB" beside it.
    """
    warnings, most = [], data.get("max_memory_gb")
    least = data.get("min_memory_gb")
    if least is not None:
        most = least if most is None else min(most, least)
        warnings.append(f"min_memory_gb is read as a maximum: {most:g} GB; write max_memory_gb")
    return (
        Wanted(
            data.get("model_type"),
            None if most is None else int(most * MB_PER_GB * MB),
            data.get("max_latency_ms"),
            tuple(data.get("required_capabilities") or ()),
            tuple(data.get("tags") or ()),
            data.get("repository"),
        ),
        warnings,
    )


def _against(model: Model, wanted: Wanted) -> Iterable[str]:
    """What its entry says against it."""
    if wanted.model_type is not None and not _is_of_type(model, wanted.model_type):
        yield f"its type is {model.model_type}, not {wanted.model_type}"
    missing = [c for c in wanted.required_capabilities if not _can(model, c)]
    if missing:
        yield f"cannot, as far as is known: {', '.join(missing)}"
    untagged = [tag for tag in wanted.tags if tag not in model.tags]
    if untagged:
        yield f"has no tag {', '.join(untagged)}"
    if wanted.repository is not None and wanted.repository not in _repositories(model):
        yield f"is not from {wanted.repository}"


def _against_facts(facts: Facts, wanted: Wanted) -> Iterable[str]:
    most, size = wanted.max_memory_bytes, facts.memory_bytes
    if most is not None and size is not None and size > most:
        yield f"needs {size / MB:,.0f} MB, more than {most / MB:,.0f}"
    limit, latency = wanted.max_latency_ms, facts.latency_ms
    if limit is not None and latency is not None and latency > limit:
        yield f"takes {latency:,.0f} ms ({facts.latency_source}), more than {limit:g}"


def _for(model: Model, facts: Facts, wanted: Wanted) -> Iterable[str]:
    if facts.memory_bytes is not None:
        yield f"needs {facts.memory_bytes / MB:,.0f} MB"
    if facts.latency_ms is not None:
        yield f"takes {facts.latency_ms:,.0f} ms ({facts.latency_source})"
    elif wanted.max_latency_ms is not None:
        yield "its latency is not known: nothing was measured yet"
    if wanted.required_capabilities:
        yield f"can {', '.join(wanted.required_capabilities)}"
    if facts.is_loaded:
        yield "is loaded"


def _is_of_type(model: Model, wanted: str) -> bool:
    word = wanted.casefold()
    known = TYPES.get(word, frozenset())
    return model.model_type.casefold() == word or not known.isdisjoint(model.capabilities)


def _can(model: Model, wanted: str) -> bool:
    word = word_of(wanted)
    said = {model.model_type, *model.capabilities, *(word_of(tag) for tag in model.tags)}
    return word in said or TASKS.get(word) in said


def _repositories(model: Model) -> tuple[str, ...]:
    said, owner = model.metadata.get("repository"), model.model_id.rpartition("/")[0]
    return tuple(text for text in (said, owner) if isinstance(text, str) and text)
