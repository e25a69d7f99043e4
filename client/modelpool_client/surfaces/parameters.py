"""PURE. What becomes of the parameters of a request with one engine and the model that it has
loaded: honoured, refused, or ignored and named. Nothing is dropped without a word.

One table, ``parameter_rules.BASE``, for all engines; an engine says which of those that are up to
it it honours, and which of its own, for each path (``Engine.honours`` in the worker), and a load
which of them this model cannot have. Other APIs have tables of their own, in whose rules stand the
parameters of OpenAI's that engines are told.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from typing import Any
from urllib.parse import quote

from modelpool_client.errors import InvalidRequest
from modelpool_client.surfaces.parameter_rules import (
    BASE,
    LOAD_OPTION,
    LOAD_OPTIONS,
    UNKNOWN,
    Disposition,
    Rule,
)

# Among what an engine honours at a path: whatever it is, the engine's own server judges it.
ALL = "*"
_HONOURED, _REFUSED = Disposition.HONOURED, Disposition.REFUSED
_WORSE = (_HONOURED, Disposition.IGNORED, _REFUSED)


class Support:
    """What becomes of parameters with one engine and the model that it has loaded."""

    def __init__(
        self,
        honours: Mapping[str, Collection[str]],
        unable: Mapping[str, str] | None = None,
        *,
        unknown: Rule = UNKNOWN,
    ) -> None:
        """
        Args:
            honours: for each path what the engine honours, beyond what nobody need ask it; with
                ``ALL`` among it everything but load options.
            unable: of these what this model cannot have, and why.
            unknown: what becomes of whatever has no rule.
        """
        self._unknown = unknown
        self._unable = unable or {}
        self._honours = {path: frozenset(honours.get(path, ())) - {*self._unable} for path in BASE}
        self._rules = {path: dict(self._merged(path)) for path in BASE}
        self._taken = {
            path: frozenset(name for name, rule in rules.items() if rule.how is _HONOURED)
            for path, rules in self._rules.items()
        }

    @property
    def is_known(self) -> bool:
        """It is known what the engine honours; what it does not know itself may be done here."""
        return self._unknown is UNKNOWN

    def rule(self, path: str, name: str) -> Rule:
        """What becomes of one parameter."""
        unknown = Rule(_HONOURED) if self.takes_all(path) else self._unknown
        return self._rules[path].get(name, unknown)

    def takes_all(self, path: str) -> bool:
        """Whether its server is told whatever clients say, in their words."""
        return ALL in self._honours.get(path, ())

    def of(self, rule: Rule) -> Rule:
        """What becomes of a parameter of another API, or of an API that needs no engine for it."""
        told = [self.rule(rule.at, name) for name in rule.told]
        return max(told, key=lambda r: _WORSE.index(r.how)) if told else rule

    def names(self, path: str) -> list[str]:
        """Every parameter that has a rule of its own."""
        return list(self._rules[path])

    def takes(self, path: str, names: Set[str]) -> bool:
        """Whether each of them has a rule of its own, and is honoured."""
        return names <= self._taken[path]

    def engine_honours(self, path: str, name: str) -> bool:
        """Whether the engine takes it itself."""
        return name in self._honours[path] or (self.takes_all(path) and name not in self._unable)

    def engine_names(self, path: str, name: str) -> bool:
        """Whether the engine says of this very one that it takes it."""
        return name in self._honours[path]

    def sort(self, path: str, given: Mapping[str, Any]) -> tuple[str, ...]:
        """The names of those that are ignored.

        Raises:
            InvalidRequest: one is refused.
        """
        rules, ignored = self._rules[path], []
        unknown = Rule(_HONOURED) if self.takes_all(path) else self._unknown
        for name, value in _each(given):
            rule = rules.get(name, unknown)
            if rule.how is _HONOURED or value in rule.neutral or _is_used(name, given):
                continue
            if rule.how is _REFUSED:
                raise InvalidRequest(f"{name} is not supported here: {rule.why}", param=name)
            ignored.append(name)
        return tuple(sorted(ignored))

    def _merged(self, path: str) -> Iterator[tuple[str, Rule]]:
        honours = self._honours[path]
        takes_all = self.takes_all(path)
        for name, rule in BASE[path].items():
            is_its = takes_all and name not in self._unable
            if is_its or (rule.is_up_to_engine and not honours.isdisjoint((name, rule.by))):
                yield name, Rule(_HONOURED)
            elif name in self._unable:
                yield name, Rule(rule.how, self._unable[name], rule.neutral)
            else:
                yield name, rule
        for name in sorted(honours - BASE[path].keys() - {ALL}):
            yield name, Rule(_HONOURED, "the engine's own")
        for name in sorted(LOAD_OPTIONS):
            yield name, LOAD_OPTION


# Of an engine that is not asked: whatever may be up to it is left to it.
ANY = Support(
    {
        path: [name for name, r in rules.items() if r.is_up_to_engine]
        for path, rules in BASE.items()
    },
    unknown=Rule(Disposition.HONOURED),
)


def header_of(ignored: Collection[str]) -> bytes:
    """Their names as the value of a header: anything may be a name."""
    shown = [quote(name[:_NAME_LENGTH], safe="") for name in list(ignored)[:_SHOWN]]
    left = len(ignored) - len(shown)
    return ", ".join([*shown, *([f"and {left} more"] if left else [])]).encode()


_SHOWN, _NAME_LENGTH = 32, 64


def client_names(rules: Mapping[str, Rule], given: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """What the client calls what engines are told as ``name``, of what it has given."""
    found = (own for own, rule in rules.items() if name in rule.told and _has(given, own))
    return tuple(found) or (name,)


def _has(given: Any, dotted: str) -> bool:
    for key in dotted.split("."):
        if not isinstance(given, Mapping) or given.get(key) is None:
            return False
        given = given[key]
    return True


def is_forced(given: Mapping[str, Any]) -> bool:
    """A chat whose answer has to be a call of a tool."""
    choice = given.get("tool_choice")
    return choice == "required" or isinstance(choice, dict)


def _each(given: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    options = given.get("stream_options")
    if not options:  # nearly always
        return given.items()
    inner = {f"stream_options.{k}": v for k, v in options.items() if v is not None}
    return [*given.items(), *inner.items()]


def _is_used(name: str, given: Mapping[str, Any]) -> bool:
    # A call that is forced is held to the schemas of the tools, whether or not the model sees them.
    return name == "tools" and is_forced(given)
