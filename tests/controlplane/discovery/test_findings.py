"""What was found, as a later manager has it."""

from __future__ import annotations

import json

import pytest
from modelpool.discovery.findings import Finding, Findings

A = Finding("/m/a.gguf", "/m", "model", "gguf", other_names=("a",), info_text="{}")
B = Finding("/m/b.gguf", "/m", "broken", "gguf", problem="is empty")


def texts(*findings: Finding) -> dict[str, str]:
    return {finding.path: json.dumps(finding.as_dict()) for finding in findings}


def test_what_was_written_down_is_read_when_it_is_asked_for() -> None:
    found = Findings({**texts(A), "/m/later": "no JSON: nobody looks"})
    assert (len(found), A.path in found, "/m/x" in found) == (2, True, False)
    assert found[A.path] == A
    assert found[A.path] is found[A.path]
    with pytest.raises(KeyError):
        found["/m/x"]


def test_they_come_and_go() -> None:
    found = Findings(texts(A))
    found.put({B.path: B})
    assert dict(found) == {A.path: A, B.path: B}
    found.drop(A.path)
    assert list(found.values()) == [B]
    assert len(Findings()) == 0
