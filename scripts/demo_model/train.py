#!/usr/bin/env python3
"""Train the demo model, or check one.

    python scripts/demo_model/train.py --out configs/models/pool-demo.gguf
    python scripts/demo_model/train.py --check configs/models/pool-demo.gguf

Training takes about three minutes on two cores and no download. Beside the model it writes
``pool-demo.questions.json``: what the model must answer, word for word, at temperature 0.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from pathlib import Path

TRAINING_PACKAGES = ("torch", "tokenizers", "gguf", "numpy")
CHECKING_PACKAGES = ("xllamacpp",)


def main(argv: list[str] | None = None) -> int:
    options = _arguments(argv)
    needed = CHECKING_PACKAGES if options.check else TRAINING_PACKAGES
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        print(f"train.py needs more packages: pip install {' '.join(missing)}", file=sys.stderr)
        return 2
    # Run as a script, Python looks beside this file; the package and its exporter are one up.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    return _check(options.check) if options.check else _train(options)


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train the demo model, or check one.")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--out", type=Path, metavar="GGUF", help="train, and write the model here")
    action.add_argument("--check", type=Path, metavar="GGUF", help="ask this model all questions")
    parser.add_argument("--steps", type=int, help="training steps, if not the usual number")
    parser.add_argument("--seconds", type=float, help="train no longer than this")
    parser.add_argument("--seed", type=int)
    return parser.parse_args(argv)


def _train(options: argparse.Namespace) -> int:
    # Beside other work, threads that spin while they wait make it ten times slower. Torch reads
    # this when it is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from demo_model.build import build
    from demo_model.trainer import Plan

    given = {name: getattr(options, name) for name in ("steps", "seconds", "seed")}
    plan = Plan(**{name: value for name, value in given.items() if value is not None})
    missed = build(options.out, plan, _say)
    for dialogue in missed[:10]:
        _say(f"  still wrong: {dialogue.turns[-1].question!r}")
    _say(f"{options.out}: {options.out.stat().st_size:,} bytes, {len(missed)} questions missed")
    return 1 if missed else 0


def _check(path: Path) -> int:
    if not path.is_file():
        print(f"train.py: there is no file {path}", file=sys.stderr)
        return 2
    from demo_model.check import check

    return 0 if check(path, _say) else 1


def _say(text: object) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
