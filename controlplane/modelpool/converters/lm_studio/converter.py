"""Reads LM Studio's folder: settings.json, its server's settings, and a JSON file for each model.

Where they are and what they hold is not documented; this is as versions 0.3.x and 0.4 write them.
Names of fields are those of its SDK (lmstudio-js, lms-kv-config, 2026).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelpool_client.errors import InvalidRequest

from modelpool.converters.base import BadSettings, Conversion, Found
from modelpool.converters.found import found_models

from .settings import Settings, converted

INTERNAL = ".internal"
PER_MODEL = "user-concrete-model-default-config"
HOMES = (".lmstudio", ".cache/lm-studio")


@dataclass
class LmStudio:
    """See ``Converter``."""

    name: str = "lmstudio"
    title: str = "LM Studio"
    reads: str = "its folder; ~/.lmstudio, or ~/.cache/lm-studio"

    def read(self, path: Path | None, environ: Mapping[str, str], home: Path) -> Settings:
        """See ``Converter``."""
        places = [path] if path is not None else [home / place for place in HOMES]
        folder = next((place for place in places if place.is_dir()), None)
        if folder is None:
            shown = " and ".join(map(str, places))
            raise BadSettings(f"{shown}: there is no folder of LM Studio; say where it is")
        settings = _object(folder / "settings.json")
        models = Path(str(settings.get("downloadsFolder") or folder / "models"))
        own = folder / INTERNAL / PER_MODEL
        return Settings(
            settings,
            _object(folder / INTERNAL / "http-server-config.json"),
            {str(f.relative_to(own)): _object(f) for f in sorted(own.rglob("*.json"))},
            _object(folder / INTERNAL / "model-index-cache.json"),
            str(models.absolute()),
            tuple(_models(models)),
        )

    def convert(self, settings: Settings) -> Conversion:
        """See ``Converter``."""
        return converted(settings)


def _object(file: Path) -> dict[str, Any]:
    """What it says; nothing where there is none."""
    try:
        found = json.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return {}
    except OSError as e:
        raise BadSettings(f"{file} cannot be read: {e.strerror}") from None
    except (RecursionError, ValueError) as e:
        raise BadSettings(f"{file} is not JSON: {e}") from None
    if not isinstance(found, dict):
        raise BadSettings(f"{file} should hold an object")
    return found


def _models(folder: Path) -> list[Found]:
    try:
        return found_models(folder, "lm_studio") if folder.is_dir() else []
    except InvalidRequest as e:
        raise BadSettings(f"LM Studio's folder of models {e.message}") from None
