"""Weights of ``routing.weights`` from ``training`` and ``development``.

Run it in ``tests/bench``: ``python -m router_eval.fit``.

Ridge regression towards the weights that were set by hand, so that the few families there are only
correct them; no weight may turn against what its measure means. Prints what goes into the file.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

import numpy as np
from modelpool.routing.asked import Asked
from modelpool.routing.difficulty import measures
from modelpool.routing.signals import read_prompt
from modelpool.routing.tasks import task_of

from . import development, training
from .items import Item, all_items

# What was set by hand, before anything was fitted.
START = -3.2
WEIGHTS: Mapping[str, float] = {
    "length": 0.9,
    "content": 1.2,
    "rarity": 1.3,
    "names": 0.5,
    "operands": 1.2,
    "notation": 1.4,
    "logic": 0.9,
    "clauses": 0.7,
    "limits": 1,
    "parts": 0.9,
    "links": 0.5,
    "depth": 1.6,
    "code": 1,
    "size": 0.8,
    "options": 0.6,
    "form": 0.5,
    "tools": 0.4,
    "material": 0.5,
    "special": 0.5,
    "rows": 0.6,
    "problem": 1.2,
}
OF_TASK: Mapping[str, float] = {
    "code_generation": 0.5,
    "code_analysis": 0.4,
    "math": 0.4,
    "reasoning": 0.3,
    "planning": 0.3,
    "data_analysis": 0.2,
    "tool_use": 0.1,
    "translation": -0.5,
    "summary": -0.5,
    "text_analysis": -0.5,
    "editing": -0.4,
    "creative_writing": 0,
    "conversation": -0.4,
}
# How strongly they are believed: with less the families are fitted better, and weights come out
# that hold for these families only.
BELIEF, BELIEF_OF_TASK = 4.0, 4.0
ROUNDS = 60
LEAST_SHARE = 0.5


def row(item: Item) -> dict[str, float]:
    """Its measures, and 1 for its kind of work."""
    asked = Asked(text=item.prompt)
    reading = read_prompt(asked)
    task = task_of(asked, reading)
    found = dict(measures(reading, task, asked))
    return {**found, "start": 1.0, f"task {task.value}": 1.0}


def fitted(items: list[Item]) -> dict[str, float]:
    """By the names of ``row``."""
    names = [*WEIGHTS, "start", *(f"task {name}" for name in OF_TASK)]
    prior = np.array([*WEIGHTS.values(), START, *OF_TASK.values()])
    belief = np.array([BELIEF] * (len(WEIGHTS) + 1) + [BELIEF_OF_TASK] * len(OF_TASK))
    rows = [row(item) for item in items]
    x = np.array([[r.get(name, 0.0) for name in names] for r in rows])
    y = np.array([min(0.97, max(0.03, item.difficulty)) for item in items])
    sizes = Counter(item.family for item in items)
    share = np.array([1 / sizes[item.family] for item in items])
    weights = prior.copy()
    for _ in range(ROUNDS):
        said = 1 / (1 + np.exp(-x @ weights))
        slope = said * (1 - said)
        # Errors in difficulty, not in log-odds: what lies at the ends matters no more.
        jacobian = x * slope[:, None]
        weigh = share * 20
        hessian = (jacobian * weigh[:, None]).T @ jacobian + np.diag(belief) * 0.2
        gradient = (jacobian * weigh[:, None]).T @ (said - y) + 0.2 * belief * (weights - prior)
        weights = weights - 0.5 * np.linalg.solve(hessian, gradient)
        for index in range(len(WEIGHTS)):
            weights[index] = max(weights[index], LEAST_SHARE * prior[index])
    return dict(zip(names, (float(w) for w in weights), strict=True))


def main() -> None:
    """Prints them, and how well they fit."""
    items = all_items(training.FAMILIES + development.FAMILIES)
    found = fitted(items)
    for name, weight in found.items():
        print(f"{name:28}{weight:6.2f}")
    errors = []
    for item in items:
        total = sum(found.get(name, 0.0) * value for name, value in row(item).items())
        errors.append(1 / (1 + math.exp(-total)) - item.difficulty)
    print("root of the mean squared error", math.sqrt(sum(e * e for e in errors) / len(errors)))


if __name__ == "__main__":
    main()
