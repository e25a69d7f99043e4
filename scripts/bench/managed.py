"""A real manager whose workers are stand-ins: ``python -m bench.managed CONFIG``."""

from __future__ import annotations

import logging
import sys

from modelpool import server
from modelpool.config import load_config
from modelpool.launchers.local import LocalLauncher

from bench.processes import module


def main(file: str) -> None:
    """``modelpool serve`` in every respect but the command that starts a worker."""
    config = load_config(file)
    logging.basicConfig(level=config.log_level.upper(), stream=sys.stderr)
    launcher = LocalLauncher(lambda _, label: module("bench.standin", label))
    server.run(config, launcher)


if __name__ == "__main__":
    main(sys.argv[1])
