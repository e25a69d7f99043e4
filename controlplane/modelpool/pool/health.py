"""PURE: when a worker deserves a look, and what a look says of it.

A look costs a request, so it is taken on suspicion only: beats that were missed, or work in flight
without progress. Times are seconds of the pool's clock.
"""

from __future__ import annotations

from dataclasses import dataclass

from modelpool_client.wire import Facts, Phase, ProbeReply, ProbeRequest

MISSED_BEATS = 3
# A worker that is asked something while it works on much may well need a moment.
ANSWER_SECONDS = 5.0
PROBE_SECONDS = 10.0
# An engine that computes but gives nothing may be at a very long prompt.
PATIENCE_WITH_BUSY = 10
# Less of a processor than this is no computing: an idle server wakes up now and then.
BUSY_SHARE = 0.05


@dataclass(frozen=True)
class Vitals:
    """What is known of a worker: when it was last heard, the beat it was told, when its engine
    last made progress while it had work (None: it has none)."""

    heard_at: float
    beat_seconds: float
    progress_at: float | None = None

    def due(self, hang_seconds: float) -> float:
        """When to take a look, unless it is heard of before."""
        silent = self.heard_at + MISSED_BEATS * self.beat_seconds
        if self.progress_at is None:
            return silent
        return min(silent, self.progress_at + hang_seconds)


@dataclass(frozen=True)
class Look:
    """What a look found. No facts: the front did not answer. No probe: none was needed."""

    facts: Facts | None
    probe: ProbeReply | None = None


def probe_request(hang_seconds: float) -> ProbeRequest:
    """One token; an engine that gives it but is long silent on a request has forgotten that one."""
    return ProbeRequest(PROBE_SECONDS, PATIENCE_WITH_BUSY * hang_seconds)


def wants_probe(facts: Facts, hang_seconds: float) -> bool:
    """It has work and its engine has given nothing for so long that it must be asked."""
    is_serving = facts.phase is Phase.READY
    return is_serving and facts.in_flight > 0 and facts.progress_seconds >= hang_seconds


def diagnosis(look: Look, hang_seconds: float) -> str:
    """Why the worker must be replaced, in words; empty if it is well, or may be."""
    if look.facts is None:
        return "the worker does not answer when asked how it is: it hangs"
    probe = look.probe
    if probe is None or probe.answered:
        return ""
    without = probe.facts.progress_seconds
    if probe.facts.phase is not Phase.READY:
        return ""  # it has noticed something itself, and ends
    work = f"no progress for {without:.0f} s with {probe.facts.in_flight} requests in flight"
    if _computes(probe) and without < PATIENCE_WITH_BUSY * hang_seconds:
        return ""
    how = "computes but gives" if _computes(probe) else "uses no processor time and gives"
    return f"the engine hangs: {work}; it {how} no token ({probe.message})"


def _computes(probe: ProbeReply) -> bool:
    return probe.cpu_seconds is not None and probe.cpu_seconds > BUSY_SHARE * probe.seconds
