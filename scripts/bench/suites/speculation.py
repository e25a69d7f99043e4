"""What speculation gains: tokens a second of one stream, with something that proposes and without.

The model does the work of 24 layers and says what its first two say, which are the draft model:
every proposal is right, and the figure is the most that a draft of a twelfth of the work can gain
here. A text drawn at random is the other end: next to no proposal is right. In between there is one
that repeats itself, as far as the text so far is concerned.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from bench import load
from bench import names as n
from bench.figures import BenchError, Row
from bench.messages import Ask, token_body
from bench.model import BenchModel, prepare_draft, prepare_drafted
from bench.pool import BenchPool
from bench.stage import Against, Stage

TOKENS = 192
OPTIONS = {"context_length": 1024, "parallel": 1}
# A grammar is what makes random weights say the same again; in digits, for those are tokens by
# themselves, so that there is only one way to say it.
WORDS = "31415926535897932384"
TEXTS: Mapping[str, Mapping[str, Any]] = {
    n.REPEATED: {"grammar": f'root ::= ("{WORDS}")+'},
    n.FORESEEN: {"temperature": 0},
    n.RANDOM: {"temperature": 2.0},
}
KINDS: Mapping[str, Mapping[str, Any]] = {
    n.NO_SPECULATION: {},
    n.NGRAM_MAP_K: {"spec_type": "ngram-map-k", "draft_max": 16},
    n.NGRAM_MOD: {"spec_type": "ngram-mod", "draft_min": 8, "draft_max": 16},
    n.DRAFTED: {},
}


def run(stage: Stage) -> Iterator[Row]:
    """One text after the other, all kinds in every round.

    Raises:
        BenchError: something is missing, did not start, or answered wrongly.
    """
    model, draft = prepare_drafted(stage), prepare_draft(stage)
    with ExitStack() as stack:
        ports = _start(stage, stack, model, draft.path)
        for text, how in TEXTS.items():
            systems = {
                kind: partial(_rate, f"m{number}", port, how, itertools.count(1))
                for number, (kind, port) in enumerate(ports.items())
            }
            samples = stage.paired(text, systems)
            for kind in systems:
                is_plain = kind == n.NO_SPECULATION
                against: list[Against] = [] if is_plain else [(n.NO_SPECULATION, "ratio")]
                yield samples.row((n.SPECULATION, text), kind, "/s", against, ours=not is_plain)


def _start(stage: Stage, stack: ExitStack, model: BenchModel, draft: Path) -> Mapping[str, int]:
    entries = []
    for number, (kind, options) in enumerate(KINDS.items()):
        more = {**options, "draft_model": str(draft)} if kind == n.DRAFTED else options
        entry = {**model.entry(f"m{number}"), "coalesce": "off"}
        entries.append({**entry, "options": {**OPTIONS, **more}})
    pool = stack.enter_context(BenchPool(stage.folder, "speculation", entries))
    return {kind: pool.load(f"m{number}") for number, kind in enumerate(KINDS)}


def _rate(model_id: str, port: int, how: Mapping[str, Any], turn: Iterator[int]) -> float:
    # Another one each time: ngram-mod remembers what it has answered, to anybody.
    number = next(turn)
    asked = {"messages": [{"role": "user", "content": f"{number} " * 20}], "seed": number, **how}
    outcome = load.run(port, Ask(token_body(model_id, TOKENS, **asked)), 1, 0)
    if outcome.tokens != TOKENS:
        raise BenchError(f"the engine stopped by itself: {outcome.tokens} of {TOKENS} tokens")
    return outcome.tokens_per_second
