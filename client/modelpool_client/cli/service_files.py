"""PURE. The pool as a service of one's own: a systemd user unit, or a launchd agent."""

from __future__ import annotations

import plistlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

UNIT = "modelpool.service"
LABEL = "org.modelpool.pool"
# Beyond the time that current work has to end in.
STOP_MARGIN_SECONDS = 30
RESTART_SECONDS = 2


@dataclass(frozen=True)
class Service:
    """What is run, and how.

    Attributes:
        command: the program, as it is installed, and its arguments.
        folder: in which it runs.
        url: where it answers, for whoever reads the file.
        environ: variables that it gets.
        environment_file: a file of systemd's with more, such as keys; empty: none.
        log_file: what it writes where nobody else keeps it.
        graceful_seconds: for current work to end in.
    """

    command: Sequence[str]
    folder: str
    url: str
    environ: Mapping[str, str] = field(default_factory=dict)
    environment_file: str = ""
    log_file: str = ""
    graceful_seconds: float = 30.0

    @property
    def stop_seconds(self) -> int:
        """Until it may be killed."""
        return round(self.graceful_seconds) + STOP_MARGIN_SECONDS


def systemd_unit(service: Service) -> str:
    """A unit of the user's own manager.

    Workers outlive a manager that crashes, which the next one adopts: so only the main process is
    ended, which ends the others, and an engine that the kernel kills is no reason to stop all.
    """
    command = " ".join(_argument(each) for each in service.command)
    variables = [f"Environment={_assignment(k, v)}" for k, v in service.environ.items()]
    if service.environment_file:
        variables.append(f"EnvironmentFile={_path(service.environment_file)}")
    lines = [
        "# Made by `poolctl service install`; `poolctl service uninstall` removes it.",
        "[Unit]",
        f"Description=modelpool: AI models at {_percent(service.url)}",
        "StartLimitIntervalSec=300",
        "StartLimitBurst=5",
        "",
        "[Service]",
        "Type=exec",
        f"ExecStart={command}",
        "ExecReload=/bin/kill -HUP $MAINPID",
        f"WorkingDirectory={_path(service.folder)}",
        *variables,
        "Restart=on-failure",
        f"RestartSec={RESTART_SECONDS}",
        "KillMode=process",
        f"TimeoutStopSec={service.stop_seconds}",
        "OOMPolicy=continue",
        "",
        "[Install]",
        "WantedBy=default.target",
    ]
    return "\n".join(lines) + "\n"


def _argument(text: str) -> str:
    """As ExecStart has it: no variable and no specifier is filled in."""
    return _quoted(_percent(text).replace("$", "$$"))


def _assignment(name: str, value: str) -> str:
    return _quoted(f"{name}={_percent(value)}", always=True)


def _path(text: str) -> str:
    """Of a setting that is one path: there are no quotes in it."""
    return _percent(text)


def _percent(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(text: str, always: bool = False) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    needs = always or escaped != text or not text or any(c in " \t';" for c in text)
    return f'"{escaped}"' if needs else text


def launchd_plist(service: Service) -> str:
    """An agent of the user's session, which starts at login and again after a failure.

    Workers are left alone when the manager ends: the next one adopts them.
    """
    plist: dict[str, object] = {
        "Label": LABEL,
        "ProgramArguments": list(service.command),
        "WorkingDirectory": service.folder,
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": 10,
        "ExitTimeOut": service.stop_seconds,
        "AbandonProcessGroup": True,
        "ProcessType": "Interactive",  # else what computes is slowed down
        "StandardOutPath": service.log_file,
        "StandardErrorPath": service.log_file,
    }
    if service.environ:
        plist["EnvironmentVariables"] = dict(service.environ)
    return plistlib.dumps(plist, sort_keys=False).decode()
