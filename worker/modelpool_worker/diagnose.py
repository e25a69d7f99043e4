"""PURE. Why an engine failed, read from its last words; for native code that only logs."""

from __future__ import annotations

import re
from collections.abc import Sequence

from modelpool_client.wire import Failure

_SIGNS = (
    ("unsupported_arch", r"unknown model architecture|unsupported (model )?architecture"),
    ("bad_file", r"invalid magic|not a GGUF|bad magic|gguf_init_from|not within the file bounds"),
    ("bad_file", r"failed to open (GGUF )?file|corrupted or incomplete|tensor .* not found"),
    (
        "bad_file",
        r"error loading model (hyperparameters|vocabulary)|wrong (number|shape) of tensor",
    ),
    (
        "oom",
        r"bad_alloc|out of memory|failed to allocate|unable to allocate|cannot allocate memory",
    ),
    ("oom", r"cudaMalloc failed|MemoryError|alloc.* failed"),
    ("bad_config", r"cache type .* does not divide|requires flash_attn|V cache quantization"),
    ("missing_dependency", r"ModuleNotFoundError|No module named|cannot open shared object"),
)
_REASONS = re.compile("|".join(pattern for _, pattern in _SIGNS), re.IGNORECASE)
# llama.cpp puts the time and the level before each line.
_PREFIX = re.compile(r"^[\d.]+ [A-Z] ")
_ERROR = re.compile(r"^[\d.]+ E |error", re.IGNORECASE)


def code_of(lines: Sequence[str], default: str) -> str:
    """The load code that the lines speak of, the most specific one first."""
    text = "\n".join(lines)
    for code, pattern in _SIGNS:
        if re.search(pattern, text, re.IGNORECASE):
            return code
    return default


def death(exit_code: int, end: str, lines: Sequence[str], *, was_killed: bool) -> Failure:
    """What ended an engine that had been ready; ``end`` is its exit code in words.

    A kill comes from outside, whatever the engine said before.
    """
    text = f"the engine died: {end}"
    if was_killed or code_of(lines, "") != "oom":
        return Failure("engine_died", text, tuple(lines), exit_code)
    return Failure("oom", f"{text}: {reason_of(lines)}", tuple(lines), exit_code)


def reason_of(lines: Sequence[str]) -> str:
    """The first line that says why, without its prefix, or else the first that is an error."""
    known = (line for line in lines if _REASONS.search(line))
    errors = (line for line in lines if _ERROR.search(line))
    return _PREFIX.sub("", next(known, None) or next(errors, "")).strip()
