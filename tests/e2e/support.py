"""A pool of real processes for a test: made in a folder of its own, ended and looked after.

``close`` fails the test when a process, a port, a socket folder or a traceback is left.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil

from e2e.helpers import (
    MARK,
    START_SECONDS,
    WAIT_SECONDS,
    chat,
    clean_environment,
    command_line,
    content,
    free_block,
    give_back,
    is_free,
    marked,
    until,
)

# What tells of a bug of ours, wherever it is logged.
BUGS = ("Traceback", "a bug of the pool", "a bug in the worker", "never awaited", "never retrieved")
REGISTERED = "model-registered"
FAST: dict[str, Any] = {
    "min_ttl_minutes": 0,
    "grace_minutes": 0.1,
    "port_rest_seconds": 0,
    "min_residency_seconds": 0,
    "failed_retry_seconds": 1,
    "restart_backoff_seconds": 0.5,
    # A test that only passes with quick ones looks at what a heartbeat has yet to bring.
    "beat_seconds": float(os.environ.get("TEST_BEAT_SECONDS", "0.5")),
    "check_interval_seconds": 2,
    "graceful_shutdown_seconds": 10,
    "stream_ping_seconds": 0.3,
    "max_concurrent_models": 30,
    "enable_spare_worker": False,
    "log_level": "debug",
    # Nobody answers there: a pull of the real ones would leave this machine.
    "hub_url": "http://127.0.0.1:9",
    "ollama_registry_url": "http://127.0.0.1:9",
}


class PoolProcess:
    """``python -m modelpool serve`` on ports of its own; keys of the config as arguments."""

    def __init__(
        self, folder: Path, models: Sequence[Mapping[str, Any]] = (), ports: int = 8, **keys: Any
    ) -> None:
        self.folder = folder
        self.port = free_block(ports + 1)
        self.ports = range(self.port + 1, self.port + 1 + ports)
        self.url = f"http://127.0.0.1:{self.port}"
        self.mark = uuid.uuid4().hex
        self.log_path = folder / "manager.log"
        self.config = folder / "pool.json"
        self.state = folder / "state"
        # Sockets lie below it: their paths must be short.
        self.tmp = Path(tempfile.mkdtemp(prefix="mp-"))
        self.process: subprocess.Popen[bytes] | None = None
        self.http = httpx.Client(base_url=self.url, timeout=60, trust_env=False, verify=False)
        self.is_told = False
        span = {"start": self.ports[0], "end": self.ports[-1]}
        settings = {**FAST, "port": self.port, "port_range": span, "state_dir": str(self.state)}
        # Tests register what is no model, too, and want to hear what is wrong with it.
        settings["option_file_paths"] = [str(folder.parent)]
        self.config.write_text(json.dumps({**settings, **keys, "models": list(models)}))

    def __enter__(self) -> PoolProcess:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.close()
        except AssertionError:
            if kind is None:  # else the first failure says more
                raise
            sys.stderr.write(self.log()[-6000:])

    # -- the manager ---------------------------------------------------------------------------

    @property
    def environment(self) -> dict[str, str]:
        more = {MARK: self.mark, "TMPDIR": str(self.tmp)}
        # Whoever plays sounds makes a folder there, unless somebody of this machine has made one.
        more["PULSE_RUNTIME_PATH"] = str(self.folder / "pulse")
        return clean_environment(**more)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def launch(self, *arguments: str) -> subprocess.Popen[bytes]:
        """``modelpool`` with this pool's config, its output at the end of the log."""
        command = [sys.executable, "-m", "modelpool", *arguments, "--config", str(self.config)]
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment
            )

    def run(
        self, *arguments: str, timeout: float = 2 * WAIT_SECONDS
    ) -> subprocess.CompletedProcess[str]:
        """``modelpool`` to its end."""
        command = [sys.executable, "-m", "modelpool", *arguments, "--config", str(self.config)]
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=timeout
        )

    def start(self) -> PoolProcess:
        self.is_told = False
        self.process = self.launch("serve")
        until(self.answers, "the manager's answer", START_SECONDS)
        return self

    def ensure_runs(self) -> None:
        """Started if it was stopped or killed."""
        if self.process is None or self.process.poll() is not None:
            self.start()

    def answers(self) -> bool:
        assert self.process is None or self.process.poll() is None, self.log()[-3000:]
        try:
            return self.http.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def term(self) -> None:
        """Told to stop; a second time would be an order to leave at once."""
        assert self.process is not None
        if not self.is_told:
            self.is_told = True
            self.process.terminate()

    def kill(self) -> None:
        """The manager is gone without a word; its workers go on."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(WAIT_SECONDS)

    def stop(self, seconds: float = WAIT_SECONDS) -> int:
        """TERM; the exit code."""
        assert self.process is not None
        self.term()
        return self.process.wait(seconds)

    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    # -- what it says --------------------------------------------------------------------------

    def model(self, model_id: str) -> dict[str, Any]:
        answer = self.http.get(f"/models/{model_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def state_of(self, model_id: str) -> str:
        return str(self.model(model_id)["state"])

    def wait_for(self, model_id: str, state: str, seconds: float = WAIT_SECONDS) -> dict[str, Any]:
        def look() -> dict[str, Any]:
            view = self.model(model_id)
            return view if view["state"] == state else {}

        return until(look, f"{model_id} to be {state}", seconds)

    def load(self, model_id: str) -> dict[str, Any]:
        """Load, wait, and return what ``/models`` says of it."""
        answer = self.http.post(f"/models/{model_id}/load?wait=60", json={})
        assert answer.status_code == 200, answer.text
        return dict(answer.json()["model"])

    def chat(self, model: str, text: str = "hello there", **more: Any) -> httpx.Response:
        return self.http.post("/v1/chat/completions", json=chat(model, text, **more))

    def ask(self, model: str, text: str = "hello there", **more: Any) -> str:
        """The content of an answer through the gateway."""
        answer = self.chat(model, text, **more)
        assert answer.status_code == 200, answer.text
        return content(answer)

    def events(self, since: str = "x-0") -> list[dict[str, Any]]:
        """Every event that is kept, up to now."""
        found: list[dict[str, Any]] = []
        marker = self.http.patch("/config", json={"crash_window_seconds": random.uniform(500, 600)})
        assert marker.status_code == 200, marker.text
        with self.http.stream("GET", "/events", headers={"last-event-id": since}) as stream:
            for line in stream.iter_lines():
                if line.startswith("data: "):
                    found.append(json.loads(line[6:]))
                    changed = found[-1].get("changed", {})
                    if changed == marker.json()["changed"]:
                        return found[:-1]
        raise AssertionError("the events ended")

    def story(self, model_id: str) -> list[tuple[str, str]]:
        """The events of a model since it was registered, without its progress: names and
        reasons."""
        events = [e for e in self.events() if e.get("model_id") == model_id]
        names = [e["event"] for e in events]
        begin = len(names) - names[::-1].index(REGISTERED) if REGISTERED in names else 0
        told = [e for e in events[begin:] if e["event"] != "model-progress"]
        return [(e["event"], e["reason"]) for e in told]

    def delete_models(self, but: str = "") -> None:
        """None is left, whatever they do just now; or only the one. Nor does any job go on, or is
        any folder looked at, which might bring one back."""
        for job in self.http.get("/jobs").json()["jobs"]:
            if job["state"] not in ("succeeded", "failed", "cancelled"):
                self.http.post(f"/jobs/{job['job_id']}/cancel")
                over = self.http.get(f"/jobs/{job['job_id']}", params={"wait": WAIT_SECONDS / 2})
                assert over.json()["ended_at"], over.text
        for root in self.http.get("/discover").json()["roots"]:
            if root["asked"]:
                self.http.delete("/discover", params={"path": root["path"]})
        for view in self.http.get("/models").json()["models"]:
            if view["model_id"] == but:
                continue
            path = f"/models/{view['model_id']}"
            if view["state"] != "COLD":
                self.http.post(f"{path}/unload", json={"force": True})
            answer = self.http.delete(path)
            assert answer.status_code == 200, answer.text

    # -- the end -------------------------------------------------------------------------------

    def close(self) -> None:
        """End everything, then look whether anything is left."""
        self.http.close()
        try:
            if self.process is not None and self.process.poll() is None:
                self.stop()
            elif self.process is None or self.process.returncode:  # else it has ended its workers
                down = self.run("down")
                assert down.returncode == 0, down.stdout + down.stderr
            self.assert_nothing_left()
        finally:
            if self.process is not None and self.process.poll() is None:
                self.kill()
            for process in marked(self.mark):
                process.kill()
            shutil.rmtree(self.tmp, ignore_errors=True)
            give_back(self.port)
        self.assert_no_bugs()

    def assert_nothing_left(self) -> None:
        def left() -> list[str]:
            return [f"{p.pid} {command_line(p)}" for p in marked(self.mark)]

        until(lambda: not left(), f"the end of {left()}")
        # A process that ends has no environment any more before it lets go of its sockets.
        for port in (self.port, *self.ports):
            until(partial(is_free, port), f"port {port} to be free")
        assert not (files := [p for p in self.tmp.iterdir() if not _is_try(p)]), files

    def fronts(self, model: str = "") -> list[psutil.Process]:
        """The workers' fronts that live; all, or those of a model."""
        found = []
        for process in marked(self.mark):
            with contextlib.suppress(psutil.Error):
                *_, module, verb, _, label = ("",) * 4 + tuple(process.cmdline())  # dying: none
                is_front = (module, verb) == ("modelpool_worker", "serve")
                if is_front and label.startswith(f"{model}@" if model else ""):
                    found.append(process)
        # An engine child that was forked and has not become itself yet still reads like its front.
        pids = {p.pid for p in found}
        return [p for p in found if p.pid != self.pid and _parent(p) not in pids]

    def assert_none_but_the_manager(self) -> None:
        def others() -> list[str]:
            return [command_line(p) for p in marked(self.mark) if p.pid != self.pid]

        until(lambda: not others(), f"the end of {others()}")

    def stored(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of the database, in which some things are written a moment after they are told: what
        a manager finds that comes after one that was killed."""
        path = f"file:{self.state / 'pool.db'}?mode=ro"
        with contextlib.closing(sqlite3.connect(path, uri=True)) as database:
            return database.execute(query).fetchall()

    def forget_models(self) -> None:
        """What was registered at run time is gone from the database; the manager must be down."""
        with contextlib.closing(sqlite3.connect(self.state / "pool.db")) as database:
            database.execute("DELETE FROM models")
            database.commit()

    def assert_no_bugs(self) -> None:
        logs = [self.log_path, *self.state.glob("pool.log*"), *self.state.glob("logs/*.log*")]
        texts = {path: path.read_text(errors="replace") for path in logs if path.exists()}
        for path, text in texts.items():
            lines = text.splitlines()
            at = next((n for n, line in enumerate(lines) if any(b in line for b in BUGS)), None)
            around = "\n".join(lines[max(0, (at or 0) - 10) : (at or 0) + 40])
            assert at is None, f"{path.name} tells of a bug:\n{around}"


def _parent(process: psutil.Process) -> int | None:
    with contextlib.suppress(psutil.Error):
        return int(process.ppid())
    return None


def _is_try(path: Path) -> bool:
    """Whether a Python was killed there while ``tempfile`` tried where files can be."""
    is_empty = path.is_file() and not path.stat().st_size
    return is_empty and re.fullmatch("[a-z0-9_]{8}", path.name) is not None
