"""PURE. Paths as Windows writes them, for a pool that runs in its Linux (WSL)."""

from __future__ import annotations

import re

# Where WSL mounts drives unless /etc/wsl.conf says otherwise.
MOUNTS = "/mnt"
DRIVE = re.compile(r"([A-Za-z]):[\\/](.*)", re.DOTALL)
# ``\\wsl$\DISTRIBUTION\…`` and ``\\wsl.localhost\DISTRIBUTION\…``: this very system.
SHARE = re.compile(r"[\\/]{2}wsl(?:\$|\.localhost)[\\/][^\\/]+(.*)", re.DOTALL | re.IGNORECASE)


def posix_path(text: str) -> str:
    r"""``C:\models`` as ``/mnt/c/models``, ``\\wsl$\Ubuntu\srv`` as ``/srv``; others stay."""
    if share := SHARE.fullmatch(text):
        return share[1].replace("\\", "/") or "/"
    if drive := DRIVE.fullmatch(text):
        rest = drive[2].replace("\\", "/")
        return f"{MOUNTS}/{drive[1].lower()}/{rest}".rstrip("/")
    return text
