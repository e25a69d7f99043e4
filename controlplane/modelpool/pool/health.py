"""PURE: when the health of a worker is checked, and what a check says of it.

A check costs a request, so it is made on suspicion only: beats that were missed, or work without
progress. Times are seconds of the pool's clock.
"""

from __future__ import annotations

from dataclasses import dataclass

from modelpool_client.wire import Facts, Phase, ProbeReply, ProbeRequest

MISSED_BEATS = 3
# A worker that is asked something while it works on much may well need a moment.
ANSWER_SECONDS = 5.0
PROBE_SECONDS = 10.0
# An engine that computes but gives nothing may be at a very long prompt.
BUSY_FACTOR = 10
# A worker that says that it failed tells its clients and ends; that is over sooner.
FAILED_EXIT_SECONDS = 10.0
# Less of a processor than this is no computing: an idle server wakes up now and then.
BUSY_SHARE = 0.05


@dataclass(frozen=True)
class Liveness:
    """What is known of a worker: when it was last heard, the beat it was told, when its engine
    last made progress on the work that it owes (None: it owes none)."""

    heard_at: float
    beat_seconds: float
    progress_at: float | None = None

    def due(self, hang_seconds: float) -> float:
        """When to check it, unless it is heard of before."""
        silent = self.heard_at + MISSED_BEATS * self.beat_seconds
        if self.progress_at is None:
            return silent
        return min(silent, self.progress_at + hang_seconds)


@dataclass(frozen=True)
class HealthReport:
    """What a check found. No facts: the front did not answer. No probe: none was needed."""

    facts: Facts | None
    probe: ProbeReply | None = None


def probe_request(facts: Facts, hang_seconds: float) -> ProbeRequest:
    """One token; an engine that gives it but is long silent on a request has forgotten that one.

    Before the last word on one that computes, whoever has clients that give up sooner than that
    comes to the probe in its turn, one request at a time as it may take them.
    """
    busy_limit = BUSY_FACTOR * hang_seconds
    is_last = facts.progress_seconds >= busy_limit - hang_seconds
    return ProbeRequest(max(PROBE_SECONDS, hang_seconds) if is_last else PROBE_SECONDS, busy_limit)


def progress_at(facts: Facts, heard_at: float, hang_seconds: float) -> float | None:
    """When the engine last gave something for the work that it owes; None if it owes none.

    A request that alone gets nothing has more time, so it counts as served until later.
    """
    if facts.phase is not Phase.READY or not (facts.in_flight or facts.progress_seconds):
        return None
    alone = facts.silent_seconds - (BUSY_FACTOR - 1) * hang_seconds
    return heard_at - max(facts.progress_seconds, alone)


def wants_probe(facts: Facts, hang_seconds: float) -> bool:
    """It owes work and its engine has given nothing for so long that it must be asked."""
    at = progress_at(facts, 0.0, hang_seconds)
    return at is not None and -at >= hang_seconds


def diagnosis(report: HealthReport, hang_seconds: float) -> str:
    """Why the worker must be replaced, in words; empty if it is well, or may be."""
    if report.facts is None:
        return "the worker does not answer when asked how it is: it hangs"
    probe = report.probe
    if probe is None or probe.answered:
        return ""
    facts, without = probe.facts, probe.facts.progress_seconds
    if facts.phase is not Phase.READY:
        return ""  # it has noticed something itself, and ends
    if without < hang_seconds:
        return ""  # it is busy with others, who are served
    work = f"no progress for {without:.0f} s with {facts.in_flight} requests in flight"
    if probe.cpu_seconds is not None and probe.cpu_seconds <= BUSY_SHARE * probe.seconds:
        how = "uses no processor time and gives"
    # What it computes for nobody may be the long prompt of one who has left.
    elif not facts.in_flight or without < BUSY_FACTOR * hang_seconds:
        return ""
    else:
        how = "may compute but gives" if probe.cpu_seconds is None else "computes but gives"
    return f"the engine hangs: {work}; it {how} no token ({probe.message})"
