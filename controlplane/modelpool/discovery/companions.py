"""PURE. Which projectors, adapters and drafts go with which model, and why.

A companion whose file names the model that it was made for, where a model of that name was found,
goes with that one, wherever either lies. Any other goes with models of its own folder (or
repository): with all of them, where they are one model in several quantisations, else with those
whose name is in its own, or its own in theirs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from modelpool.discovery.findings import Finding
from modelpool.discovery.names import plain, split_quantization, stem

WORDS = ("mmproj", "lora", "adapter", "draft", "tokenizer", "vocab", "model")
# A draft is of use where it is this much smaller than what it drafts for.
DRAFT_SHARE = 0.5


@dataclass(frozen=True)
class Belonging:
    """What goes with a model. ``finding``: what was found there; None where only a layout says that
    there is something."""

    kind: str
    path: str
    reason: str
    finding: Finding | None = None


class Companions:
    """All that was found, by what it may go with; ``findings`` are models and companions."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self._names: dict[str, str] = {}
        self._models: defaultdict[str, set[str]] = defaultdict(set)
        self._near: defaultdict[str, list[Finding]] = defaultdict(list)
        self._named: defaultdict[str, list[Finding]] = defaultdict(list)
        findings = tuple(findings)
        titles = {title for f in findings if f.kind == "model" and (title := plain(f.title))}
        for finding in findings:
            if finding.kind == "model":
                self._models[finding.family].add(_own_name(finding.path))
            elif finding.kind == "companion":
                base = plain(finding.base_model)
                claimed = self._named[base] if base in titles else self._near[finding.family]
                claimed.append(finding)
                self._names[finding.path] = _own_name(finding.path)
        for found in (*self._near.values(), *self._named.values()):
            found.sort(key=lambda f: f.path)

    def of(self, places: Sequence[Finding]) -> tuple[Belonging, ...]:
        """What goes with a model that was found in these places, each path once."""
        found: dict[str, Belonging] = {}
        for place in places:
            for each in (*_of_layout(place), *self._claimed(place), *self._beside(place)):
                found.setdefault(each.path, each)
        return tuple(found.values())

    def _claimed(self, model: Finding) -> Iterator[Belonging]:
        for each in self._named.get(plain(model.title), ()) if model.title else ():
            reason = f"its file says that it is for {each.base_model}"
            yield Belonging(each.companion, each.path, reason, each)

    def _beside(self, model: Finding) -> Iterator[Belonging]:
        near = self._near.get(model.family)
        if not near:
            return
        is_alone = len(self._models[model.family]) == 1
        own = _own_name(model.path)
        for each in near:
            name = self._names[each.path]
            if is_alone:
                reason = "it lies with it, and with no other model"
            elif name and own and (name in own or own in name):
                reason = "it lies with it, and is called like it"
            else:
                continue
            yield Belonging(each.companion, each.path, reason, each)


def by_kind(belongings: Iterable[Belonging]) -> dict[str, list[str]]:
    """Their paths."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for each in belongings:
        found[each.kind].append(each.path)
    return dict(sorted(found.items()))


def fitting_draft(model: Finding, belongings: Iterable[Belonging]) -> str | None:
    """The first of its drafts that can propose tokens for it: one with the same tokenizer, as far
    as the files tell, that is much smaller."""
    for each in belongings:
        draft = each.finding if each.kind == "draft" else None
        if draft is None or not (draft.tokenizer and draft.vocabulary_size):
            continue
        same = (draft.tokenizer, draft.vocabulary_size) == (model.tokenizer, model.vocabulary_size)
        if same and draft.size_bytes <= DRAFT_SHARE * model.size_bytes:
            return each.path
    return None


def _of_layout(model: Finding) -> Iterator[Belonging]:
    companions: Mapping[str, Sequence[str]] = model.companions
    for kind, paths in companions.items():
        for path in paths:
            yield Belonging(kind, path, "its store says so")


def _own_name(path: str) -> str:
    name = plain(split_quantization(stem(path))[0])
    for word in WORDS:
        name = name.replace(word, "")
    return name
