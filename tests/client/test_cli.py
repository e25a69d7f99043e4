"""``poolctl`` against a fake manager over real HTTP: what it prints, where, and how it exits."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from modelpool_client import errors
from modelpool_client.cli import app
from modelpool_client.cli.app import globals_first
from modelpool_client.cli.render import duration, table
from modelpool_client.cli.session import EXIT_CODES, exit_code
from modelpool_client.cli.settings import sources_table
from modelpool_client.cli.usage import requests_table
from modelpool_client.reports import KeySource, RequestPage, RequestView
from rich.cells import cell_len
from rich.console import Console, RenderableType
from typer.testing import CliRunner, Result

MODEL = "org/tiny:7b"
FakePool = Any  # the fixture of conftest
Poolctl = Callable[..., Result]
NOBODY = "http://127.0.0.1:1"


@pytest.fixture
def poolctl(fake: FakePool) -> Poolctl:
    def run(*args: str, url: str = fake.url, stdin: str | None = None) -> Result:
        return CliRunner().invoke(app, ["--url", url, *args], input=stdin)

    return run


def document(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_list(fake: FakePool, poolctl: Poolctl) -> None:
    done = poolctl("list")
    assert done.exit_code == 0
    assert MODEL in done.stdout
    assert "~1,200 MB" in done.stdout
    assert document(poolctl("list", "--json")) == {"models": list(fake.models.values())}


def test_who_waits(fake: FakePool, poolctl: Poolctl) -> None:
    waiting = {"high": 0, "normal": 5, "low": 2}
    use = {"limit": 8, "in_flight": 8, "waiting": waiting, "oldest_wait_seconds": 12.0}
    fake.models[MODEL] |= {"in_flight": 8, "concurrency": use}
    assert "8 +7" in poolctl("list").stdout
    shown = poolctl("status", MODEL).stdout
    assert "8 of 8" in shown
    assert "5 normal, 2 low; the first for 12.0s" in shown
    fake.models[MODEL] |= {"concurrency": use | {"limit": None, "waiting": {}}}
    shown = poolctl("status", MODEL).stdout
    assert "8 of 8" not in shown
    assert "waiting" not in shown


def test_outcomes_are_told_once_and_can_be_forgotten(fake: FakePool, poolctl: Poolctl) -> None:
    assert "do not count here" in poolctl("outcomes", "list").stdout
    fake.settings["learn_from_outcomes"] = True
    assert "nothing was learned" in poolctl("outcomes", "list").stdout
    for wrong in ([], ["--good", "--score", "1"], ["--score", "2"]):
        assert poolctl("outcomes", "report", "d1", *wrong).exit_code in (1, 2)
    assert not fake.answered("/route/d1/outcome")
    assert document(poolctl("outcomes", "report", "d1", "--bad", "--json"))["outcomes"] == 1
    again = poolctl("outcomes", "report", "d1", "--score", "0.5")
    assert again.exit_code == 1
    assert "told before" in again.stderr
    assert fake.answered("/route/d1/outcome") == [{"success": False}, {"score": 0.5}]
    assert poolctl("outcomes", "report", "nobody", "--good").exit_code == 1
    shown = poolctl("outcomes", "list").stdout
    assert MODEL in shown
    assert "-0.0200" in shown
    assert "forgotten: 1" in poolctl("outcomes", "forget", "--model", MODEL).stdout
    assert fake.requests[-1][1] == "/route/outcomes?model=org%2Ftiny%3A7b"
    assert document(poolctl("outcomes", "forget", "--json"))["forgotten"] == 0


def test_tables_fit_and_are_plain(
    fake: FakePool, poolctl: Poolctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    long_id = "some-owner/" + "a-rather-long-name-" * 6 + "[red]Q4_0"
    fake.models[long_id] = fake.models[MODEL] | {"model_id": long_id, "reason": "why " * 60}
    for args in (["list"], ["status", long_id], ["engines"], ["config"], ["doctor"], ["status"]):
        done = poolctl(*args)
        assert done.exit_code == 0
        assert "\x1b" not in done.stdout
        assert max(cell_len(line) for line in done.stdout.splitlines()) <= 80
    assert "[red]Q4" in poolctl("status", long_id).stdout


def test_a_key_is_whole_beside_a_value_of_any_length() -> None:
    found = {
        "max_concurrent_models": KeySource("x y " * 200, "file", "/etc/" + "folder/" * 20),
        "port": KeySource(8050, "default"),
    }
    shown = lines_of(sources_table(found))
    assert {"KEY", "VALUE", "FROM"} <= set(shown[0].split())
    assert any(line.startswith("max_concurrent_models") for line in shown)
    assert "".join(part for line in shown for part in line.split()).count("folder/") > 1


def test_a_line_of_a_request_is_read_at_a_glance() -> None:
    failed = RequestView(
        at="2026-05-31T12:00:00+00:00",
        model="pool-demo",
        surface="/v1/chat/completions",
        status=404,
        code="model_not_found",
    )
    lines = lines_of(requests_table(RequestPage(requests=(failed,))))
    assert any(re.match(r"\d\d:\d\d:\d\d ", line) for line in lines)
    assert any("model_not_found" in line for line in lines)


def lines_of(shown: object) -> list[str]:
    """As on a terminal of the usual width."""
    console = Console(width=80, file=io.StringIO(), color_system=None)
    with console.capture() as captured:
        console.print(shown)
    return captured.get().splitlines()


def test_status(fake: FakePool, poolctl: Poolctl) -> None:
    assert "pool healthy: 0 of 1 models loaded" in poolctl("status").stdout
    assert document(poolctl("status", "--json"))["health"]["status"] == "healthy"
    fake.models[MODEL] |= {
        "state": "WARMING",
        "reason": "first request",
        "progress": {"stage": "weights", "fraction": 0.42, "eta_seconds": 7.2, "estimated": True},
    }
    assert "weights 42% 7 s left (estimate)" in poolctl("status", MODEL).stdout
    assert "WARMING 42%" in poolctl("status").stdout
    fake.models[MODEL] |= {"failure": {"code": "oom", "message": "no memory", "lines": ["last"]}}
    assert "oom: no memory" in poolctl("status", MODEL).stdout
    assert document(poolctl("--json", "status", MODEL)) == fake.models[MODEL]


def test_load_and_unload(fake: FakePool, poolctl: Poolctl) -> None:
    assert poolctl("load", MODEL, "--no-wait").stdout == f"{MODEL} is WARMING\n"
    assert poolctl("load", MODEL).stdout == f"{MODEL} is HOT at http://127.0.0.1:8051\n"
    assert document(poolctl("load", MODEL, "--json"))["model"]["state"] == "HOT"
    assert "15.0 min" in poolctl("list").stdout
    assert "45 min granted, the most there is; 60.0" in poolctl("extend", MODEL, "90").stdout
    fake.models[MODEL]["ttl_minutes"] = 0
    assert poolctl("extend", MODEL, "90").stdout == f"{MODEL}: never expires\n"
    fake.models[MODEL]["pinned"] = True
    refused = poolctl("unload", MODEL)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr.splitlines() == [f"error: {MODEL} is pinned", "say it again with --force"]
    assert poolctl("unload", MODEL, "--force").stdout == f"{MODEL} is COLD\n"


def test_register_and_delete(fake: FakePool, poolctl: Poolctl, tmp_path: Path) -> None:
    more = ["--option", "n_ctx=4096", "--option", "name=x", "--ttl", "0", "--warmup"]
    done = poolctl("register", "m", "--source", "s", "--engine", "fake", "--alias", "a", *more)
    assert done.stdout == "m is registered\n"
    sent = fake.requests[-1][2]
    assert sent["options"] == {"n_ctx": 4096, "name": "x"}
    assert (sent["aliases"], sent["ttl_minutes"], sent["warmup"]) == (["a"], 0.0, True)
    assert "tags" not in sent
    file = tmp_path / "m.json"
    file.write_text(json.dumps({"model_id": "f", "engine": "fake", "source": "s"}))
    assert poolctl("register", "--file", str(file), "--tag", "t").stdout == "f is registered\n"
    assert poolctl("register", "m", "--source", "s", "--engine", "fake").exit_code == 1
    assert poolctl("register", "m").exit_code == 2
    assert poolctl("register", "g", "--source", "/g.gguf").stdout == "g is registered\n"
    assert fake.requests[-1][2] == {"model_id": "g", "source": "/g.gguf"}
    assert poolctl("delete", "m").stdout == "m is deleted\n"
    assert "m" not in fake.models


def test_config(fake: FakePool, poolctl: Poolctl) -> None:
    assert "auto_unload" in poolctl("config").stdout
    assert document(poolctl("config", "get", "--json")) == fake.settings
    assert document(poolctl("--json", "config", "get", "auto_unload")) is True
    assert "false" in poolctl("config", "set", "auto_unload=false").stdout
    assert fake.settings["auto_unload"] is False
    assert poolctl("config", "get", "nonsense").exit_code == 1
    assert poolctl("config", "set", "nonsense=1").exit_code == 1
    assert poolctl("config", "set", "nonsense").exit_code == 2


def test_plan(poolctl: Poolctl) -> None:
    told = poolctl("plan", "load", MODEL).stdout
    assert f"{MODEL} would start at once" in told
    assert "1. other (900 MB): idle for 70 s" in told
    assert "1,500 MB of 2,000 MB held, 500 MB free" in told
    assert "2 of 5 in memory" in told
    assert document(poolctl("plan", "load", MODEL, "--json"))["later"] == 1
    assert poolctl("plan", "load", "nope").exit_code == 4


def test_a_set_is_loaded_or_planned_as_one(fake: FakePool, poolctl: Poolctl) -> None:
    poolctl("register", "m", "--source", "s", "--engine", "fake")
    told = poolctl("plan", "load", MODEL, "m").stdout
    assert told.count("start") == 3
    assert "other (900 MB): idle for 70 s" in told
    assert "1,500 MB of 2,000 MB held, 500 MB free" in told
    assert document(poolctl("plan", "load", MODEL, "m", "--json"))["steps"][1]["later"] == 1
    assert fake.models["m"]["state"] == "COLD"
    done = poolctl("load", MODEL, "m")
    assert done.stdout.splitlines() == [
        f"{MODEL} is loaded at http://127.0.0.1:8051",
        "m is loaded at http://127.0.0.1:8051",
    ]
    assert document(poolctl("load", MODEL, "m", "--json"))["message"] == "done"
    assert poolctl("load", MODEL, "nope").exit_code == 4
    poolctl("register", "bad", "--source", "broken", "--engine", "fake")
    failed = poolctl("load", "bad", "m")
    assert failed.exit_code == 5
    assert "bad could not be loaded: it is broken\nm is loaded" in failed.stdout
    assert poolctl("load", "bad", "m", "--json").exit_code == 5


def test_usage(poolctl: Poolctl) -> None:
    lines = [line.split() for line in poolctl("usage").stdout.splitlines()]
    assert lines[0] == [*("MODEL", "DAY", "REQUESTS", "ERRORS", "IN", "CACHED", "OUT", "COST")]
    assert lines[2][1:3] == ["2030-01-02", "3"]
    assert lines[-1][:3] == ["in", "all", "6"]
    assert document(poolctl("usage", "--json"))["totals"][0]["cost"] == 0.25
    assert poolctl("usage", "--csv").stdout == f"model,requests\n{MODEL},3\n"


def test_requests(poolctl: Poolctl) -> None:
    text = poolctl("requests").stdout
    assert "1,200" in text
    assert "0.25s" in text
    assert "model_not_found" in poolctl("requests", "--errors").stdout
    assert document(poolctl("requests", "--json"))["requests"][0]["status"] == 200
    assert poolctl("requests", "-n", "0").exit_code == 2


def test_what_was_said_in_a_request(poolctl: Poolctl) -> None:
    text = poolctl("requests", "show", "1").stdout
    assert "POST /v1/x\naccept: */*\n\n{}" in text
    assert "answered 200" in text
    assert "(not all of 6 bytes)" in text
    assert "\x1b" not in text
    assert poolctl("requests", "show", "1", "--curl").stdout == "curl x\n"
    assert document(poolctl("requests", "show", "1", "--json"))["content"]["curl"] == "curl x"
    assert "was not captured" in poolctl("requests", "show", "2").stdout
    refused = poolctl("requests", "show", "2", "--curl")
    assert refused.exit_code == 1
    assert "poolctl requests capture" in refused.stderr
    assert poolctl("requests", "show", "3").exit_code == 1
    assert poolctl("requests", "show", "x").exit_code == 2


def test_where_settings_come_from(poolctl: Poolctl) -> None:
    lines = [
        " ".join(x.split()) for x in poolctl("config", "show", "--sources").stdout.splitlines()
    ]
    assert lines[-3:] == [
        "port 8050 /pool.yaml; needs a restart",
        "grace_minutes 5 PATCH /config; a restart makes it 3",
        "quiet null default",
    ]
    assert poolctl("config", "--sources").stdout == poolctl("config", "get", "--sources").stdout
    one = document(poolctl("config", "get", "port", "--sources", "--json"))
    assert one["place"] == "/pool.yaml"
    assert poolctl("config", "get", "nope", "--sources").exit_code == 1


def test_capture(poolctl: Poolctl) -> None:
    text = poolctl("requests", "capture", MODEL, "--minutes", "5").stdout
    assert text.startswith(f"what is said to {MODEL} is captured for 5.0 min more")
    assert "said to all models" in poolctl("requests", "capture", "--body-bytes", "512").stdout
    assert poolctl("requests", "capture", "--body-bytes", "1").exit_code == 2
    assert (
        "nothing is captured; what was said in 2"
        in poolctl("requests", "capture", "--status").stdout
    )
    assert document(poolctl("requests", "capture", "--off", "--json"))["on"] is False


def test_history(poolctl: Poolctl) -> None:
    lines = [line.split() for line in poolctl("history", MODEL).stdout.splitlines()]
    assert lines[0] == ["TIME", "EVENT", "STATE", "PORT", "LASTED", "REASON"]
    assert lines[-2][2:] == ["loaded", "HOT", "8051", "still", "loaded"]
    assert lines[-1][2:] == ["loading", "WARMING", "1m", "15s", "a", "request", "came"]
    assert len(poolctl("history", MODEL, "-n", "1").stdout.splitlines()) == len(lines) - 1
    assert document(poolctl("history", MODEL, "--json"))["next_before"] == 7
    assert poolctl("history", MODEL, "-n", "0").exit_code == 2
    assert poolctl("history", "nope").exit_code == 4


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0s"),
        (59.94, "59.9s"),
        (60, "1m 00s"),
        (3599, "59m 59s"),
        (3600, "1h 00m"),
        (86_399, "23h 59m"),
        (90_000, "1d 01h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_reload(poolctl: Poolctl) -> None:
    told = poolctl("config", "reload").stdout
    assert "grace_minutes" in told
    assert "port (needs a restart)" in told
    assert "models added" in told
    assert document(poolctl("config", "reload", "--json"))["changed"] == {"grace_minutes": 3}


def test_restart(fake: FakePool, poolctl: Poolctl) -> None:
    told = poolctl("restart", "--wait", "2.5").stdout.splitlines()
    assert ("POST", "/restart", {"wait_seconds": 2.5}) in fake.requests
    assert told[0].startswith("restarted in ")
    assert told[0].endswith(" s; 1 workers adopted")
    assert told[1:] == [
        f"  {MODEL}  HOT  port 8051  pid 7",
        "  gone: its worker (pid 8) is gone",
    ]
    fake.run = "before"
    again = poolctl("restart", "--json")
    assert [w["worker_pid"] for w in json.loads(again.stdout)["adopted"]] == [7]
    assert again.exit_code == 1, "a worker is gone"
    fake.run, fake.is_worker_lost = "before", False
    assert document(poolctl("restart", "--json"))["lost"] == []


def test_export_and_import(poolctl: Poolctl, tmp_path: Path) -> None:
    file = tmp_path / "registry.json"
    assert "1 models written" in poolctl("export", str(file)).stdout
    assert json.loads(file.read_text()) == document(poolctl("export"))
    whole = tmp_path / "pool.json"
    assert "1 models written" in poolctl("export", "--config", str(whole)).stdout
    assert json.loads(whole.read_text()) == document(poolctl("export", "--config"))
    assert json.loads(whole.read_text())["auto_unload"] is True
    assert poolctl("import", str(file)).stdout == "1 added, 0 updated, 0 deleted\n"
    assert document(poolctl("import", "-", "--json", stdin=file.read_text()))["added"] == [MODEL]
    for text in ("no JSON", "{}", "3"):
        file.write_text(text)
        assert poolctl("import", str(file)).exit_code == 1
    assert "cannot read" in poolctl("import", str(tmp_path / "none")).stderr
    assert "cannot write" in poolctl("export", str(tmp_path / "no" / "where")).stderr


def test_logs_and_events(fake: FakePool, poolctl: Poolctl) -> None:
    assert poolctl("logs", MODEL, "-n", "2").stdout == "line 0\nline 1\n"
    fake.log = ["a later \x1b[31mline\n", "and after a restart\n"]
    followed = poolctl("logs", MODEL, "-f", "-n", "0")
    # Nothing there drives the terminal.
    assert followed.stdout == "a later [31mline\nand after a restart\n"
    assert followed.exit_code == 4, "the model was deleted"
    lines = [json.loads(line) for line in poolctl("--json", "logs", MODEL).stdout.splitlines()]
    assert lines[1] == {"model_id": MODEL, "line": "line 1"}
    fake.happen("model-loading", state="WARMING", previous="COLD", reason="asked for")
    fake.happen("model-loaded", state="HOT")
    told = poolctl("events", "-n", "2", "--model", MODEL).stdout.splitlines()
    assert told[0] == f"model-loading  {MODEL}  COLD -> WARMING  asked for"
    lines = poolctl("events", "-n", "2", "--json").stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["1", "2"]


def test_chat(fake: FakePool, poolctl: Poolctl) -> None:
    assert poolctl("chat", MODEL, "hi", "--system", "be nice").stdout == "you said hi\n"
    assert fake.requests[-1][2]["messages"][0] == {"role": "system", "content": "be nice"}
    assert poolctl("chat", MODEL, stdin="from a pipe").stdout == "you said from a pipe\n"
    answer = document(poolctl("chat", MODEL, "hi", "--json", "--max-tokens", "5"))
    assert answer["choices"][0]["message"]["content"] == "you said hi"
    assert fake.requests[-1][2]["max_tokens"] == 5
    assert poolctl("chat", MODEL, "--", "--json").stdout == "you said --json\n"
    fake.cut_stream = True
    cut = poolctl("chat", MODEL, "hi")
    assert (cut.exit_code, "cut off" in cut.stderr) == (1, True)


@pytest.mark.parametrize(("fallbacks", "is_loaded"), [([], True), (["other"], False)])
def test_a_terminal_waits_for_the_load_of_a_model_that_nobody_stands_in_for(
    fake: FakePool,
    poolctl: Poolctl,
    monkeypatch: pytest.MonkeyPatch,
    fallbacks: list[str],
    is_loaded: bool,
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    fake.models[MODEL] |= {"state": "COLD", "fallbacks": fallbacks}
    assert poolctl("chat", MODEL, "hi").exit_code == 0
    assert any("/load" in r[1] for r in fake.requests) is is_loaded


def test_a_conversation(
    fake: FakePool, poolctl: Poolctl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    person(monkeypatch, tmp_path, ["hi", "", "ho", "/exit"])
    assert poolctl("chat", MODEL).stdout == "you said hi\nyou said ho\n"
    asked = fake.answered("/v1/chat/completions")[-1]
    assert [m["content"] for m in asked["messages"]] == ["hi", "you said hi", "ho"]


def person(monkeypatch: pytest.MonkeyPatch, folder: Path, lines: list[str]) -> None:
    """Somebody types those lines; what is kept is kept in that folder."""
    said = iter(lines)
    monkeypatch.setattr("builtins.input", lambda _: next(said))
    monkeypatch.setattr("modelpool_client.cli.chat.has_person", lambda: True)
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))


def test_commands_of_a_conversation(
    fake: FakePool, poolctl: Poolctl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    note = tmp_path / "note.txt"
    note.write_text("of file")
    lines = ["/system be nice", "/set temperature 0.5", f"/file {note}", '"""two', "lines", '"""']
    lines += [
        "/retry",
        "/save mine",
        "/clear",
        "/retry",
        "/nonsense",
        "//slash",
        "/load mine",
        "/help",
    ]
    person(monkeypatch, tmp_path, [*lines, "/help", "/exit"])
    done = poolctl("chat", MODEL)
    asked = fake.answered("/v1/chat/completions")
    assert [len(body["messages"]) for body in asked] == [2, 2, 2]
    assert asked[0] == asked[1]
    assert asked[0]["messages"][0] == {"role": "system", "content": "be nice"}
    assert asked[0]["temperature"] == 0.5
    first, second = asked[0]["messages"][1]["content"]
    assert "of file" in first["text"]
    assert second["text"] == "two\nlines"
    assert asked[2]["messages"][1]["content"] == "/slash"
    for told in ("2 messages with", "no answer yet", "no command /nonsense", "/retry  ", "written"):
        assert told in done.stderr, done.stderr
    kept = tmp_path / "modelpool" / "chats"
    assert {path.name for path in kept.glob("*.json")} == {"mine.json", "last.json"}
    assert (kept / "mine.json").stat().st_mode & 0o077 == 0


def test_an_answer_that_breaks_off_ends_no_conversation(
    fake: FakePool, poolctl: Poolctl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    person(monkeypatch, tmp_path, ["one", "two", "/exit"])
    fake.cut_stream = True
    done = poolctl("chat", MODEL)
    assert (done.exit_code, done.stderr.count("cut off")) == (0, 2)
    asked = [m["role"] for m in fake.answered("/v1/chat/completions")[-1]["messages"]]
    assert asked == ["user", "assistant", "user"]


def test_engines_doctor_version(fake: FakePool, poolctl: Poolctl) -> None:
    assert "pip install 'modelpool[llama]'" in " ".join(poolctl("engines").stdout.split())
    checks = {c["name"]: c for c in document(poolctl("doctor", "--json"))["checks"]}
    assert checks["pool"]["result"] == "ok"
    assert (checks["other engines"]["result"], checks["other engines"]["advice"]) == ("ok", "")
    assert "no model needs them: llama.cpp" in checks["other engines"]["found"]
    fake.models[MODEL] |= {"engine": "llama.cpp"}
    checks = {c["name"]: c for c in document(poolctl("doctor", "--json"))["checks"]}
    assert "other engines" not in checks
    assert checks["engine llama.cpp"]["result"] == "warn"
    assert checks["engine llama.cpp"]["advice"].startswith("pip install")
    assert document(poolctl("version", "--json"))["pool"] == "not told"


def test_without_a_pool(poolctl: Poolctl) -> None:
    for args in (["list"], ["load", MODEL], ["chat", MODEL, "hi"], ["events"], ["config"]):
        assert poolctl(*args, url=NOBODY).exit_code == 3
    down = poolctl("doctor", url=NOBODY)
    assert down.exit_code == 3
    assert "nobody answers" in down.stdout
    assert poolctl("version", url=NOBODY).exit_code == 0
    told = poolctl("list", "--json", url=NOBODY)
    assert (told.stdout, json.loads(told.stderr)["error"]["code"]) == ("", "pool_unreachable")
    assert poolctl("list", url="ftp://x").exit_code == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.PoolUnreachable("x"), 3),
        (errors.ModelNotFound("x"), 4),
        (errors.LoadFailed("x", code="oom"), 5),
        (errors.LoadTimeout("x"), 5),
        (errors.CannotFit("x"), 5),
        (errors.UnloadProtected("x"), 1),
        (errors.NotFound("x"), 1),
        (errors.InternalError("x"), 1),
    ],
)
def test_exit_codes(error: errors.ModelPoolError, code: int) -> None:
    assert exit_code(error) == code
    assert str(code) in EXIT_CODES


def test_last_words_of_a_failed_load(fake: FakePool, poolctl: Poolctl) -> None:
    details = {"lines": ["reading tensors", "\x1b[2Jcannot allocate"]}
    failure = errors.LoadFailed("no memory", code="oom", details=details)
    fake.errors[f"/models/{MODEL}/load"] = [failure]
    done = poolctl("load", MODEL)
    assert done.exit_code == 5
    assert done.stderr.startswith("error: no memory\n  | reading tensors\n  | [2Jcannot")
    assert "poolctl logs" in done.stderr


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["list", "--json"], ["--json", "list"]),
        (["list", "--url", "u", "-x"], ["--url", "u", "list", "-x"]),
        (["--url=u", "list"], ["--url=u", "list"]),
        (["chat", "m", "--", "--json"], ["chat", "m", "--", "--json"]),
        (["list", "--url"], ["--url", "list"]),
    ],
)
def test_global_options_stand_anywhere(args: list[str], expected: list[str]) -> None:
    assert globals_first(args) == expected


def command(fake: FakePool, *args: str) -> list[str]:
    return [sys.executable, "-m", "modelpool_client.cli", "--url", fake.url, *args]


@pytest.mark.parametrize(
    ("args", "code"),
    [(["list"], 0), (["config", "set", "x=1"], 1), (["lst"], 2), (["load"], 2), (["load", "x"], 4)],
)
def test_real_exit_codes(fake: FakePool, args: list[str], code: int) -> None:
    done = subprocess.run(command(fake, *args), capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert bool(done.stderr) == bool(code)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("handling", ["strict", "surrogateescape"])
def test_what_is_said_must_be_text(fake: FakePool, handling: str) -> None:
    args = command(fake, "chat", MODEL)
    environment = os.environ | {"PYTHONIOENCODING": f"utf-8:{handling}"}
    done = subprocess.run(
        args, input=b"\xff\xfe", capture_output=True, check=False, env=environment
    )
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: what you say is no UTF-8 text: ")
    assert done.stderr.count(b"\n") == 1


def test_help_tells_the_exit_codes(fake: FakePool) -> None:
    done = subprocess.run(command(fake, "--help"), capture_output=True, text=True, check=True)
    assert " ".join(EXIT_CODES.split()) in " ".join(done.stdout.split())


def printed(table: RenderableType, width: int) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(table)
    return out.getvalue()


def test_in_a_narrow_terminal_long_cells_give_way_and_names_stay() -> None:
    why = "there is no llama-server: neither built here nor on PATH " * 3
    versions = "onnxruntime 1.32.0, onnxruntime-genai 0.18.0"
    rows = [("llama.cpp", "no", "gguf, safetensors", versions, why), ("http", "yes", "-", "1", "")]
    text = printed(table(("ENGINE", "USABLE", "FORMATS", "VERSION", "NOTE"), rows), 80)
    assert max(map(len, text.splitlines())) <= 80
    assert "llama.cpp  " in text
    assert "gguf, safetensors" in text, "figures and short lists stay whole"
    assert len(text.splitlines()) < 20, "no column is a character wide"


def test_what_goes_into_a_file_has_a_line_each(fake: FakePool) -> None:
    name = "org/" + "long-" * 20
    fake.models[name] = {**fake.models[MODEL], "model_id": name}
    # Readline puts COLUMNS into a process, and what that starts has it, too.
    env = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    done = subprocess.run(
        command(fake, "list"), capture_output=True, text=True, check=True, env=env
    )
    [line] = [each for each in done.stdout.splitlines() if each.startswith(name)]
    assert "~1,200 MB" in line


def test_interrupted(fake: FakePool) -> None:
    fake.load_seconds = 120
    # What a shell starts in its background, this test perhaps, takes no notice of Ctrl-C.
    heed = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL);"
    args = command(fake, "load", MODEL)
    args = [sys.executable, "-c", f"{heed} os.execv(sys.argv[1], sys.argv[1:])", *args]
    with subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            deadline = time.monotonic() + 60
            # A signal that comes just before Python's blocking call waits for the end of that.
            asleep = psutil.Process(process.pid)
            while not (fake.requests and asleep.status() == psutil.STATUS_SLEEPING):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, b"Traceback" in stderr) == (130, False)


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a terminal")
def test_a_terminal_sees_a_progress_bar(fake: FakePool) -> None:
    fake.load_seconds = 3
    ours, theirs = os.openpty()
    env = os.environ | {"TERM": "xterm-256color", "COLUMNS": "80", "NO_COLOR": "1"}
    process = subprocess.Popen(
        command(fake, "load", MODEL), stdout=subprocess.PIPE, stderr=theirs, env=env
    )
    stdout, _ = process.communicate(timeout=60)
    drawn = os.read(ours, 100_000).decode()
    os.close(ours)
    os.close(theirs)
    assert stdout.decode() == f"{MODEL} is HOT at http://127.0.0.1:8051\n"
    assert "weights 40%" in drawn
    assert "3 s left (estimate)" in drawn
