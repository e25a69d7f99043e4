"""What the engines of this environment can do, as JSON, without loading a model."""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeAlias

from modelpool_client import __version__
from modelpool_client.errors import LoadFailed

from . import engines, isolated
from .engine import EngineKind, RemoteEngine
from .engines import NO_SETTINGS

Check: TypeAlias = Callable[[Mapping[str, Any]], None]

# What the end of a source's name says of its format.
FORMATS = {
    ".gguf": "gguf",
    ".safetensors": "safetensors",
    ".onnx": "onnx",
    ".mlmodel": "coreml",
    ".mlpackage": "coreml",
}
# The format of an engine that reads no file.
NO_FORMAT = "none"


def describe(arguments: list[str]) -> int:
    """Print every engine, whether one can load a source with given options, or what is wrong with
    each of many models. With ``--each`` that is asked line by line, ``arguments`` and ``data``.

    Engines that an installed package brings are asked in a process of their own: what
    crashes or hangs there spoils the answer of no other.
    """
    if arguments == ["--each"]:
        return _answer_each()
    with contextlib.redirect_stdout(sys.stderr):  # what plug-ins print is no part of the answer
        answer = _told(arguments, sys.stdin.read)
    print(json.dumps(answer))
    return 0


def _answer_each() -> int:
    """Until nobody asks any more."""
    # An engine's library may write to the descriptor itself, and what it runs reads a question.
    with os.fdopen(os.dup(0), "rb") as questions, os.fdopen(os.dup(1), "wb") as answers:
        with open(os.devnull, "rb") as nothing:
            os.dup2(nothing.fileno(), 0)
        os.dup2(2, 1)
        for line in questions:
            asked = json.loads(line)
            answer = _told(asked["arguments"], partial(str, asked["data"]))
            answers.write(json.dumps(answer).encode() + b"\n")
            answers.flush()
            gc.enable()  # it may be asked for long
    return 0


def _told(arguments: list[str], data: Callable[[], str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="modelpool_worker describe")
    parser.add_argument("--engine")
    parser.add_argument("--source", default="")
    parser.add_argument("--options", default="{}", type=json.loads, metavar="JSON")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--about", metavar="ENGINE", help="what is told of it among all")
    parser.add_argument("--here", action="store_true", help="plug-ins run in this process")
    parser.add_argument("--settings", default="{}", type=json.loads, metavar="JSON")
    given = parser.parse_args(arguments)
    if given.check:
        return check(json.loads(data()), given.settings, here=given.here)
    if given.about:
        return _summary(given.about, given.settings)
    if given.engine:
        return _one(given.engine, given.source, given.options, given.settings)
    return {"version": __version__, "engines": _all(given.settings)}


def _all(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Ours here, each plug-in in a process of its own."""
    names = engines.names(settings)
    strangers = [name for name in names if engines.is_plugin(name, settings)]
    with ThreadPoolExecutor(len(strangers) + 1) as threads:
        told = dict(
            zip(
                strangers,
                threads.map(lambda name: _told_of(name, settings), strangers),
                strict=True,
            )
        )
    return [told.get(name) or _summary(name, settings) for name in names]


def _told_of(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a plug-in says of itself, or what is wrong with it."""
    try:
        return isolated.ask("--about", name, *_settings(settings))
    except isolated.PluginFailed as e:
        return _unusable(name, f"its plug-in {e}")


def check(
    asked: Mapping[str, Any], settings: Mapping[str, Any] = NO_SETTINGS, *, here: bool = True
) -> dict[str, Any]:
    """What is wrong with each of ``asked["models"]``. Unless ``here``, those of plug-ins are asked
    about in processes of their own: one that crashes or hangs costs nobody else an answer.

    A model is ``{"engine", "source", "options", "texts", "inspect"}``: ``texts`` names the options
    whose value was a text only because it came from the environment, ``inspect`` asks for a look at
    the source and for the memory that it needs.

    The answer holds for each, in their order: ``problems``, each with param, message and code;
    ``notes``, what could not be found out; ``options`` with the texts as what
    the engine wants; ``memory_bytes``, None where it is not known.
    """
    if not here:
        return {"models": _checked_apart(asked["models"], settings)}
    known: dict[str, EngineKind | LoadFailed] = {}
    answers = []
    for model in asked["models"]:
        name = model["engine"]
        if name not in known:
            known[name] = _found(name, settings)
        answers.append(_checked(known[name], model))
    return {"models": answers}


def _checked_apart(
    models: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]
) -> list[dict[str, Any]]:
    by_engine: dict[str, list[int]] = {}
    for i, model in enumerate(models):
        name = model["engine"]
        by_engine.setdefault(name if engines.is_plugin(name, settings) else "", []).append(i)
    answers: dict[int, dict[str, Any]] = {}

    def ask(name: str) -> list[dict[str, Any]]:
        several = [models[i] for i in by_engine[name]]
        if name:
            return _asked_apart(name, several, settings)
        return list(check({"models": several}, settings)["models"])

    with ThreadPoolExecutor(len(by_engine) + 1) as threads:
        for name, found in zip(by_engine, threads.map(ask, by_engine), strict=True):
            answers |= dict(zip(by_engine[name], found, strict=True))
    return [answers[i] for i in range(len(models))]


def _asked_apart(
    name: str, models: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]
) -> list[dict[str, Any]]:
    question = json.dumps({"models": list(models)})
    try:
        told = isolated.ask("--check", "--here", *_settings(settings), data=question)
        return list(told["models"])
    except isolated.PluginFailed as e:
        note = f"its options were not checked: the plug-in of engine {name} {e}"
        return [_answer(model, [note]) for model in models]


def _settings(settings: Mapping[str, Any]) -> tuple[str, ...]:
    return ("--settings", json.dumps(dict(settings))) if settings else ()


def _answer(model: Mapping[str, Any], notes: Sequence[str] = ()) -> dict[str, Any]:
    options = dict(model["options"])
    return {"problems": [], "notes": list(notes), "options": options, "memory_bytes": None}


def _found(name: str, settings: Mapping[str, Any]) -> EngineKind | LoadFailed:
    try:
        return engines.get(name, settings)
    except LoadFailed as e:
        return e
    except Exception as e:  # a stranger's code, which must not spoil the answer about the others
        return LoadFailed(f"engine {name!r}: {e!r}", code="missing_dependency")


def _checked(engine: EngineKind | LoadFailed, model: Mapping[str, Any]) -> dict[str, Any]:
    answer = _answer(model)
    options = answer["options"]
    if isinstance(engine, LoadFailed):
        if engine.param == "engine":
            answer["problems"] = [_problem("engine", engine)]
        else:
            answer["notes"] = [f"its options were not checked: {engine.message}"]
        return answer
    options |= {k: _typed(engine.options.get(k, {}), options[k]) for k in model.get("texts", ())}
    try:
        answer["problems"] = list(_problems(engine, model["source"], options))
        answer["notes"] = list(_notes(engine, options))
        if model.get("inspect") and not answer["problems"]:
            answer |= _inspected(engine, model["source"], options)
    except Exception as e:  # as above
        answer["notes"] = [f"it was not checked: engine {engine.name} failed, {e!r}"]
    return answer


def _notes(engine: EngineKind, options: Mapping[str, Any]) -> Iterator[str]:
    """What keeps a model from being loaded now beyond what keeps all of its engine."""
    found = engine.probe_for(options)
    if not found.usable and engine.probe().usable:
        hint = f": {found.install_hint}" if found.install_hint else ""
        yield f"engine {engine.name} cannot be used here, {found.reason}{hint}"


def _problems(
    engine: EngineKind, source: str, options: Mapping[str, Any]
) -> Iterator[dict[str, str]]:
    """Every wrong option, not only the first; then what is wrong with them together."""
    each, together = engine.check_each, engine.check
    wrong = [p for o in options for p in _refusal(engine, each, {o: options[o]}, f"options.{o}")]
    yield from wrong or _refusal(engine, together, options, "options")
    suffix = next((s for s in FORMATS if source.casefold().endswith(s)), "")
    known = engine.formats
    if suffix and known and NO_FORMAT not in known and FORMATS[suffix] not in known:
        what = f"source is a {suffix} file; {engine.name} loads {', '.join(known)}"
        yield {"param": "source", "message": what, "code": "bad_config"}


def _refusal(
    engine: EngineKind, check: Check, options: Mapping[str, Any], param: str
) -> list[dict[str, str]]:
    try:
        check(options)
    except LoadFailed as e:
        problem = _problem(param, e)
        return [problem | {"message": problem["message"].removeprefix(f"{engine.name}: ")}]
    return []


def _problem(param: str, error: LoadFailed) -> dict[str, str]:
    return {"param": error.param or param, "message": error.message, "code": error.code}


def _typed(schema: Mapping[str, Any], value: Any) -> Any:
    """A text as the number or the truth value that the option wants."""
    kinds = schema.get("type", "string")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if not isinstance(value, str) or "string" in kinds:
        return value
    try:
        read = json.loads(value)
    except ValueError:
        return value
    wanted = bool if "boolean" in kinds else (int, float)
    is_wanted = isinstance(read, wanted) and isinstance(read, bool) == ("boolean" in kinds)
    return read if is_wanted else value


def _inspected(engine: EngineKind, source: str, options: Mapping[str, Any]) -> dict[str, Any]:
    try:
        engine.inspect(source)
    except LoadFailed as e:
        return {"problems": [_problem("source", e)]}
    return {"memory_bytes": _memory_bytes(engine, source, options)}


def _memory_bytes(engine: EngineKind, source: str, options: Mapping[str, Any]) -> int | None:
    """What the engine tells, if that is a number of bytes."""
    told: object = engine.memory_bytes(source, options)
    is_size = isinstance(told, int) and not isinstance(told, bool) and told >= 0
    return told if is_size and isinstance(told, int) else None


def _one(
    name: str, source: str, options: dict[str, Any], settings: Mapping[str, Any]
) -> dict[str, Any]:
    try:
        engine = engines.get(name, settings)
        engine.check(options)
        engine.inspect(source)
    except LoadFailed as e:
        return {"name": name, "usable": False, "reason": e.message, "code": e.code}
    return {**_about(engine), "memory_bytes": _memory_bytes(engine, source, options)}


def _summary(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return _about(engines.get(name, settings))
    except LoadFailed as e:
        return _unusable(name, e.message)
    except Exception as e:  # as above
        return _unusable(name, f"engine {name!r} failed: {e!r}")


def _after_leaving(engine: EngineKind) -> dict[str, str]:
    if isinstance(engine, RemoteEngine):
        return dict.fromkeys(engine.surfaces, "server")
    return dict(engine.after_leaving)


def _unusable(name: str, reason: str) -> dict[str, Any]:
    """Of an engine of which nobody knows more."""
    lists: dict[str, list[str]] = {key: [] for key in ("formats", "capabilities", "surfaces")}
    texts = dict.fromkeys(("version", "install_hint", "extra"), "")
    flags = {"is_plugin": engines.is_plugin(name), "for_tests": False, "asked_once": False}
    told = {"name": name, "usable": False, "reason": reason, "options": None}
    return {**told, **texts, **lists, **flags}


def _about(engine: EngineKind) -> dict[str, Any]:
    found = engine.probe()
    return {
        "name": engine.name,
        "usable": found.usable,
        "reason": found.reason,
        "install_hint": found.install_hint,
        "version": found.version,
        "formats": list(engine.formats),
        "capabilities": list(engine.capabilities),
        "surfaces": list(engine.surfaces),
        "honours": engine.honours and {p: list(names) for p, names in engine.honours.items()},
        "after_leaving": _after_leaving(engine),
        "options": engine.options,
        "extra": engine.extra,
        "is_plugin": engines.is_plugin(engine.name),
        "for_tests": engine.for_tests,
        "asked_once": engine.asked_once,
    }
