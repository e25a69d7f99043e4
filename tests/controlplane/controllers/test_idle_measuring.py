"""What is measured while nobody is at work, and when."""

from __future__ import annotations

from typing import Any

import pytest
from modelpool.controllers.idle_measuring import AGAIN_SECONDS, Candidate, Wish, next_job

BOTH = Wish(True, "many-streams", 600.0)
NEW, DONE = Candidate("new", False, False), Candidate("done", True, True)
QUIET: dict[str, Any] = {"idle_seconds": 601.0, "host_load": 0.1, "tried": {}, "now": 9000.0}


@pytest.mark.parametrize(
    ("wish", "candidates", "changed", "job"),
    [
        (BOTH, [], {}, None),
        (BOTH, [DONE], {}, None),
        (BOTH, [DONE, NEW], {}, ("tune", "new")),
        (Wish(True, "", 600.0), [NEW], {}, ("profile", "new")),
        (Wish(False, "", 600.0), [NEW], {}, None),
        (BOTH, [Candidate("m", False, True)], {}, ("profile", "m")),
        (BOTH, [NEW], {"idle_seconds": 599.0}, None),
        (BOTH, [NEW], {"host_load": 0.3}, None),
        (BOTH, [NEW], {"tried": {("tune", "new"): 8999.0}}, ("profile", "new")),
        (BOTH, [NEW], {"tried": {("tune", "new"): 9000.0 - AGAIN_SECONDS}}, ("tune", "new")),
        (
            BOTH,
            [NEW],
            {"tried": dict.fromkeys([("tune", "new"), ("profile", "new")], 8999.0)},
            None,
        ),
    ],
)
def test_what_is_next(
    wish: Wish,
    candidates: list[Candidate],
    changed: dict[str, Any],
    job: tuple[str, str] | None,
) -> None:
    assert next_job(wish, candidates, **{**QUIET, **changed}) == job
