"""Rows, table, file and page: what is shown of samples, and that it can be read back."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from bench import names as n
from bench import page, report
from bench.charts import Mark, Panel, bars, margins
from bench.figures import BenchError, Conditions, Row, Spread, Versus, number
from bench.report import HEADINGS, Report, table
from hypothesis import given
from hypothesis import strategies as st

POSITIVE = st.floats(1e-3, 1e6)
NGINX = (20_000.0, 20_000.0, 20_200.0)
ROWS = [
    Row(n.RELAY, n.REQUESTS, n.NGINX, "/s", NGINX, ours=False, conditions=Conditions()),
    Row(
        n.RELAY,
        n.REQUESTS,
        n.GATEWAY,
        "/s",
        (14_000.0, 14_000.0, 14_140.0),
        (Versus(n.NGINX, NGINX),),
        conditions=Conditions(0.01, 0.0),
    ),
    Row(n.IDLE, n.RESIDENT_BEATS, n.MANAGER, "MB", (120.0, 120.0, 121.0)),
]
SWAP = Row(
    n.COLD,
    n.SWAP,
    n.NATIVE_GATEWAY,
    "s",
    (1.0, 1.1, 1.05),
    (Versus(n.NATIVE_BARE, (2.0, 2.1, 2.0)), Versus(n.ROUTER, (1.0, 1.1, 1.0))),
)
MACHINE = {"cpu": "a processor", "cores": 2, "packages": {"uvloop": "1"}, "tools": {"nginx": "2"}}


def whole() -> Report:
    return Report(dict(MACHINE), {"rounds": 3, "seconds": 1.0}, [*ROWS, SWAP], ["a note"], "today")


class TestFigures:
    def test_spread_is_the_median_with_its_bounds(self) -> None:
        assert Spread.of([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)

    @pytest.mark.parametrize(
        ("value", "shown"),
        [(36_812.4, "36,812"), (123.4, "123"), (12.34, "12.3"), (1.234, "1.23"), (0.0234, "0.023")],
    )
    def test_numbers_show_what_matters(self, value: float, shown: str) -> None:
        assert number(value) == shown

    @pytest.mark.parametrize(
        ("versus", "text"),
        [
            (Versus("nginx", (2.0, 2.0, 2.0)), "0.50x nginx (0.50-0.50)"),
            (Versus("upstream", (0.8, 0.8, 0.8), "added"), "+0.20 ms upstream (0.20-0.20)"),
        ],
    )
    def test_a_comparison_comes_with_its_interval(self, versus: Versus, text: str) -> None:
        assert versus.text([1.0, 1.0, 1.0], " ms") == text

    def test_one_pair_has_no_interval(self) -> None:
        assert Versus("nginx", (2.0,)).text([1.0], "") == "0.50x nginx"


class TestTable:
    def test_columns_are_aligned_and_repetitions_left_out(self) -> None:
        head, rule, first, second, third = table(ROWS).splitlines()
        assert head.split("  ")[0] == HEADINGS[0]
        assert set(rule) == {"-", " "}
        assert first.startswith(f"relay  {n.REQUESTS}")
        assert second.strip().startswith("gateway")
        assert third.startswith("idle   resident memory")

    def test_the_comparison_comes_before_what_it_is(self) -> None:
        line = table(ROWS).splitlines()[3]
        assert line.index("x nginx") < line.index("14,000 /s")

    def test_verdicts_stand_beside_the_targets(self) -> None:
        lines = table(ROWS).splitlines()
        assert re.search(r">= 0.6x nginx +met$", lines[3])
        assert re.search(r"<= 100 MB +not met$", lines[4])

    def test_several_rivals_have_a_line_each(self) -> None:
        bare, router = table([SWAP]).splitlines()[2:]
        assert "x bare llama-server" in bare
        assert bare.endswith("met")
        assert router.strip().startswith("1.0")
        assert "the interval" in router


class TestFile:
    def test_what_is_written_can_be_read(self, tmp_path: Path) -> None:
        mine = whole()
        again = report.read(report.write(mine, tmp_path / "results"))
        assert again == mine

    def test_it_says_the_verdicts(self) -> None:
        rows = whole().as_dict()["rows"]
        assert rows[1]["targets"] == [{"target": ">= 0.6x nginx", "verdict": "met"}]
        assert rows[1]["versus"][0]["estimate"] == pytest.approx(0.7)

    def test_a_single_round_is_plain_json(self) -> None:
        row = Row("s", "f", "x", "/s", (1.0,), (Versus("y", (2.0,)),))
        text = json.dumps(row.as_dict(), allow_nan=False)
        assert json.loads(text)["versus"][0]["high"] is None

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"rows": [{"suite": 1}]}'])
    def test_what_is_none_is_refused(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(BenchError, match="is no result of this benchmark"):
            report.read(tmp_path / "x.json")

    def test_noise_makes_a_run_inconclusive(self) -> None:
        assert Report({}, {}, ROWS).is_conclusive
        assert not whole().is_conclusive


class TestPage:
    def test_every_picture_that_is_shown_is_made(self) -> None:
        files = page.render(whole())
        shown = set(re.findall(r"\]\((\w+\.svg)\)", files[page.PAGE]))
        assert shown == {name for name in files if name.endswith(".svg")}
        assert {"relay.svg", "idle.svg", "cold.svg", "targets.svg"} == shown

    def test_every_row_and_verdict_is_told(self) -> None:
        text = page.render(whole())[page.PAGE]
        for expected in (
            "0.70x nginx",
            "not met",
            "too noisy to conclude",
            "a note",
            "a processor",
        ):
            assert expected in text

    def test_the_result_comes_along_to_be_compared_with(self) -> None:
        assert report.report_of(json.loads(page.render(whole())[page.RESULT])) == whole()

    def test_it_holds_no_path_and_no_host_name(self, tmp_path: Path) -> None:
        import socket

        for text in page.render(whole()).values():
            assert socket.gethostname() not in text
            assert str(Path.home()) + "/" not in text

    def test_a_run_without_targets_has_a_page(self) -> None:
        files = page.render(Report({}, {}, [Row("s", "f", "x", "/s", (1.0,))]))
        assert page.PICTURE_OF_TARGETS not in files
        assert "s.svg" in files


MARKS = st.builds(
    lambda values, text: Mark(text, sorted(values)[1], min(values), max(values), text, "ours"),
    st.lists(st.one_of(POSITIVE, st.just(float("inf"))), min_size=3, max_size=3),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20),
)


class TestPictures:
    @given(st.lists(MARKS, min_size=1, max_size=5))
    def test_margins_are_well_formed_and_stay_inside(self, marks: list[Mark]) -> None:
        root = ET.fromstring(margins([Panel("a < b", marks)]))
        width = float(root.attrib["width"])
        circles = root.findall("{*}circle")
        assert len(circles) == len(marks)
        assert all(0 <= float(circle.attrib["cx"]) <= width for circle in circles)

    @given(st.lists(POSITIVE, min_size=1, max_size=5))
    def test_the_longest_bar_is_the_greatest_value(self, values: list[float]) -> None:
        marks = [Mark("x", v, v, v, "", "ours") for v in values]
        rects = ET.fromstring(bars([Panel("t", marks)])).findall("{*}rect[@x]")
        widths = [float(rect.attrib["width"]) for rect in rects]
        assert len(widths) == len(values)
        assert widths[values.index(max(values))] == max(widths)

    def test_nothing_at_all_is_a_picture_too(self) -> None:
        ET.fromstring(bars([Panel("t", [Mark("x", 0.0, 0.0, 0.0, "0", "ours")])]))

    def test_dark_ground_has_colours_of_its_own(self) -> None:
        assert "prefers-color-scheme: dark" in bars([])
