"""Peers that serve several models as the pool does, where they are installed.

A peer is a module of this folder that has the functions of ``contract.PeerKind``, named here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from bench import names
from bench.model import BenchModel
from bench.peers import llama_cpp_python, llama_server, router
from bench.peers.contract import Peer, PeerKind
from bench.stage import Stage

PEERS: Mapping[str, PeerKind] = {
    names.NATIVE_BARE: llama_server,
    names.ROUTER: router,
    names.LLAMA_CPP_PYTHON: llama_cpp_python,
}


def installed(stage: Stage) -> dict[str, Callable[[BenchModel], Peer]]:
    """What starts each peer that is there, by its name; of the others a note is left."""
    found: dict[str, Callable[[BenchModel], Peer]] = {}
    for name, kind in PEERS.items():
        reason = kind.missing()
        if reason:
            stage.note(f"{name}: {reason}")
        else:
            found[name] = partial(kind.start, stage)
    return found
