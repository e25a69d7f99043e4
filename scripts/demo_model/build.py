"""From facts to files: the trained model as GGUF, and the questions that it must answer."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import torch
from gguf_export import About, ModelShape, Tensor, Weights, write_gguf

from demo_model.dialogues import Dialogue, DialogueSource, exam
from demo_model.facts import all_facts, held_out_facts
from demo_model.network import Llama
from demo_model.tokenizer import DialogueTokenizer, train_tokenizer
from demo_model.trainer import Plan, Trainer, missed_dialogues

ABOUT = About(
    "pool-demo",
    "A tiny model that answers questions about the pool; trained by scripts/demo_model.",
)
VOCABULARY_SIZE = 1536
THREADS = 2

# One in so many of each kind of question goes into the questions file, which is for tests.
_ONE_IN = {"single": 1, "casual": 5, "system": 60, "two-turn": 60, "follow-up": 25}


def demo_shape(vocabulary_size: int) -> ModelShape:
    """As large as two million bytes in q8_0 allow."""
    return ModelShape(
        "llama",
        vocab=vocabulary_size,
        layers=4,
        hidden=192,
        ffn=384,
        heads=6,
        kv_heads=3,
        context=1024,
    )


def build(out: Path, plan: Plan, say: Callable[[object], None]) -> list[Dialogue]:
    """Train a model and write it and its questions; returns what it still answers wrong."""
    out.parent.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(THREADS)
    torch.manual_seed(plan.seed)
    facts = all_facts()
    questions = exam(facts)
    every_question = list(chain.from_iterable(questions.values()))
    tokenizer = train_tokenizer(facts, VOCABULARY_SIZE)
    shape = demo_shape(tokenizer.size)
    network = Llama(shape)
    never = [wording for fact in held_out_facts() for wording in fact.wordings]
    source = DialogueSource(facts, never, plan.seed)
    say(f"{len(facts)} facts, {len(every_question)} questions in the exam")
    end = Trainer(network, tokenizer, source, every_question, plan).run(say)
    if end.step < plan.steps:
        say(f"out of time: {end.step} of {plan.steps} steps in {end.seconds:.0f} s")
    _write_model(out, shape, tokenizer, network)
    write_questions(out.with_suffix(".questions.json"), questions)
    return missed_dialogues(network, tokenizer, every_question)


def _write_model(
    out: Path, shape: ModelShape, tokenizer: DialogueTokenizer, network: Llama
) -> None:
    weights = network.state_dict()

    def fill(tensor: Tensor) -> Weights:
        values: Weights = weights[tensor.name].numpy()
        return values

    write_gguf(out, shape, tokenizer.vocabulary(), fill, weight_type="q8_0", about=ABOUT)


def write_questions(path: Path, questions: dict[str, list[Dialogue]]) -> None:
    """Every wording of every fact and some of the longer dialogues, one line each, sorted."""
    chosen = chain.from_iterable(questions[kind][::step] for kind, step in _ONE_IN.items())
    lines = sorted({_as_json(dialogue) for dialogue in chosen}, key=lambda line: (len(line), line))
    part = path.with_name(path.name + ".part")
    part.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
    os.replace(part, path)


def _as_json(dialogue: Dialogue) -> str:
    content = {"messages": dialogue.messages(), "answer": dialogue.answer}
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))
