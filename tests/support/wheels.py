"""Wheels made in a test: of packages that are installed here, and of a few lines. No index is
asked for any."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement


def repack(names: Iterable[str], folder: Path) -> None:
    """Wheels of these packages, and of all that they need, from the files that are installed."""
    waiting, done = [Requirement(name) for name in names], set[str]()
    while waiting:
        wanted = waiting.pop()
        found = metadata.distribution(wanted.name)
        if (key := f"{wanted.name.lower()}{sorted(wanted.extras)}") in done:
            continue
        done.add(key)
        _repack(found, folder)
        for text in found.requires or ():
            needed = Requirement(text)
            extras = [*wanted.extras, ""]
            if needed.marker is None or any(needed.marker.evaluate({"extra": e}) for e in extras):
                waiting.append(needed)


def _repack(found: metadata.Distribution, folder: Path) -> None:
    about = found.read_text("WHEEL") or ""
    tag = re.findall(r"^Tag: (\S+)", about, re.MULTILINE)[-1]
    name = re.sub(r"[-_.]+", "_", found.metadata["Name"])
    target = folder / f"{name}-{found.version}-{tag}.whl"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as wheel:
        lines = []
        for file in found.files or ():
            if ".." in file.parts or "__pycache__" in file.parts or file.name == "RECORD":
                continue
            wheel.writestr(str(file), Path(str(file.locate())).read_bytes())
            lines.append(f"{file},,\n")
        info = next(f.parts[0] for f in found.files or () if f.parts[0].endswith(".dist-info"))
        wheel.writestr(f"{info}/RECORD", "".join([*lines, f"{info}/RECORD,,\n"]))


def write_package(
    folder: Path,
    name: str,
    modules: Mapping[str, str],
    entry_points: str = "",
    version: str = "1.0",
) -> Path:
    """A wheel of pure Python with these modules, by file name."""
    info = f"{name}-{version}.dist-info"
    files = {
        **modules,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
        f"{info}/entry_points.txt": entry_points,
    }
    target = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(target, "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
        lines = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
        wheel.writestr(f"{info}/RECORD", lines)
    return target
