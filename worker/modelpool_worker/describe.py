"""What the engines of this environment can do, as JSON, without loading a model."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from modelpool_client.errors import LoadFailed

from . import engines
from .engine import Engine

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
    each of many models."""
    parser = argparse.ArgumentParser(prog="modelpool_worker describe")
    parser.add_argument("--engine")
    parser.add_argument("--source", default="")
    parser.add_argument("--options", default="{}", type=json.loads, metavar="JSON")
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args(arguments)
    if given.check:
        answer = check(json.load(sys.stdin))
    elif given.engine:
        answer = _one(given.engine, given.source, given.options)
    else:
        answer = {"engines": [_summary(name) for name in engines.names()]}
    print(json.dumps(answer))
    return 0


def check(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What is wrong with each of ``asked["models"]``.

    A model is ``{"engine", "source", "options", "texts", "inspect"}``: ``texts`` names the options
    whose value was a text only because it came from the environment, ``inspect`` asks for a look at
    the source and for the memory that it needs.

    The answer holds for each, in their order: ``problems``, each with param, message and code;
    ``notes``, what keeps it from loading now but may be mended; ``options`` with the texts as what
    the engine wants; ``memory_bytes``, None where it is not known.
    """
    known: dict[str, Engine | LoadFailed] = {}
    answers = []
    for model in asked["models"]:
        name = model["engine"]
        if name not in known:
            known[name] = _found(name)
        answers.append(_checked(known[name], model))
    return {"models": answers}


def _found(name: str) -> Engine | LoadFailed:
    try:
        return engines.get(name)
    except LoadFailed as e:
        return e
    except Exception as e:  # a stranger's code, which must not spoil the answer about the others
        return LoadFailed(f"engine {name!r}: {e!r}", code="missing_dependency")


def _checked(engine: Engine | LoadFailed, model: Mapping[str, Any]) -> dict[str, Any]:
    options = dict(model["options"])
    answer: dict[str, Any] = {"problems": [], "notes": [], "options": options, "memory_bytes": None}
    if isinstance(engine, LoadFailed):
        if engine.param == "engine":
            answer["problems"] = [_problem("engine", engine)]
        else:
            answer["notes"] = [f"its options were not checked: {engine.message}"]
        return answer
    options |= {k: _typed(engine.options.get(k, {}), options[k]) for k in model.get("texts", ())}
    try:
        answer["problems"] = list(_problems(engine, model["source"], options))
        answer["notes"] = list(_notes(engine))
        if model.get("inspect") and not answer["problems"]:
            answer |= _inspected(engine, model["source"], options)
    except Exception as e:  # as above
        answer["notes"] = [f"it was not checked: engine {engine.name} failed, {e!r}"]
    return answer


def _notes(engine: Engine) -> Iterator[str]:
    found = engine.probe()
    if not found.usable:
        hint = f": {found.install_hint}" if found.install_hint else ""
        yield f"engine {engine.name} cannot be used here, {found.reason}{hint}"


def _problems(engine: Engine, source: str, options: Mapping[str, Any]) -> Iterator[dict[str, str]]:
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
    engine: Engine, check: Check, options: Mapping[str, Any], param: str
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


def _inspected(engine: Engine, source: str, options: Mapping[str, Any]) -> dict[str, Any]:
    try:
        engine.inspect(source)
    except LoadFailed as e:
        return {"problems": [_problem("source", e)]}
    return {"memory_bytes": engine.memory_bytes(source, options)}


def _one(name: str, source: str, options: dict[str, Any]) -> dict[str, Any]:
    try:
        engine = engines.get(name)
        engine.check(options)
        engine.inspect(source)
    except LoadFailed as e:
        return {"name": name, "usable": False, "reason": e.message, "code": e.code}
    return {**_about(engine), "memory_bytes": engine.memory_bytes(source, options)}


def _summary(name: str) -> dict[str, Any]:
    try:
        return _about(engines.get(name))
    except LoadFailed as e:
        nothing: dict[str, Any] = {"version": "", "install_hint": "", "formats": []}
        nothing |= {"capabilities": []}
        return {"name": name, "usable": False, "reason": e.message, **nothing, "options": None}


def _about(engine: Engine) -> dict[str, Any]:
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
        "options": engine.options,
    }
