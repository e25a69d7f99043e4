"""The benchmark's rounds, what it reads from wrk, how it ends, and one short real run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from bench import apis, cli, engine, load, machine, wrk
from bench import names as n
from bench.canned import FIRST, LAST, TOKEN
from bench.figures import BenchError
from bench.messages import Ask, unchunked
from bench.processes import Child, free_ports
from bench.stage import Samples, Stage
from bench.suites import SUITES
from bench.targets import TARGETS
from modelpool_client.surfaces.families import read
from modelpool_client.surfaces.parameters import Support
from modelpool_client.surfaces.routes import surface_of
from modelpool_client.surfaces.translation import Known

WRK_OUTPUT = """\
Running 2s test @ http://127.0.0.1:21000/v1/chat/completions
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   812.31us  101.92us   4.96ms   91.27%
    Req/Sec    39.35k     1.93k   43.05k    70.00%
  Latency Distribution
     50%  793.00us
     75%  839.00us
     90%    0.90ms
     99%    1.15ms
  78312 requests in 2.00s, 41.30MB read
Requests/sec:  39141.04
Transfer/sec:     20.64MB
"""


class TestWrk:
    def test_its_output_is_understood(self) -> None:
        outcome = wrk.parse(WRK_OUTPUT)
        assert outcome.per_second == pytest.approx(39_156)
        assert outcome.median_seconds == pytest.approx(793e-6)
        assert outcome.p99_seconds == pytest.approx(1.15e-3)

    @pytest.mark.parametrize(
        "line", ["Non-2xx or 3xx responses: 17", "Socket errors: connect 0, read 3, write 0"]
    )
    def test_errors_are_no_figures(self, line: str) -> None:
        with pytest.raises(BenchError, match=line[:12]):
            wrk.parse(WRK_OUTPUT.replace("Requests/sec", f"  {line}\nRequests/sec"))

    def test_anything_else_is_said(self) -> None:
        with pytest.raises(BenchError, match="not understood"):
            wrk.parse("unable to connect")


class TestRounds:
    def _stage(self, folder: Path, deadline: float) -> Stage:
        return Stage(0.1, 3, True, folder, folder, deadline, lambda _: None)

    def test_every_other_round_goes_backwards(self, tmp_path: Path) -> None:
        order: list[str] = []

        def measure(name: str) -> float:
            order.append(name)
            return float(len(order))

        stage = self._stage(tmp_path, time.monotonic() + 60)
        systems = {"a": lambda: measure("a"), "b": lambda: measure("b")}
        samples = stage.paired("figure", systems)
        assert "".join(order) == "abbaab"
        assert samples.of == {"a": (1.0, 4.0, 5.0), "b": (2.0, 3.0, 6.0)}

    def test_one_round_is_made_even_when_time_is_over(self, tmp_path: Path) -> None:
        stage = self._stage(tmp_path, time.monotonic() - 1)
        assert stage.paired("figure", {"a": lambda: 1.0}).of == {"a": (1.0,)}
        assert "cut short after 1 of 3" in stage.notes[0]

    def test_what_others_do_is_seen_between_the_rounds(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shares = iter([0.1, 0.2, 0.6])
        monkeypatch.setattr(machine, "busy_share", lambda: next(shares))
        stage = self._stage(tmp_path, time.monotonic() + 60)
        conditions = stage.paired("figure", {"a": lambda: 1.0}).conditions
        assert conditions is not None
        assert conditions.busy == pytest.approx(0.3)

    def test_a_rival_that_was_not_measured_is_left_out(self) -> None:
        row = Samples({"gateway": (1.0,)}).row(("s", "f"), "gateway", "", [("nginx", "ratio")])
        assert row.versus == ()


def test_stolen_time_is_a_share_of_what_passed() -> None:
    before, after = machine.ProcessorTimes(100.0, 1.0), machine.ProcessorTimes(120.0, 2.0)
    assert machine.stolen_share(before, after) == pytest.approx(0.05)
    assert machine.stolen_share(before, before) == 0.0


def test_relays_may_cut_events_anywhere() -> None:
    cut = b'data: {"completion_to\r\n1f\r\nkens": 7}\n\ndata:\r\n9\r\n [DONE]\n\n\r\n0\r\n\r\n'
    assert unchunked(cut).startswith(b'data: {"completion_tokens": 7}\n\ndata: [DONE]\n\n')


def test_the_canned_stream_is_made_of_events() -> None:
    stream = unchunked(b"\r\n" + FIRST + TOKEN + LAST)
    events = [event for event in stream.split(b"\n\n") if event.startswith(b"data: ")]
    assert json.loads(events[1][6:])["choices"][0]["delta"] == {"content": " rain"}
    assert events[-1] == b"data: [DONE]"


def test_the_plug_in_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from modelpool_worker import engines

    engine.plug_in(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in (engine.NAME, engine.PLAIN_NAME):
        assert engines.get(name).probe().usable


def test_no_port_is_handed_out_twice() -> None:
    first, second = free_ports(5), free_ports(5)
    assert not set(first) & set(second)


def test_a_line_may_come_in_pieces(tmp_path: Path) -> None:
    code = (
        "import sys, time; sys.stdout.write('re'); sys.stdout.flush(); time.sleep(.1); print('ady')"
    )
    with Child([sys.executable, "-c", code], tmp_path / "log", talks=True) as child:
        assert child.line(20) == "ready"


@pytest.mark.parametrize(
    ("times", "percent", "expected"),
    [([3.0, 1.0, 2.0], 50, 2.0), ([float(i) for i in range(1, 201)], 99, 198.0), ([7.0], 99, 7.0)],
)
def test_percentiles(times: list[float], percent: int, expected: float) -> None:
    assert load.percentile(times, percent) == expected


def test_native_says_what_is_missing(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "scripts" / "native"
    for tool in ("dirname", "cat"):
        found = shutil.which(tool)
        assert found is not None
        (tmp_path / tool).symlink_to(found)
    done = subprocess.run(
        ["/bin/sh", str(script), str(tmp_path / "out")],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "cmake is missing; install it" in done.stderr


@pytest.mark.e2e
@pytest.mark.slow
def test_a_short_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = set(psutil.Process().children(recursive=True))
    arguments = ["--only", n.RELAY, "--only", n.MEMORY, "--quick"]
    arguments += ["--seconds", "0.2", "--rounds", "1", "--out", str(tmp_path)]
    assert cli.main(arguments) in (cli.OK, cli.TOO_NOISY)
    [file] = tmp_path.glob("*.json")
    rows = json.loads(file.read_text())["rows"]
    measured = {(row["figure"], row["system"]) for row in rows}
    for figure in (n.REQUESTS, n.MEDIAN, n.SLOWEST, n.STREAMS):
        assert {(figure, n.UPSTREAM), (figure, n.GATEWAY), (figure, n.FRONT)} < measured
    assert (n.REQUESTS, n.FRONT_TOGETHER) in measured
    assert {(n.PER_STREAM, n.GATEWAY), (n.PER_STREAM, n.FRONT)} < measured
    assert all(row["median"] > 0 for row in rows)
    # One round is no ground for a verdict, and with nginx there are some to be given.
    has_nginx = (n.REQUESTS, n.NGINX) in measured
    assert ("too noisy to conclude" in capsys.readouterr().out) or not has_nginx
    assert cli.main(["compare", str(file), str(file)]) == cli.OK
    assert cli.main(["page", str(file), "--out", str(tmp_path / "page")]) == cli.OK
    assert {"README.md", "relay.svg"} < {path.name for path in (tmp_path / "page").iterdir()}
    assert set(psutil.Process().children(recursive=True)) == before


@pytest.mark.e2e
@pytest.mark.slow
def test_surfaces_are_held_against_chat_completions(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    arguments = ["--only", n.SURFACES, "--quick", "--seconds", "0.01", "--rounds", "1"]
    assert cli.main([*arguments, "--out", str(tmp_path)]) == cli.TOO_NOISY
    [file] = tmp_path.glob("*.json")
    rows = json.loads(file.read_text())["rows"]
    judged = {(r["figure"], r["system"]) for r in rows if r.get("targets")}
    assert judged == {(t.figure, t.system) for t in TARGETS if t.suite == n.SURFACES}


NATIVE = {n.MESSAGES_API, n.NATIVE_API, n.INFILL_API, n.TOKENIZE_API}


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("api", [n.CHAT_API, *n.RELAYED_APIS, *n.TRANSLATED_APIS])
def test_nothing_that_an_api_is_asked_is_refused_or_ignored(api: str, is_stream: bool) -> None:
    if is_stream and api not in n.STREAMED_APIS:
        return
    ask = apis.stream(api, "m", 5) if is_stream else apis.whole(api, "m")
    kind = engine.AllEngine if api in NATIVE and not is_stream else engine.ChatEngine
    surface, support = surface_of(ask.path, "POST"), Support(kind.honours or {})
    known = Known(serves=kind.surfaces)
    asked = read(surface, json.loads(ask.body), ask.body, support, known, ask.path)
    assert asked.completion.stream == is_stream
    assert {*asked.completion.ignored} <= {"input_type"}  # which all clients of Cohere's must say
    if is_stream:
        assert asked.completion.body["max_tokens"] == 5


def test_a_wrong_answer_is_no_figure() -> None:
    with pytest.raises(BenchError):
        load.run(1, Ask(b"{}"), 1, 0.1)


def test_a_file_that_is_no_result_is_refused_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.json").write_text('{"rows": [{}]}')
    for name in ("x.json", "absent.json"):
        assert cli.main(["compare", str(tmp_path / name)]) == cli.USAGE
        assert name in capsys.readouterr().err


def test_every_target_is_of_a_suite() -> None:
    assert {target.suite for target in TARGETS} == set(SUITES)


def test_the_suites_share_the_time_in_their_order() -> None:
    shares = [suite.until for suite in SUITES.values() if suite.by_default]
    assert shares == sorted(shares)
    assert 0 < shares[0] <= shares[-1] < 1
