"""Makes a virtual environment and installs into it: the program of the job ``install``.

It may be ended at any moment and begun again: what is there already is kept, and pip does not fetch
twice what it has in its cache. Where pip looks for packages is the user's own configuration of it.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelpool_client.errors import Unavailable

from modelpool.config import EnvironmentSettings
from modelpool.environments.environment import (
    RECORD,
    python_in,
    record_of,
    requirements_of,
)
from modelpool.environments.wheel import write_wheel
from modelpool.jobs.child import Tell, main

STEPS = 3
SHOWN_LINES = 8
# What pip says at length, and what it is about.
_STEP = re.compile(r"\s*(Collecting|Downloading|Using cached|Installing|Building|Preparing) (.*)")


class InstallFailed(Unavailable):
    """The environment could not be made; the last lines of the program that failed go with it."""

    default_code = "install_failed"


def install(request: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    """Make ``request["folder"]`` an environment with our own package, its ``extras`` and the
    ``packages``.

    Raises:
        InstallFailed: naming the step, with the last lines.
    """
    folder = Path(request["folder"])
    settings = EnvironmentSettings(
        python=None, extras=tuple(request["extras"]), packages=tuple(request["packages"])
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        (folder / RECORD).unlink()
    tell({"progress": {"done": 0, "total": STEPS, "unit": "steps", "text": "making it"}})
    if not _works(folder):
        _run([sys.executable, "-m", "venv", "--clear", str(folder)], "the environment", tell)
    tell({"progress": {"done": 1, "total": STEPS, "unit": "steps", "text": "packing modelpool"}})
    with tempfile.TemporaryDirectory() as temporary:
        wheel = write_wheel(Path(temporary))
        tell({"log": f"packed {wheel.name} of this installation"})
        # What is of the same version may still be of other files: in place of it, not beside it.
        pip = [str(python_in(folder)), "-m", "pip", "--disable-pip-version-check", "--no-input"]
        _run(
            [*pip, "install", "--force-reinstall", "--no-deps", str(wheel)],
            "modelpool itself",
            tell,
        )
        wanted = requirements_of(settings, str(wheel))
        _run([*pip, "install", "--progress-bar", "off", *wanted], "the packages", tell)
        _run([*pip, "check"], "the packages, which do not fit together", tell)
    tell({"progress": {"done": STEPS, "total": STEPS, "unit": "steps", "text": "done"}})
    record = record_of(requirements_of(settings))
    temporary_file = folder / f"{RECORD}.new"
    temporary_file.write_text(json.dumps(record), encoding="utf-8")
    temporary_file.replace(folder / RECORD)
    return record | {"python": str(python_in(folder))}


def _works(folder: Path) -> bool:
    """Whether there is an environment whose python starts and has pip; one that was half made, or
    whose python is gone from the system, is made anew."""
    if not python_in(folder).exists():
        return False
    asked = subprocess.run(
        [str(python_in(folder)), "-m", "pip", "--version"], capture_output=True, check=False
    )
    return asked.returncode == 0


def _run(command: list[str], what: str, tell: Tell) -> None:
    """Its lines go to the job's log as they come."""
    lines: list[str] = []
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as child:
        assert child.stdout is not None
        for text in child.stdout:
            line = text.rstrip()
            if not line:
                continue
            lines = [*lines, line][-SHOWN_LINES:]
            tell({"log": line})
            if step := _STEP.match(line):
                said = f"{step[1].lower()} {step[2]}"[:120]
                tell({"progress": {"done": 2, "total": STEPS, "unit": "steps", "text": said}})
    if child.returncode:
        raise InstallFailed(f"could not install {what}: {'; '.join(lines)}"[:2000])


if __name__ == "__main__":
    main(install)
