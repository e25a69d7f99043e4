"""What a peer is asked to do."""

from __future__ import annotations

from typing import Protocol

from bench.model import BenchModel
from bench.stage import Stage

# The two models that every peer is to serve, of the same file.
A, B = "bench-a", "bench-b"
# Of an answer whose first is waited for.
TOKENS = 4
# As in use, all has been at rest for some time before a model is wanted. What was just loaded may
# be no victim yet, a pool makes a spare worker a second after a start, and the host of a virtual
# machine takes back memory that is free, which costs time to have again: alike for everybody.
PAUSE_SECONDS = 2.0


class Peer(Protocol):
    """One that is running. A context: whatever it started is ended with it."""

    def __enter__(self) -> Peer: ...

    def __exit__(self, *_: object) -> None: ...

    def first_token(self) -> float:
        """Seconds to A's first token with no model loaded, ``PAUSE_SECONDS`` after whatever was."""

    def swap(self) -> float:
        """Seconds to A's first token while B is loaded, which has to leave and has answered
        ``PAUSE_SECONDS`` before."""


class PeerKind(Protocol):
    """A module of a peer."""

    def missing(self) -> str:
        """Why it cannot take part, and what would help; nothing if it can."""

    def start(self, stage: Stage, model: BenchModel) -> Peer:
        """Start one that serves A and B, both from the model's file.

        Raises:
            BenchError: it did not start.
        """
