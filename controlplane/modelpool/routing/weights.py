"""PURE: how much each measure of a request weighs in its difficulty, in log-odds.

Made by ``tests/bench/router_eval/fit.py``, which corrects weights that were set by hand by families
of requests whose difficulty is known; only what makes something new (depth, code, plans) was left
nearer to what was set by hand, for those families hold too little of it.
"""

from __future__ import annotations

from collections.abc import Mapping

START = -2.75
WEIGHTS: Mapping[str, float] = {
    "length": 0.94,
    "content": 1.07,
    "rarity": 1.5,
    "names": 0.35,
    "operands": 0.85,
    "notation": 1.45,
    "logic": 0.75,
    "clauses": 0.65,
    "limits": 0.7,
    "parts": 0.6,
    "links": 0.75,
    "depth": 1.1,
    "code": 1.26,
    "size": 0.8,
    "options": 0.62,
    "form": 0.5,
    "tools": 0.4,
    "material": 0.6,
    "special": 0.85,
    "rows": 0.6,
    "problem": 1.2,
}
OF_TASK: Mapping[str, float] = {
    "code_generation": 0.35,
    "code_analysis": 0.77,
    "math": 0.25,
    "reasoning": 0.35,
    "planning": 0.15,
    "data_analysis": 0.21,
    "tool_use": 0.1,
    "translation": -0.11,
    "summary": -0.54,
    "text_analysis": -0.47,
    "editing": -0.51,
    "creative_writing": -0.25,
    "conversation": -0.42,
}
