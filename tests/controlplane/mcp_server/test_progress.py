"""What is told of a load: numbers that grow, words that are new."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st
from modelpool.mcp_server.progress import MOST_UNTIL_LOADED, WHOLE, Told, news
from modelpool_client.types import ModelView
from modelpool_client.wire import Progress


def view(
    state: str = "WARMING",
    stage: str = "",
    fraction: float | None = None,
    waiting_for: str = "",
    reason: str = "",
) -> ModelView:
    progress = Progress(stage, fraction) if stage else None
    return ModelView("m", state=state, progress=progress, waiting_for=waiting_for, reason=reason)


def test_what_is_told() -> None:
    first = news(view(waiting_for="room"), None)
    assert first is not None
    assert first.message == "m is WARMING: waits for room"
    assert news(view(waiting_for="room"), first) is None
    reading = news(view(stage="reading", fraction=0.5), first)
    assert reading == Told(0.5, "m is WARMING: reading")
    assert news(view(stage="reading", fraction=0.4), reading) is None, "never backwards"
    other = news(view(stage="warming up", fraction=0.2), reading)
    assert other is not None
    assert other.progress > 0.5
    assert news(view("HOT", reason="loaded"), other) == Told(WHOLE, "m is HOT: loaded")


def test_only_what_is_loaded_is_whole() -> None:
    found = news(view(stage="reading", fraction=1.0), None)
    assert found is not None
    assert found.progress == MOST_UNTIL_LOADED < WHOLE


views = st.builds(
    view,
    st.sampled_from(["COLD", "WARMING", "FAILED"]),
    st.sampled_from(["", "reading", "warming up"]),
    st.none() | st.floats(0, 1),
    st.sampled_from(["", "room", "a port"]),
)


@given(st.lists(views, max_size=30))
def test_numbers_grow_and_stay_below_the_whole(seen: list[ModelView]) -> None:
    last, numbers = None, []
    for one in seen:
        found = news(one, last)
        if found is not None:
            numbers.append(found.progress)
            last = found
    assert all(a < b for a, b in itertools.pairwise(numbers))
    assert all(0 < number < WHOLE for number in numbers)
