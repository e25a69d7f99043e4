"""Check on a machine with a GPU what the pool says and does about devices.

    python scripts/check_gpu --record machine.json

Takes some minutes, and no longer than --minutes. Exits 0 where nothing is wrong, and where there is
no GPU (1 with --require); 1 where something is. --record writes the machine down for tests.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / name) for name in ("scripts", "controlplane", "worker", "client")]

from check_gpu import machine, verdicts  # noqa: E402
from check_gpu.verdicts import Check  # noqa: E402

PORT = 18050


def main(arguments: Sequence[str], look: Callable[[], dict[str, Any]] = machine.look) -> int:
    """Run; ``look`` sees the devices."""
    parser = argparse.ArgumentParser(
        prog="check_gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--record", type=Path, metavar="FILE", help="write the machine down there")
    parser.add_argument("--require", action="store_true", help="without a GPU something is wrong")
    parser.add_argument("--port", type=int, default=PORT, help="and the eight after it are used")
    parser.add_argument("--minutes", type=float, default=9)
    given = parser.parse_args(arguments)
    report, checks = look(), list[Check]()

    def tell(more: Sequence[Check]) -> None:
        checks.extend(more)
        for check in more:
            print(check, flush=True)

    tell([verdicts.seen(report)])
    if report["devices"]:
        signal.signal(signal.SIGALRM, _too_long)
        signal.alarm(int(given.minutes * 60))
        try:
            _on_devices(report, given.port, tell)
        except Exception as e:  # what was found by then is worth telling
            tell([Check("the run", "fail", f"{e!r}")])
        signal.alarm(0)
    if given.record is not None:
        found = verdicts.record(report, machine.smi_answers(), checks)
        given.record.write_text(json.dumps(found, indent=2) + "\n")
    return verdicts.exit_code(checks, require=given.require)


def _too_long(_: int, __: FrameType | None) -> None:
    raise TimeoutError("it took longer than --minutes")


def _on_devices(report: dict[str, Any], port: int, tell: Callable[[Sequence[Check]], None]) -> None:
    with tempfile.TemporaryDirectory(prefix="check-gpu-") as temporary:
        folder = Path(temporary)
        source = machine.make_model(folder)
        with machine.pool(folder, port, report["devices"]) as client:
            tell(machine.check_engines(client))
            tell(machine.check_model(client, source))
            tell(machine.check_crowded(client, report["devices"]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
