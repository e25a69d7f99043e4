"""The files of services, by tables; what their managers say, and what they are told."""

from __future__ import annotations

import json
import plistlib
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool_client.cli import app, service, service_managers
from modelpool_client.cli.service_files import LABEL, Service, launchd_plist, systemd_unit
from modelpool_client.cli.service_managers import Launchd, Systemd
from modelpool_client.cli.session import refuse
from typer.testing import CliRunner, Result

COMMAND = ("/opt/venv/bin/python", "-m", "modelpool", "serve", "--config", "/etc/pool.yaml")
PLAIN = Service(
    COMMAND, "/etc", "http://127.0.0.1:8050", {"PATH": "/bin"}, "/etc/keys", "/log", 40.0
)


def keys(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def test_a_unit_of_systemd() -> None:
    found = keys(systemd_unit(PLAIN))
    assert found["ExecStart"] == " ".join(COMMAND)
    assert found["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert found["WorkingDirectory"] == "/etc"
    assert found["Environment"] == '"PATH=/bin"'
    assert found["EnvironmentFile"] == "/etc/keys"
    assert (found["Restart"], found["KillMode"]) == ("on-failure", "process")
    assert found["OOMPolicy"] == "continue"
    assert found["TimeoutStopSec"] == "70"
    assert found["WantedBy"] == "default.target"


def test_an_agent_of_launchd() -> None:
    found = plistlib.loads(launchd_plist(PLAIN).encode())
    assert found["Label"] == LABEL
    assert found["ProgramArguments"] == list(COMMAND)
    assert found["EnvironmentVariables"] == {"PATH": "/bin"}
    assert found["KeepAlive"] == {"SuccessfulExit": False}
    assert found["ExitTimeOut"] == 70
    assert found["AbandonProcessGroup"] is True
    assert found["StandardErrorPath"] == "/log"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/a b/c", '"/a b/c"'),
        ("100%", "100%%"),
        ("$HOME", "$$HOME"),
        ('say "x"', '"say \\"x\\""'),
        ("a\\b", '"a\\\\b"'),
        ("", '""'),
        ("it's", '"it\'s"'),
    ],
)
def test_arguments_of_a_unit_are_what_they_are(text: str, shown: str) -> None:
    assert keys(systemd_unit(Service((text,), "/", "u")))["ExecStart"] == shown


@given(st.lists(st.text(st.characters(exclude_categories=("Cs", "Cc"))), min_size=1))
def test_a_command_comes_out_as_it_went_in(command: list[str]) -> None:
    line = keys(systemd_unit(Service(command, "/", "u")))["ExecStart"]
    assert shlex.split(line.replace("%%", "%").replace("$$", "$"), comments=False) == command


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """Where its own check is there; else that it has every section in its order."""
    program = shutil.which("systemd-analyze")
    folder = tmp_path / "with space%"
    folder.mkdir()
    (folder / "keys").write_text("")
    command = (shutil.which("python3") or "/bin/sh", "-m", 'x "y" $z %h')
    text = systemd_unit(
        Service(command, str(folder), "http://x", {"A": "b c"}, str(folder / "keys"))
    )
    sections = [line for line in text.splitlines() if line.startswith("[")]
    assert sections == ["[Unit]", "[Service]", "[Install]"]
    if program is not None:
        file = tmp_path / "modelpool.service"
        file.write_text(text)
        done = subprocess.run(
            [program, "verify", "--user", str(file)],
            env={"XDG_RUNTIME_DIR": str(tmp_path), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, "")


FACTS = {
    "url": "http://127.0.0.1:1",
    "log_file": "/tmp/x/pool.log",
    "graceful_shutdown_seconds": 5.0,
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """What the server was asked to check, with which variables."""
    calls: list[Any] = []

    def ask(*arguments: str, environ: dict[str, str]) -> dict[str, Any]:
        calls.append((arguments, environ))
        return {**FACTS, "log_file": str(tmp_path / "state" / "pool.log")}

    monkeypatch.setattr(service, "ask_server", ask)
    monkeypatch.setattr(service_managers.Path, "home", lambda: tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(service, "manager_here", lambda: service.MANAGERS["systemd"])
    return calls


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["service", *arguments])


def test_the_configuration_is_tried_with_what_the_service_gets(
    asked: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELPOOL_PORT", "9")
    monkeypatch.setenv("MODELPOOL_URL", "http://elsewhere")
    monkeypatch.setenv("A_SECRET", "x")
    monkeypatch.setenv("HF_HOME", "/hf")
    (tmp_path / "keys").write_text("# keys\nKEY='k'\n")
    done = run(
        *("install", "--print", "-c", str(tmp_path / "pool.yaml"), "--env", "HF_HOME"),
        *("--env", "B=2", "--environment-file", str(tmp_path / "keys")),
    )
    assert done.exit_code == 0, done.output
    ((arguments, environ),) = asked
    assert arguments == ("check", "--config", str(tmp_path / "pool.yaml"), "--json")
    assert environ["MODELPOOL_PORT"] == "9"
    assert (environ["HF_HOME"], environ["B"], environ["KEY"]) == ("/hf", "2", "k")
    assert not {"A_SECRET", "MODELPOOL_URL"} & environ.keys()
    assert 'Environment="MODELPOOL_PORT=9"' in done.stdout
    assert "KEY" not in done.stdout.replace("EnvironmentFile", "").replace("KillMode", "")
    shown = json.loads(run("install", "--print", "--as", "launchd", "--json").stdout)
    assert shown["manager"] == "launchd"
    assert shown["file"] == str(tmp_path / "Library" / "LaunchAgents" / f"{LABEL}.plist")
    assert not (tmp_path / "config").exists()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--as", "launchd"), "--as goes with --print"),
        (("--env", "NOBODY_SET_IT"), "not set here"),
        (("--env", "a-b=1"), "should be NAME or NAME=VALUE"),
        (("--environment-file", "/nowhere"), "cannot read /nowhere"),
        (("--print", "--as", "launchd", "--environment-file", "/x"), "api_key_file"),
    ],
)
def test_what_makes_no_sense_is_refused(
    asked: list[Any], tmp_path: Path, arguments: tuple[str, ...], why: str
) -> None:
    done = run("install", *arguments)
    assert (done.exit_code, why in done.stderr) == (1, True), done.stderr
    assert not asked
    assert not (tmp_path / "config").exists()


def test_a_wrong_configuration_installs_nothing(
    asked: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(*arguments: str, **_: Any) -> None:
        raise refuse("the configuration is wrong: port")

    monkeypatch.setattr(service, "ask_server", ask)
    done = run("install")
    assert (done.exit_code, "the configuration is wrong" in done.stderr) == (1, True)
    assert not (tmp_path / "config").exists()


def test_what_the_manager_refuses_leaves_no_file(
    asked: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(self: Systemd) -> None:
        raise refuse("systemctl: no bus")

    monkeypatch.setattr(Systemd, "start", start)
    assert run("install").exit_code == 1
    assert not Systemd().file.exists()
    written = run("install", "--no-start")
    assert "is written" in written.stdout
    assert Systemd().file.exists()


LOADED = """gui/501/org.modelpool.pool = {
	active count = 1
	state = running
	program = /x
	pid = 4711
	last exit code = 0
}
"""


@pytest.mark.parametrize(
    ("said", "is_active", "is_failed", "pid"),
    [
        (LOADED, True, False, 4711),
        (LOADED.replace("running", "waiting").replace("code = 0", "code = 1"), False, True, 4711),
        (None, False, False, None),
    ],
)
def test_what_launchd_says(
    monkeypatch: pytest.MonkeyPatch,
    said: str | None,
    is_active: bool,
    is_failed: bool,
    pid: int | None,
) -> None:
    monkeypatch.setattr(service_managers, "_ask", lambda *_: said)
    state = Launchd().state()
    assert (state.is_active, state.is_failed, state.pid) == (is_active, is_failed, pid)


def test_launchd_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told: list[tuple[str, ...]] = []
    monkeypatch.setattr(service_managers.Path, "home", lambda: tmp_path)
    monkeypatch.setattr(service_managers, "_run", lambda *command: told.append(command) or "")
    monkeypatch.setattr(service_managers, "_ask", lambda *_: None)
    agent = Launchd()
    agent.file.parent.mkdir(parents=True)
    agent.file.write_text("x")
    agent.start()
    assert [command[1] for command in told] == ["bootstrap"]
    monkeypatch.setattr(service_managers, "_ask", lambda *_: LOADED)
    agent.start()
    agent.stop()
    assert [command[1] for command in told] == ["bootstrap", "bootout"]
    assert not agent.file.exists()


def test_without_a_manager_it_says_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_managers.sys, "platform", "plan9")
    done = run("status")
    assert (done.exit_code, "modelpool serve runs in the foreground" in done.stderr) == (1, True)
