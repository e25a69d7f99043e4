"""Text of a decoder, many requests at once: they come and go between two steps."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from modelpool_worker.engines.sampling import Sampler
from modelpool_worker.engines.tokenizer_folder import FolderTokenizer
from modelpool_worker.hosting.contract import TextRequest, Token, TokenSink

from .decoder import Decoder
from .rows import Rows

_WAKE = None


class _Sequence:
    """A request on its way.

    Attributes:
        length: its tokens in the cache.
        last: the one that was written, and is not in the cache yet.
    """

    def __init__(
        self,
        request: TextRequest,
        sink: TokenSink,
        sampler: Sampler,
        data: Callable[[int], bytes],
        ends: Collection[int],
    ) -> None:
        self.request = request
        self.sink = sink
        self.length = 0
        self.last = -1
        self.is_over = False
        self._sampler = sampler
        self._data = data
        self._ends = ends
        self._count = 0

    def take(self, scores: Any, best: int) -> None:
        """Choose the next token by its scores, the likeliest of which is ``best``, and tell it."""
        try:
            plain = self._sampler.is_plain
            token = (
                Token(best, self._data(best)) if plain else self._sampler.choose(scores, self._data)
            )
        except Exception as e:  # of one sequence; the others go on
            self.is_over = True
            self.sink.fail(e)
            return
        self.last = token.id
        self._count += 1
        self.is_over = token.id in self._ends or self._count >= self.request.max_tokens
        self.sink.push(token)


class ContinuousDecoder:
    """See ``ContinuousText``."""

    def __init__(
        self,
        decoder: Decoder,
        tokenizer: FolderTokenizer,
        *,
        context_length: int,
        vocabulary_size: int,
        end_tokens: Collection[int],
        slots: int,
        step: int,
        defaults: Mapping[str, Any],
    ) -> None:
        """``step``: prompt tokens that are read in one step."""
        self.context_length = context_length
        self.end_tokens = end_tokens
        self.slots = slots
        self.chat_error = tokenizer.chat_error
        self.tool_format = tokenizer.tool_format
        self.vocabulary_size = vocabulary_size
        self.vocabulary = tokenizer.vocabulary(vocabulary_size, next(iter(end_tokens), 0))
        self.encode = tokenizer.encode
        self.chat_prompt = tokenizer.chat_prompt
        self._tokenizer = tokenizer
        self._defaults = defaults
        self._ends = frozenset(end_tokens)
        self._decoder = decoder
        self._inbox: queue.SimpleQueue[_Sequence | None] = queue.SimpleQueue()
        self._run = _Run(decoder, slots, step, self._inbox)
        threading.Thread(target=self._run.forever, name="compute", daemon=True).start()

    @property
    def steps(self) -> int:
        """See ``Meter``."""
        return self._decoder.steps

    @property
    def busy(self) -> int:
        """See ``Meter``."""
        return self._run.busy

    def submit(self, request: TextRequest, sink: TokenSink) -> None:
        """See ``ContinuousText``."""
        sampler = Sampler(request, self._defaults, self._tokenizer.token_bytes)
        pieces = self._tokenizer.pieces()
        self._inbox.put(_Sequence(request, sink, sampler, pieces.add, self._ends))
        request.cancel.then(lambda: self._inbox.put(_WAKE))


class _Run:
    """The loop of the thread that computes. One step reads a part of prompts or writes a token of
    each that writes, in turn; before each of them those are dropped who have left."""

    def __init__(
        self,
        decoder: Decoder,
        slots: int,
        step: int,
        inbox: queue.SimpleQueue[_Sequence | None],
    ) -> None:
        self._decoder = decoder
        self._step = step
        self._inbox = inbox
        self._waiting: deque[_Sequence] = deque()
        self._rows: Rows[_Sequence] = Rows(slots)
        self._has_read = False

    @property
    def busy(self) -> int:
        """Sequences that have a row."""
        return len(self._rows)

    def forever(self) -> None:
        """Step after step; sleeps while there is nothing to do."""
        while True:
            self.turn()

    def turn(self) -> None:
        """Wait until there is something to do, and make one step."""
        self._take()
        try:
            self._drop()
            self._compute()
        except Exception as e:  # of all, for nobody knows whose fault it is
            self._fail(e)

    def _take(self) -> None:
        """Whoever has come; waits for somebody where nothing runs."""
        came = [] if self._rows or self._waiting else [self._inbox.get()]
        while not self._inbox.empty():
            came.append(self._inbox.get())
        self._waiting += [sequence for sequence in came if sequence is not None]

    def _drop(self) -> None:
        self._waiting = deque(s for s in self._waiting if not s.request.cancel.is_set)
        self._remove([s for s in self._all() if s.is_over or s.request.cancel.is_set])

    def _all(self) -> list[_Sequence]:
        return [*self._rows.writing, *self._rows.reading]

    def _remove(self, gone: Sequence[_Sequence]) -> None:
        for sequence in gone:
            before = self._all()
            for source, target in self._rows.remove(sequence):
                self._decoder.move(source, target, before[source].length)

    def _compute(self) -> None:
        rows = self._rows
        if not rows.reading and rows.free:
            rows.read(self._next_prompts(rows.free))
        if rows.reading and not (self._has_read and rows.writing):
            self._has_read = True
            self._read()
        elif rows.writing:
            self._has_read = False
            self._write()

    def _next_prompts(self, most: int) -> list[_Sequence]:
        """Who is read next: as many as can be read in one step, or one that takes several."""
        taken: list[_Sequence] = []
        longest = 0
        while self._waiting and len(taken) < most:
            length = len(self._waiting[0].request.prompt)
            is_alone = not self._decoder.tells_all and length != longest
            longest = max(longest, length)
            if taken and (is_alone or longest * (len(taken) + 1) > self._step):
                break
            taken.append(self._waiting.popleft())
        return taken

    def _read(self) -> None:
        reading = self._rows.reading
        at = reading[0].length
        parts = [list(s.request.prompt[at : at + self._step]) for s in reading]
        scores = self._decoder.read(self._rows.first_read, parts, at)
        for sequence, part in zip(reading, parts, strict=True):
            sequence.length += len(part)
        if reading[0].length == len(reading[0].request.prompt):
            self._tell(self._rows.write(), scores)

    def _write(self) -> None:
        writing = self._rows.writing
        for sequence in writing:
            sequence.length += 1
        last = [sequence.last for sequence in writing]
        self._tell(writing, self._decoder.write(last, [s.length for s in writing]))

    def _tell(self, sequences: Sequence[_Sequence], scores: Any) -> None:
        for sequence, row, best in zip(sequences, scores, scores.argmax(axis=-1), strict=True):
            if not sequence.request.cancel.is_set:
                sequence.take(row, int(best))

    def _fail(self, error: Exception) -> None:
        running, self._rows = self._all(), Rows(self._rows.count)
        for sequence in running:
            sequence.sink.fail(error)
