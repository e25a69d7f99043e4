"""PURE: what of a prompt asks, and what it only brings along.

A long paste with a short question is a short question; examples before the case at hand are not
the case at hand; choices are no sentences of the question. The rules are of layout and sentences,
in any language.
"""

# ruff: noqa: RUF001

from __future__ import annotations

import re
from dataclasses import dataclass

# What is looked at of a long prompt: the request stands at its beginning or at its end.
HEAD, TAIL = 1400, 700
# A prompt of fewer words is read whole.
SHORT = 90
# Cases take so many lines.
LEAST_LINES = 3
# A paragraph of more words, beside one that asks, is material.
LONG_PARAGRAPH = 45
LONG_QUOTE = 60
# Prose after an instruction, of so many blanks.
LEAST_MATERIAL = 12

_FENCE = re.compile(r"```[^\n]*\n(.*?)(?:```|\Z)", re.DOTALL)
_OPTION = re.compile(r"^[ \t]*[(\[]?([A-Ja-j])[.):\]][ \t]+(\S.*)$", re.MULTILINE)
_LABEL = re.compile(r"^[ \t#*]*([^\W\d_][^\n:：]{0,24})[:：](?!//)", re.MULTILINE)
_QUOTE = re.compile(rf"[\"“„«「]([^\"“”„«»「」]{{{LONG_QUOTE},}})[\"”“»」]")
_QUOTE_MARKS = '"“„«「'
_QUOTED_LINES = re.compile(r"^>.*$", re.MULTILINE)
_PARAGRAPHS = re.compile(r"\n\s*\n|\n(?=[-=*#]{3,})|(?<=:)\n")
_SENTENCE_END = re.compile(r"(?<=[.!?。！？])\s+|(?<=[。！？])")
_WIDE = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_ASKS = re.compile(r"[?？؟](?:\s|$|[\"”»)])")
# An instruction, then its material in the same paragraph: "Translate into German: …".
_LEAD = re.compile(r"\A([^\n:：?？]{4,160})[:：]\s*(\S.{30,})\Z", re.DOTALL)
_FORMULA = re.compile(r"[=^\\∫∑√≤≥]")
# Lines that look like code outside of fences.
_CODE_LINE = re.compile(
    r"^(?:[ \t]{2,}\S.*|.*[;{}]|.*\)\s*:|(?:def|class|import|from|function|const|let|var|public"
    r"|private|static|func|fn|#include|package|using|SELECT|INSERT|UPDATE|CREATE)\b.*)$"
)
# Even alone.
_SURE_CODE = re.compile(
    r"^\s*(?:assert\b|>>>|\$ |def \w+\(|return\b.*[();=]|import \w+$|from \w+ import)"
)
# A line of a table has so many cells at least, and these are so long at most on average.
CELLS, LONG_CELL = 3, 24


@dataclass(frozen=True, slots=True)
class Parts:
    """A prompt taken apart.

    Attributes:
        request: what asks for something.
        material: texts that it is about.
        code: lines of code.
        options: choices to pick from.
        rows: lines of a table.
        examples: cases with answers before the case at hand.
        characters: of the whole prompt.
    """

    request: str
    material: str = ""
    code: str = ""
    options: tuple[str, ...] = ()
    rows: int = 0
    examples: int = 0
    characters: int = 0


def parts_of(text: str) -> Parts:
    """In time bounded by ``HEAD`` and ``TAIL``."""
    characters = len(text)
    if characters > HEAD + TAIL:
        text = f"{text[:HEAD]}\n\n{text[-TAIL:]}"
    text, examples = _last_case(text)
    code: list[str] = []
    if "```" in text:
        code += _FENCE.findall(text)
        text = _FENCE.sub("\n\n", text)
    options: list[str] = []
    if "\n" in text:
        text, options = _without_options(text)
        text, lines, rows = _without_code_and_rows(text)
        code += lines
    else:
        rows = 0
    request, material = _split(text.strip())
    return Parts(request, material, "\n".join(code), tuple(options), rows, examples, characters)


def _last_case(text: str) -> tuple[str, int]:
    """Of prompts that show cases one after the other, under the same labels, the last, with what
    stands before them all."""
    if text.count("\n") < LEAST_LINES:
        return text, 0
    starts: dict[str, list[int]] = {}
    for match in _LABEL.finditer(text):
        starts.setdefault(match[1].strip().casefold(), []).append(match.start())
    # One label alone may be that of a list.
    repeated = [places for places in starts.values() if len(places) >= 2]
    if len(repeated) < 2:
        return text, 0
    first = min(repeated)
    preamble = text[: first[0]].strip()
    if _words(preamble) > SHORT:
        return text, 0
    return f"{preamble}\n{text[first[-1] :]}".strip(), len(first) - 1


def _without_options(text: str) -> tuple[str, list[str]]:
    found = list(_OPTION.finditer(text))
    letters = [m[1].casefold() for m in found]
    if len(found) < 2 or letters[0] != "a" or letters[1] != "b":
        return text, []
    return _OPTION.sub("", text), [m[2] for m in found]


def _without_code_and_rows(text: str) -> tuple[str, list[str], int]:
    lines = text.split("\n")
    is_code = [bool(_CODE_LINE.match(line)) for line in lines]
    cells = [_cells(line) for line in lines]
    code, kept, rows = [], [], 0
    for index, line in enumerate(lines):
        near = is_code[index - 1 : index + 2] if index else is_code[:2]
        is_sure = _SURE_CODE.match(line) is not None
        if is_sure or (
            is_code[index] and sum(near) >= 2 and not line.lstrip().startswith(("-", "*", "•"))
        ):
            code.append(line)
        elif cells[index] and cells[max(0, index - 1) : index + 2].count(cells[index]) >= 2:
            rows += 1
        else:
            kept.append(line)
    return "\n".join(kept), code, rows


def _cells(line: str) -> int:
    """Of a line of a table; 0 where it is none."""
    if len(line) < CELLS or line.endswith((".", "?", ":")):
        return 0
    count = 1 + max(line.count(mark) for mark in "|\t;,")
    return count if count >= CELLS and len(line) <= LONG_CELL * count else 0


def _split(text: str) -> tuple[str, str]:
    """What asks, and what is only brought along."""
    material: list[str] = []

    def put_aside(match: re.Match[str]) -> str:
        material.append(match[0])
        return " "

    text = _QUOTED_LINES.sub(put_aside, text) if "\n>" in text or text[:1] == ">" else text
    if len(text) > 2 * LONG_QUOTE and any(mark in text for mark in _QUOTE_MARKS):
        text = _QUOTE.sub(put_aside, text)
    if _words(text) <= SHORT:
        lead = _LEAD.match(text)
        if lead and _words(lead[1]) <= 14 and _is_prose(lead[2]):
            return lead[1], " ".join([*material, lead[2]])
        first, _, rest = text.partition("\n\n")
        if _is_material(rest) and not _is_list(first):
            return first, " ".join([*material, rest])
        return text, " ".join(material)
    paragraphs = [p.strip() for p in _PARAGRAPHS.split(text) if p.strip()]
    if len(paragraphs) == 1:
        request, rest = _of_one(text)
        return request, " ".join([*material, rest])
    asking = []
    for index, paragraph in enumerate(paragraphs):
        is_end = index in (0, len(paragraphs) - 1)
        size = _words(paragraph)
        if size <= LONG_PARAGRAPH and (is_end or _is_list(paragraph)):
            asking.append(paragraph)
        elif _ASKS.search(paragraph) and is_end:
            asking.append(paragraph if size <= SHORT else _asking_sentences(paragraph))
        else:
            material.append(paragraph)
    if not asking:
        request, rest = _of_one(paragraphs[-1])
        return request, " ".join([*material[:-1], rest])
    return "\n".join(asking), "\n".join(material)


def _is_prose(text: str) -> bool:
    """One paragraph that asks nothing and is no formula: what an instruction is about, rather than
    a part of it."""
    return "\n" not in text and not _ASKS.search(text) and not _FORMULA.search(text)


def _is_material(text: str) -> bool:
    """Paragraphs of prose after the first that neither ask nor list anything. What is told before a
    question is not, for it may be the problem."""
    if text.count(" ") < LEAST_MATERIAL or _ASKS.search(text) or _FORMULA.search(text):
        return False
    return not any(_is_list(paragraph) for paragraph in _PARAGRAPHS.split(text))


def _of_one(text: str) -> tuple[str, str]:
    """Of one long paragraph: its first sentence and the last two; up to 270 words it is a problem
    that is told, and all of it counts."""
    if _words(text) <= 3 * SHORT:
        return text, ""
    sentences = _SENTENCE_END.split(text)
    if len(sentences) < 5:
        return text, ""
    return " ".join([sentences[0], *sentences[-2:]]), " ".join(sentences[1:-2])


def _asking_sentences(text: str) -> str:
    sentences = _SENTENCE_END.split(text)
    return " ".join(s for s in sentences if _ASKS.search(s)) or text


def _is_list(text: str) -> bool:
    return re.match(r"[-*•]|\d+[.)]", text) is not None


def _words(text: str) -> int:
    return text.count(" ") + 1 if text.isascii() else len(text.split()) + _wide(text) // 2


def _wide(text: str) -> int:
    return len(_WIDE.findall(text))
