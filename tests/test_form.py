"""The form of the code: parts are held, not extended, and no two modules need each other."""

from __future__ import annotations

import ast
import graphlib
from functools import cache
from pathlib import Path

import pytest
from test_architecture import PACKAGES, imports, module, name, sources

# What says what something is, and brings no behaviour along.
FORMS = {"Protocol", "StrEnum", "Enum", "NamedTuple", "TypedDict", "Generic", "ABC", "Exception"}
# Whoever knows the library expects to extend these, for that is how it is used.
EXTENSION_POINTS = {
    "APIRoute": "a route class of FastAPI",
    "AbstractContextManager": "a context manager of the standard library",
    "BaseModel": "a schema of pydantic",
    "Collector": "a collector of prometheus_client",
    "Formatter": "a formatter of logging",
    "FileSystemEventHandler": "a handler of watchdog",
    "Mapping": "a mapping of the standard library",
    "Protocol": "a protocol of asyncio",
    "SafeLoader": "a loader of PyYAML",
    "TyperGroup": "a command group of Typer",
    "ValueError": "an error tree",
    "float": "a number with attributes",
    "int": "a number with attributes",
    "str": "text with attributes",
}
# Ours that others may extend: settings of pydantic, the contracts of engines, the mark of a value
# that came from the environment, and protocols that narrower ones are of.
OURS = {
    "_Strict",
    "_Frozen",
    "_Body",
    "Engine",
    "EngineKind",
    "Filled",
    "Link",
    "RemoteEngine",
    "TextModel",
}


@cache
def bases(path: Path) -> tuple[tuple[str, str], ...]:
    """Every class of a file with each of its bases, by their last names."""
    classes = (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ClassDef))
    return tuple((found.name, _last(base)) for found in classes for base in found.bases)


def _last(base: ast.expr) -> str:
    plain = base.value if isinstance(base, ast.Subscript) else base
    return plain.attr if isinstance(plain, ast.Attribute) else ast.unparse(plain)


def errors() -> set[str]:
    """Every class that is an exception, by way of others or at once."""
    return descendants({"Exception", "ValueError"})


def shapes() -> set[str]:
    """Of dictionaries: a shape that extends another has its keys, and no behaviour."""
    return descendants({"TypedDict"})


def descendants(found: set[str]) -> set[str]:
    """With those that they are of, by way of others or at once."""
    before = -1
    while len(found) != before:
        before = len(found)
        found |= {cls for path in sources() for cls, base in bases(path) if base in found}
    return found


def test_nothing_in_the_core_inherits_an_implementation() -> None:
    core = PACKAGES["modelpool"] / "pool"
    for path in sorted(core.rglob("*.py")):
        for cls, base in bases(path):
            assert base in FORMS, f"{name(path)}: {cls} extends {base}; hold it instead"


def test_elsewhere_only_errors_and_extension_points_of_libraries_are_extended() -> None:
    allowed = FORMS | EXTENSION_POINTS.keys() | OURS | errors() | shapes()
    for path in sources():
        for cls, base in bases(path):
            assert base in allowed, f"{name(path)}: {cls} extends {base}; hold it instead"


def test_every_extension_that_is_allowed_is_used() -> None:
    used = {base for path in sources() for _, base in bases(path)}
    assert used >= EXTENSION_POINTS.keys() | OURS


@pytest.mark.parametrize("package", PACKAGES)
def test_no_circle_of_imports(package: str) -> None:
    """For type checkers only, too: two modules that need each other are one, or three."""
    known = {module(path): path for path in PACKAGES[package].rglob("*.py")}
    needs = {
        own: {_module_of(full, known) for full in imports(path)} & known.keys() - {own}
        for own, path in known.items()
    }
    graphlib.TopologicalSorter(needs).prepare()


def _module_of(full: str, known: dict[str, Path]) -> str:
    """``a.b.c`` names a module, or something in the module ``a.b``."""
    return full if full in known else full.rpartition(".")[0]
