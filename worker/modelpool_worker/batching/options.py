"""PURE. The load options of every engine that batches here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelpool_client.surfaces.schema import Schema

from .policies import POLICIES, Limits, Policy

OPTIONS: Mapping[str, Schema] = {
    "batch_policy": {
        "type": "string",
        "enum": list(POLICIES),
        "default": "dynamic",
        "description": "which requests are computed together: greedy takes those that are there, "
        "fixed waits for a full batch, dynamic waits while that pays, latency keeps to a target",
    },
    "max_batch_size": {
        "type": "integer",
        "minimum": 1,
        "maximum": 4096,
        "default": 32,
        "description": "items of one batch: texts, pairs, samples",
    },
    "batch_wait_ms": {
        "type": "number",
        "minimum": 0,
        "maximum": 60000,
        "default": 5,
        "description": "how long one waits for others while nothing is computed, at most",
    },
    "batch_target_p95_ms": {
        "type": "number",
        "minimum": 1,
        "maximum": 600000,
        "default": 200,
        "description": "with the policy latency: in which 95 of 100 are to be answered",
    },
}


def limits_of(options: Mapping[str, Any]) -> Limits:
    """Of load options that were checked."""
    known = {name: options.get(name, schema["default"]) for name, schema in OPTIONS.items()}
    return Limits(
        most=known["max_batch_size"],
        wait=known["batch_wait_ms"] / 1000,
        target=known["batch_target_p95_ms"] / 1000,
    )


def policy_of(options: Mapping[str, Any]) -> Policy:
    """The one that they name."""
    name = options.get("batch_policy", OPTIONS["batch_policy"]["default"])
    return POLICIES[name](limits_of(options))
