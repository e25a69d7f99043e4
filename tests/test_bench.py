"""The benchmark: its arithmetic, its table, what it reads from wrk, and one short real run."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from bench import cli, engine, load, relay, wrk
from bench.canned import FIRST, LAST, TOKEN
from bench.figures import BenchError, Row, Spread, Versus, number
from bench.messages import unchunked
from bench.report import HEADINGS, Report, table
from bench.stage import Samples, Stage

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


class TestFigures:
    def test_spread_is_the_median_with_its_bounds(self) -> None:
        assert Spread.of([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)

    def test_ratios_are_taken_pair_by_pair(self) -> None:
        # The machine was twice as slow in the second round, for both: the ratio knows nothing of it
        spread = Versus("nginx", [100.0, 50.0]).spread([60.0, 30.0])
        assert spread == Spread(0.6, 0.6, 0.6)

    def test_added_is_a_difference(self) -> None:
        spread = Versus("upstream", [1.0, 2.0, 3.0], "added").spread([1.5, 2.2, 3.9])
        assert spread.median == pytest.approx(0.5)

    @pytest.mark.parametrize(
        ("value", "shown"),
        [(36_812.4, "36,812"), (123.4, "123"), (12.34, "12.3"), (1.234, "1.23"), (0.0234, "0.023")],
    )
    def test_numbers_show_what_matters(self, value: float, shown: str) -> None:
        assert number(value) == shown

    def test_a_row_tells_its_comparison(self) -> None:
        versus = Versus("nginx", (20_000.0, 20_000.0))
        row = Row("relay", "req/s", "gateway", "/s", (10_000.0, 11_000.0), versus, ">= 0.5x nginx")
        assert row.cells()[3:] == (
            "10,500 /s (10,000-11,000)",
            "0.53x nginx (0.50-0.55)",
            ">= 0.5x nginx",
        )


class TestTable:
    ROWS = (
        Row("relay", "req/s", "upstream", "/s", (40_000.0,)),
        Row("relay", "req/s", "gateway", "/s", (9_000.0,), Versus("upstream", (40_000.0,))),
        Row("idle", "memory", "manager", "MB", (77.0,), target="<= 120 MB"),
    )

    def test_columns_are_aligned_and_repetitions_left_out(self) -> None:
        head, rule, first, second, third = table(self.ROWS).splitlines()
        assert head.split("  ")[0] == HEADINGS[0]
        assert set(rule) == {"-", " "}
        assert first.startswith("relay  req/s")
        assert second.startswith("               gateway")
        assert second.endswith("0.23x upstream")
        assert third.startswith("idle   memory")
        assert third.endswith("<= 120 MB")

    def test_the_file_holds_every_sample(self, tmp_path: Path) -> None:
        report = Report({"cores": 2}, {"rounds": 1}, list(self.ROWS), ["a note"])
        data = json.loads(report.write(tmp_path / "results").read_text())
        assert data["rows"][1]["samples"] == [9000.0]
        assert data["rows"][1]["versus"]["median"] == 0.225
        assert data["notes"] == ["a note"]
        assert report.as_dict(datetime(2030, 1, 2, tzinfo=UTC))["date"].startswith("2030-01-02")


class TestWrk:
    def test_its_output_is_understood(self) -> None:
        outcome = wrk.parse(WRK_OUTPUT)
        assert outcome.per_second == pytest.approx(39_156)
        assert outcome.median_seconds == pytest.approx(793e-6)

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

    def test_no_target_without_the_rival(self) -> None:
        row = Samples({"gateway": (1.0,)}).row(("s", "f"), "gateway", "", "nginx", target="0.5x")
        assert (row.versus, row.target) == (None, "")


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
    assert engines.get(engine.NAME).probe().usable


@pytest.mark.e2e
def test_a_short_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = set(psutil.Process().children(recursive=True))
    arguments = ["--only", "relay", "--seconds", "0.3", "--rounds", "1", "--out", str(tmp_path)]
    assert cli.main(arguments) == 0
    [file] = tmp_path.glob("*.json")
    rows = json.loads(file.read_text())["rows"]
    measured = {(row["figure"], row["system"]) for row in rows}
    for figure in (relay.REQUESTS, relay.MEDIAN, relay.STREAM):
        assert {(figure, relay.UPSTREAM), (figure, relay.GATEWAY), (figure, relay.FRONT)} < measured
    assert all(row["median"] > 0 for row in rows)
    assert (
        ">= 0.5x nginx" in capsys.readouterr().out or (relay.REQUESTS, relay.NGINX) not in measured
    )
    assert set(psutil.Process().children(recursive=True)) == before


def test_a_wrong_answer_is_no_figure() -> None:
    with pytest.raises(BenchError):
        load.run(1, b"{}", 1, 0.1)
