"""``python -m modelpool.pool.decide`` prints the table of all decisions."""

from __future__ import annotations

from modelpool.pool.decide.table import markdown

if __name__ == "__main__":
    print("\n".join(markdown()))
