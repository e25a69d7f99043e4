"""PURE. Variables in the texts of systemd's units, of env files and of launchd's property lists."""

from __future__ import annotations

import plistlib
import re
import shlex
from collections.abc import Iterator

_QUOTED = re.compile(r"^(['\"])(.*)\1$", re.DOTALL)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class NoVariables(ValueError):
    """The text is none of these; the text of the error says why."""


def variables_in(text: str, name: str) -> dict[str, str]:
    """Those that a file sets, by its name: ``.plist``, ``.conf`` and ``.service``, else an env
    file. The last of two with one name counts.

    Raises:
        NoVariables: it cannot be read as such.
    """
    if name.endswith(".plist"):
        return _of_plist(text)
    if name.endswith((".conf", ".service")):
        return dict(_of_unit(text))
    return dict(_of_env_file(text))


def _of_unit(text: str) -> Iterator[tuple[str, str]]:
    joined = re.sub(r"\\\n", " ", text)
    found: dict[str, str] = {}
    for line in joined.splitlines():
        key, equals, value = line.strip().partition("=")
        if key.strip() != "Environment" or not equals:
            continue
        if not value.strip():  # as systemd has it: what was said before is taken back
            found.clear()
        try:
            parts = shlex.split(value)
        except ValueError as e:
            raise NoVariables(f"has an Environment= that cannot be read: {e}") from None
        for part in parts:
            name, is_one, said = part.partition("=")
            if is_one and _NAME.fullmatch(name):
                found[name] = said
    yield from found.items()


def _of_env_file(text: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.strip().removeprefix("export ").strip()
        if not bare or bare.startswith(("#", ";")):
            continue
        name, equals, value = bare.partition("=")
        if not equals or not _NAME.fullmatch(name.strip()):
            raise NoVariables(f"has no NAME=VALUE in line {number}")
        quoted = _QUOTED.match(value.strip())
        yield name.strip(), quoted[2] if quoted else value.strip()


def _of_plist(text: str) -> dict[str, str]:
    try:
        found = plistlib.loads(text.encode()).get("EnvironmentVariables") or {}
        return {str(name): str(value) for name, value in found.items()}
    except (AttributeError, ValueError, plistlib.InvalidFileException) as e:
        raise NoVariables(f"is no property list: {e}") from None
    except Exception as e:  # expat has errors of its own
        raise NoVariables(f"is no property list: {e}") from None
