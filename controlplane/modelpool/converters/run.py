"""Reads, converts and checks: what comes out is a config file that a pool starts with."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from modelpool.config import LIVE_KEYS, PREFIX, ConfigError, load_config
from modelpool.engines import check_models

from .base import BadSettings, Conversion, Converter
from .by_api import by_api
from .registry import CONVERTERS

LINE = 98


def convert(name: str, path: Path | None, environ: Mapping[str, str]) -> dict[str, Any]:
    """The settings of a program as ours: ``config``, as ``yaml`` too, ``remarks``, ``warnings`` of
    the check, and ``by_api``.

    Raises:
        BadSettings: there are none, they cannot be read, or make no sense.
    """
    converter = CONVERTERS.get(name)
    if converter is None:
        raise BadSettings(f"there is no converter {name!r}, only {', '.join(CONVERTERS)}")
    found = converter.convert(converter.read(path, environ, Path.home()))
    text = as_yaml(found, converter, path)
    own = {k: v for k, v in environ.items() if not k.startswith(PREFIX)}
    return {
        "program": converter.name,
        "config": found.config,
        "yaml": text,
        "remarks": [dataclasses.asdict(remark) for remark in found.remarks],
        "warnings": _warnings(text, own),
        "by_api": dataclasses.asdict(by_api(found.config, LIVE_KEYS)),
    }


def _warnings(text: str, environ: Mapping[str, str]) -> list[str]:
    """What the check says of the file that is to be; what is wrong with it is wrong there, too."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pool.yaml"
        file.write_text(text, encoding="utf-8")
        try:
            return list(load_config(file, environ, check=check_models).warnings)
        except ConfigError as e:
            told = "\n".join(f"  {issue.key} {issue.message}" for issue in e.errors)
            raise BadSettings(
                f"what comes of these settings is no configuration:\n{told}"
            ) from None


def as_yaml(found: Conversion, converter: Converter, path: Path | None) -> str:
    """A config file with the remarks in front."""
    source = path.absolute() if path is not None else "what it has on this machine"
    lines = [
        f"Made by `poolctl import {converter.name}` from {source}.",
        "Every key: docs/config.md.",
    ]
    if found.remarks:
        lines.append("What is not as it is there:")
    lines += [f"- {remark}" for remark in found.remarks]
    head = "".join(f"# {line}\n" for whole in lines for line in whole.splitlines())
    body = yaml.safe_dump(
        dict(found.config), sort_keys=False, allow_unicode=True, width=LINE, default_flow_style=None
    )
    return f"{head}\n{body}"
