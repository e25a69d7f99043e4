"""What a model can do, found out by several methods, each told with its reason. PURE.

Of what two methods say differently, one counts:

1. ``probe``: it was asked for, and that is how it went;
2. ``declared``: the owner's list is a whole one, so that what is not on it cannot be done;
3. ``engine``, where it says no: a file tells what a model could do, the engine what becomes of it;
4. ``metadata``: what the files say;
5. ``engine``, where it says yes: what it gives to every model that writes text;
6. ``name``, only of what nothing else speaks of.

Nobody says no by a name: see ``Detected.presumed``.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from modelpool_client.capabilities import CAPABILITIES, in_order
from modelpool_client.surfaces.pooling import POOLINGS, pooling_of, purposes_of

from .architectures import tasks_of
from .model_families import Family, family_of
from .model_info import ModelInfo
from .probe_results import ProbeResult

Source = Literal["probe", "declared", "engine", "metadata", "name"]
# From seen with one's own eyes to no more than likely.
Certainty = Literal["proven", "stated", "likely", "guessed"]

CERTAIN: frozenset[Certainty] = frozenset({"proven", "stated"})

# Asked for by a parameter: what becomes of one that an engine has not, ``parameter_rules`` say.
BY_PARAMETER = frozenset({"infill", "json_mode", "json_schema", "logprobs", "tools"})

# With one of them, a model chats whose file has no template.
TEMPLATE_OPTIONS = frozenset({"chat_template", "chat_template_file"})
# Names the file with which a GGUF model sees and hears.
PROJECTOR_OPTION = "mmproj"
# What an engine gives to whatever writes text, if it has it at all.
OF_THE_ENGINE = frozenset({"streaming", "json_mode", "json_schema", "logprobs"})
# What a model is made for; what it does beside that hangs on one of these.
PURPOSES = frozenset({"chat", "completion", "embeddings", "rerank"})
# Special tokens with which a text with a gap is written, by ``ModelInfo.special_tokens``.
INFILL_TOKENS = frozenset({"fim_pre", "prefix"})
# Capabilities, by ``ModelInfo.template_hints``.
BY_HINT: Mapping[str, str] = {
    "tools": "tools",
    "images": "vision",
    "audio": "audio",
    "thinking": "thinking",
}
BY_INPUT: Mapping[str, str] = {"image": "vision", "audio": "audio"}


@dataclass(frozen=True)
class Finding:
    """What one method says of one capability; ``reason`` is what it saw."""

    capability: str
    is_able: bool
    source: Source
    certainty: Certainty
    reason: str


@dataclass(frozen=True)
class Evidence:
    """All that is known of a model, by which it is judged.

    Attributes:
        declared: what its owner declared; none: nothing.
        names: its id and whatever else it is called, the most telling first.
        engine: what it runs on.
        engine_can: what that engine's models can do at most; None: not known.
        probes: how requests went, of the files, options and engine that are there now.
    """

    declared: tuple[str, ...] = ()
    info: ModelInfo | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    engine: str = ""
    engine_can: frozenset[str] | None = None
    probes: tuple[ProbeResult, ...] = ()


@dataclass(frozen=True)
class Decision:
    """What counts of one capability, and what else was said of it."""

    finding: Finding
    others: tuple[Finding, ...] = ()

    @property
    def contradictions(self) -> tuple[Finding, ...]:
        """What was overruled."""
        return tuple(f for f in self.others if f.is_able != self.finding.is_able)


@dataclass(frozen=True)
class Detected:
    """Every capability of which anything was said, as they are told."""

    decisions: tuple[Decision, ...] = ()

    @property
    def capabilities(self) -> tuple[str, ...]:
        """What the model can do."""
        return tuple(d.finding.capability for d in self.decisions if d.finding.is_able)

    @property
    def presumed(self) -> tuple[str, ...]:
        """Those of them that are only guessed: nothing is refused on their account."""
        able = (d.finding for d in self.decisions if d.finding.is_able)
        return tuple(f.capability for f in able if f.certainty == "guessed")

    @property
    def denied(self) -> tuple[str, ...]:
        """What it cannot do for certain: these are refused before anything is loaded."""
        unable = (d.finding for d in self.decisions if not d.finding.is_able)
        return tuple(f.capability for f in unable if f.certainty in CERTAIN and not _is_ruled(f))


def _is_ruled(finding: Finding) -> bool:
    return finding.source == "engine" and finding.capability in BY_PARAMETER


def detect(evidence: Evidence) -> Detected:
    """What all methods say, and which of it counts."""
    return _detect(evidence, family_of(evidence.names))


def outcome(evidence: Evidence) -> Detected:
    """What counts, as ``detect`` has it, but with reasons that need not name the model: of many
    whose files say nothing it is the same, and found out once."""
    family = family_of(evidence.names)
    if evidence.info is not None or evidence.probes:
        return _detect(evidence, family)
    known = family[0] if family is not None else None
    return _unread(evidence.declared, evidence.engine, evidence.engine_can, known)


@functools.lru_cache(maxsize=256)
def _unread(
    declared: tuple[str, ...], engine: str, engine_can: frozenset[str] | None, family: Family | None
) -> Detected:
    evidence = Evidence(declared, engine=engine, engine_can=engine_can)
    return _detect(evidence, None if family is None else (family, family.name))


def _detect(evidence: Evidence, family: tuple[Family, str] | None) -> Detected:
    of_model = [*_probed(evidence.probes), *_declared(evidence.declared), *_limits(evidence)]
    metadata = [] if evidence.info is None else list(_metadata(evidence.info, evidence.options))
    spoken_of = {f.capability for f in metadata}
    names = [f for f in _named(family) if not _is_spoken_of(f.capability, spoken_of)]
    writes = _writing([*of_model, *metadata, *names])
    found = [*of_model, *metadata, *_given(evidence, writes), *names]
    return Detected(tuple(_decided(found, is_complete=bool(evidence.declared))))


def _decided(found: Sequence[Finding], *, is_complete: bool) -> Iterator[Decision]:
    """``found`` in the order in which they count."""
    for word in in_order([f.capability for f in found]):
        said = [f for f in found if f.capability == word]
        if is_complete and said[0].source not in ("probe", "declared"):
            text = "it is not among what was declared"
            # Who lists what a model is for seldom thinks of what any model gets from its engine.
            is_given = said[0].source == "engine" and said[0].is_able
            certainty: Certainty = "likely" if is_given else "stated"
            said.insert(0, Finding(word, False, "declared", certainty, text))
        yield Decision(said[0], tuple(said[1:]))


def _probed(probes: Iterable[ProbeResult]) -> Iterator[Finding]:
    for probe in probes:
        if probe.outcome != "failed":
            is_able = probe.outcome == "works"
            reason = f"it was asked for it: {probe.reason}"
            yield Finding(probe.capability, is_able, "probe", "proven", reason)


def _declared(words: Iterable[str]) -> Iterator[Finding]:
    for word in words:
        yield Finding(word, True, "declared", "stated", "its entry in the catalog says so")


# -- the engine ------------------------------------------------------------------------------------


def _limits(evidence: Evidence) -> Iterator[Finding]:
    """What it cannot do with any model; what it does with every one, if that is but one thing."""
    if not evidence.engine_can:
        return
    for word in CAPABILITIES:
        if word not in evidence.engine_can:
            reason = f"engine {evidence.engine} does not do it with any model"
            yield Finding(word, False, "engine", "stated", reason)
    if len(evidence.engine_can) == 1:
        (only,) = evidence.engine_can
        reason = f"engine {evidence.engine} does nothing else"
        yield Finding(only, True, "engine", "stated", reason)


def _given(evidence: Evidence, writes: Finding | None) -> Iterator[Finding]:
    """What it can do with whatever writes text; no surer than that this one does."""
    if writes is None or not evidence.engine_can:
        return
    certainty: Certainty = "guessed" if writes.certainty == "guessed" else "stated"
    for word in OF_THE_ENGINE & evidence.engine_can:
        reason = f"engine {evidence.engine} does it with every model that writes text"
        yield Finding(word, True, "engine", certainty, reason)


def _writing(found: Iterable[Finding]) -> Finding | None:
    """By which the model is known to write text."""
    seen: dict[str, Finding] = {}
    for finding in found:
        if finding.capability in ("chat", "completion"):
            seen.setdefault(finding.capability, finding)
    able = [f for f in seen.values() if f.is_able]
    return min(able, key=lambda f: f.certainty == "guessed", default=None)


# -- the files -------------------------------------------------------------------------------------


def _metadata(info: ModelInfo, options: Mapping[str, Any]) -> Iterator[Finding]:
    if info.kind != "model":
        return
    if info.format == "gguf":
        yield from _gguf(info, options)
    else:
        yield from _by_class(info, options)
    yield from _special_tokens(info)


def _gguf(info: ModelInfo, options: Mapping[str, Any]) -> Iterator[Finding]:
    purposes = purposes_of(info.architecture, info.pooling, options)
    pooling = pooling_of(info.architecture, info.pooling, options)
    reason = f"its architecture is {info.architecture}, its pooling {pooling}"
    if "text" in purposes:
        yield from _text(info, options, reason)
    else:
        for word in ("chat", "completion"):
            yield Finding(word, False, "metadata", "stated", f"{reason}: it writes no text")
    for word in ("embeddings", "rerank"):
        yield Finding(word, word in purposes, "metadata", "stated", reason)
    if "text" in purposes:
        yield from _projected(info)


def _projected(info: ModelInfo) -> Iterator[Finding]:
    """What a GGUF model gets by a second file, which turns pictures or sounds into tokens."""
    for kind, word in BY_INPUT.items():
        if info.projector is None:
            reason = f"it would need a projector, and no option {PROJECTOR_OPTION} names one"
            yield Finding(word, False, "metadata", "stated", reason)
        else:
            is_able = kind in info.projector.inputs
            reason = f"its projector reads: {', '.join(info.projector.inputs) or 'nothing known'}"
            yield Finding(word, is_able, "metadata", "stated", reason)


def _by_class(info: ModelInfo, options: Mapping[str, Any]) -> Iterator[Finding]:
    reason = f"its architecture is {info.architecture}"
    tasks = set(tasks_of(info.architecture))
    if info.pooling:
        tasks = {"rerank" if info.pooling == POOLINGS["rank"] else "embeddings"}
        reason = f"{reason}, and its files say how its tokens are pooled"
    is_whole = info.format == "onnx" and "text" in info.outputs
    if info.format == "onnx":  # a graph by itself writes nothing, whatever it was made from
        tasks = tasks | {"completion"} if is_whole else tasks - {"completion"}
    if info.input_tensors and not is_whole:
        text = f"it is a graph of {len(info.input_tensors)} inputs"
        yield Finding("tensor_inference", True, "metadata", "stated", text)
    if "image" in info.outputs:
        tasks.add("image_generation")
    if "completion" in tasks:
        yield from _text(info, options, reason)
        hints = {BY_HINT[h] for h in info.template_hints if h in ("images", "audio")}
        for word in sorted(hints | {BY_INPUT[i] for i in info.inputs if i in BY_INPUT}):
            yield Finding(word, True, "metadata", "stated", "its files speak of such inputs")
        tasks -= hints
    for word in in_order(tasks - {"completion"}):
        is_likely = word == "embeddings" and not info.pooling
        certainty: Certainty = "likely" if is_likely else "stated"
        yield Finding(word, True, "metadata", certainty, reason)
    if tasks and tasks.isdisjoint({"completion", "classification"}):
        for word in ("chat", "completion"):
            yield Finding(word, False, "metadata", "stated", f"{reason}: it writes no text")


def _text(info: ModelInfo, options: Mapping[str, Any], reason: str) -> Iterator[Finding]:
    """Of a model that writes text: what its chat template has a place for."""
    yield Finding("completion", True, "metadata", "stated", reason)
    if not TEMPLATE_OPTIONS.isdisjoint(options):
        yield Finding("chat", True, "metadata", "stated", "an option gives it a chat template")
        return  # what is in that one nobody has read
    if not info.has_chat_template:
        return
    yield Finding("chat", True, "metadata", "stated", "its files have a chat template")
    for hint in ("tools", "thinking"):
        if hint in info.template_hints:
            text = f"its chat template has a place for {hint}"
            yield Finding(BY_HINT[hint], True, "metadata", "likely", text)
        elif info.template_hints:
            text = f"its chat template has no place for {hint}"
            yield Finding(BY_HINT[hint], False, "metadata", "likely", text)


def _special_tokens(info: ModelInfo) -> Iterator[Finding]:
    found = sorted(INFILL_TOKENS & info.special_tokens.keys())
    if found:
        reason = f"its vocabulary has a token for it: {found[0]}"
        yield Finding("infill", True, "metadata", "stated", reason)


# -- names -----------------------------------------------------------------------------------------


def _named(found: tuple[Family, str] | None) -> Iterator[Finding]:
    if found is None:
        return
    family, name = found
    reason = f"{name[:200]!r} reads like {family.name}, see the card of {family.card}"
    for word in family.capabilities:
        yield Finding(word, True, "name", "guessed", reason)


def _is_spoken_of(word: str, by_metadata: Collection[str]) -> bool:
    """Whoever knows one purpose of a model knows the others, too."""
    if word in by_metadata:
        return True
    return word in PURPOSES and word != "chat" and not PURPOSES.isdisjoint(by_metadata)
