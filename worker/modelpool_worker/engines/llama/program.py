"""Which ``llama-server`` is used, and what it says of itself: its version, its flags, whether it
has a device to compute with.

It says so when it is started, which takes three processes and a tenth of a load. So what it said is
noted beside the pool's other state, and counts as long as it is the same program on the same
machine.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from modelpool_client.errors import LoadFailed

from modelpool_worker.engine import NOTES_SETTING
from modelpool_worker.engines import notes

NAME = "llama-server"
SETTING, NATIVE_SETTING = "llama_server", "native_dir"
ASK_SECONDS = 20.0
# What makes it find other libraries, or other devices; and where devices are seen.
_VARIABLES = re.compile(r"^LD_|^DYLD_|^GGML_|VISIBLE_DEVICES$")
_NODES = re.compile(r"^(nvidia\d+|kfd|dri|dxg|accel\d*|davinci\d+)$")
_FLAG = re.compile(r"(?<![\w-])--[a-z][\w-]+")
_DEVICE = re.compile(r"^\s+\w+: ", re.MULTILINE)
_VERSION = re.compile(r"^version: (.+)$", re.MULTILINE)

# What it is asked with, and what is kept of the answer; a note that holds something else is none.
_KEPT: Mapping[str, type] = {"--version": str, "--help": list, "--list-devices": bool}
# Of this process, by what they are of.
_known: dict[str, dict[str, Any]] = {}


@dataclass(frozen=True)
class Program:
    """A llama-server: where it is, who says so, what it says of itself. ``notes`` is the folder
    where that is noted; empty: it is asked by every process. ``stamp``: whose that is."""

    path: str
    origin: str
    version: str = ""
    notes: str = ""
    stamp: str = ""

    def flags(self) -> frozenset[str]:
        """Those that it knows.

        Raises:
            LoadFailed: code ``missing_dependency``: it does not run.
        """
        return frozenset(_said(self, "--help"))

    def has_device(self) -> bool:
        """Whether it can compute elsewhere than on the processor.

        Raises:
            LoadFailed: as ``flags``.
        """
        return bool(_said(self, "--list-devices"))

    def forget(self) -> None:
        """Ask anew the next time: it did not do what it said."""
        _known.pop(self.stamp, None)
        if self.notes:
            with contextlib.suppress(OSError):
                os.unlink(_note_of(self))


def find_program(settings: Mapping[str, Any]) -> Program:
    """The llama-server that is used: the one that the config file names, the one that was built
    for this machine, or the one on PATH.

    Raises:
        LoadFailed: code ``missing_dependency``: there is none, or it does not run.
    """
    path, origin = _place(settings)
    if path is None:
        raise _missing(f"there is no {NAME}: {origin}")
    found = Program(path, origin, notes=str(settings.get(NOTES_SETTING, "")))
    found = replace(found, stamp=_stamp(found))
    return replace(found, version=str(_said(found, "--version")))


def _place(settings: Mapping[str, Any]) -> tuple[str | None, str]:
    if said := settings.get(SETTING):
        path = os.path.expanduser(str(said))
        return shutil.which(path) or path, "named in the config file"
    if folder := settings.get(NATIVE_SETTING):
        native = os.path.join(folder, "bin", NAME)
        if os.access(native, os.X_OK):
            return native, "built on this machine"
    return shutil.which(NAME), "on PATH" if shutil.which(NAME) else "neither built here nor on PATH"


def _said(program: Program, flag: str) -> Any:
    """What is kept of its answer, asked where it is not known."""
    stamp = program.stamp
    if stamp not in _known:
        _known[stamp] = _noted(program)
    known = _known[stamp]
    if flag not in known:
        known[flag] = _of_text(flag, _told(program, flag))
        _note(program, {k: v for k, v in known.items() if v or not _may_change(k)})
    return known[flag]


def _may_change(flag: str) -> bool:
    """That it has no device where there seems to be one is of this moment: drivers do fail."""
    return flag == "--list-devices" and bool(_devices()[1])


def _of_text(flag: str, text: str) -> str | list[str] | bool:
    if flag == "--version":
        return found[1].strip() if (found := _VERSION.search(text)) else ""
    if flag == "--help":
        return sorted({*_FLAG.findall(text)})
    return bool(_DEVICE.search(text))


def _stamp(program: Program) -> str:
    """Another one where the program, its libraries or what it may find here is another.

    Raises:
        LoadFailed: code ``missing_dependency``: it is not there.
    """
    try:
        found = os.stat(program.path)
        beside = os.stat(os.path.dirname(os.path.realpath(program.path)))
    except OSError as e:
        raise _missing(f"{program.path} ({program.origin}): {e.strerror}") from None
    identity = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, beside.st_mtime_ns)
    variables = sorted((k, v) for k, v in os.environ.items() if _VARIABLES.search(k))
    return repr((program.path, identity, variables, _devices()))


def _devices() -> tuple[str, list[str]]:
    """Which boot this is, for drivers change with one, and what stands for devices."""
    boot, nodes = "", []
    with contextlib.suppress(OSError):
        with open("/proc/sys/kernel/random/boot_id") as f:
            boot = f.read().strip()
        nodes = sorted(filter(_NODES.match, os.listdir("/dev")))
    return boot, nodes


def _note_of(program: Program) -> str:
    digest = hashlib.sha256(program.path.encode()).hexdigest()[:16]
    return os.path.join(program.notes, f"{NAME}-{digest}.json")


def _noted(program: Program) -> dict[str, Any]:
    """What was noted of just this one; nothing where it was another, or cannot be read."""
    note: Any = notes.read(_note_of(program)) if program.notes else None
    try:
        if note["stamp"] != program.stamp:
            return {}
        return {k: v for k, v in note["said"].items() if isinstance(v, _KEPT[k])}
    except (KeyError, TypeError, AttributeError):
        return {}


def _note(program: Program, said: Mapping[str, Any]) -> None:
    if program.notes:
        notes.write(_note_of(program), {"stamp": program.stamp, "said": said})


def _told(program: Program, flag: str) -> str:
    """What it says of itself, on either output.

    Raises:
        LoadFailed: code ``missing_dependency``: it does not run.
    """
    where = f"{program.path} ({program.origin})"
    try:
        done = subprocess.run(
            [program.path, flag],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=ASK_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        raise _missing(f"{where} does not run: {e}") from None
    text = done.stdout.decode(errors="replace")
    if done.returncode:
        last = text.strip().rpartition("\n")[2] or f"exit code {done.returncode}"
        raise _missing(f"{where} does not run: {last}")
    return text


def _missing(text: str) -> LoadFailed:
    return LoadFailed(text, code="missing_dependency", source="engine")
