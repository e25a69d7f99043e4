"""PURE: what the structure of a request shows, as numbers.

Nothing here is a verdict: ``difficulty`` and ``tasks`` make theirs of these. Words count once each,
however often they are said, and a word that announces work counts only with something to work on.
"""

# ruff: noqa: RUF001

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .asked import Asked
from .language import grammar_of, language_of
from .parts import Parts, parts_of
from .words import (
    DEPTH_BITS,
    FOREIGN_DEPTHS,
    FOREIGN_LOGIC,
    USUAL_LENGTH,
    Kind,
    bits_of,
    plain,
)

# Languages that are not written with spaces, or have only few words here.
WITHOUT_LISTS = frozenset({"zh", "ja", "ko", "ru"})
_NO_CONTENT = Kind.COURTESY | Kind.NUMBER

_TOKEN = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*|\d+(?:[.,:/]\d+)*")
_WIDE = re.compile("[\u3040-\u30ff\u3400-\u9fff\u0e00-\u0e7f]")
_SENTENCES = re.compile(r"[.!?;。！？；]+(?=\s|$|[\"”»)])|[。！？；]|\n+")
_QUESTIONS = re.compile(r"[?？؟]")
_COMMAS = re.compile(r"[,;，；、]")
_INDENTS = re.compile(r"^[ \t]*(?=\S)", re.MULTILINE)
# A clause has so many blanks; between commas with fewer there is a list.
_CLAUSE_BLANKS = 4
_ITEMS = re.compile(r"^[ \t]*(?:[-*•]|\d{1,2}[.)]|[ivx]+[.)])[ \t]+\S", re.MULTILINE)
# Between operands, or with a backslash as formulas have it.
_OPERATOR = re.compile(
    r"[\w)\]}$][ \t]*(?:[+*^=<>≤≥≠≈±×÷·]+|→|⇒)[ \t]*[\w(\[{$\\-]"
    # Of words that are joined, or given for choice, these are no operators.
    r"|(?<!\w)(?:[^\W\d_]|\d+(?:\.\d+)?)[ \t]?[-/][ \t]?(?:[^\W\d_]|\d+(?:\.\d+)?)(?!\w)"
)
# One of them is in each: to look for them first costs less.
_OPERATOR_SIGN = re.compile(r"[+*^=<>≤≥≠≈±×÷·→⇒/-]")
_NOTATION = re.compile(
    r"\\[a-zA-Z]{2,}|[∑∏∫√∂∇∞∈∉⊂⊆∪∩∀∃∧∨¬⊢→⇒⇔≡ℝℤℕℂα-ωΑ-Ω²³⁴ⁿ₀-₉]|\$[^$\n]{1,60}\$|\w\^[\w{(]"
    r"|(?<!\w)\w_[\w{(]|(?<!\w)[a-zA-Z]\([a-zA-Z0-9, ]{1,12}\)|\b[A-Z][a-z]?\d(?![\d.])"
)
_NOTATION_SIGN = re.compile(r"[\\$^_(\d]|[^\x00-\x7f]")
_FORMAL = re.compile(r"[\\^_$(=+*/<>|&%÷·\d²³\u0370-\u03ff\u2070-\u22ff-]")
_VARIABLES = frozenset("bcdefghjklmnpqrstuvwxzABCDEFGHJKLMNPQRSTUVWXYZ")
# Names as programs and formulas have them: parts joined, capitals within, signs.
_NAME = re.compile(
    r"[(\[\"“„«»]*(?:\w+_\w+|[a-z]+[A-Z]\w*|[A-Z][a-z]+[A-Z]\w*|\w+\(\)|[a-zA-Z]+-\d+"
    r"|[A-Za-z]+\d+\w*|[A-Z]{2,6}s?|[\w-]+\.[a-z]{2,4}|[a-zA-Z][+#]{1,2})[)\]\"”»«,.;:!?]*"
)
_CODE_SIGNS = re.compile(r"[{};]|=>|->|::|==|!=|\)\s*:|\b\w+\(\w*[,)]|</?\w+>|\w\.\w+\(")
_CODE_SIGN = re.compile(r"[{};>=()]|::")
_SUM = re.compile(r"\A[\d\s.,+\-*/x×÷()=?]+\Z")
_SUM_WITHIN = re.compile(r"\d+(?:[.,]\d+)?(?:\s*[-+*/x×÷]\s*\d+(?:[.,]\d+)?)+")
# Endings and beginnings that words of science and law have in many languages of Europe.
_LEARNED = re.compile(
    r"(?:tion|sion|ment|ity|itat|ite|idad|ism|ismus|isme|ismo|logy|logie|logia|graphy|graphie|metry|"
    r"metrie|osis|itis|ase|ous|ical|ance|anz|ency|ivity|able|ible|ischer|isches|ische|ique|ico|ica)$"
    r"|^(?:hydro|thermo|electro|elektro|photo|poly|meta|iso|micro|mikro|macro|pseudo|quasi|hyper|hypo"
    r"|neuro|bio|inter|trans|multi)\w{4}"
)

_FOREIGN_LOGIC = re.compile(FOREIGN_LOGIC)

# The most words that are looked at.
MOST_WORDS = 400
# And characters of the material.
MATERIAL = 700
# Words of so many letters beyond what is usual are as rare as can be told.
RARE_LETTERS = 6.0


@dataclass(frozen=True, slots=True)
class Signals:
    """What a request shows. Counts are of its request part, see ``parts``, unless said otherwise.

    Attributes:
        language: ISO 639-1, or empty.
        words: in scripts without spaces, half the characters.
        content: distinct words that are neither grammar nor courtesy nor numbers.
        rarity: of these, 0 to 1: how much longer and more learned they are than usual.
        names: distinct names as of programs, formulas, abbreviations.
        numbers: distinct numbers, in digits or letters.
        operators, notation, variables: of formulas.
        logic, limits, joins, links: words of cases, of limits, that join clauses, that link things.
        clauses: commas and the like.
        sentences, questions, items: items are those of a list.
        depth: 1 to 6, the deepest kind of work that is named, see ``words.DEPTHS``.
        tasks: how many kinds of work are named.
        size_asked: words of an answer that is asked for by its length; 0: none is.
        is_sum: nothing but a sum of few numbers is asked.
        material, code_lines, rows, options, option_words, examples: what is brought along; material
            in words.
        material_rarity: as ``rarity``.
        code_depth: widths of indentation in it.
        code_signs: of the whole.
    """

    language: str = ""
    words: int = 0
    content: int = 0
    rarity: float = 0.0
    names: int = 0
    numbers: int = 0
    operators: int = 0
    notation: int = 0
    variables: int = 0
    logic: int = 0
    limits: int = 0
    joins: int = 0
    links: int = 0
    clauses: int = 0
    sentences: int = 1
    questions: int = 0
    items: int = 0
    depth: int = 0
    tasks: int = 0
    size_asked: int = 0
    is_sum: bool = False
    material: int = 0
    material_rarity: float = 0.0
    code_lines: int = 0
    code_depth: int = 0
    code_signs: int = 0
    rows: int = 0
    options: int = 0
    option_words: int = 0
    examples: int = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """A prompt read once: its parts, its words and what they show.

    Attributes:
        words: of the request part, plain, in order; ``bits``: what each may be, see ``words``.
    """

    parts: Parts
    words: Sequence[str]
    bits: Sequence[int]
    signals: Signals


def read_prompt(asked: Asked) -> Reading:
    """Of the last thing that was said."""
    parts = parts_of(asked.text)
    request = parts.request
    raw = _TOKEN.findall(request)[:MOST_WORDS]
    if request.isascii():  # then small letters are divided as capitals are
        words = " ".join(raw).lower().split(" ") if raw else []
        digits = {w for w in words if w < "a"}
    else:
        words = _TOKEN.findall(plain(request))[:MOST_WORDS]
        digits = {w for w in words if w[0].isdigit()}
    material_words = _TOKEN.findall(plain(parts.material[:MATERIAL]))
    letters = [w for w in words if w not in digits] if digits else words
    language = language_of(request or parts.material, letters or material_words)
    grammar = grammar_of(language)
    wide = 0 if request.isascii() else len(_WIDE.findall(request))
    all_bits = bits_of(words, language)
    bits = bits_of(letters, language) if digits else all_bits
    distinct = dict(zip(letters, bits, strict=True))
    union = functools.reduce(int.__or__, bits, 0)
    kinds = list(distinct.values())
    content = [
        w for w, b in distinct.items() if len(w) > 1 and w not in grammar and not b & _NO_CONTENT
    ]
    items = len(_ITEMS.findall(request))
    depths = _depths(union, request, language)
    # A number before each item of a list counts nothing.
    numbers = max(0, len(digits) - (items if "1" in digits else 0)) + _count(kinds, Kind.NUMBER)
    options = " ".join(parts.options)
    formal = f"{request} {options[:600]}"
    is_formal = _FORMAL.search(formal) is not None
    signals = Signals(
        language=language,
        words=len(letters) if not wide else wide // 2 + sum(w.isascii() for w in letters),
        content=len(content) if not wide else wide // 3,
        rarity=_rarity(content, language) if not wide else min(1.0, wide / 240),
        names=_names(request),
        numbers=numbers,
        operators=_operators(request) if is_formal else 0,
        notation=_notation(formal) if is_formal else 0,
        variables=len(_VARIABLES.intersection(raw)),
        logic=_count(kinds, Kind.LOGIC) + _foreign_logic(request, language),
        limits=_limits(letters, bits),
        joins=_count(kinds, Kind.JOIN),
        links=_count(bits, Kind.LINK),
        clauses=_clauses(request),
        sentences=max(1, sum(1 for s in _SENTENCES.split(request) if s and not s.isspace())),
        questions=len(_QUESTIONS.findall(request)),
        items=items,
        depth=max(depths, default=0),
        tasks=len(depths),
        size_asked=_size_asked(words, language) if digits else 0,
        is_sum=bool(digits) and _is_sum(request, content, digits),
        material=len(parts.material.split()) + _wide_words(parts.material),
        material_rarity=_rarity(
            [w for w in dict.fromkeys(material_words) if len(w) > 1 and w not in grammar], language
        ),
        code_lines=parts.code.count("\n") + 1 if parts.code else 0,
        code_depth=len(set(_INDENTS.findall(parts.code[:2000]))),
        code_signs=_code_signs(parts.code[:1200] or request),
        rows=parts.rows,
        options=len(parts.options),
        option_words=len(options.split()),
        examples=parts.examples,
    )
    return Reading(parts, words, all_bits, signals)


def _count(bits: Iterable[int], kind: int) -> int:
    """How many have that one bit."""
    return sum(map(kind.__and__, bits)) // kind


def _names(request: str) -> int:
    """Distinct ones. Who writes all in capitals writes no abbreviations."""
    if request.isupper():
        return 0
    odd = {t for t in request.split() if not (t.islower() and t.isalpha())}
    return sum(1 for token in odd if _NAME.fullmatch(token))


def formal_of(material: str) -> int:
    """Operators, notation and numbers in it."""
    text = material[:MATERIAL]
    if not text or _FORMAL.search(text) is None:
        return 0
    numbers = {token for token in _TOKEN.findall(text) if token[0].isdigit()}
    return _operators(text) + _notation(text) + len(numbers)


def _operators(text: str) -> int:
    return len(_OPERATOR.findall(text)) if _OPERATOR_SIGN.search(text) else 0


def _notation(text: str) -> int:
    return len(_NOTATION.findall(text)) if _NOTATION_SIGN.search(text) else 0


def _code_signs(text: str) -> int:
    return len(_CODE_SIGNS.findall(text)) if _CODE_SIGN.search(text) else 0


def _clauses(request: str) -> int:
    """Beyond the first of each sentence, those between commas that are no lists."""
    parts = _COMMAS.split(request)
    if request.isascii():
        return sum(1 for part in parts[1:] if part.count(" ") >= _CLAUSE_BLANKS)
    wide = sum(1 for part in parts[1:] if len(_WIDE.findall(part)) >= _CLAUSE_BLANKS)
    return wide + sum(1 for part in parts[1:] if part.count(" ") >= _CLAUSE_BLANKS)


def _foreign_logic(request: str, language: str) -> int:
    return len(set(_FOREIGN_LOGIC.findall(request))) if language in WITHOUT_LISTS else 0


def _wide_words(text: str) -> int:
    return 0 if text.isascii() else len(_WIDE.findall(text)) // 2


def _rarity(content: list[str], language: str) -> float:
    """The mean over the rarer half of the words, so that a long text of plain words with some rare
    ones is rarer than the plain text alone; few words are pulled towards nothing."""
    if not content:
        return 0.0
    usual = USUAL_LENGTH.get(language, 6.0)
    each = sorted([_rarity_of(word, usual) for word in content], reverse=True)
    half = each[: (len(each) + 1) // 2]
    return sum(half) / (len(half) + 1.0)


@functools.lru_cache(maxsize=20_000)
def _rarity_of(word: str, usual: float) -> float:
    long = (len(word) - usual) / RARE_LETTERS
    rare = 0.0 if long <= 0 else min(1.0, long)
    return min(1.0, rare + 0.3) if len(word) > 5 and _LEARNED.search(word) else rare


def _depths(union: int, request: str, language: str) -> list[int]:
    """The kinds of work that are named, each kind once."""
    if language in WITHOUT_LISTS:
        return [d for d, hints in FOREIGN_DEPTHS.items() if any(h in request for h in hints)]
    return [depth for depth, bit in DEPTH_BITS.items() if union & bit]


def _limits(words: list[str], bits: list[int]) -> int:
    """Words that limit, each with what it stands before, so that the same one said thrice of one
    thing counts once."""
    if not any(b & Kind.LIMIT for b in bits):
        return 0
    after = [*words[1:], ""]
    return len({(w, a) for w, a, b in zip(words, after, bits, strict=True) if b & Kind.LIMIT})


def _size_asked(words: list[str], language: str) -> int:
    """``500 words``, ``3 pages``: in words."""
    for number, unit in itertools.pairwise(words):
        if number.isdigit() and bits_of([unit], language)[0] & Kind.SIZE:
            return min(5000, int(number[:5]) * _words_of(unit))
    return 0


def _words_of(unit: str) -> int:
    if unit.startswith(("wo", "mo", "pal", "parole")):
        return 1
    if unit.startswith(("pag", "seit", "pages")):
        return 300
    return 80 if unit.startswith(("par", "abs", "ali")) else 15


def _is_sum(request: str, content: list[str], digits: set[str]) -> bool:
    """``What is 2 + 2?``, with whatever is said around it."""
    if len(digits) > 3 or any(len(number) > 2 for number in digits):
        return False
    if _SUM.match(request):
        return bool(digits)
    found = _SUM_WITHIN.findall(request)
    return len(found) == 1 and len(content) <= 8
