"""A model as the catalog knows it, and the grammar of its names. PURE."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import heapq
import itertools
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from modelpool_client.errors import InvalidModelId

from .variables import template

Priority = Literal["high", "normal", "low"]
ConcurrencyLimit = int | Literal["adaptive", "unlimited"]
Origin = Literal["config", "api", "discovered"]
Coalescing = Literal["deterministic", "identical", "off"]

MAX_ID_BYTES = 255
MAX_COMPARED = 24

# What llama.cpp serves at once where nothing else is said.
DEFAULT_PARALLEL = 8

NAMING_FIELDS = frozenset({"model_id", "aliases", "engine"})
# What only the catalog itself sets.
OWN_FIELDS = (
    "created_at",
    "updated_at",
    "origin",
    "from_file",
    "templates",
    "facts",
    "declared_capabilities",
    "presumed_capabilities",
    "places",
    "identity",
    "companions",
)

# Words that end a route below /models/{id} or /v2/models/{id}: an id that ends in one could not be
# told from it.
RESERVED_VERBS = frozenset(
    {
        "capabilities",
        "config",
        "endpoint",
        "events",
        "extend-ttl",
        "generate",
        "generate_stream",
        "health",
        "history",
        "infer",
        "load",
        "logs",
        "options",
        "plan",
        "probe",
        "profile",
        "pull",
        "profiles",
        "ready",
        "register",
        "rollback",
        "setting",
        "stats",
        "tune",
        "tuned",
        "unload",
        "versions",
    }
)
# The alias of the model that was last switched to.
CURRENT = "current"
# What the gateway understands instead of a model's name.
RESERVED_NAMES = frozenset({"auto", CURRENT})


@dataclass(frozen=True)
class Model:
    """A catalog entry. Replace it, never change it.

    Attributes:
        source: where the engine finds it: an absolute path for files, else a name that the
            engine understands.
        auto_unload: None follows the pool; False is never unloaded for idleness alone.
        ttl_minutes: idle minutes until it cools down; None is the pool's default, 0 is never.
        min_replicas, max_replicas: running copies while it is loaded; more than one is started as
            load grows, where there is spare room.
        concurrency_limit: requests that one copy is given at a time, more wait; None is the pool's
            setting.
        schedule: loads and unloads by the clock, each {"cron": "0 8 * * mon-fri", "action": "load"}
            in local time.
        target_in_flight: requests in flight for each copy before another is wanted; None is what
            the engine serves at once.
        coalesce: which identical requests in flight share one computation: those whose answer is
            determined by a seed or a temperature of 0, all of them, or none.
        memory_mb: what its owner declares that it needs, in MB of 1,000,000 bytes; a measured
            peak overrules it.
        context_length: tokens; declared, or what the file was trained for.
        facts: what else its files say: format, number of parameters, tokenizer, licence …
        capabilities: what it can do, as far as anybody knows; see ``capabilities``.
        declared_capabilities: what its owner declared, where a probe found otherwise.
        presumed_capabilities: those of ``capabilities`` that only its name tells.
        from_file: fields that nobody declared, in which stands what was found out.
        origin: "config" models come from the config file and return at every start, "discovered"
            ones were found on the disk and go with their files.
        places: of a discovered one, every path at which its content was found; the first is
            ``source``.
        identity: of that content, see ``discovery.identity``.
        companions: paths of what was found to go with it, by kind: ``projector``, ``adapter``,
            ``draft``, ``tokenizer``.
        templates: for each field with a value from the environment, what the config file says, as
            {key: text}; it is shown in place of the value.
        created_at, updated_at: seconds since 1970.
    """

    model_id: str
    engine: str
    source: str
    display_name: str = ""
    model_type: str = "general"
    options: Mapping[str, Any] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    warmup: bool = False
    pinned: bool = False
    auto_unload: bool | None = None
    ttl_minutes: float | None = None
    priority: Priority = "normal"
    tags: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    min_replicas: int = 1
    max_replicas: int = 1
    target_in_flight: int | None = None
    concurrency_limit: ConcurrencyLimit | None = None
    coalesce: Coalescing = "deterministic"
    schedule: tuple[Mapping[str, Any], ...] = ()
    memory_mb: float | None = None
    context_length: int | None = None
    size_bytes: int | None = None
    architecture: str | None = None
    quantization: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    declared_capabilities: tuple[str, ...] = ()
    presumed_capabilities: tuple[str, ...] = ()
    from_file: tuple[str, ...] = ()
    templates: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    created_at: float = 0.0
    updated_at: float = 0.0
    origin: Origin = "api"
    places: tuple[str, ...] = ()
    identity: str = ""
    companions: Mapping[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Everything that it answers to: its id, then its aliases."""
        return (self.model_id, *self.aliases)

    @property
    def known_capabilities(self) -> tuple[str, ...]:
        """What it can do without what is only presumed; none: not known."""
        return tuple(c for c in self.capabilities if c not in self.presumed_capabilities)

    @property
    def entry_capabilities(self) -> tuple[str, ...]:
        """What its owner would say that it can do."""
        return self.declared_capabilities or self.capabilities

    def lease_minutes(self, default: float) -> float | None:
        """Idle minutes until it cools down, None for never. Warm-up implies never."""
        minutes = default if self.ttl_minutes is None else self.ttl_minutes
        return None if self.warmup or minutes == 0 else minutes

    @property
    def per_replica(self) -> int:
        """Requests in flight for each copy before another is wanted."""
        parallel = self.options.get("parallel")
        default = parallel if isinstance(parallel, int) and parallel > 0 else DEFAULT_PARALLEL
        return self.target_in_flight or default

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values of every field."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Model:
        """The reverse of ``as_dict`` for data of our own; keys of other versions are ignored."""
        known = {f.name for f in dataclasses.fields(cls)}
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k in known
        }
        return cls(**values)

    @property
    def _hidden(self) -> dict[str, Mapping[str, Any]]:
        """The templates, but of what it is called and run by: that is seen everywhere."""
        return {k: v for k, v in self.templates.items() if k not in NAMING_FIELDS}

    def shown(self) -> dict[str, Any]:
        """``as_dict`` without the values that came from the environment."""
        return self.as_dict() | {k: next(iter(v.values())) for k, v in self._hidden.items()}

    @property
    def hidden_options(self) -> Mapping[str, Any]:
        """Options with values from the environment, as the config file has them."""
        shown: Mapping[str, Any] = self.shown()["options"]
        return {k: v for k, v in shown.items() if v != self.options.get(k)}

    def shown_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Options of a worker of it, now or formerly, without values from the environment."""
        hidden = self.hidden_options
        return {k: hidden.get(k, v) for k, v in options.items()}

    def as_entry(self) -> dict[str, Any]:
        """What a registration would hold: no times, no origin, no defaults."""
        blank = Model(self.model_id, "", "").as_dict() | {"model_id": None}
        values = self.as_dict() | {"capabilities": list(self.entry_capabilities)}
        return {k: v for k, v in values.items() if k not in OWN_FIELDS and v != blank[k]}

    def shown_entry(self) -> dict[str, Any]:
        """``as_entry`` without the values that came from the environment."""
        own = {k: v for k, v in self.as_entry().items() if k not in self._hidden}
        return own | {k: v for each in self._hidden.values() for k, v in each.items()}

    def as_file_entry(self) -> dict[str, Any]:
        """The entry of a config file that makes this model."""
        own = {k: template(v) for k, v in self.as_entry().items() if k not in self.templates}
        return own | {k: v for each in self.templates.values() for k, v in each.items()}

    def succeeding(self, old: Model) -> Model:
        """An entry that takes the place of another: from where it came, what of it must not be
        shown while it is the same, and what stood there from the file, whoever repeats it. One that
        was found is another's own once it has another source."""
        kept = {k: v for k, v in old.templates.items() if getattr(self, k) == getattr(old, k)}
        facts = old.facts if self.source == old.source and not self.facts else self.facts
        found = {k: getattr(old, k) for k in ("places", "identity", "companions")}
        is_found = self.source in old.places
        origin = old.origin if old.origin != "discovered" or is_found else "api"
        own = dataclasses.replace(self.keeping(old), origin=origin, templates=kept, facts=facts)
        return dataclasses.replace(own, **found) if is_found else own

    def same_content(self, other: Model) -> bool:
        """Equal but for the times, and for who said what they say."""
        return self == dataclasses.replace(
            other,
            created_at=self.created_at,
            updated_at=self.updated_at,
            from_file=self.from_file,
        )

    def keeping(self, old: Model) -> Model:
        """It takes the place of ``old``: what stood there from the file and stands here still is
        the file's, whoever repeated it."""
        same = tuple(f for f in old.from_file if getattr(self, f) == getattr(old, f))
        kept = dataclasses.replace(self, from_file=same)
        if self.capabilities != old.entry_capabilities:
            return kept
        return dataclasses.replace(
            kept,
            capabilities=old.capabilities,
            declared_capabilities=old.declared_capabilities,
            presumed_capabilities=old.presumed_capabilities,
        )


def trial_id(model_id: str, number: int) -> str:
    """What a copy is called that only tries options out: nobody can register that, for it reads
    like a copy, and no copy of a model has a number that begins with a 0."""
    return f"{model_id}#0{number}"


def is_trial(model_id: str) -> bool:
    """Whether it is one of those: clients, registries and statistics are not told of them."""
    _, mark, number = model_id.rpartition("#")
    return bool(mark) and number.startswith("0") and number.isdecimal()


def validate_model_id(value: object, param: str = "model_id") -> str:
    """The id itself, when it obeys the grammar.

    Raises:
        InvalidModelId: naming ``param`` and the reason.
    """
    problem = id_problem(value)
    if problem:
        raise InvalidModelId(f"{param} {problem}", param=param)
    assert isinstance(value, str)
    return value


def id_problem(value: object) -> str | None:
    """Why ``value`` cannot be a model's id or alias; None when it can."""
    if not isinstance(value, str):
        return f"must be a string, not {type(value).__name__}"
    if not value:
        return "must not be empty"
    return _text_problem(value) or _segment_problem(value.split("/"))


def _is_copy(value: str) -> bool:
    """Whether it reads like the name of a second copy: ``qwen#2``."""
    _, mark, number = value.rpartition("#")
    return bool(mark) and number.isdecimal()


def _text_problem(value: str) -> str | None:
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        return "is not valid Unicode"
    if size > MAX_ID_BYTES:
        return f"has {size} bytes, {MAX_ID_BYTES} are allowed"
    if value != value.strip():
        return "must not begin or end with white space"
    if any(unicodedata.category(c) in ("Cc", "Zl", "Zp") for c in value):
        return "must not hold control characters"
    if value in RESERVED_NAMES:
        return f"must not be {value!r}, which the gateway understands as a word of its own"
    if _is_copy(value):
        return "must not end in '#' and a number, which stands for a further copy of a model"
    return None


def _segment_problem(segments: list[str]) -> str | None:
    if "" in segments:
        return "must not have empty segments (a '/' at an end, or '//')"
    if "." in segments or ".." in segments:
        return "must not have '.' or '..' as a segment"
    if segments[-1] in RESERVED_VERBS:
        return f"must not end in {segments[-1]!r}, a word of the routes"
    if len(segments) > 2 and segments[-2] == "versions":
        return "must not end in 'versions' and another segment, which names a version of a model"
    return None


def near_names(name: str, known: Iterable[str], limit: int = 3) -> list[str]:
    """Those of ``known`` that ``name`` may have meant, best first; case does not count."""
    if len(name) > MAX_ID_BYTES:
        return []
    wanted = name.casefold()
    pairs = _pairs.__wrapped__(wanted)
    folded = {k.casefold(): k for k in known}
    # difflib takes 40 ms for a thousand names, and this runs where requests are relayed.
    likely = heapq.nlargest(MAX_COMPARED, folded, key=lambda f: len(pairs & _pairs(f)))
    close = difflib.get_close_matches(wanted, likely, n=limit, cutoff=0.6)
    if not close and len(wanted) > 2:
        close = sorted(f for f in folded if wanted in f)[:limit]
    return [folded[c] for c in close]


@functools.lru_cache(maxsize=4096)
def _pairs(text: str) -> frozenset[str]:
    """Every two neighbouring characters."""
    return frozenset(map("".join, itertools.pairwise(text)))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``"; did you mean a or b?"``, or nothing."""
    near = near_names(name, known)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def printable(text: str) -> str:
    """The text with halves of surrogate pairs written out, so that any answer can carry it."""
    return text.encode(errors="backslashreplace").decode()
