"""The one dependency rule, and what a file may hold. Read from the source, nothing is run."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from inspect import cleandoc
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "modelpool_client": ROOT / "client" / "modelpool_client",
    "modelpool": ROOT / "controlplane" / "modelpool",
    "modelpool_worker": ROOT / "worker" / "modelpool_worker",
}
MAY_IMPORT = {
    "modelpool_client": set[str](),
    "modelpool": {"modelpool_client"},
    "modelpool_worker": {"modelpool_client"},
}
ENGINES = frozenset(
    {"xllamacpp", "llama_cpp", "torch", "transformers", "onnx", "onnxruntime", "mlx", "mlx_lm"}
    | {"coremltools", "vllm", "numpy", "safetensors", "tokenizers", "accelerate", "ray", "gguf"}
    | {"onnxruntime_genai"}
)
IMPURE = frozenset(
    {"asyncio", "time", "logging", "os", "sqlite3", "socket", "aiohttp", "psutil", "subprocess"}
    | {"threading", "random", "secrets", "httpx", "tempfile", "shutil", "signal", "select"}
)
# A file that is PURE but for something says so in its first line, and is then not held to it.
EXCEPT = "PURE but for"


@cache
def sources() -> list[Path]:
    return sorted(path for folder in PACKAGES.values() for path in folder.rglob("*.py"))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def module(path: Path) -> str:
    """``modelpool.pool.pool``"""
    parent = next(folder.parent for folder in PACKAGES.values() if path.is_relative_to(folder))
    parts = path.relative_to(parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports(path: Path) -> tuple[str, ...]:
    """Full names of what a file imports, wherever in it, for type checkers only too."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    own = module(path).split(".")
    base = own if path.name == "__init__.py" else own[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = base[: len(base) - node.level + 1] if node.level else []
            prefix = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{prefix}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and _called(node) in ("import_module", "__import__"):
            yield from (str(a.value) for a in node.args[:1] if isinstance(a, ast.Constant))


def _called(node: ast.Call) -> str:
    function = node.func
    return function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")


def roots(path: Path) -> set[str]:
    return {full.split(".")[0] for full in imports(path)}


@cache
def docstring(path: Path) -> str:
    """What a file says of itself, in its first lines; found without parsing the rest, for every
    process that collects tests asks it of every file."""
    found = re.match(r'"""(.*?)"""\n', path.read_text(), re.DOTALL)
    # A backslash stands for what it does in Python.
    return cleandoc(ast.literal_eval(f'"""{found[1]}"""')) if found else ""


def is_pure(path: Path) -> bool:
    """Its docstring begins with PURE, or its first paragraph ends with it."""
    first = " ".join(docstring(path).split("\n\n")[0].split())
    says_so = first.startswith("PURE") or re.search(r"\bPURE\.?$", first) is not None
    return says_so and EXCEPT not in first


@pytest.mark.parametrize("package", PACKAGES)
def test_the_one_dependency_rule(package: str) -> None:
    for path in sorted(PACKAGES[package].rglob("*.py")):
        ours = (roots(path) & set(PACKAGES)) - {package}
        assert ours <= MAY_IMPORT[package], f"{name(path)} imports {ours}"


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_is_imported_by_the_name_of_its_folder(package: str) -> None:
    """From the root of the repository that would load a second copy."""
    for path in PACKAGES[package].rglob("*.py"):
        assert not roots(path) & {"client", "controlplane", "worker"}, name(path)


@pytest.mark.parametrize("package", ["modelpool", "modelpool_client"])
def test_no_engine_is_imported_outside_the_worker(package: str) -> None:
    for path in PACKAGES[package].rglob("*.py"):
        assert not roots(path) & ENGINES, f"{name(path)} imports {roots(path) & ENGINES}"


def test_the_front_imports_no_engine_either() -> None:
    """Only the file of an engine does, and only the child imports that."""
    folder = PACKAGES["modelpool_worker"]
    for path in folder.rglob("*.py"):
        if not path.is_relative_to(folder / "engines"):
            assert not roots(path) & ENGINES, f"{name(path)} imports {roots(path) & ENGINES}"


def test_the_base_install_needs_no_server() -> None:
    """httpx, typer and rich are all that a client has."""
    server = {"fastapi", "uvicorn", "uvloop", "httptools", "aiohttp", "psutil", "pydantic", "yaml"}
    own = PACKAGES["modelpool_client"]
    for path in own.rglob("*.py"):
        if path.is_relative_to(own / "http1"):  # where gateway and front meet; no client's
            continue
        assert not roots(path) & server, f"{name(path)} imports {roots(path) & server}"


def test_a_client_does_not_bring_along_what_servers_check_with() -> None:
    code = (
        "import sys, modelpool_client\n"
        "modelpool_client.PoolClient, modelpool_client.AsyncPoolClient\n"
        "import modelpool_client.cli.app\n"
        "rooms = ('modelpool_client.surfaces', 'modelpool_client.http1')\n"
        "sys.exit(any(m.startswith(rooms) for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_docstrings_are_found_as_python_finds_them() -> None:
    for path in sources()[::20]:
        assert docstring(path) == ast.get_docstring(ast.parse(path.read_text())), name(path)


def test_the_pure_are_known() -> None:
    pure = {module(path) for path in sources() if is_pure(path)}
    assert {
        "modelpool.pool.states",
        "modelpool.pool.admission",
        "modelpool.catalog.footprint",
        "modelpool.catalog.model",
        "modelpool_client.guard",
    } <= pure


@pytest.mark.parametrize("path", [p for p in sources() if is_pure(p)], ids=module)
def test_pure_is_pure(path: Path) -> None:
    # What is in os.path computes with text.
    found = {full for full in imports(path) if not full.startswith("os.path")}
    impure = sorted(full for full in found if full.split(".")[0] in IMPURE)
    assert not impure, f"{name(path)} imports {impure}"
    waits = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    tree = list(ast.walk(ast.parse(path.read_text())))
    assert not [node for node in tree if isinstance(node, waits)], "it waits"
    opens = [
        n for n in tree if isinstance(n, ast.Call) and _called(n) in ("open", "print", "input")
    ]
    assert not opens, "it reads or writes"


def test_the_pool_knows_nothing_of_those_above_it() -> None:
    """Gateway, API and composition root use the pool, never the other way round."""
    above = ("modelpool.gateway", "modelpool.api", "modelpool.app", "modelpool.services")
    for room in ("pool", "catalog", "launchers", "observe"):
        for path in (PACKAGES["modelpool"] / room).rglob("*.py"):
            upwards = [full for full in imports(path) if full.startswith(above)]
            assert not upwards, f"{name(path)} imports {upwards}"


@pytest.mark.parametrize("path", sources(), ids=name)
def test_every_file_says_what_it_is(path: Path) -> None:
    assert docstring(path), name(path)
