"""What may be asked of a job in which state, and which of those that wait begin."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool.jobs.job import (
    ALLOWED,
    KEPT_LINES,
    Action,
    Job,
    JobState,
    Lane,
    Progress,
    next_to_run,
)

LANES = {"pull": Lane("network", 2), "copy": Lane("network", 2), "tune": Lane("measure")}
JOBS = st.lists(
    st.builds(
        lambda kind, state: (kind, state),
        st.sampled_from([*LANES, "strange"]),
        st.sampled_from([JobState.QUEUED, JobState.RUNNING, JobState.PAUSED]),
    ),
    max_size=12,
)


@pytest.mark.parametrize("state", JobState)
def test_each_state_can_be_left_or_forgotten(state: JobState) -> None:
    possible = {action for action, states in ALLOWED.items() if state in states}
    assert possible
    assert (Action.REMOVE in possible) == state.is_over
    assert (Action.CANCEL in possible) == (not state.is_over)
    assert not (state.is_active and Action.RESUME in possible)


def test_what_has_succeeded_is_not_done_again() -> None:
    assert JobState.SUCCEEDED not in ALLOWED[Action.RESUME]


@given(JOBS)
def test_a_lane_is_never_too_full_and_never_idle_beside_a_queue(
    found: list[tuple[str, JobState]],
) -> None:
    jobs = [Job(str(i), kind, "x", state=state) for i, (kind, state) in enumerate(found)]
    begun = list(next_to_run(jobs, LANES))
    assert all(job.state is JobState.QUEUED for job in begun)
    for lane in set(LANES.values()):
        of_lane = [j for j in jobs if j.kind in LANES and LANES[j.kind] == lane]
        running = [j for j in of_lane if j.state is JobState.RUNNING]
        queued = [j for j in of_lane if j.state is JobState.QUEUED]
        ours = [j for j in begun if LANES[j.kind] == lane]
        room = max(0, lane.at_once - len(running))
        assert ours == queued[:room]


def test_a_job_is_written_and_read_as_it_was() -> None:
    job = Job("pull-1", "pull", "hf:a/b", {"quant": "Q4"}, progress=Progress(1, 2, "bytes", "x"))
    job = job.queued("again").running(5.0).logged(6.0, "hello").paused("by hand")
    again = Job.from_dict(json.loads(json.dumps(job.as_dict() | {"of_a_later_version": 1})))
    assert again == job
    assert str(again) == "pull-1 (pull hf:a/b, paused)"


def test_a_log_has_bounds() -> None:
    job = Job("j", "k", "s")
    for i in range(KEPT_LINES + 5):
        job = job.logged(0.0, f"{i} " + "x" * 10_000)
    assert len(job.log) == KEPT_LINES
    assert job.log[0].text.startswith("5 ")
    assert max(len(line.text) for line in job.log) <= 500
