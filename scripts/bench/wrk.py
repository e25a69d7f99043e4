"""wrk, the load generator in C, where it is installed: its command line and its output."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

from bench import load
from bench.figures import BenchError
from bench.load import Outcome
from bench.messages import HOST, Ask
from bench.processes import output_of

INSTALL_HINT = "wrk: not installed, our own client is used; apt-get install wrk"
_POST = 'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\n'
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
# It counts in whole seconds only.
LEAST_SECONDS = 1.0


def is_installed() -> bool:
    """Is it on the path?"""
    return shutil.which("wrk") is not None


def requests(port: int, ask: Ask, connections: int, seconds: float) -> Outcome:
    """A load of whole answers, by wrk where it can be, else by our own client.

    Raises:
        BenchError: an answer was wrong or missing.
    """
    if not is_installed() or seconds < LEAST_SECONDS:
        return load.run(port, ask, connections, seconds)
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "post.lua"
        post = f"{_POST}wrk.body = [==[{ask.body.decode()}]==]\n" if ask.body else ""
        script.write_text(post, encoding="utf-8")
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--latency"]
        text = output_of(
            [*command, "-s", str(script), f"http://{HOST}:{port}{ask.path}"], seconds + 30
        )
    return parse(text)


def parse(text: str) -> Outcome:
    """PURE. What wrk has found.

    Raises:
        BenchError: it is not wrk's output, or tells of errors.
    """
    errors = re.search(r"Socket errors: .*|Non-2xx or 3xx responses: .*", text)
    if errors:
        raise BenchError(f"wrk: {errors[0].strip()}")
    median, slow = _percentile(text, 50), _percentile(text, 99)
    total = re.search(r"^\s*(\d+) requests in ([\d.]+)(us|ms|s|m),", text, re.MULTILINE)
    if median is None or slow is None or total is None:
        raise BenchError(f"wrk: not understood: {text[-300:]!r}")
    answers, seconds = int(total[1]), float(total[2]) * _UNITS[total[3]]
    if answers == 0:
        raise BenchError("wrk: not one answer")
    return Outcome(answers, seconds, median, slow)


def _percentile(text: str, percent: int) -> float | None:
    """In seconds."""
    found = re.search(rf"^\s+{percent}%\s+([\d.]+)(us|ms|s|m)\s*$", text, re.MULTILINE)
    return float(found[1]) * _UNITS[found[2]] if found else None
