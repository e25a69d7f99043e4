"""The script for machines with a GPU: what it thinks of figures, held against a made up machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from check_gpu import verdicts
from check_gpu.__main__ import main
from check_gpu.verdicts import MB, Check
from modelpool_worker.devices import report
from modelpool_worker.devices.amd import Amd
from modelpool_worker.devices.nvidia import Nvidia
from support.devices import FakeNvml, recorded

TWO = recorded("two_gpus")
SEEN = report([Nvidia(FakeNvml(TWO))])


def results(*checks: Check) -> list[str]:
    return [check.result for check in checks]


def test_without_a_gpu_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def nothing() -> dict[str, object]:
        return report([Amd(tmp_path)])

    file = tmp_path / "machine.json"
    assert main(["--record", str(file)], nothing) == 0
    assert main(["--require"], nothing) == 1
    assert (
        "there is no GPU, so nothing is checked: there is no AMD device" in capsys.readouterr().out
    )
    assert json.loads(file.read_text())["devices"] == []


def test_a_record_can_be_read_by_tests() -> None:
    written = json.loads(json.dumps(verdicts.record(SEEN, TWO["nvidia_smi"], [])))
    assert not written["synthetic"]
    again = report([Nvidia(FakeNvml(written))])["devices"]
    assert again == SEEN["devices"]


def test_what_is_seen() -> None:
    assert verdicts.seen(SEEN).result == "ok"
    silent = {"devices": [{**SEEN["devices"][0], "free_bytes": None}], "vendors": []}
    assert verdicts.seen(silent).result == "fail"


@pytest.mark.parametrize(
    ("need", "peak", "result"),
    [
        (1000, 900, "ok"),
        (1000, 1150, "ok"),
        (1000, 1300, "fail"),
        (3000, 900, "fail"),
        (1000, 0, "note"),
    ],
)
def test_an_estimate_is_right_from_both_sides(need: int, peak: int, result: str) -> None:
    (check,) = verdicts.estimated("m", {"cuda:0": need * MB}, {"cuda:0": peak * MB})
    assert check.result == result


def test_memory_where_nothing_was_estimated_is_wrong() -> None:
    assert results(*verdicts.estimated("m", {}, {"cuda:1": 900 * MB})) == ["fail"]


@pytest.mark.parametrize(
    ("wanted", "used", "result"),
    [
        (["cuda:0"], {"cuda:0": 5, "cuda:1": 0}, "ok"),
        (["cuda:0"], {"cuda:0": 5, "cuda:1": 5}, "fail"),
        (["cuda:0"], {"cuda:0": 0}, "note"),
        ([], {"cuda:0": 0}, "ok"),
        ([], {"cuda:0": 5}, "fail"),
    ],
)
def test_who_is_kept_to_devices(wanted: list[str], used: dict[str, int], result: str) -> None:
    assert verdicts.pinned(wanted, used).result == result


def test_what_is_given_back() -> None:
    before = {"cuda:0": 1000 * MB, "cuda:1": 1000 * MB}
    after = {"cuda:0": 900 * MB, "cuda:1": 700 * MB}
    assert results(*verdicts.given_back(before, after)) == ["ok", "fail"]


def test_a_crowded_device() -> None:
    why = "needs 600 MB of cuda:0, but it has 150 MB free …; other programs hold the rest; …"
    assert verdicts.crowded("refuse", why).result == "ok"
    assert verdicts.crowded("start", "").result == "fail"


def test_the_exit_code() -> None:
    ok, bad = Check("a", "ok", ""), Check("a", "fail", "")
    assert verdicts.exit_code([ok, Check("b", "note", "")]) == 0
    assert verdicts.exit_code([ok, bad]) == 1
    assert verdicts.exit_code([verdicts.answered("m", "", 3, 1.0)]) == 1
    assert verdicts.exit_code([verdicts.answered("m", "x", None, 1.0)]) == 0
