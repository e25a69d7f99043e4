"""PURE. Rules: ours, and those of the configuration in addition or in their place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import MappingProxyType

SEVERITIES = ("info", "warning", "critical")


@dataclass(frozen=True)
class Rule:
    """When there is an alert: while ``signal`` is above ``above``.

    Attributes:
        window_seconds: how far back signals look that are about a time.
        min_count: of requests and the like in the window; with fewer nothing is concluded.
        for_seconds: it is pending so long before it fires.
        keep_firing_for_seconds: it fires on for so long after it was last seen.
        models: patterns of the ids of models that it is about; empty: of all.
        summary: what it means, a sentence.
    """

    name: str
    signal: str
    above: float
    window_seconds: float = 300.0
    min_count: int = 1
    for_seconds: float = 60.0
    keep_firing_for_seconds: float = 300.0
    severity: str = "warning"
    models: tuple[str, ...] = ()
    summary: str = ""

    def is_about(self, model_id: str) -> bool:
        """Is that one of its models?"""
        return not self.models or any(fnmatchcase(model_id, each) for each in self.models)


def _named(*rules: Rule) -> Mapping[str, Rule]:
    return MappingProxyType({rule.name: rule for rule in rules})


# Thresholds are such that a pool which only is slow by nature, loads large models and has a failure
# now and then stays quiet: a day of that is a test.
BUILT_IN = _named(
    Rule(
        "HighErrorRate",
        "error_rate",
        0.1,
        min_count=20,
        severity="critical",
        summary="More than one request in ten fails.",
    ),
    Rule(
        "SlowRequests",
        "latency_p95",
        120,
        window_seconds=600,
        min_count=20,
        for_seconds=120,
        keep_firing_for_seconds=600,
        summary="One request in twenty takes very long at its worker.",
    ),
    Rule(
        "SlowFirstToken",
        "first_token_p95",
        15,
        min_count=20,
        for_seconds=120,
        summary="One stream in twenty begins very late.",
    ),
    Rule(
        "BrokenStreams",
        "broken_share",
        0.1,
        min_count=20,
        summary="Answers break off in their middle.",
    ),
    Rule(
        "EmptyAnswers",
        "empty_share",
        0.2,
        min_count=20,
        for_seconds=120,
        summary="The model answers nothing: the prompt template, stop texts or limits of its"
        " clients may be wrong.",
    ),
    Rule(
        "RequestsWait",
        "waiting_seconds",
        180,
        for_seconds=0,
        summary="Requests wait for minutes, for a load or for a place.",
    ),
    Rule(
        "LongQueue",
        "waiting",
        100,
        for_seconds=120,
        summary="More requests come than are answered.",
    ),
    Rule(
        "CrashLoop",
        "failures",
        2,
        window_seconds=900,
        for_seconds=0,
        keep_firing_for_seconds=900,
        severity="critical",
        summary="The model fails over and over.",
    ),
    Rule(
        "ModelFailed",
        "failed",
        0,
        for_seconds=300,
        keep_firing_for_seconds=60,
        summary="The model has failed and is not back.",
    ),
    Rule(
        "BreakerOpen",
        "breaker_open",
        0,
        for_seconds=120,
        summary="A worker or a server elsewhere fails, and is not asked for now.",
    ),
    Rule(
        "EvictionsThrash",
        "evictions",
        10,
        window_seconds=600,
        keep_firing_for_seconds=600,
        summary="Models evict each other: more is asked for at once than fits.",
    ),
    Rule(
        "MemoryPressure",
        "memory_pressure",
        0,
        for_seconds=300,
        severity="critical",
        summary="The host is short of memory although idle models were evicted.",
    ),
)
