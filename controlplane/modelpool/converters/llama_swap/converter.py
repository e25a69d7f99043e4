"""Reads llama-swap's config file.

Its format is that of version 250 (2026-08), as its config.example.yaml explains it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from modelpool.config_file import UnreadableFile
from modelpool.converters.base import BadSettings, Conversion

from .files import read_document, read_folder
from .settings import Settings, converted

NAME = "config.yaml"


@dataclass
class LlamaSwap:
    """See ``Converter``."""

    name: str = "llama-swap"
    title: str = "llama-swap"
    reads: str = "its config file, or the folder of its -config-dir; config.yaml of this folder"

    def read(self, path: Path | None, environ: Mapping[str, str], home: Path) -> Settings:
        """See ``Converter``. Without a path the program itself reads ``config.yaml`` here."""
        file = path or Path(NAME)
        if file.is_dir():
            return Settings(read_folder(file), file.absolute(), dict(environ))
        try:
            document = read_document(file)
        except UnreadableFile as e:
            hint = "" if path else "; say where it is: poolctl import llama-swap PATH"
            raise BadSettings(f"{file} {e}{hint}") from None
        return Settings(document, file.absolute().parent, dict(environ))

    def convert(self, settings: Settings) -> Conversion:
        """See ``Converter``."""
        return converted(settings)
