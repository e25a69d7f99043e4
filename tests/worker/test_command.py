"""Servers that a command starts, for real: found ready, asked, ended with all they began."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from modelpool_client.errors import LoadFailed
from modelpool_worker import engines
from modelpool_worker.engine import EngineJob
from modelpool_worker.engines.command import CommandEngine
from support.bare_client import connected, request
from support.vllm_server import vllm_entry, vllm_preset

pytestmark = [pytest.mark.e2e, pytest.mark.long]

SERVER = Path(__file__).parents[1] / "support" / "strict_server.py"
CHAT = "/v1/chat/completions"


class Notes:
    """What a server has written down."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __getattr__(self, name: str) -> Any:
        try:
            return json.loads((self.folder / f"{name}.json").read_text())
        except FileNotFoundError:
            return None


@pytest.fixture
def notes(tmp_path: Path) -> Notes:
    folder = tmp_path / "notes"
    folder.mkdir()
    return Notes(folder)


Make = Callable[..., Any]


@pytest.fixture
def command(worker: Any, notes: Notes) -> Iterator[Make]:
    """A worker of the strict server with those arguments; ``options`` beside its command."""

    def make(
        *arguments: str, where: str = "port", source: str = "some/model", **options: Any
    ) -> Any:
        command = [sys.executable, str(SERVER), f"--{where}", f"{{{where}}}"]
        command += ["--notes", str(notes.folder), *arguments]
        given = {"command": command, "ready_path": "/ready", **options}
        return worker(given, engine="command", source=source)

    yield make
    for name in ("started", "grandchild"):
        found = getattr(notes, name)
        pid = found["pid"] if isinstance(found, dict) else found
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def is_alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def text_of(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["message"]["content"])


def unload(one: Any) -> int:
    one.process.terminate()
    return int(one.wait_exit())


def test_a_server_answers_at_its_port_and_is_gone_after(command: Make, notes: Notes) -> None:
    one = command(context_length=1234, parallel=3).ready()
    assert text_of(one.chat("hello there")) == "hello there hello "
    assert notes.asked["body"]["stream"] is True  # it may not notice who leaves a plain request
    text = one.chat("a b", stream=True).text
    assert text.endswith("data: [DONE]\n\n")
    facts = one.live_facts()
    assert (facts["context_length"], facts["slots"]) == (1234, 3)
    assert facts["tokens_total"] == 6
    assert unload(one) == 0
    assert notes.ended
    assert not is_alive(notes.started["pid"])


def test_at_a_unix_socket(command: Make) -> None:
    one = command(where="socket").ready()
    assert text_of(one.chat("hi")) == "hi hi hi "


def test_one_that_stops_for_whoever_leaves_is_asked_plainly(command: Make, notes: Notes) -> None:
    one = command(stops_plain=True).ready()
    assert text_of(one.chat("hi")) == "hi hi hi "
    assert "stream" not in notes.asked["body"]


def test_other_surfaces_are_translated(command: Make) -> None:
    one = command().ready()
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
    answer = one.http.post("/v1/messages", json=body).json()
    assert answer["content"][0]["text"] == "hi hi "


def test_the_names_that_it_wants(command: Make, notes: Notes) -> None:
    """Of the model, of a path, and a header that it wants to see."""
    one = command(
        *("--model", "weights/7b", "--header", "X-Key=open"),
        model_name="weights/7b",
        headers={"X-Key": "open"},
        api=["/v1/chat/completions", "/v1/completions", "/v1/embeddings"],
        paths={"/v1/embeddings": "/embed"},
    ).ready()
    for model in ({}, {"model": "demo"}, {"model": "nick"}):
        assert text_of(one.chat("hi", **model)) == "hi hi hi "
    answer = one.http.post("/v1/embeddings", json={"input": "a", "model": "demo"}).json()
    assert answer["data"][0]["embedding"] == [0.5, 0.25]
    assert notes.asked["path"] == "/embed"


def test_what_it_does_not_answer_is_refused_before_it_is_asked(command: Make, notes: Notes) -> None:
    one = command().ready()
    answer = one.http.post("/v1/embeddings", json={"input": "a"})
    assert answer.status_code == 501
    assert notes.asked is None


def test_what_is_unknown_to_us_is_its_own_matter(command: Make) -> None:
    one = command().ready()
    answer = one.chat("hi", best_of_all=1)
    assert answer.status_code == 400
    assert "unknown: ['best_of_all']" in answer.json()["error"]["message"]


def test_placeholders_environment_and_folder(
    command: Make, notes: Notes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECOND_API_KEY", "hush")
    one = command(
        *("--model", "{model_id}", "--say", "{source} {context_length} $HOME ; {{literal}}"),
        model_name="{model_id}",
        context_length=77,
        environment={"GREETING": "hello {model_id}"},
        working_directory=str(tmp_path),
    ).ready()
    assert "some/model 77 $HOME ; {literal}" in notes.started["argv"]
    seen = notes.environment
    assert seen["GREETING"] == "hello demo"
    assert not {"SOME_API_KEY", "SECOND_API_KEY", "MODELPOOL_STATUS_FD"} & seen.keys()
    assert notes.cwd == str(tmp_path)
    assert text_of(one.chat("hi")) == "hi hi hi "


def test_a_source_that_no_program_is_given_may_be_anything(command: Make) -> None:
    assert text_of(command(source="-").ready().chat("hi")) == "hi hi hi "


@pytest.mark.parametrize(
    ("more", "options"),
    [(["--say", "{source}"], {}), (["{*arguments}"], {"arguments": ["--say", "{source}"]})],
    ids=["command", "arguments"],
)
def test_a_source_that_a_program_would_take_for_an_option_is_refused(
    command: Make, more: list[str], options: dict[str, Any]
) -> None:
    one = command(*more, source="--help", **options).start()
    assert one.wait_exit() != 0
    assert one.record["code"] == "bad_config"
    assert "source '--help' would be taken for an option" in one.record["message"]


def test_a_piece_that_nothing_fills_is_left_out(command: Make, notes: Notes) -> None:
    options = {"arguments": ["--model", "x"]}
    one = command(model_name="x", **options)
    template = one.assignment["options"]["command"]
    template += [["--busy", "{threads}"], ["--say", "{context_length}"], "{*arguments}"]
    one.ready()
    assert "--busy" not in notes.started["argv"]
    assert notes.started["argv"][-2:] == ["--model", "x"]


def test_work_is_a_sign_of_life_while_it_starts(command: Make) -> None:
    """It listens only after longer than it may do nothing."""
    command("--busy", "6", ready_timeout_seconds=3).ready()


def test_ready_by_a_line_of_its_log(command: Make) -> None:
    options = {"ready_log": r"open at \d+", "ready_path": ""}
    command("--garbage", "--say", "it is open at 12", **options).ready()


def test_one_that_never_is_ready_is_given_up(command: Make, notes: Notes) -> None:
    one = command("--never-ready", ready_timeout_seconds=3).start()
    assert one.wait_exit() != 0
    assert one.record["code"] == "timeout"
    assert "/ready does not answer 200" in one.record["message"]
    assert not is_alive(notes.started["pid"])


def test_one_that_dies_while_it_loads_says_why(command: Make) -> None:
    one = command("--die-while-loading", "9").start()
    assert one.wait_exit() != 0
    assert "exit code 9" in one.record["message"]
    assert one.record["lines"][-1] == "the weights are made of cheese"


def test_one_that_dies_in_a_stream_is_told_with_its_last_words(command: Make) -> None:
    one = command("--die-after", "2", "--slow-tokens", "0.05").ready()
    text = one.chat("hi", stream=True).text
    assert "a stray cosmic ray" in text
    assert "exit code 7" in text
    assert one.wait_exit() != 0
    assert one.record["code"] == "engine_died"


def test_a_kill_from_outside_is_told_as_one(command: Make, notes: Notes) -> None:
    one = command().ready()
    os.kill(notes.started["pid"], signal.SIGKILL)
    assert one.wait_exit() != 0
    assert "signal 9" in one.record["message"]


def test_who_leaves_ends_the_work(command: Make, notes: Notes, until: Any) -> None:
    one = command("--slow-tokens", "0.02").ready()
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 400}
    with one.http.stream("POST", CHAT, json={**body, "stream": True}) as answer:
        next(answer.iter_lines())
    until(lambda: notes.cancelled is not None, "the stream to be cancelled")
    (notes.folder / "cancelled.json").unlink()
    (notes.folder / "asked.json").unlink()
    with connected(one.port) as client:
        client.sendall(request(one.port, json.dumps(body).encode()))
        until(lambda: notes.asked, "the plain request")
    until(lambda: notes.cancelled is not None, "the plain request to be cancelled")


def test_one_that_ignores_term_is_killed(command: Make, notes: Notes) -> None:
    one = command("--ignore-term", stop_seconds=0.3).ready()
    assert unload(one) == 0
    assert not notes.ended
    assert not is_alive(notes.started["pid"])


@pytest.mark.parametrize("kind", ["plain", "session"])
def test_what_it_has_started_goes_too(command: Make, notes: Notes, kind: str) -> None:
    one = command("--grandchild", kind).ready()
    assert is_alive(notes.grandchild)
    assert unload(one) == 0
    assert not is_alive(notes.grandchild)


def test_what_it_leaves_behind_when_it_dies_goes_too(
    command: Make, notes: Notes, until: Any
) -> None:
    one = command("--grandchild", "session").ready()
    os.kill(notes.started["pid"], signal.SIGKILL)
    one.wait_exit()
    until(lambda: not is_alive(notes.grandchild), "the grandchild to be gone")


def test_when_its_engine_child_is_killed_it_goes_too(
    command: Make, notes: Notes, until: Any
) -> None:
    one = command().ready()
    os.kill(one.live_facts()["engine_pid"], signal.SIGKILL)
    until(lambda: not is_alive(notes.started["pid"]), "the server to be gone")


def test_a_port_that_was_taken_is_replaced(command: Make, notes: Notes, until: Any) -> None:
    """By one who says of everything that it is well."""
    one = command("--lose-port").start()
    port = until(lambda: notes.port, "the port")

    class Well(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Well) as thief:
        threading.Thread(target=thief.serve_forever, args=(0.01,)).start()
        (notes.folder / "lost.json").write_text("true")
        one.wait_phase("ready")
        thief.shutdown()
    assert text_of(one.chat("hi")) == "hi hi hi "
    assert f"port {port} was taken" in one.log


def test_a_port_of_its_own_that_is_taken_is_an_error(command: Make, notes: Notes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        one = command("--never-ready", port=port, ready_timeout_seconds=2).start()
        assert one.wait_exit() != 0
        assert f"port {port} is taken by another program" in one.record["message"]


def test_a_stop_command(command: Make, notes: Notes, tmp_path: Path) -> None:
    mark = tmp_path / "stopped"
    stop = ["touch", f"{mark}-{{model_id}}"]
    one = command("--ignore-term", stop_command=stop, stop_seconds=3).ready()
    assert unload(one) == 0
    assert mark.with_name("stopped-demo").exists()
    assert not is_alive(notes.started["pid"])


def test_a_stop_command_for_a_load_that_is_cancelled(
    command: Make, notes: Notes, tmp_path: Path, until: Any
) -> None:
    mark = tmp_path / "stopped"
    one = command("--never-ready", stop_command=["touch", str(mark)], stop_seconds=3).start()
    until(lambda: notes.started, "the server")
    unload(one)
    assert mark.exists()


def test_what_is_no_program_says_so(worker: Any) -> None:
    one = worker({"command": ["no-such-program", "{port}"]}, engine="command").start()
    assert one.wait_exit() != 0
    assert one.record["code"] == "missing_dependency"
    assert "no program 'no-such-program'" in one.record["message"]


def test_memory_of_the_server_counts(command: Make, until: Any) -> None:
    one = command().ready()
    assert until(lambda: (one.live_facts()["memory_bytes"] or 0) > 20 << 20, "its memory")
    assert one.live_facts()["rss_bytes"] > 30 << 20


def test_a_source_is_no_option_of_the_server() -> None:
    """One of a client of the API would have a server read its configuration from any file."""
    for name in ("vllm", "transformers-serve"):
        with pytest.raises(LoadFailed) as caught:
            engines.get(name).inspect("--config=/tmp/x.yaml")
        assert (caught.value.code, caught.value.param) == ("bad_config", "source")
        engines.get(name).inspect("some/model")


@pytest.mark.parametrize(
    ("options", "param", "said"),
    [
        ({}, "command", "is required"),
        ({"command": "a b"}, "command", "must be a list"),
        ({"command": []}, "command", "between 1 and 500 items"),
        ({"command": ["a"]}, "command", "must name {port} or {socket}"),
        ({"command": ["a", "{port}", "{colour}"]}, "command", "names {colour}"),
        ({"command": ["a", "{port}", "{threads}"]}, "command", "{threads} has no value"),
        ({"command": ["{port}"], "api": ["/v1/none"]}, "api", "'/v1/none'"),
        ({"command": ["{port}"], "ready_log": "("}, "ready_log", "no regular expression"),
        ({"command": ["{port}"], "ready_path": "x"}, "ready_path", "begin with /"),
        ({"command": ["{port}"], "ready_path": "/x y"}, "ready_path", "no blanks"),
        ({"command": ["{port}"], "paths": {CHAT: "/x HTTP/1.1\r\n"}}, "paths", "no blanks"),
        ({"command": ["{port}"], "headers": {"a": "b\r\nc: d"}}, "headers", "no header"),
        ({"command": ["{port}"], "headers": {"a": "\u20ac"}}, "headers", "no header"),
        ({"command": ["{port}"], "headers": {"a b": ""}}, "headers", "no header"),
        ({"command": ["{port}"], "model_name": "{threads}"}, "model_name", "no value"),
        ({"command": ["{port}"], "environment": {"A": "{x}"}}, "environment", "no value"),
        ({"command": ["{port}"], "working_directory": "x"}, "working_directory", "absolute"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], param: str, said: str) -> None:
    with pytest.raises(LoadFailed, match=r".*") as caught:
        engines.get("command").check(options)
    assert caught.value.param == f"options.{param}"
    assert said in caught.value.message


@pytest.fixture
def vllm(worker: Any, tmp_path: Path) -> Any:
    """Makes a worker of the preset whose program is the stand-in."""

    def make(**options: Any) -> Any:
        entry = vllm_entry("m", tmp_path, weights_mb=2, cache_mb=2, **options)
        program = vllm_preset(tmp_path)["vllm"]["program"]
        given = {**entry["options"], "program": program}
        return worker(given, engine="vllm", source="some/model").ready()

    return make


def told(folder: Path) -> list[str]:
    """What the stand-in was asked."""
    return (folder / "notes-m" / "log.txt").read_text().splitlines()[1:]


def phase_of(worker: Any, phase: str) -> dict[str, Any]:
    """Its facts, once it is in that phase."""
    while True:
        facts = dict(worker.live_facts())
        if facts["phase"] == phase:
            return facts
        assert facts["phase"] not in ("draining", "failed"), facts
        time.sleep(0.005)


WAYS = {
    1: ["/sleep?level=1", "/wake_up"],
    2: [
        "/sleep?level=2",
        "/wake_up?tags=weights",
        "/collective_rpc reload_weights",
        "/wake_up?tags=kv_cache",
    ],
}


@pytest.mark.parametrize("level", [1, 2])
def test_vllm_sleeps_and_wakes(vllm: Any, tmp_path: Path, level: int) -> None:
    """As its documentation has it; what it is asked meanwhile is refused."""
    made = vllm(sleep_level=level)
    assert text_of(made.chat("hi")) == "hi"
    assert made.live_facts()["sleep_level"] == level
    busy = made.internal("POST", "sleep", json={"if_idle_for": 3600}).json()
    assert (busy["drained"], busy["facts"]["phase"]) == (False, "ready")
    assert made.internal("POST", "sleep", json={"if_idle_for": 0}).json()["drained"]
    facts = phase_of(made, "asleep")
    assert facts["memory_peak_bytes"] >= facts["memory_bytes"]
    refused = made.chat("hi")
    assert refused.status_code == 503
    assert "asleep" in refused.json()["error"]["message"]
    made.internal("POST", "wake")
    phase_of(made, "ready")
    assert text_of(made.chat("ho")) == "ho"
    assert told(tmp_path) == ["compute hi", *WAYS[level], "compute ho"]


def test_one_that_cannot_sleep_is_not_told_to(vllm: Any, command: Make) -> None:
    made = vllm()
    assert made.http.post("/internal/sleep").status_code == 403
    other = command().ready()
    answer = other.internal("POST", "sleep", json={})
    assert answer.status_code == 501
    assert "does not sleep" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("engine", "options", "usable"),
    [
        ("vllm", {}, False),
        ("vllm", {"program": sys.executable}, True),
        ("vllm", {"program": "/no/such"}, False),
        ("command", {"command": ["/no/such", "{port}"]}, False),
        ("command", {"command": [sys.executable, "{port}"]}, True),
    ],
)
def test_whether_it_can_be_used(
    engine: str, options: dict[str, Any], usable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    assert engines.get(engine).probe_for(options).usable is usable


def test_a_program_of_the_environment_that_it_runs_in_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As pip installs it there, whatever PATH says."""
    program = tmp_path / "vllm"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", "")
    assert not engines.get("vllm").probe().usable
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    engine = engines.get("vllm")
    assert isinstance(engine, CommandEngine)
    assert engine.probe().usable
    assert engine._values(EngineJob("vllm", "m", "s", "socket"), {}, 1)["program"] == str(program)
