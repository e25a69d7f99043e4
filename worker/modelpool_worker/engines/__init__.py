"""The engines there are: a lazy table for ours, servers as data, entry points for strangers, one
door for all."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from modelpool_client.errors import InvalidRequest, LoadFailed
from modelpool_client.surfaces.schema import near

from modelpool_worker.engine import Engine, EngineKind, RemoteEngine
from modelpool_worker.engine_table import BUILT_IN, plugins

COMMAND = "command"
NO_SETTINGS: Mapping[str, Any] = {}


def get(name: str, settings: Mapping[str, Any] = NO_SETTINGS) -> EngineKind:
    """The engine of that name, with the settings of the pool (``EngineKind.settings``).

    Raises:
        LoadFailed: no such engine, or a preset of that name that is wrong (``bad_config``), or it
            cannot be imported (``missing_dependency``).
    """
    if (where := BUILT_IN.get(name)) is not None:
        return _load(name, where, settings)
    if name == COMMAND or name in preset_names(settings):
        return _of_command(name, settings)
    # Plug-ins are looked up only when needed: importlib.metadata costs a child 20 ms.
    where = plugins().get(name)
    if where is None:
        known = names(settings)
        raise LoadFailed(
            f"this version has no engine {name!r}{near(name, known)}; there are {', '.join(known)}",
            code="bad_config",
            param="engine",
        )
    return _load(name, where, settings)


def get_child(name: str, settings: Mapping[str, Any] = NO_SETTINGS) -> Engine:
    """The engine of that name, which computes in a child.

    Raises:
        LoadFailed: as ``get``, or it does not (``bad_config``).
    """
    engine = get(name, settings)
    if not isinstance(engine, Engine):
        raise LoadFailed(f"engine {name!r} computes elsewhere", code="bad_config")
    return engine


def get_remote(name: str, settings: Mapping[str, Any] = NO_SETTINGS) -> RemoteEngine:
    """The engine of that name, which computes elsewhere.

    Raises:
        LoadFailed: as ``get``, or it does not (``bad_config``).
    """
    engine = get(name, settings)
    if not isinstance(engine, RemoteEngine):
        raise LoadFailed(f"engine {name!r} is no RemoteEngine", code="bad_config")
    return engine


def names(settings: Mapping[str, Any] = NO_SETTINGS) -> list[str]:
    """All engines, built in, by a preset, or plugged in."""
    return sorted({*BUILT_IN, COMMAND, *preset_names(settings), *plugins()})


def is_plugin(name: str, settings: Mapping[str, Any] = NO_SETTINGS) -> bool:
    """Whether a package of somebody else's brings it."""
    ours = name in BUILT_IN or name == COMMAND or name in preset_names(settings)
    return not ours and name in plugins()


def preset_names(settings: Mapping[str, Any] = NO_SETTINGS) -> set[str]:
    """The servers that are started by a command and have a name, ours and the user's."""
    from .command_presets import PRESETS

    return {*PRESETS, *settings.get("presets", ())}


def _of_command(name: str, settings: Mapping[str, Any]) -> Engine:
    from .command import CommandEngine, any_command
    from .command_presets import PRESETS, preset_of

    entry = settings.get("presets", {}).get(name)
    try:
        if name == COMMAND:
            preset = any_command()
        else:
            preset = PRESETS[name] if entry is None else preset_of(name, entry)
    except InvalidRequest as e:
        raise LoadFailed(e.message, code="bad_config", param=e.param) from None
    engine = CommandEngine(preset)
    engine.settings = settings
    return engine


def _load(name: str, where: str, settings: Mapping[str, Any]) -> EngineKind:
    module, _, attribute = where.partition(":")
    try:
        engine = getattr(importlib.import_module(module), attribute)()
    except (ImportError, AttributeError) as e:
        raise LoadFailed(f"engine {name!r}: {e}", code="missing_dependency") from e
    except (Exception, SystemExit) as e:  # a stranger's code may do anything
        text = f"engine {name!r}: importing {module} failed with {e!r}"
        raise LoadFailed(text, code="missing_dependency") from e
    if not isinstance(engine, EngineKind):
        raise LoadFailed(f"engine {name!r}: {where} is no Engine", code="bad_config")
    engine.settings = settings
    return engine
