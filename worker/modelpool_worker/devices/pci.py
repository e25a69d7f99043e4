"""Which display cards the bus has, whoever drives them: so that a missing driver can be told from a
missing card."""

from __future__ import annotations

from pathlib import Path

_DISPLAY = "0x03"
_ACCELERATOR = "0x12"


def has_card(root: Path, vendor: str) -> bool:
    """Whether there is a display controller or an accelerator of that vendor, as ``0x10de``."""
    for device in sorted((root / "sys/bus/pci/devices").glob("*")):
        is_kind = text(device / "class").startswith((_DISPLAY, _ACCELERATOR))
        if is_kind and text(device / "vendor") == vendor:
            return True
    return False


def text(path: Path) -> str:
    """Of a small file, without white space around it; empty where it cannot be read."""
    try:
        return path.read_bytes().decode(errors="replace").strip()
    except OSError:
        return ""


def number(path: Path) -> int | None:
    """That stands in a small file; None where there is none."""
    found = text(path)
    return int(found) if found.isdigit() else None
