"""What a worker leaves behind when it ends badly: its exit record."""

from __future__ import annotations

import json
import os
import sys

from modelpool_client.wire import Failure, encode


def write_exit_record(path: str, failure: Failure) -> None:
    """Write ``failure`` as JSON to ``path``, whole or not at all; no path, no record."""
    if not path:
        return
    temporary = f"{path}.{os.getpid()}"
    try:
        with open(temporary, "w") as f:
            json.dump(encode(failure), f)
        os.replace(temporary, path)
    except OSError as e:
        print(f"exit record not written: {e}", file=sys.stderr)
