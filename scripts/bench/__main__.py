"""``python scripts/bench``, or ``python -m bench`` with ``scripts`` on the path."""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:
    # Run as a folder, Python looks inside it; the package is found from one up.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

if __name__ == "__main__":
    from bench.cli import main

    sys.exit(main())
