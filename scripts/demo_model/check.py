"""Ask a GGUF the whole exam through llama.cpp, as a client would, and count the right answers."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import xllamacpp

from demo_model.dialogues import Dialogue, Turn, exam
from demo_model.facts import UNKNOWN, Fact, all_facts, held_out_facts
from demo_model.made_up import made_up_question

THREADS = 1  # so small a model gains nothing from more
_SLOTS = 4
_SLOT_CONTEXT = 1024  # tokens
_LONGEST_ANSWER = 96  # tokens
_SHOWN = 10
_MADE_UP = 100


def check(path: Path, say: Callable[[object], None]) -> bool:
    """Print right/total for each kind of question; True if all that was trained is right.

    Wordings that were never trained and made-up questions are asked as well, and only reported.
    """
    engine = _start(path)
    facts = all_facts()
    wrong = sum(_wrong_answers(engine, kind, asked, say) for kind, asked in exam(facts).items())
    _wrong_answers(engine, "unseen wordings", list(_held_out()), say)
    _wrong_answers(engine, "made-up questions", list(_made_up(facts)), say)
    return wrong == 0


def _start(path: Path) -> xllamacpp.Server:
    options = xllamacpp.CommonParams()
    options.model.path = str(path)
    options.n_parallel = _SLOTS
    options.n_ctx = _SLOTS * _SLOT_CONTEXT
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = THREADS
    options.warmup = False
    options.cache_ram_mib = 0
    options.verbosity = -1
    return xllamacpp.Server(options)


def _held_out() -> Iterator[Dialogue]:
    for fact in held_out_facts():
        yield from (Dialogue((Turn(wording, fact.answer),)) for wording in fact.wordings)


def _made_up(facts: Sequence[Fact]) -> Iterator[Dialogue]:
    chance = random.Random("check")
    [fallback] = [fact for fact in facts if fact.topic == UNKNOWN]
    for _ in range(_MADE_UP):
        yield Dialogue((Turn(made_up_question(chance), fallback.answer),))


def _wrong_answers(
    engine: xllamacpp.Server, kind: str, asked: Sequence[Dialogue], say: Callable[[object], None]
) -> int:
    with ThreadPoolExecutor(_SLOTS) as pool:
        answers = list(pool.map(lambda dialogue: _answer(engine, dialogue), asked))
    wrong = [(d, said) for d, said in zip(asked, answers, strict=True) if said != d.answer]
    say(f"{kind}: {len(asked) - len(wrong)}/{len(asked)}")
    for dialogue, said in wrong[:_SHOWN]:
        say(f"  {dialogue.turns[-1].question!r}: {said!r} instead of {dialogue.answer!r}")
    return len(wrong)


def _answer(engine: xllamacpp.Server, dialogue: Dialogue) -> str:
    request = {
        "messages": dialogue.messages(),
        "temperature": 0,
        "max_tokens": _LONGEST_ANSWER,
    }
    reply: dict[str, Any] = engine.handle_chat_completions(request)
    if "error" in reply:
        raise RuntimeError(reply["error"])
    return str(reply["choices"][0]["message"]["content"])
