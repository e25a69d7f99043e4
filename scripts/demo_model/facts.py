"""What the demo model knows: each fact is one answer and the wordings that ask for it.

The files in ``facts/`` hold paragraphs. A plain line is a wording, ``> `` starts the answer, and
``+ `` a follow-up: a question that is only clear right after another fact of the same file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from demo_model import tables

FACTS_FOLDER = Path(__file__).with_name("facts")
UNKNOWN = "unknown"  # the topic of the one fact that answers what the model cannot know
HELD_OUT_FILE = Path(__file__).with_name("held_out.txt")


@dataclass(frozen=True, slots=True)
class Fact:
    """``follow_ups`` ask for the same answer, right after another fact of the same ``topic``."""

    topic: str
    answer: str
    wordings: tuple[str, ...]
    follow_ups: tuple[str, ...] = ()


def all_facts() -> list[Fact]:
    """Everything the model is trained on, in a stable order."""
    facts = [fact for path in sorted(FACTS_FOLDER.glob("*.txt")) for fact in read_facts(path)]
    for table in tables.TABLES:
        facts += [Fact(table.topic, *texts) for texts in table.filled()]
    _check_unambiguous(facts)
    return facts


def held_out_facts() -> list[Fact]:
    """Wordings that are never trained, to see how far the model understands unseen ones."""
    return list(read_facts(HELD_OUT_FILE))


def read_facts(path: Path) -> Iterator[Fact]:
    for paragraph in path.read_text(encoding="utf-8").strip().split("\n\n"):
        yield _fact(path.stem, paragraph.splitlines())


def _fact(topic: str, lines: Iterable[str]) -> Fact:
    texts: dict[str, list[str]] = {"": [], "+": [], ">": []}
    for line in lines:
        mark = line[0] if line[:2] in ("+ ", "> ") else ""
        texts[mark].append(line.removeprefix(mark).strip())
    [answer] = texts[">"]
    return Fact(topic, answer, tuple(texts[""]), tuple(texts["+"]))


def casual(question: str) -> str:
    """The same question as people type it: lower case, no punctuation at the end."""
    return question.lower().rstrip("?!.")


def _check_unambiguous(facts: Iterable[Fact]) -> None:
    answers: dict[str, str] = {}
    for fact in facts:
        for wording in fact.wordings:
            if answers.setdefault(casual(wording), fact.answer) != fact.answer:
                raise ValueError(f"two answers for {wording!r}")
