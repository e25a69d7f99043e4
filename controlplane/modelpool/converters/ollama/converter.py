"""Reads Ollama's variables, from the environment and where its service has them, and its store.

The variables are those of version 0.13 and later (envconfig/config.go, 2026-08).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from modelpool_client.errors import InvalidRequest

from modelpool.catalog.sources.ollama import Ollama as Store
from modelpool.converters.base import BadSettings, Conversion, Found
from modelpool.converters.found import found_models

from .settings import PER_MODEL, Settings, Variable, converted, is_of_ollama
from .units import NoVariables, variables_in

UNITS = (Path("/etc/systemd/system"), Path("/run/systemd/system"), Path("/usr/lib/systemd/system"))
SERVICE = "ollama.service"
AGENTS = ("com.ollama.ollama.plist", "homebrew.mxcl.ollama.plist")


@dataclass
class Ollama:
    """See ``Converter``.

    Attributes:
        units: folders of systemd's units.
    """

    name: str = "ollama"
    title: str = "Ollama"
    reads: str = (
        "a systemd unit or override, an env file or a launchd plist with its variables;"
        " the environment, and its service on this machine"
    )
    units: tuple[Path, ...] = UNITS

    def read(self, path: Path | None, environ: Mapping[str, str], home: Path) -> Settings:
        """See ``Converter``. With a path only what that sets counts."""
        files = [path] if path is not None else list(self._files(home))
        variables: dict[str, Variable] = {}
        for file in files:
            for name, value in _read(file).items():
                variables[name] = Variable(value, str(file))
        if path is None:
            own = {n: v for n, v in environ.items() if is_of_ollama(n)}
            variables |= {name: Variable(v, "the environment") for name, v in own.items()}
        store = _store(variables, home)
        if path is None and not variables and store is None:
            raise BadSettings(
                "there is nothing of Ollama here: no store, no service and none of its variables;"
                " say which file sets them: poolctl import ollama PATH"
            )
        models: list[Found] = []
        if store is not None and any(name in variables for name in PER_MODEL):
            try:
                models = found_models(store, self.name)
            except InvalidRequest as e:
                raise BadSettings(f"Ollama's store {e.message}") from None
        return Settings(variables, tuple(models), str(store) if store else "")

    def convert(self, settings: Settings) -> Conversion:
        """See ``Converter``."""
        return converted(settings)

    def _files(self, home: Path) -> Iterator[Path]:
        """Units, and then what overrides them: the last counts."""
        for folder in self.units:
            if (folder / SERVICE).is_file():
                yield folder / SERVICE
                break
        for folder in reversed(self.units):
            yield from sorted((folder / f"{SERVICE}.d").glob("*.conf"))
        for name in AGENTS:
            if (file := home / "Library" / "LaunchAgents" / name).is_file():
                yield file


def _read(file: Path) -> dict[str, str]:
    try:
        return variables_in(file.read_text(encoding="utf-8"), file.name)
    except NoVariables as e:
        raise BadSettings(f"{file} {e}") from None
    except UnicodeDecodeError:
        raise BadSettings(f"{file} is not UTF-8") from None
    except OSError as e:
        raise BadSettings(f"{file} cannot be read: {e.strerror}") from None


def _store(variables: Mapping[str, Variable], home: Path) -> Path | None:
    said = variables.get("OLLAMA_MODELS")
    environ = {"OLLAMA_MODELS": said.value} if said else {}
    paths = list(Store().default_paths(environ, home))
    return next((path for path in paths if path.is_dir()), None)
