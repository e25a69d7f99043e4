"""A few rounds of each engine that there is here; ``make rounds`` makes fifty."""

from __future__ import annotations

import pytest

from chaos.rounds import TRIALS, Round, faults, try_engine

FEW = 3
# Those whose libraries are quick to import; of the others their own tests make some.
QUICK = ("fake", "llama.cpp", "espeak-ng", "pocketsphinx", "onnx", "onnx, vectors", "mlx")


def made(*mbs: float, zombies: int = 0, descriptors: int = 20) -> list[Round]:
    return [Round(mb, mb, zombies, 20 if i < 2 else descriptors, 60) for i, mb in enumerate(mbs)]


@pytest.mark.parametrize(
    ("rounds", "words"),
    [
        (made(120, 100, 101, 100, 102), []),
        (made(100, 100, 110, 120, 130), ["the worker takes 130 MB at the end, 100 at the begin"]),
        (made(100, 100, 100, zombies=2), ["2 zombies"]),
        (made(100, 100, 100, descriptors=23), ["descriptors 20 → 23"]),
        (made(100, 100, 100, descriptors=22), []),
    ],
)
def test_what_is_wrong_with_rounds(rounds: list[Round], words: list[str]) -> None:
    assert faults(rounds) == words


@pytest.mark.slow
@pytest.mark.timeout(900)  # some are converted first
@pytest.mark.parametrize("name", QUICK)
def test_all_of_an_engines_memory_is_back(name: str) -> None:
    assert name in TRIALS
    assert faults(try_engine(name, FEW)) == []
