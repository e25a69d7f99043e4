"""Our own package as a wheel, made of the files that run: so that another environment gets just
this version, whether or not an index has it."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

NAME = "modelpool"
PACKAGES = ("modelpool", "modelpool_worker", "modelpool_client")
# Of the metadata what a wheel has; the rest is about this installation.
KEPT = ("METADATA", "entry_points.txt")
WHEEL = "Wheel-Version: 1.0\nGenerator: modelpool\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def write_wheel(folder: Path) -> Path:
    """Write the wheel into a folder, and say where it is.

    Raises:
        OSError: it cannot be written.
        PackageNotFoundError: this was not installed, so that nobody knows what it needs.
    """
    found = metadata.distribution(NAME)
    info = f"{NAME}-{found.version}.dist-info"
    target = folder / f"{NAME}-{found.version}-py3-none-any.whl"
    lines = []
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, content in _files(found, info):
            wheel.writestr(name, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
            lines.append(f"{name},sha256={digest.decode()},{len(content)}\n")
        wheel.writestr(f"{info}/RECORD", "".join([*lines, f"{info}/RECORD,,\n"]))
    return target


def _files(found: metadata.Distribution, info: str) -> Iterator[tuple[str, bytes]]:
    for package in PACKAGES:
        spec = find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        top = Path(spec.origin).parent
        for path in sorted(top.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield f"{package}/{path.relative_to(top).as_posix()}", path.read_bytes()
    for name in KEPT:
        text = found.read_text(name)
        if text is not None:
            yield f"{info}/{name}", text.encode()
    yield f"{info}/WHEEL", WHEEL.encode()
