"""PURE: which of several copies takes a request."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

# So many requests more than the least loaded copy has may go to the one that knows the
# conversation: its cache saves the prompt, but not any wait ("consistent hashing with bounded
# loads", Mirrokni, Thorup, Zadimoghaddam 2016, with an absolute bound, for copies are few).
AFFINITY_SLACK = 2


@dataclass(frozen=True)
class Copy:
    """One that serves: its name in the pool and its requests in flight."""

    key: str
    in_flight: int


def choose(copies: Sequence[Copy], affinity: str = "") -> Copy:
    """The one that ``affinity`` has always gone to while it is not much busier than the others;
    else the least loaded, the first of equals, so that the rest can idle out."""
    least = min(copies, key=lambda c: c.in_flight)
    if not affinity or len(copies) == 1:
        return least
    home = max(copies, key=lambda c: _weight(affinity, c.key))
    return home if home.in_flight <= least.in_flight + AFFINITY_SLACK else least


def _weight(affinity: str, key: str) -> bytes:
    """Rendezvous hashing: a copy that comes or goes moves its own conversations only."""
    text = f"{key}\0{affinity}".encode(errors="surrogatepass")
    return hashlib.blake2b(text, digest_size=8).digest()
