"""Packages with engines, built as wheels and installed into a folder of their own."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "plugin.md"


def files_of_page() -> dict[str, str]:
    """The files that the page on plug-ins shows, by their names."""
    found = re.findall(r"^`([\w.]+)`:\n```\w+\n(.*?)^```", PAGE.read_text(), re.S | re.M)
    return dict(found)


def stranger(name: str, code: str, site: Path) -> None:
    """Install a package with the engine ``name``, the class ``Stranger`` of ``code``, below
    ``site``, without a wheel."""
    (site / f"{name}_engine.py").write_text(code)
    info = site / f"{name}_engine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-engine\nVersion: 1.0\n")
    points = f"[modelpool.engines]\n{name} = {name}_engine:Stranger\n"
    (info / "entry_points.txt").write_text(points)


def install(files: dict[str, str], work: Path, site: Path) -> Path:
    """Build a wheel of the files and unpack it below ``site``; nothing is fetched."""
    work.mkdir(parents=True)
    for name, text in files.items():
        (work / name).write_text(text)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", "wheels"]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = (work / "wheels").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site
