"""Text by the continuous batching of ``transformers``: a paged cache of fixed size, sequences come
and go between its steps."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from modelpool_client.errors import EngineFailed
from transformers import ContinuousBatchingConfig, GenerationConfig

from modelpool_worker.hosting.cancel import Cancel
from modelpool_worker.hosting.contract import Sampling, TextRequest, Token, TokenSink

from .choosing import Choice, Step
from .words import TextWords

# Tokens of a page of the cache.
PAGE = 32
TRIAL_SECONDS = 120.0
# So different may the scores of the same prompt be, with numbers of 16 bits (relative).
TOLERANCE = 0.1
_WATCH_SECONDS = 1.0
_EXIT_CODE = 70


class Unfit(Exception):
    """The library cannot batch this architecture continuously, or does it wrongly."""


class ContinuousWords:
    """See ``contract.ContinuousText``."""

    def __init__(
        self,
        words: TextWords,
        manager: Any,
        chooser: Chooser,
        context_length: int,
        slots: int,
        defaults: Mapping[str, Any],
    ) -> None:
        self.context_length = context_length
        self.slots = slots
        self.end_tokens: Collection[int] = words.end_tokens
        self.vocabulary = words.vocabulary
        self.vocabulary_size = words.vocabulary_size
        self.tool_format = words.tool_format
        self.encode = words.encode
        self.chat_prompt = words.chat_prompt
        self._words = words
        self._manager = manager
        self._chooser = chooser
        self._defaults = defaults

    @property
    def steps(self) -> int:
        """See ``Meter``."""
        return self._chooser.steps

    @property
    def busy(self) -> int:
        """See ``Meter``."""
        return len(self._manager.batch_processor.scheduler.active_requests)

    def submit(self, request: TextRequest, sink: TokenSink) -> None:
        """See there."""
        choice = Choice(request, self._defaults, self._words, sink)
        self._chooser.add(choice)
        # What ends well is told by the chooser, token by token.
        self._manager.register_result_handler(request.id, self._ended)
        request.cancel.then(lambda: self._cancelled(request.id))
        added = self._manager.add_request(
            list(request.prompt),
            request_id=request.id,
            max_new_tokens=request.max_tokens,
            eos_token_id=list(self.end_tokens),
        )
        if added is None:
            raise EngineFailed("the engine has failed and takes no more requests", source="engine")

    def _ended(self, result: Any) -> None:
        choice = self._chooser.drop(result.request_id)
        if choice is not None and not choice.has_failed:
            text = f"the engine failed: {result.error or 'it ended an answer too early'}"
            choice.fail(EngineFailed(text[:2000], source="engine"))

    def _cancelled(self, id_: str) -> None:
        """The library tells nothing of cancelled requests, and would keep their handlers."""
        if self._chooser.drop(id_) is not None:
            self._manager.cancel_request(id_)
            self._manager.output_router.result_handlers.pop(id_, None)


class Chooser:
    """Stands where the library has its list of logits processors: asked once a step, with the
    sequences that are in it."""

    do_processing = True
    tensors_required = 0

    def __init__(self, end: int) -> None:
        self._end = end
        self._lock = threading.Lock()
        self._choices: dict[str, Choice] = {}
        self._step = Step((), end)
        self.first_scores: Any = None  # of the trial
        self.steps = 0

    def add(self, choice: Choice) -> None:
        """One more sequence, before the library hears of it."""
        with self._lock:
            self._choices[choice.request.id] = choice

    def drop(self, id_: str) -> Choice | None:
        """It has ended, or nobody waits for it; None if that was known."""
        with self._lock:
            return self._choices.pop(id_, None)

    def check_kwargs(self, given: Mapping[str, Any]) -> None:
        """Of requests: there are none."""

    def fill_defaults(self, tensor: Any) -> None:
        """Of arguments: there are none."""

    def prepare_tensor_args(self, requests_in_batch: Sequence[Any], arg_storage: Any) -> Any:
        """Before a step: the sequences in it, of which some do not get a token yet."""
        self.steps += 1
        with self._lock:
            rows = [
                self._choices.get(entry.state.request_id)
                for entry in requests_in_batch
                if entry.has_new_token
            ]
        self._step = Step(rows, self._end)
        return arg_storage

    def __call__(self, input_ids: Any, scores: Any, arguments: Any) -> Any:
        """Within a step: scores of shape (sequences, vocabulary)."""
        if not self._step.rows:
            return scores
        if self.first_scores is None:
            self.first_scores = scores[0].float().clone()
        decided = self._step.decide(scores)
        for choice in self._step.rows:
            # One that has failed stays until it is cancelled: the library does not know of it.
            if choice is not None and choice.is_over and not choice.has_failed:
                self.drop(choice.request.id)
        return decided


@dataclass
class _Trial:
    """Takes the tokens of a trial."""

    error: BaseException | None = None
    count: int = 0

    def push(self, *tokens: Token) -> None:
        self.count += len(tokens)

    def end(self) -> None:
        pass

    def fail(self, error: BaseException) -> None:
        self.error = error


def batched_continuously(
    model: Any,
    words: TextWords,
    *,
    context_length: int,
    slots: int,
    step_tokens: int,
    defaults: Mapping[str, Any],
) -> ContinuousWords:
    """The model, with a cache for ``slots`` sequences of ``context_length`` tokens, tried with a
    short prompt.

    Args:
        step_tokens: of prompts in one step.

    Raises:
        Unfit: its architecture is none for that.
        torch.OutOfMemoryError, MemoryError: the cache does not fit.
    """
    prompt = _trial_prompt(words, model.config.get_text_config().vocab_size)
    plain = _plain_scores(model, prompt)
    end = words.end_tokens[0] if words.end_tokens else 0
    pages = -(-context_length // PAGE)
    config = ContinuousBatchingConfig(
        page_size=PAGE,
        num_blocks=slots * pages + 1,
        max_batch_tokens=max(step_tokens, slots),
        max_requests_per_batch=slots,
        safety_margin=0.0,
        # The choosers are on the host: there is nothing to record or to run ahead.
        use_async_batching=False,
        use_cuda_graph=False,
        # It might fetch kernels.
        auto_switch_to_flash=False,
    )
    # Greedy, for it takes what the chooser leaves; without processors of the model's own.
    generation = GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=end)
    try:
        manager = model.init_continuous_batching(
            generation_config=generation, continuous_batching_config=config
        )
    except (AttributeError, ValueError, TypeError, NotImplementedError) as e:
        raise Unfit(f"{type(e).__name__}: {e}") from e
    chooser = Chooser(end)
    manager.logit_processor = chooser
    with torch.inference_mode():
        manager.start()
    text = ContinuousWords(words, manager, chooser, context_length, slots, defaults)
    try:
        _try(manager, chooser, words, prompt, plain)
    except BaseException:
        manager.stop(block=True, timeout=10, hard_stop=True)
        raise
    threading.Thread(target=_watch, args=(manager,), name="watch", daemon=True).start()
    return text


def _trial_prompt(words: TextWords, size: int) -> list[int]:
    ids = words.encode("Hello, this is a trial.")[:16]
    return ids or [i % size for i in (1, 2, 3)]


def _plain_scores(model: Any, prompt: Sequence[int]) -> Any:
    with torch.inference_mode():
        ids = torch.tensor([prompt], device=model.device)
        return model(input_ids=ids, use_cache=False).logits[0, -1].float()


def _try(manager: Any, chooser: Chooser, words: TextWords, prompt: list[int], plain: Any) -> None:
    """Two tokens; the scores of the first must be those that the model gives without a cache."""
    trial = _Trial()
    request = TextRequest(prompt, 2, Sampling(temperature=0), Cancel(), id="trial")
    chooser.add(Choice(request, {}, words, trial))
    manager.add_request(prompt, request_id=request.id, max_new_tokens=2, eos_token_id=-1)
    limit = time.monotonic() + TRIAL_SECONDS
    result = None
    while result is None and manager.is_running() and time.monotonic() < limit:
        result = manager.get_result(timeout=0.1)
    if result is not None and result.error is not None:
        manager._generation_thread.join(TRIAL_SECONDS)  # which tells the reason last
    error = manager.background_thread_status.fatal_error
    error = error or trial.error or (result.error if result is not None else None)
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        raise error
    if error is not None or result is None or chooser.first_scores is None:
        raise Unfit(str(error or "no answer"))
    distance = (chooser.first_scores - plain).norm() / plain.norm().clamp(min=1e-6)
    if not distance < TOLERANCE:
        raise Unfit(f"its scores differ from the model's own by {float(distance):.0%}")


def _watch(manager: Any) -> None:
    """A loop that has failed serves nobody any more: the worker is to be started anew."""
    while manager.is_running():
        time.sleep(_WATCH_SECONDS)
    error = manager.background_thread_status.fatal_error
    print(f"transformers {transformers.__version__}: its loop failed: {error!r}", file=sys.stderr)
    sys.stderr.flush()
    os._exit(_EXIT_CODE)
