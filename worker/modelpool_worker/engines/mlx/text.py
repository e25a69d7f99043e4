"""A model of mlx-lm that writes, many requests at once: its library's continuous batching."""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from modelpool_client.errors import LoadFailed

from modelpool_worker.engines.hf_folder import WriterConfig
from modelpool_worker.engines.sampling import Sampler
from modelpool_worker.engines.tokenizer_folder import FolderTokenizer
from modelpool_worker.hosting.contract import TextRequest, Token, TokenSink

DEFAULT_CONTEXT = 4096
DEFAULT_PARALLEL = 8
DEFAULT_BATCH = 256
# Prompts that are read side by side.
PROMPTS = 4


class MlxText:
    """See ``ContinuousText``."""

    def __init__(self, folder: str, config: WriterConfig, options: Mapping[str, Any]) -> None:
        """Load it.

        Raises:
            LoadFailed: with a code that says why.
        """
        from mlx_lm.models.cache import make_prompt_cache

        self._config = config
        self._tokenizer = tokenizer = FolderTokenizer(folder)
        model = _loaded(folder, options.get("dtype", "auto"))
        known = config.context_length or DEFAULT_CONTEXT
        self.context_length = min(options.get("context_length") or DEFAULT_CONTEXT, known)
        named = [tokenizer.id_of(name) for name in config.end_names]
        ends = [*config.end_tokens, *(id_ for id_ in named if id_ is not None)]
        self.end_tokens: Collection[int] = tuple(dict.fromkeys(ends))
        self.slots = options.get("parallel", DEFAULT_PARALLEL)
        self.chat_error = tokenizer.chat_error
        self.tool_format = tokenizer.tool_format
        size = config.vocabulary_size or tokenizer.size
        self.vocabulary_size = size
        self.vocabulary = tokenizer.vocabulary(size, ends[0] if ends else 0)
        self._inbox: queue.SimpleQueue[_Sequence | int] = queue.SimpleQueue()
        exact = _Exact(model, lambda: make_prompt_cache(model))
        step = options.get("batch_size", DEFAULT_BATCH)
        self._run = _Run(exact, self.end_tokens, self.slots, step, self._inbox)
        threading.Thread(target=self._run.forever, name="compute", daemon=True).start()

    @property
    def steps(self) -> int:
        """See ``Meter``."""
        return self._run.steps

    @property
    def busy(self) -> int:
        """See ``Meter``."""
        return self._run.busy

    def encode(self, text: str) -> list[int]:
        """See ``TextModel``."""
        return self._tokenizer.encode(text)

    def chat_prompt(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]],
        settings: Mapping[str, Any],
    ) -> list[int]:
        """See ``TextModel``."""
        return self._tokenizer.chat_prompt(messages, tools, settings)

    def submit(self, request: TextRequest, sink: TokenSink) -> None:
        """See ``ContinuousText``."""
        pieces = self._tokenizer.pieces()
        sampler = Sampler(request, self._config.defaults, self._tokenizer.token_bytes)
        sequence = _Sequence(
            request, sink, pieces.add, None if sampler.is_plain else sampler, self.end_tokens
        )
        self._inbox.put(sequence)
        request.cancel.then(lambda: self._inbox.put(_WAKE))


_WAKE = 0


class _Exact:
    """A model whose logits are told in 32 bits: those of 16 make equals of what is not, once they
    are normalised."""

    def __init__(self, model: Any, make_cache: Callable[[], Any]) -> None:
        import mlx.core as mx

        self._model = model
        self._type = mx.float32
        self.make_cache = make_cache

    def __call__(self, tokens: Any, cache: Any) -> Any:
        return self._model(tokens, cache=cache).astype(self._type)


class _Sequence:
    """A request on its way, and how its tokens are chosen: by the likeliest all in one, or by
    ``sampler`` in host memory."""

    def __init__(
        self,
        request: TextRequest,
        sink: TokenSink,
        data: Callable[[int], bytes],
        sampler: Sampler | None,
        ends: Collection[int],
    ) -> None:
        self.request = request
        self.sink = sink
        self._data = data
        self._sampler = sampler
        self._ends = frozenset(ends)
        self._chosen: deque[Token] = deque()
        self._count = 0
        self._last = -1

    @property
    def is_plain(self) -> bool:
        return self._sampler is None

    def process(self, _: Any, logits: Any) -> Any:
        """Choose the next token, of which the library hears in ``sample``."""
        import mlx.core as mx
        import numpy as np

        # It is one step ahead, and asks for one more than there will be.
        if self._last not in self._ends and self._count < self.request.max_tokens:
            assert self._sampler is not None
            token = self._sampler.choose(np.array(logits[0].astype(mx.float32)), self._data)
            self._chosen.append(token)
            self._count += 1
            self._last = token.id
        return logits

    def sample(self, _: Any) -> Any:
        """The token that was chosen."""
        import mlx.core as mx

        return mx.array([self._last], dtype=mx.uint32)

    def told(self, id_: int) -> Token:
        """The next token, of which the library tells the id."""
        return Token(id_, self._data(id_)) if self.is_plain else self._chosen.popleft()


class _Run:
    """The loop of the thread that computes."""

    def __init__(
        self,
        model: Any,
        ends: Collection[int],
        slots: int,
        step: int,
        inbox: queue.SimpleQueue[_Sequence | int],
    ) -> None:
        self._make: Callable[[], Any] = lambda: _generator(model, ends, slots, step)
        self._generator: Any = None
        self._inbox = inbox
        self._running: dict[int, _Sequence] = {}
        self.steps = 0

    @property
    def busy(self) -> int:
        """Sequences that the library knows."""
        return len(self._running)

    def forever(self) -> None:
        """Step after step; sleeps while there is nothing to do."""
        while True:
            self._take()
            try:
                self._drop()
                if self._running:
                    self._step()
            except Exception as e:  # of all, for nobody knows whose fault it is
                self._fail(e)

    def _take(self) -> None:
        """Whoever has come; waits for somebody where nothing runs."""
        came = [] if self._running else [self._inbox.get()]
        while not self._inbox.empty():
            came.append(self._inbox.get())
        for sequence in came:
            if isinstance(sequence, _Sequence) and not sequence.request.cancel.is_set:
                try:
                    self._insert(sequence)
                except Exception as e:
                    sequence.sink.fail(e)

    def _insert(self, sequence: _Sequence) -> None:
        if self._generator is None:
            self._generator = self._make()
        own = [] if sequence.is_plain else [sequence.process]
        (uid,) = self._generator.insert(
            [list(sequence.request.prompt)],
            [sequence.request.max_tokens],
            samplers=[None if sequence.is_plain else sequence.sample],
            logits_processors=[own],
        )
        self._running[uid] = sequence

    def _drop(self) -> None:
        gone = [uid for uid, s in self._running.items() if s.request.cancel.is_set]
        if gone:
            self._generator.remove(gone)
            for uid in gone:
                del self._running[uid]

    def _step(self) -> None:
        self.steps += 1
        _, answers = self._generator.next()
        for answer in answers:
            sequence = self._running.get(answer.uid)
            if sequence is None:
                continue
            sequence.sink.push(sequence.told(answer.token))
            if answer.finish_reason is not None:
                sequence.sink.end()
                del self._running[answer.uid]

    def _fail(self, error: Exception) -> None:
        running, self._running = self._running, {}
        self._generator = None
        for sequence in running.values():
            sequence.sink.fail(error)


def _generator(model: Any, ends: Collection[int], slots: int, step: int) -> Any:
    from mlx_lm.generate import BatchGenerator

    return BatchGenerator(
        model,
        stop_tokens=[[end] for end in ends],
        completion_batch_size=slots,
        prefill_batch_size=min(PROMPTS, slots),
        prefill_step_size=step,
    )


def _loaded(folder: str, dtype: str) -> Any:
    import mlx.core as mx
    from mlx_lm.utils import load_model

    if dtype == "auto":
        dtype = "float32" if mx.default_device().type == mx.cpu else "file"
    try:
        model, _ = load_model(Path(os.path.abspath(folder)), lazy=True)
        if dtype != "file":  # of quantised weights those that they are scaled by
            model.set_dtype(getattr(mx, dtype))
        mx.eval(model.parameters())
    except Exception as e:
        raise _failure(folder, e) from e
    return model


def _failure(folder: str, error: Exception) -> LoadFailed:
    """What the library raised, with a code."""
    said, code = str(error), "load_failed"
    if isinstance(error, ValueError) and ("not supported" in said or "custom module" in said):
        code = "unsupported_arch"
    elif isinstance(error, MemoryError) or "malloc" in said:
        code = "oom"
    elif isinstance(error, FileNotFoundError | KeyError | ValueError | RuntimeError | TypeError):
        code = "bad_file"
    text = f"mlx-lm cannot load {folder}: {type(error).__name__}: {said}"
    return LoadFailed(text[:2000], code=code, source="engine")
