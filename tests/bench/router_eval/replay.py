"""Many decisions among many models, with all kinds of requests and conditions, while the models
change: how long each takes, and whether each is explained."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from random import Random
from typing import Any

from modelpool.routing.asked import read
from modelpool.routing.candidate import Candidate
from modelpool.routing.constraints import NO_CONSTRAINTS, Constraints, read_constraints
from modelpool.routing.decision import Conversation, decide
from modelpool.routing.features import features_of
from modelpool.routing.policy import Policy, Strategy
from modelpool.routing.table import table_of

from . import development, held_out, training
from .items import all_items

# After so many decisions a model loads, unloads or gets busy.
CHANGE_EVERY = 20


def candidates(count: int, random: Random) -> list[Candidate]:
    """As a large catalog has them: most cold, some measured, some remote with prices."""
    found = []
    for index in range(count):
        is_remote = random.random() < 0.3
        size = random.choice((0.5, 1.5, 3.0, 8.0, 14.0, 32.0, 70.0))
        found.append(
            Candidate(
                f"model-{index:04}",
                engine=random.choice(("openai", "anthropic"))
                if is_remote
                else random.choice(("llama.cpp", "transformers", "vllm")),
                is_remote=is_remote,
                capabilities=frozenset(
                    {"chat", "completion"}
                    | {w for w in ("tools", "vision", "json_schema") if random.random() < 0.4}
                ),
                parameters=None if is_remote else size,
                bits=random.choice((4.5, 5.5, 8.0, 16.0)),
                context_tokens=random.choice((4096, 8192, 32_768, 131_072)),
                first_token_ms=random.choice((None, 80.0, 300.0)),
                output_per_second=random.choice((None, 300 / size)),
                input_price=random.random() if is_remote else 0.0,
                output_price=4 * random.random() if is_remote else 0.0,
                is_hot=random.random() < 0.03,
                fits_now=random.random() < 0.8,
                reliability=random.choice((None, 0.9, 0.99)),
                memory_bytes=int(size * 1e9),
            )
        )
    return found


def conditions(random: Random) -> Constraints:
    """Half of all requests have some."""
    if random.random() < 0.5:
        return NO_CONSTRAINTS
    possible: dict[str, Any] = {
        "max_latency_ms": random.choice((2000, 10_000, 60_000)),
        "max_cost": random.choice((0.0005, 0.01)),
        "min_reliability": 0.95,
        "required_capabilities": [random.choice(("tools", "vision"))],
        "preferred_backend": random.choice(("llama.cpp", "openai")),
        "excluded_models": [f"model-{random.randrange(1000):04}" for _ in range(3)],
        "resource_limits": {"fits_now": True},
    }
    names = random.sample(sorted(possible), k=random.randint(1, 3))
    return read_constraints({name: possible[name] for name in names})


@dataclass(frozen=True)
class Replay:
    """Microseconds of a decision from the body to the reasons; ``cpu`` without what other programs
    took of the processor, ``best`` of several times the same: they still share its caches and
    units, which makes a single time longer by chance. ``unexplained`` counts decisions without
    reasons, or with fewer models told than there are."""

    decisions: int
    models: int
    wall: tuple[float, ...]
    cpu: tuple[float, ...]
    best: tuple[float, ...]
    none: int
    unexplained: int

    def quantile(self, share: float, times: tuple[float, ...]) -> float:
        """Of either."""
        ordered = sorted(times)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def replay(decisions: int = 100_000, models: int = 1000, seed: int = 11, times: int = 3) -> Replay:
    """One after the other, each made so many ``times``."""
    random = Random(seed)
    pool = candidates(models, random)
    table = table_of(pool)
    families = training.FAMILIES + development.FAMILIES + held_out.FAMILIES
    prompts = [item.prompt for item in all_items(families, seed=seed, count=60)]
    policies = [Policy(strategy) for strategy in Strategy]
    wall, cpu, best, none, unexplained = [], [], [], 0, 0
    for turn in range(decisions):
        if turn % CHANGE_EVERY == 0:
            row = random.randrange(models)
            changed = table.candidates[row]
            news = dataclasses.replace(
                changed, is_hot=not changed.is_hot, in_flight=random.randint(0, 6)
            )
            table = table.changed([news])
        body = {"messages": [{"role": "user", "content": random.choice(prompts)}]}
        limits = conditions(random)
        talk = Conversation(f"model-{random.randrange(models):04}", random.randrange(9000))
        policy = random.choice(policies)
        took: list[tuple[float, float]] = []
        for _ in range(times):
            began, used = time.perf_counter(), time.process_time()
            features = features_of(read(body))
            found = decide(features, table, limits, policy, talk if turn % 3 == 0 else None)
            is_explained = bool(found.reasons)
            took.append((1e6 * (time.process_time() - used), 1e6 * (time.perf_counter() - began)))
        cpu.append(took[0][0])
        wall.append(took[0][1])
        best.append(min(took)[0])
        none += found.model_id is None
        if turn % 50 == 0:  # as many as people would ever ask about
            told = found.eligible + len(found.excluded)
            unexplained += not is_explained or told != models
        else:
            unexplained += not is_explained
    figures = (tuple(wall), tuple(cpu), tuple(best))
    return Replay(decisions, models, *figures, none, unexplained)
