"""``python -m modelpool_worker``: ``serve`` a model, ``host`` an engine, ``describe`` engines.

serve ENGINE LABEL    the front of a worker; its assignment comes on standard input
spare ENGINE          the same before there is work for it: it waits for its assignment
host ENGINE LABEL     an engine child; its job comes on standard input
describe [--engine E [--source F] [--options JSON]]
                      what can be used in this environment, as JSON
describe --check      what is wrong with the models on standard input, as JSON
describe --each       the same, asked again and again: a line of JSON each, with the arguments and
                      the standard input of one
devices [PID …]       the devices of this machine, or the bytes that these processes hold of each,
                      as JSON
clean FILE            end what a worker that was killed has left behind, as its file says
models                which models a server elsewhere has, of the job on standard input

The engine is what to get ready for until that comes; the label is for ``ps`` only.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from typing import NoReturn


def main(arguments: list[str]) -> int:
    """Run one subcommand. Imports are lean: a front imports no engine, a child no HTTP server; and
    a child gets ready while its front imports what it needs to say what is to be loaded."""
    match arguments:
        case ["serve", engine, label]:
            from .spawn import spawn

            child = spawn(engine, label)
            from .start import serve

            _leave(serve(child))
        case ["spare", engine]:
            from .spawn import spawn

            child = spawn(engine, "spare")
            from .start import serve_later

            _leave(serve_later(child))
        case ["host", engine, _]:
            from .host import host

            host(engine)
        case ["describe", *rest]:
            gc.disable()  # what is imported stays, and little else is made
            from .describe import describe

            return describe(rest)
        case ["models"]:
            from .remote.listing import tell as tell_models

            return tell_models()
        case ["clean", path]:
            from .clean import clean

            return clean(path)
        case ["devices", *pids]:
            from .devices import tell

            return tell(pids)
    print(__doc__, file=sys.stderr)
    return 2


def _leave(code: int) -> NoReturn:
    """Without taking the interpreter apart, all of which ends with the process: while a front does
    that, another model waits for its room."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
