"""What the engines of this environment can do, as JSON, without loading a model."""

from __future__ import annotations

import argparse
import json
from typing import Any

from modelpool_client.errors import LoadFailed

from . import engines
from .engine import Engine


def describe(arguments: list[str]) -> int:
    """Print every engine, or whether one can load a source with given options."""
    parser = argparse.ArgumentParser(prog="modelpool_worker describe")
    parser.add_argument("--engine")
    parser.add_argument("--source", default="")
    parser.add_argument("--options", default="{}", type=json.loads, metavar="JSON")
    given = parser.parse_args(arguments)
    if given.engine:
        answer = _one(given.engine, given.source, given.options)
    else:
        answer = {"engines": [_summary(name) for name in engines.names()]}
    print(json.dumps(answer))
    return 0


def _one(name: str, source: str, options: dict[str, Any]) -> dict[str, Any]:
    try:
        engine = engines.get(name)
        engine.check(options)
        engine.inspect(source)
    except LoadFailed as e:
        return {"name": name, "usable": False, "reason": e.message, "code": e.code}
    memory = engine.memory_bytes(source, options)
    return {**_about(engine), "options": engine.options, "memory_bytes": memory}


def _summary(name: str) -> dict[str, Any]:
    try:
        return _about(engines.get(name))
    except LoadFailed as e:
        nothing: dict[str, Any] = {"install_hint": "", "formats": [], "capabilities": []}
        return {"name": name, "usable": False, "reason": e.message, **nothing}


def _about(engine: Engine) -> dict[str, Any]:
    found = engine.probe()
    return {
        "name": engine.name,
        "usable": found.usable,
        "reason": found.reason,
        "install_hint": found.install_hint,
        "formats": list(engine.formats),
        "capabilities": list(engine.capabilities),
    }
