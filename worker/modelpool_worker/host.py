"""The engine child: loads one model and serves it on a unix socket; ends when its front does."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import traceback
from functools import partial
from typing import Any, NoReturn

from modelpool_client.errors import LoadFailed
from modelpool_client.wire_base import PromptCacheLimits, decode, prepare_decoding

from . import engines
from .engine import Engine, EngineJob, Status

# As in spawn.py, whose imports a child does not need.
STATUS_FD = "MODELPOOL_STATUS_FD"
NICENESS = 5
_PR_SET_PDEATHSIG = 1
_LOAD_FAILED = 3


def host(name: str) -> NoReturn:
    """Get ready for the engine ``name``, and run the job that comes on standard input. Exits 3 if
    the load fails."""
    _settle()
    status = Status(partial(_tell, int(os.environ[STATUS_FD])))
    with contextlib.suppress(Exception):  # it will fail again, and be told, with the job
        engines.get_child(name).prepare()
    prepare_decoding(EngineJob)
    line = sys.stdin.buffer.readline()
    if not line:  # the front has ended
        _leave(0)
    job = EngineJob.parse(line)
    try:
        engine = engines.get_child(job.engine, job.settings)
        status.begins(engine.honours, engine.stop_seconds(job.options) or None)
        engine.check(job.options)
        if not engine.outlives_stdin(job):
            threading.Thread(target=_obey, args=(engine,), daemon=True).start()
        engine.serve(job, status)
    except LoadFailed as e:
        status.failed(e.code, e.message)
        _leave(_LOAD_FAILED)
    except MemoryError as e:
        status.failed("oom", str(e) or "there is not so much memory")
        _leave(_LOAD_FAILED)
    except BaseException as e:
        traceback.print_exc()
        status.failed("load_failed", f"{e!r}")
        _leave(_LOAD_FAILED)
    _leave(0)


def _tell(fd: int, event: dict[str, Any]) -> None:
    """One JSON line to the front, which may be gone."""
    with contextlib.suppress(OSError):
        os.write(fd, (json.dumps(event) + "\n").encode())


def _settle() -> None:
    # A SIGTERM to the whole group, from a terminal or a service manager, reaches the child too, and
    # the front still needs it to finish current work: it ends with its standard input instead.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    if sys.platform == "linux":
        _die_with_parent()


def _die_with_parent() -> None:
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _obey(engine: Engine) -> None:
    """Do what the front says, and end with it."""
    for line in sys.stdin.buffer:
        try:
            engine.save_prompts(decode(PromptCacheLimits, json.loads(line)["save_prompts"]))
        except Exception:  # it was to end anyway
            traceback.print_exc()
    try:
        engine.shut_down()
    except Exception:
        traceback.print_exc()
    _leave(0)


def _leave(code: int) -> NoReturn:
    # Not sys.exit: tearing down an interpreter whose native threads still run can crash or hang.
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
