"""Which engines are usable here, in the manager's own environment and in others, and what they say
of models: asked of worker processes, for the manager imports none."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelpool_client import __version__
from modelpool_client.capabilities import word_of
from modelpool_client.errors import NotFound
from modelpool_client.surfaces.parameters import ANY, Support

from modelpool.catalog.capability_book import EngineFacts
from modelpool.catalog.model import Model
from modelpool.catalog.parse_rules import EngineVerdict, Problem, refuse
from modelpool.catalog.variables import FilledText, hidden, plain
from modelpool.describing import WORKER, Describer
from modelpool.environments.environment import OWN, Environments
from modelpool.environments.packages import packages_of

# Models, with as many options as anybody looks at.
REMEMBERED = 1000
NO_SETTINGS: Mapping[str, Any] = {}
NOT_CHECKED = "its engine and options were not checked: the worker program said nothing of them"
# Somebody may have installed it meanwhile.
ASK_AGAIN_SECONDS = 5.0


def check_models(
    models: Sequence[Model],
    settings: Mapping[str, Any] = NO_SETTINGS,
    *,
    inspect: bool = False,
    describer: Describer | None = None,
) -> list[EngineVerdict]:
    """What the engines say of the models, all asked of one process. Takes about 0.1 s.

    Of models that run from another environment nothing is said here: that is asked itself.

    Args:
        settings: what the configuration says to engines, ``PoolConfig.engine_settings``.
        inspect: look at the sources, too, and ask how much memory they need.
        describer: whom to ask; else a process for this question.
    """
    here = [model for model in models if not model.environment]
    describer = describer or Describer(WORKER)
    told = iter(_checked(here, settings, inspect, describer) if here else [])
    return [_unasked(m) if m.environment else next(told) for m in models]


def _checked(
    models: Sequence[Model], settings: Mapping[str, Any], inspect: bool, describer: Describer
) -> list[EngineVerdict]:
    asked: dict[str, dict[str, Any]] = {}
    keys = []
    for model in models:
        question = _question(model, inspect)
        keys.append("" if model.served_by else _same_question(question))
        if not model.served_by:
            asked.setdefault(keys[-1], question)
    data = json.dumps({"models": list(asked.values())})
    found = describer.ask("--check", *_told(settings), data=data) if asked else {}
    answers = dict(zip(asked, (found or {}).get("models", ()), strict=False))
    return [
        _verdict(model, answers.get(key)) if key else _unasked(model, 0)
        for model, key in zip(models, keys, strict=True)
    ]


def _same_question(question: Mapping[str, Any]) -> str:
    """The same for all that have one answer: of many models few have options of their own, and
    unless the source is inspected only its suffix counts. PURE."""
    source = question["source"]
    named = source if question["inspect"] else source.rpartition(".")[2].casefold()
    return json.dumps({**question, "source": named})


def _told(settings: Mapping[str, Any]) -> tuple[str, ...]:
    return ("--settings", json.dumps(plain(settings))) if settings else ()


def _unasked(model: Model, memory_bytes: int | None = None) -> EngineVerdict:
    return EngineVerdict((), (), plain(model.options), memory_bytes, was_asked=False)


def _question(model: Model, inspect: bool) -> dict[str, Any]:
    return {
        "engine": model.engine,
        "source": model.source,
        "options": plain(model.options),
        "texts": [name for name, v in model.options.items() if isinstance(v, FilledText)],
        "inspect": inspect,
    }


def _verdict(model: Model, answer: Mapping[str, Any] | None) -> EngineVerdict:
    if answer is None:
        return EngineVerdict((), (NOT_CHECKED,), plain(model.options))
    secret = (model.engine, model.options)
    problems = (
        Problem(p["param"], hidden(p["message"], secret), p["code"]) for p in answer["problems"]
    )
    notes = tuple(hidden(note, secret) for note in answer["notes"])
    return EngineVerdict(tuple(problems), notes, answer["options"], answer["memory_bytes"])


@dataclass
class _Answer:
    """What an environment says of its engines, being asked or known, since ``at`` of the clock."""

    asking: asyncio.Task[dict[str, Any]]
    at: float

    @property
    def known(self) -> Mapping[str, Any] | None:
        done = self.asking.done() and not self.asking.cancelled()
        return self.asking.result() if done else None


class Engines:
    """Asks each environment once, in the background, and remembers; again where an engine was not
    usable and somebody wants it.

    ``describer`` asks in the manager's own environment. Without ``environments`` there are
    no others. ``settings`` are what the configuration says to all engines;
    ``started_with`` gives a model the options of the pool that its workers are told.

    Attributes:
        edition: another number when what is known of any has changed.
    """

    edition = 0

    def __init__(
        self,
        describer: Describer | None = None,
        environments: Environments | None = None,
        settings: Mapping[str, Any] = NO_SETTINGS,
        started_with: Callable[[Model], Model] = lambda model: model,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._describer = describer or Describer(WORKER)
        self._environments = environments
        self._now = now
        self._settings = settings
        self._started_with = started_with
        self._answers: dict[str, _Answer] = {}
        self._supports: dict[str, Support] = {}
        self._by_name: dict[str, dict[str, Any]] = {}
        self._by_name_of = -1  # the edition
        self._problems: OrderedDict[str, tuple[Problem, ...]] = OrderedDict()

    # -- asked ------------------------------------------------------------------------------------

    async def all(self) -> list[dict[str, Any]]:
        """``name, usable, reason, install_hint, version, formats, capabilities, surfaces, honours,
        after_leaving, options, extra, is_plugin, for_tests, asked_once`` of each; empty if it
        cannot be known.

        Of an engine in several environments the best is told, the manager's own first;
        ``environment`` names it, and ``environments`` says the same of each that has it.
        """
        names = [OWN, *self._others()]
        found: dict[str, list[dict[str, Any]]] = {}
        for name, engines in zip(names, await self._all_in(names), strict=True):
            for engine in engines:
                found.setdefault(engine["name"], []).append({**engine, "environment": name})
        return [_merged(each) for _, each in sorted(found.items())]

    async def _all_in(self, names: Sequence[str]) -> list[list[dict[str, Any]]]:
        return list(await asyncio.gather(*(self.in_environment(name) for name in names)))

    async def in_environment(self, name: str) -> list[dict[str, Any]]:
        """What one environment says of its engines; empty if it cannot be known."""
        answer = self._asked(name)
        return list((await asyncio.shield(answer.asking)).get("engines", []))

    async def names(self) -> frozenset[str] | None:
        """Names that a model's engine may have; None, any, if it cannot be known."""
        found = frozenset(str(engine["name"]) for engine in await self.all())
        return found or None

    async def about(self, name: str) -> dict[str, Any]:
        """What ``all`` says of one; empty if it says nothing. While all are asked anew, which takes
        as long as the slowest of them, one that was usable before is thought to be as it was."""
        if self._by_name_of != self.edition or not self._by_name:
            former = self._by_name.get(name, {})
            if former.get("usable") and self._is_asking():
                return former
            # Requests ask: to put all together anew takes longer than to pass one on.
            self._by_name = {engine["name"]: engine for engine in await self.all()}
            self._by_name_of = self.edition
        return self._by_name.get(name, {})

    def _is_asking(self) -> bool:
        return any(self._asked(name).known is None for name in (OWN, *self._others()))

    async def surfaces(self, name: str) -> Sequence[str] | None:
        """Paths that an engine answers for any model; None if it cannot be known."""
        return (await self.about(name)).get("surfaces")

    async def support(self, name: str) -> Support:
        """What an engine makes of parameters; if it cannot be known, whatever may be up to it is
        left to it."""
        if name not in self._supports:
            found = await self.about(name)
            if not found:
                return ANY
            honours = found.get("honours")
            self._supports[name] = ANY if honours is None else Support(honours)
        return self._supports[name]

    async def asked_once(self, name: str) -> bool:
        """Whether no request may be sent again to an engine that may have begun with it."""
        return bool((await self.about(name)).get("asked_once"))

    async def facts(self, name: str) -> EngineFacts | None:
        """What an engine's models can do at most, and its version; None if it cannot be known."""
        found = await self.about(name)
        if not found:
            return None
        return _facts(tuple(found["capabilities"]), found.get("version", ""))

    async def refresh(self) -> None:
        """Ask every environment anew."""
        self._describer.renew()
        self._answers.clear()
        self._supports.clear()
        await self.all()

    def forget(self, environment: str) -> None:
        """It is another now, or will be."""
        self._describer.renew()
        self._answers.pop(environment, None)
        self._supports.clear()
        self.edition += 1

    # -- of models --------------------------------------------------------------------------------

    async def verdicts(
        self, models: Sequence[Model], *, inspect: bool = False
    ) -> list[EngineVerdict]:
        """See ``check_models``, each in its own environment; of none nobody is asked."""
        where = [await self.environment_of(model) for model in models]
        found: dict[int, EngineVerdict] = {}
        for environment in sorted(set(where)):
            group = [i for i, name in enumerate(where) if name == environment]
            describer, asked = self._describer_in(environment), [models[i] for i in group]
            if describer is None:
                told = [_unasked(model) for model in asked]
            else:
                told = await asyncio.to_thread(_checked, asked, self._settings, inspect, describer)
            found |= dict(zip(group, told, strict=True))
        return [found[i] for i in range(len(models))]

    async def problems(self, model: Model, files: str) -> tuple[Problem, ...]:
        """What its engine has against the model's options. A process is asked once for the same
        options, files and version of the engine: not again for each look.

        Args:
            files: their fingerprint.
        """
        version = (await self.about(model.engine)).get("version", "")
        question = [_question(model, False), files, version]
        key = hashlib.sha256(json.dumps(question, default=str).encode()).hexdigest()
        if (known := self._problems.get(key)) is not None:
            self._problems.move_to_end(key)
            return known
        (verdict,) = await self.verdicts([model])
        if not verdict.notes:  # what they say may be mended
            self._problems[key] = verdict.problems
            if len(self._problems) > REMEMBERED:
                self._problems.popitem(last=False)
        return verdict.problems

    async def check(self, model: Model) -> EngineVerdict:
        """Would the model's engine take its options and its file? With the memory that it expects
        to need, where it can tell.

        Raises:
            InvalidRequest: no, with every reason; an engine that is merely not installed is none.
        """
        (verdict,) = await self.verdicts([self._started_with(model)], inspect=True)
        refuse(verdict.problems)
        return verdict

    async def inspected(self, models: Sequence[Model]) -> list[EngineVerdict]:
        """The same of several; one that it would not take is told so by its load."""
        return await self.verdicts([self._started_with(m) for m in models], inspect=True)

    async def environment_of(self, model: Model) -> str:
        """The name of the environment that its worker runs from, empty for the manager's own."""
        if model.environment or not self._others():
            return model.environment
        await self.all()
        return self.known_environment_of(model)

    def known_environment_of(self, model: Model) -> str:
        """The same, as far as was asked: that of the entry; else the manager's own, unless the
        engine is usable only in the one that was made for it."""
        if model.environment:
            return model.environment
        own, other = self._known(OWN, model.engine), self._known(model.engine, model.engine)
        if other and other["usable"] and not (own and own["usable"]):
            return model.engine
        return OWN

    def problem(self, model: Model) -> str:
        """Why its engine cannot work where it would run, and what would help; empty: it can, or
        nobody has been asked yet."""
        environment = self.known_environment_of(model)
        if (missing := self._unusable(environment)) is not None:
            return missing
        answer = self._answers.get(environment)
        told = answer.known if answer is not None else None
        if not told or not told.get("engines"):
            return ""
        engine = self._known(environment, model.engine)
        place = f" in environment {environment}" if environment else ""
        if engine is None:
            known = ", ".join(e["name"] for e in told["engines"] if not e.get("for_tests"))
            return f"there is no engine {model.engine!r}{place}; there are {known}"
        if engine["usable"]:
            return ""
        return f"engine {model.engine} cannot be used{place}: {_advice(engine)}"

    async def problem_now(self, model: Model) -> str:
        """The same; who was not usable is asked again, for it may have been installed."""
        environment = await self.environment_of(model)
        for name in {environment, OWN, model.engine} & {OWN, environment, *self._others()}:
            answer = self._answers.get(name)
            is_old = answer is not None and self._now() - answer.at >= ASK_AGAIN_SECONDS
            if is_old and self.problem(model):
                self.forget(name)
            if self._unusable(name) is None:
                await self.in_environment(name)
        return self.problem(model)

    async def python_for(self, model: Model) -> str:
        """The interpreter that runs its worker; empty for the manager's own.

        Raises:
            NotFound: there is no such environment.
        """
        name = await self.environment_of(model)
        if not name or self._environments is None:
            return ""
        return str(self._environments.get(name).python)

    def other_version(self, environment: str) -> str:
        """What version of modelpool an environment has, where it is not this one; else empty."""
        answer = self._answers.get(environment)
        version = str(((answer.known if answer else None) or {}).get("version", __version__))
        return "" if version == __version__ else version

    # -- how --------------------------------------------------------------------------------------

    def _others(self) -> list[str]:
        """Environments that can be asked."""
        if self._environments is None:
            return []
        names = self._environments.names()
        return [name for name in names if self._unusable(name) is None]

    def _unusable(self, environment: str) -> str | None:
        """Why an environment cannot be asked."""
        if not environment:
            return None
        if self._environments is None:
            return f"there is no environment {environment!r}"
        try:
            return self._environments.get(environment).problem or None
        except NotFound as e:
            return e.message

    def _describer_in(self, environment: str) -> Describer | None:
        if not environment:
            return self._describer
        if self._environments is None or self._unusable(environment) is not None:
            return None
        python = str(self._environments.get(environment).python)
        return Describer((python, *WORKER[1:]))

    def _asked(self, environment: str) -> _Answer:
        if environment not in self._answers:
            asking = asyncio.ensure_future(self._ask(environment))
            self._answers[environment] = _Answer(asking, self._now())
        return self._answers[environment]

    async def _ask(self, environment: str) -> dict[str, Any]:
        describer = self._describer_in(environment)
        if describer is None:
            return {}
        told = await asyncio.to_thread(describer.ask, *_told(self._settings))
        self._supports.clear()
        self.edition += 1
        return told or {}

    def _known(self, environment: str, engine: str) -> Mapping[str, Any] | None:
        answer = self._answers.get(environment)
        engines = ((answer.known if answer is not None else None) or {}).get("engines", ())
        return next((e for e in engines if e["name"] == engine), None)


@functools.lru_cache(maxsize=64)
def _facts(words: tuple[str, ...], version: str) -> EngineFacts:
    """One object for all models of an engine. PURE."""
    return EngineFacts(frozenset(map(word_of, words)), version)


def _merged(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One engine, of all environments that have it. PURE."""
    best = next((e for e in found if e["usable"]), found[0])
    told = ("environment", "usable", "reason", "install_hint", "version")
    return {**best, "environments": [{key: e.get(key, "") for key in told} for e in found]}


def _advice(engine: Mapping[str, Any]) -> str:
    hint = engine.get("install_hint")
    reason = str(engine.get("reason") or "it does not say why")
    if not hint:
        return reason
    advice = f"{reason}; what helps: {hint}"
    if packages_of(engine) is None:
        return advice
    return f"{advice}, or `poolctl engines install {engine['name']}`"
