"""Peers that serve several models as the pool does, where they are installed.

A peer is a module of this folder that is named here: what makes a ``Peer`` of a stage and a model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from bench import names
from bench.model import BenchModel
from bench.stage import Stage

# The two models that every peer is to serve, of the same file.
A, B = "bench-a", "bench-b"
TOKENS = 4


class Peer(Protocol):
    """One that is installed. A context: whatever it started is ended with it."""

    def __enter__(self) -> Peer: ...

    def __exit__(self, *_: object) -> None: ...

    def first_token(self) -> float:
        """Seconds to the first token with no model loaded."""

    def swap(self) -> float:
        """Seconds to A's first token while B is loaded, which has to leave."""


class PeerKind(Protocol):
    """What is to be known of a peer before it is started."""

    def missing(self) -> str:
        """Why it cannot take part, and what would help; nothing if it can."""

    def start(self, stage: Stage, model: BenchModel) -> Peer: ...


def _kinds() -> dict[str, PeerKind]:
    from bench.peers import llama_cpp_python, router

    return {names.ROUTER: router, names.LLAMA_CPP_PYTHON: llama_cpp_python}


def installed(stage: Stage) -> dict[str, Callable[[BenchModel], Peer]]:
    """What starts each peer that is there, by its name; of the others a note is left."""
    found: dict[str, Callable[[BenchModel], Peer]] = {}
    for name, kind in _kinds().items():
        reason = kind.missing()
        if reason:
            stage.note(f"{name}: {reason}")
        else:
            found[name] = lambda model, kind=kind: kind.start(stage, model)  # type: ignore[misc]
    return found
