"""The bare llama-server: one process for one model, ended and started anew for another."""

from __future__ import annotations

import time

from bench import native
from bench.figures import BenchError
from bench.messages import HOST, call, first_event_at, token_body
from bench.model import BenchModel
from bench.native import missing as missing
from bench.peers.contract import PAUSE_SECONDS, TOKENS, A, B
from bench.processes import Child, free_ports, is_listening
from bench.stage import Stage

START_SECONDS = 120.0
END_SECONDS = 15.0
# Between two looks whether it has loaded: of its start, less than a hundredth.
POLL_SECONDS = 0.002


def start(stage: Stage, model: BenchModel) -> Bare:
    """One that has not been started; it is whenever it is measured.

    Raises:
        BenchError: there is none.
    """
    native.found()
    return Bare(stage, model)


class Bare:
    """Whichever runs at the moment."""

    def __init__(self, stage: Stage, model: BenchModel) -> None:
        self._stage, self._model = stage, model

    def __enter__(self) -> Bare:
        return self

    def __exit__(self, *_: object) -> None:
        """Each has ended with its measurement."""

    def first_token(self) -> float:
        """Seconds from the start of its process; the request goes out when it has loaded."""
        time.sleep(PAUSE_SECONDS)
        with Process(self._stage, self._model) as process:
            return process.first_token(A) - process.began

    def swap(self) -> float:
        """Seconds from the signal that ends one; the other is started once that is gone."""
        with Process(self._stage, self._model) as leaving:
            leaving.first_token(B)
            time.sleep(PAUSE_SECONDS)
            began = time.perf_counter()
            leaving.end()
            with Process(self._stage, self._model) as process:
                return process.first_token(A) - began


class Process(Child):
    """One with the model loaded; ``began`` is when it was started, by ``time.perf_counter``."""

    def __init__(self, stage: Stage, model: BenchModel) -> None:
        [self.port] = free_ports(1)
        self.began = time.perf_counter()
        super().__init__(command(self.port, model), stage.log("llama-server"))
        try:
            self._until_loaded()
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Process:
        return self

    def first_token(self, name: str) -> float:
        """When the first of an answer came."""
        return first_event_at(self.port, token_body(name, TOKENS))

    def end(self) -> None:
        """Tell it to end, and wait until it is gone."""
        self.process.terminate()
        self.process.wait(END_SECONDS)

    def _until_loaded(self) -> None:
        end = time.monotonic() + START_SECONDS
        while not (is_listening(self.port) and call(self.port, "GET", "/health")[0] == 200):
            self.check_alive()
            if time.monotonic() > end:
                raise BenchError(f"it has not loaded: {self.last_words()}")
            time.sleep(POLL_SECONDS)


def command(port: int, model: BenchModel) -> list[str]:
    """PURE but for the search for the binary. The parameters as flags."""
    words = [str(native.found()), "--host", HOST, "--port", str(port), "--offline"]
    for name, value in native.parameters(model.path).items():
        words += [f"--no-{name}"] if value is False else [f"--{name}", str(value)]
    return words
