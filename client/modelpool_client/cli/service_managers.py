"""Who runs services of a user's own: systemd on Linux, launchd on macOS."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from modelpool_client.cli.service_files import (
    LABEL,
    UNIT,
    Service,
    launchd_plist,
    systemd_unit,
)
from modelpool_client.cli.session import refuse

SECONDS = 90.0


@dataclass(frozen=True)
class State:
    """How a service is, in the manager's own words.

    Attributes:
        is_failed: it ended and is not tried again now.
    """

    is_active: bool
    is_failed: bool
    text: str
    pid: int | None = None


class Manager(Protocol):
    """One of them.

    Attributes:
        name: as users write it.
        logs: the command that shows what the service wrote.
        restarts: the command that has a changed file count.
    """

    name: str
    logs: str
    restarts: str

    @property
    def file(self) -> Path:
        """Where the service's file belongs."""
        ...

    def text(self, service: Service) -> str:
        """PURE. What is to stand in it."""
        ...

    def start(self) -> None:
        """Have the file count, now and at each login; what runs goes on.

        Raises:
            InvalidRequest: with what the manager says against it.
        """
        ...

    def stop(self) -> None:
        """End the service, and have it start no more."""
        ...

    def state(self) -> State:
        """How it is."""
        ...

    def advice(self) -> str:
        """What its user should know; empty: nothing."""
        ...


class Systemd:
    """A user's own manager; ``systemctl`` is found on PATH."""

    name = "systemd"
    logs = f"journalctl --user --unit {UNIT}"
    restarts = f"systemctl --user restart {UNIT}"

    @property
    def file(self) -> Path:
        """See ``Manager``."""
        base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
        return Path(base) / "systemd" / "user" / UNIT

    def text(self, service: Service) -> str:
        """See ``Manager``."""
        return systemd_unit(service)

    def start(self) -> None:
        """See ``Manager``."""
        _run("systemctl", "--user", "daemon-reload")
        _run("systemctl", "--user", "enable", "--now", UNIT)

    def stop(self) -> None:
        """See ``Manager``."""
        _run("systemctl", "--user", "disable", "--now", UNIT)
        self.file.unlink(missing_ok=True)
        _run("systemctl", "--user", "daemon-reload")

    def state(self) -> State:
        """See ``Manager``."""
        asked = "--property=ActiveState,SubState,MainPID"
        found = _pairs(_run("systemctl", "--user", "show", UNIT, asked))
        active = found.get("ActiveState", "unknown")
        pid = int(found.get("MainPID") or 0) or None
        text = f"{active} ({found.get('SubState', '')})"
        return State(active == "active", active == "failed", text, pid)

    def advice(self) -> str:
        """See ``Manager``."""
        found = _ask("loginctl", "show-user", str(os.getuid()), "--property=Linger")
        if found is None or found.strip() == "Linger=yes":
            return ""
        return "it ends with your last session, unless you say: loginctl enable-linger"


class Launchd:
    """The agent of a user's session on macOS."""

    name = "launchd"
    logs = "poolctl service status"
    restarts = f"launchctl kickstart -k gui/{os.getuid()}/{LABEL}"

    @property
    def file(self) -> Path:
        """See ``Manager``."""
        return Path.home() / "Library" / "LaunchAgents" / f"{LABEL}.plist"

    def text(self, service: Service) -> str:
        """See ``Manager``."""
        return launchd_plist(service)

    def start(self) -> None:
        """See ``Manager``."""
        if _ask("launchctl", "print", self._target) is None:
            _run("launchctl", "bootstrap", f"gui/{os.getuid()}", str(self.file))

    def stop(self) -> None:
        """See ``Manager``."""
        if _ask("launchctl", "print", self._target) is not None:
            _run("launchctl", "bootout", self._target)
        self.file.unlink(missing_ok=True)

    def state(self) -> State:
        """See ``Manager``."""
        said = _ask("launchctl", "print", self._target)
        if said is None:
            return State(False, False, "not loaded")
        found = _pairs(said.replace(" = ", "="))
        text = found.get("state", "unknown")
        pid = found.get("pid", "")
        has_failed = text != "running" and found.get("last exit code", "0") not in ("0", "")
        return State(text == "running", has_failed, text, int(pid) if pid.isdigit() else None)

    def advice(self) -> str:
        """See ``Manager``."""
        return ""

    @property
    def _target(self) -> str:
        return f"gui/{os.getuid()}/{LABEL}"


MANAGERS: Mapping[str, Manager] = {each.name: each for each in (Systemd(), Launchd())}


def manager_here() -> Manager:
    """That of this system.

    Raises:
        InvalidRequest: there is none that is known.
    """
    found = {"linux": "systemd", "darwin": "launchd"}.get(sys.platform)
    program = {"systemd": "systemctl", "launchd": "launchctl"}.get(found or "")
    if found is None or program is None or shutil.which(program) is None:
        raise refuse(
            "there is neither systemd nor launchd here; modelpool serve runs in the foreground, for"
            " any other service manager"
        )
    return MANAGERS[found]


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip() or f"it ended with {done.returncode}"
        raise refuse(f"{' '.join(command)}: {said}")
    return done.stdout


def _ask(*command: str) -> str | None:
    """What it says; None where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except OSError:
        return None
    return None if done.returncode else done.stdout


def _pairs(text: str) -> dict[str, str]:
    """Of lines of ``name=value``; the first counts."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if equals:
            found.setdefault(name.strip(), value.strip())
    return found
