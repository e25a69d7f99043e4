"""A stand-in for ``systemctl --user``: it reads the unit that lies where systemd reads it, and runs
what that says, as that says.

``install(folder)`` makes a program of it; what it was asked is in ``folder/asked``.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path


def install(folder: Path) -> Path:
    """The folder for PATH with the program."""
    programs = folder / "programs"
    programs.mkdir()
    program = programs / "systemctl"
    program.write_text(f"#!{sys.executable}\n{Path(__file__).read_text()}")
    program.chmod(0o755)
    return programs


def unit(name: str) -> dict[str, list[str]]:
    """Its keys, each with all that they say."""
    file = Path(os.environ["XDG_CONFIG_HOME"]) / "systemd" / "user" / name
    keys: dict[str, list[str]] = {}
    for line in file.read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals:
            keys.setdefault(key, []).append(value.replace("%%", "%").replace("$$", "$"))
    return keys


def main(arguments: list[str]) -> int:
    """``systemctl --user VERB …``"""
    state = Path(os.environ["XDG_CONFIG_HOME"]).parent
    with (state / "asked").open("a") as asked:
        asked.write(" ".join(arguments) + "\n")
    assert arguments[0] == "--user"
    pid_file = state / "service.pid"
    match arguments[1:]:
        case ["daemon-reload"]:
            return 0
        case ["enable", "--now", name]:
            return start(unit(name), pid_file)
        case ["disable", "--now", _]:
            return stop(pid_file)
        case ["show", _, _]:
            alive = is_alive(pid_file)
            pid = pid_file.read_text() if alive else "0"
            print(f"ActiveState={'active' if alive else 'failed'}\nSubState=x\nMainPID={pid}")
            return 0
    print(f"unknown: {arguments}", file=sys.stderr)
    return 1


def start(keys: dict[str, list[str]], pid_file: Path) -> int:
    """Unless it runs."""
    if is_alive(pid_file):
        return 0
    given = dict(shlex.split(each)[0].split("=", 1) for each in keys["Environment"])
    for file in keys.get("EnvironmentFile", ()):
        lines = Path(file).read_text().splitlines()
        given |= dict(line.split("=", 1) for line in lines if "=" in line)
    kept = {name: os.environ[name] for name in ("HOME", "TMPDIR") if name in os.environ}
    with (pid_file.parent / "journal").open("ab") as journal:
        child = subprocess.Popen(
            shlex.split(keys["ExecStart"][0]),
            cwd=keys["WorkingDirectory"][0],
            env={**kept, **given},
            stdin=subprocess.DEVNULL,
            stdout=journal,
            stderr=journal,
            start_new_session=True,
        )
    pid_file.write_text(str(child.pid))
    return 0


def stop(pid_file: Path) -> int:
    """Its main process alone, as KillMode=process has it; waits for the end."""
    if is_alive(pid_file):
        os.kill(int(pid_file.read_text()), signal.SIGTERM)
    while is_alive(pid_file):
        time.sleep(0.05)
    return 0


def is_alive(pid_file: Path) -> bool:
    """Whether the service's process is there, and no zombie."""
    if not pid_file.exists():
        return False
    status = Path("/proc") / pid_file.read_text() / "stat"
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
