"""The bare engine: llama.cpp's own HTTP server in a process of its own, nothing of ours around it.

    python -m bench.bare PORT MODEL_FILE

With the parameters that a worker's engine child uses, but on a TCP port, for there is no front.
Ends with its standard input.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from modelpool_worker.engine import EngineJob

from bench.messages import HOST
from bench.model import OPTIONS, BenchModel
from bench.processes import Child, free_ports, module
from bench.stage import Stage

START_SECONDS = 120.0
END_SECONDS = 15.0
NAME = "bare"


class BareEngine(Child):
    """A running one; ``began`` is when its process was started, by ``time.perf_counter``."""

    def __init__(self, stage: Stage, model: BenchModel) -> None:
        [self.port] = free_ports(1)
        self.began = time.perf_counter()
        command = module("bench.bare", self.port, model.path)
        super().__init__(command, stage.log(NAME), talks=True)
        try:
            self.line(START_SECONDS)
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> BareEngine:
        return self

    def end(self) -> None:
        """Tell it to end, and wait until it is gone."""
        self.process.terminate()
        self.process.wait(END_SECONDS)


def _serve(port: int, file: Path) -> None:
    import xllamacpp
    from modelpool_worker.engines.llama.llama_cpp import parameters

    job = EngineJob("llama.cpp", NAME, str(file), "", OPTIONS)
    p = parameters(xllamacpp, job, OPTIONS["context_length"])
    p.hostnames, p.port = [HOST], port
    server = xllamacpp.Server(p)
    print("ready", flush=True)
    while os.read(0, 4096):
        pass
    del server
    # Not sys.exit: native threads still run.
    os._exit(0)


if __name__ == "__main__":
    _serve(int(sys.argv[1]), Path(sys.argv[2]))
