"""Plug-ins are asked in a process of their own: one that crashes or hangs costs nobody else."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

# Importing what is heavy belongs into a load; what takes longer is thought to hang.
PLUGIN_SECONDS = 8.0


class PluginFailed(Exception):
    """The text goes on after "the plug-in"."""


def ask(*arguments: str, data: str = "") -> dict[str, Any]:
    """What ``describe`` with these arguments says in another process.

    Raises:
        PluginFailed: nothing, and why.
    """
    command = [sys.executable, "-m", "modelpool_worker", "describe", *arguments]
    try:
        done = subprocess.run(
            command, input=data, capture_output=True, text=True, timeout=PLUGIN_SECONDS
        )
    except subprocess.TimeoutExpired:
        text = f"did not answer within {PLUGIN_SECONDS:.0f} s of its import"
        raise PluginFailed(text) from None
    if done.returncode:
        from .child import describe_exit  # which is slow to import, and seldom needed

        last = done.stderr.strip().rpartition("\n")[2]
        said = f": {last[:300]}" if last else ""
        raise PluginFailed(f"ended its process ({describe_exit(done.returncode)}){said}")
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise PluginFailed("ended its process before it answered") from None
    return answer
