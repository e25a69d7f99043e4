"""When facts are posted and when a worker gives its manager up, on a clock of our own."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from modelpool_client.wire import FactsReply, Phase
from modelpool_worker.heartbeat import FIRST_SECONDS, Contact, PostPolicy, Verdict


def posted(policy: PostPolicy, now: float, phase: Phase | None = None) -> None:
    policy.begin(now, jitter=0)
    if phase:
        policy.acknowledged(phase)
    else:
        policy.failed(now)


def settled(now: float = 0.0) -> PostPolicy:
    policy = PostPolicy(10)
    policy.phase_is(Phase.READY)
    posted(policy, now, Phase.READY)
    return policy


def test_the_first_post_is_due_at_once_and_the_next_with_the_beat() -> None:
    policy = PostPolicy(10)
    policy.phase_is(Phase.LOADING)
    assert policy.due() == -math.inf
    posted(policy, 100, Phase.LOADING)
    assert policy.due() == 110


def test_that_it_loads_is_told_a_moment_later_and_what_follows_at_once() -> None:
    """Who has started it knows, and the processor is for the load."""
    policy = PostPolicy(10)
    policy.begins(100)
    assert policy.due() == 100 + FIRST_SECONDS
    policy.phase_is(Phase.READY)
    assert policy.due() == -math.inf
    posted(policy, 100.01, Phase.READY)
    assert policy.due() == 110.01


def test_who_waits_for_an_answer_has_one_posted_soon() -> None:
    """Four a second, whoever asks for what there is not."""
    policy = settled()
    policy.wanted()
    assert policy.due() == 0.25
    policy.wanted()
    posted(policy, 3, Phase.READY)
    assert policy.due() == 13
    policy.begin(5, jitter=0)
    policy.wanted()  # during that post: another one follows
    policy.acknowledged(Phase.READY)
    assert policy.due() == 5.25


def test_jitter_is_ten_percent_at_most() -> None:
    policy = settled()
    policy.begin(0, jitter=1)
    assert policy.due() == 11
    policy.begin(0, jitter=-1)
    assert policy.due() == 9


def test_a_phase_goes_out_at_once_and_every_second_until_acknowledged() -> None:
    policy = settled()
    policy.phase_is(Phase.DRAINING)
    assert policy.due() == -math.inf
    posted(policy, 3)
    assert policy.due() == 4
    posted(policy, 4)
    assert policy.due() == 5
    posted(policy, 5, Phase.DRAINING)
    assert policy.due() == 15


def test_a_phase_that_changes_during_a_post_is_not_taken_for_acknowledged() -> None:
    policy = settled()
    policy.begin(3, jitter=0)
    policy.phase_is(Phase.DRAINING)
    policy.acknowledged(Phase.READY)
    assert policy.due() == -math.inf


def test_activity_goes_out_at_once_but_once_a_second() -> None:
    policy = settled(0)
    policy.activity_changed()
    assert policy.due() <= 1
    posted(policy, 1, Phase.READY)
    policy.activity_changed()
    assert policy.due() == 2
    posted(policy, 2, Phase.READY)
    assert policy.due() == 12


def test_activity_during_a_post_is_not_lost() -> None:
    policy = settled()
    policy.activity_changed()
    policy.begin(1, jitter=0)
    policy.activity_changed()
    policy.acknowledged(Phase.READY)
    assert policy.due() == 2


def test_a_beat_does_not_delay_the_next_activity() -> None:
    policy = settled(0)
    posted(policy, 10, Phase.READY)
    policy.activity_changed()
    assert policy.due() <= 10


def test_progress_goes_out_four_times_a_second() -> None:
    policy = settled(0)
    policy.progress_changed()
    posted(policy, 5, Phase.READY)
    policy.progress_changed()
    assert policy.due() == 5.25


def test_a_failed_beat_waits_for_the_next() -> None:
    policy = settled(0)
    policy.activity_changed()
    posted(policy, 5)
    assert policy.due() == 15


KNOWN = FactsReply(True, "mine", 60)


IDLE = 1e6


def contact(lease: float | None = 60) -> Contact:
    return Contact("mine", lease, orphan_seconds=100, last_answer=0)


def test_replies() -> None:
    assert contact().hear(1, KNOWN, IDLE) is Verdict.STAY
    assert contact().hear(1, FactsReply(False, "mine"), IDLE) is Verdict.DISMISSED
    assert contact().hear(1, FactsReply(False, "stranger"), IDLE) is Verdict.STAY
    assert contact().hear(1, None, IDLE) is Verdict.STAY


def test_an_orphan_leaves_when_lease_and_patience_are_over() -> None:
    c = contact()
    assert c.hear(159.9, None, IDLE) is Verdict.STAY
    assert c.hear(160, None, IDLE) is Verdict.ORPHANED
    assert c.hear(160, FactsReply(False, "stranger"), IDLE) is Verdict.ORPHANED


def test_every_answer_renews_the_lease_as_told() -> None:
    c = contact()
    c.hear(50, FactsReply(True, "mine", 30), IDLE)
    assert c.deadline == 180


def test_a_lease_without_end_holds_under_a_manager_only() -> None:
    c = contact(None)
    assert c.hear(60, FactsReply(True, "mine", None), IDLE) is Verdict.STAY
    assert c.hear(159.9, None, IDLE) is Verdict.STAY
    assert c.hear(160, None, IDLE) is Verdict.ORPHANED


def test_use_without_a_manager_renews_the_lease_by_its_ttl() -> None:
    c = Contact("mine", 60, orphan_seconds=100, last_answer=0, ttl_seconds=60)
    assert c.hear(500, None, 0.0) is Verdict.STAY
    assert c.deadline == 660
    assert c.hear(659, None, 159) is Verdict.STAY
    assert c.hear(661, None, 161) is Verdict.ORPHANED


@given(st.lists(st.tuples(st.floats(0.01, 500), st.booleans()), max_size=20))
def test_a_worker_that_is_answered_in_time_never_leaves(steps: list[tuple[float, bool]]) -> None:
    c, now = contact(), 0.0
    for seconds, answered in steps:
        now += seconds
        late = now >= c.deadline
        verdict = c.hear(now, KNOWN if answered else None, IDLE)
        assert verdict is (Verdict.ORPHANED if late and not answered else Verdict.STAY)
