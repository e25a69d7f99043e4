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
from operator import attrgetter
from sys import intern
from typing import Any, Literal

from modelpool_client.errors import InvalidModelId

from .packed import NOTHING, Packed, packed
from .variables import template

Priority = Literal["high", "normal", "low"]
ConcurrencyLimit = int | Literal["adaptive", "unlimited"]
Origin = Literal["config", "api", "discovered"]
Coalescing = Literal["deterministic", "identical", "off"]
Balance = Literal["least_busy", "round_robin", "performance", "cost", "locality", "prefix"]

MAX_ID_BYTES = 255
# Categories of Unicode: control characters, and what ends a line or a paragraph.
NO_TEXT = ("Cc", "Zl", "Zp")
MAX_COMPARED = 24

# What llama.cpp serves at once where nothing else is said.
DEFAULT_PARALLEL = 8

NAMING_FIELDS = frozenset({"model_id", "aliases", "engine"})
# In ``metadata``: the ``request`` that a layout let follow, to tell it from a user's.
FOUND_REQUEST = "found_request"
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
    "denied_capabilities",
    "places",
    "identity",
    "companions",
    "companion_reasons",
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


@dataclass(frozen=True, slots=True)
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
        environment: of which its workers run, see ``environments`` of the configuration; empty:
            the manager's own, or that called as the engine where only that has it.
        devices: that its workers see, in that order: numbers, ids (``cuda:1``) or UUIDs; None: all,
            empty: none.
        schedule: loads and unloads by the clock, each {"cron": "0 8 * * mon-fri", "action": "load"}
            in local time.
        target_in_flight: requests in flight for each copy before another is wanted; None is what
            the engine serves at once.
        balance: which of several copies takes a request, see ``pool.balance``.
        fallbacks: names of those that are asked, in that order, where it fails before the first
            byte: models or virtual ones, see ``routing.resolve``.
        coalesce: which identical requests in flight share one computation: those whose answer is
            determined by a seed or a temperature of 0, all of them, or none.
        memory_mb: what its owner declares that it needs, in MB of 1,000,000 bytes; a measured
            peak overrules it.
        context_length: tokens; declared, or what the file was trained for.
        facts: what else its files say: format, number of parameters, tokenizer, licence …
        capabilities: what it can do, as far as anybody knows; see ``capabilities``.
        declared_capabilities: what its owner declared, where a probe found otherwise.
        presumed_capabilities: those of ``capabilities`` that only its name tells.
        denied_capabilities: what it cannot do for certain, as opposed to what is merely not known.
        from_file: fields that nobody declared, in which stands what was found out.
        origin: "config" models come from the config file and return at every start, "discovered"
            ones were found on the disk and go with their files.
        places: of a discovered one, every path at which its content was found; the first is
            ``source``.
        identity: of that content, see ``discovery.identity``.
        companions: paths of what was found to go with it, by kind: ``projector``, ``adapter``,
            ``draft``, ``tokenizer``.
        companion_reasons: by these paths, why.
        served_by: of a model at a provider, the id of the provider's entry, whose worker serves it.
        request: what is filled, bounded and taken away of its requests, see ``request_rules``.
        templates: for each field with a value from the environment, what the config file says, as
            {key: text}; it is shown in place of the value.
        created_at, updated_at: seconds since 1970.
    """

    model_id: str
    engine: str
    source: str
    display_name: str = ""
    model_type: str = "general"
    options: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
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
    balance: Balance = "least_busy"
    fallbacks: tuple[str, ...] = ()
    environment: str = ""
    devices: tuple[int | str, ...] | None = None
    schedule: tuple[Mapping[str, Any], ...] = ()
    memory_mb: float | None = None
    context_length: int | None = None
    size_bytes: int | None = None
    architecture: str | None = None
    quantization: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    facts: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    declared_capabilities: tuple[str, ...] = ()
    presumed_capabilities: tuple[str, ...] = ()
    denied_capabilities: tuple[str, ...] = ()
    from_file: tuple[str, ...] = ()
    templates: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: NOTHING)
    created_at: float = 0.0
    updated_at: float = 0.0
    origin: Origin = "api"
    places: tuple[str, ...] = ()
    identity: str = ""
    companions: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    companion_reasons: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    served_by: str = ""
    request: Mapping[str, Any] = field(default_factory=lambda: NOTHING)

    @property
    def prices(self) -> Mapping[str, Any]:
        """Of a million tokens (``input``, ``cached_input``, ``output``) or of a picture, in
        dollars; empty where nothing is known."""
        prices = self.metadata.get("prices")
        return prices if isinstance(prices, Mapping) else {}

    @property
    def names(self) -> tuple[str, ...]:
        """Everything that it answers to: its id, then its aliases."""
        return (self.model_id, *self.aliases)

    @property
    def known_capabilities(self) -> tuple[str, ...]:
        """What it can do without what is only presumed; none: not known."""
        return tuple(c for c in self.capabilities if c not in self.presumed_capabilities)

    @property
    def owner_capabilities(self) -> tuple[str, ...]:
        """What its owner declared; none: nothing."""
        is_found = "capabilities" in self.from_file
        return self.declared_capabilities or (() if is_found else self.capabilities)

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
        return {k: _plain(getattr(self, k)) for k in _DEFAULTS}

    def stored(self) -> dict[str, Any]:
        """``shown`` without what is the default, for ``from_dict``: of ten thousand models each
        says little, and the manager reads them all when it starts."""
        said = {k: v for k, d in _DEFAULTS.items() if (v := getattr(self, k)) != d}
        hidden = {k: next(iter(v.values())) for k, v in self._hidden.items()}
        facts = packed(said.pop("facts", NOTHING))
        stored = {k: _plain(v) for k, v in said.items()} | hidden
        return stored | ({"facts": facts.text} if isinstance(facts, Packed) else {})

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Model:
        """The reverse of ``as_dict`` and ``stored``, the facts as values or as their text; what is
        not there is the default, and keys of other versions are ignored."""
        values: dict[str, Any] = {
            k: _shared(v) if type(v) is list else v
            for k, v in data.items()
            if k in _NAMES and v != {}
        }
        values |= {k: intern(values[k]) for k in _FEW_VALUES if isinstance(values.get(k), str)}
        values["facts"] = packed(values.get("facts", NOTHING))
        if values.get("display_name") == values["model_id"]:
            values["display_name"] = values["model_id"]
        if values.get("places") == (values["source"],):
            values["places"] = (values["source"],)
        return cls(**values)

    @property
    def _hidden(self) -> dict[str, Mapping[str, Any]]:
        """The templates, but of what it is called and run by: that is seen everywhere."""
        return {k: v for k, v in self.templates.items() if k not in NAMING_FIELDS}

    def shown(self, keys: Iterable[str] = ()) -> dict[str, Any]:
        """``as_dict``, or these keys of it, without the values that came from the environment."""
        values = {k: _plain(getattr(self, k)) for k in keys or _DEFAULTS}
        hidden = {k: next(iter(v.values())) for k, v in self._hidden.items()}
        return values | {k: v for k, v in hidden.items() if k in values}

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
        own = {k: getattr(self, k) for k in _DEFAULTS if k not in OWN_FIELDS}
        own["capabilities"] = self.entry_capabilities
        return {k: _plain(v) for k, v in own.items() if v != _DEFAULTS[k]}

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
        is_same_file = (self.engine, self.source) == (old.engine, old.source)
        unsaid = [f for f in old.from_file if is_same_file and not getattr(self, f)]
        self = dataclasses.replace(self, **{f: getattr(old, f) for f in unsaid})
        facts = old.facts if self.source == old.source and not self.facts else self.facts
        own = dataclasses.replace(self.keeping(old), templates=kept, facts=facts)
        return own.of_same_origin(old)

    def of_same_origin(self, old: Model) -> Model:
        """From where the other came; one that was found, only while it has its source."""
        if self.source in old.places:
            found = {k: getattr(old, k) for k in _OF_FOUND}
            if FOUND_REQUEST in old.metadata:  # an entry without a request takes it away
                said = {FOUND_REQUEST: old.metadata[FOUND_REQUEST]}
                found["metadata"] = {**said, **self.metadata}
            return dataclasses.replace(self, origin=old.origin, **found)
        origin: Origin = "api" if old.origin == "discovered" else old.origin
        return dataclasses.replace(self, origin=origin)

    def same_content(self, other: Model) -> bool:
        """Equal but for the times, and for who said what they say."""
        return bool(_CONTENT(self) == _CONTENT(other))

    def is_said_by(self, entry: Model) -> bool:
        """Whether an entry of the config file, as it was read, says what made this model: all but
        what was found out since. What comes from the environment is not kept, so nobody knows."""
        if self.origin != "config" or self.templates or entry.templates:
            return False
        said = [None if name in self.from_file else getattr(self, name) for name in _OF_FILES]
        is_of_files = entry.size_bytes is None and bool(self.facts)
        return (
            _DECLARED(self) == _DECLARED(entry)
            and said == [getattr(entry, name) for name in _OF_FILES]
            and self.owner_capabilities == entry.capabilities
            and (is_of_files or self.size_bytes == entry.size_bytes)
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
            denied_capabilities=old.denied_capabilities,
        )


_NAMES = frozenset(f.name for f in dataclasses.fields(Model))
# What files say where nobody declares it.
_OF_FILES = ("architecture", "quantization", "context_length")
_DECLARED = attrgetter(*sorted(_NAMES - {*OWN_FIELDS, *_OF_FILES, "capabilities", "size_bytes"}))
_CONTENT = attrgetter(*sorted(_NAMES - {"created_at", "updated_at", "from_file"}))
_DEFAULTS: Mapping[str, Any] = {
    f.name: f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
    for f in dataclasses.fields(Model)
}
_OF_FOUND = ("places", "identity", "companions", "companion_reasons")
# Of ten thousand models most have one of few values there: each is kept once.
_FEW_VALUES = ("engine", "model_type", "architecture", "quantization", "priority", "origin")


def _plain(value: Any) -> Any:
    """As JSON has it."""
    if type(value) in _SCALARS:
        return value
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Packed) else value


_SCALARS = frozenset({str, int, float, bool, type(None)})


def _shared(value: list[Any]) -> tuple[Any, ...]:
    """As a tuple, one of words as one for all that are equal."""
    words = tuple(value)
    return _same(words) if all(type(v) is str for v in words) else words


@functools.lru_cache(maxsize=1024)
def _same(words: tuple[str, ...]) -> tuple[str, ...]:
    return words


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
    # Most are printable, which is quickly seen; spaces of other kinds are not.
    if not value.isprintable() and any(unicodedata.category(c) in NO_TEXT for c in value):
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
    pairs = frozenset(map("".join, itertools.pairwise(wanted)))
    folded = {k.casefold(): k for k in known}
    # difflib takes 40 ms for a thousand names, and this runs where requests are relayed.
    likely = heapq.nlargest(MAX_COMPARED, folded, key=lambda f: sum(map(f.__contains__, pairs)))
    close = difflib.get_close_matches(wanted, likely, n=limit, cutoff=0.6)
    if not close and len(wanted) > 2:
        close = sorted(f for f in folded if wanted in f)[:limit]
    return [folded[c] for c in close]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``"; did you mean a or b?"``, or nothing."""
    near = near_names(name, known)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def printable(text: str) -> str:
    """The text with halves of surrogate pairs written out, so that any answer can carry it."""
    return text.encode(errors="backslashreplace").decode()
