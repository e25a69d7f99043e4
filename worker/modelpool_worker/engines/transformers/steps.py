"""Text of models that ``transformers`` cannot batch continuously: several sequences begin and step
together, by the library's ``generate``."""

from __future__ import annotations

import inspect
import queue
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

from modelpool_worker.hosting.contract import TextRequest, Token

from .choosing import Choice, Step
from .words import TextWords

# What ``generate`` itself would make of the model's defaults: the choosers do that.
_OURS = ("temperature", "top_k", "top_p", "min_p", "typical_p", "repetition_penalty", "max_length")


class SteppedWords:
    """See ``contract.BatchText``."""

    def __init__(
        self,
        model: Any,
        words: TextWords,
        *,
        context_length: int,
        slots: int,
        defaults: Mapping[str, Any],
    ) -> None:
        self.context_length = context_length
        # Of which tokens are padding must be told, else a batch can only be of one.
        can_pad = "attention_mask" in inspect.signature(model.forward).parameters
        self.slots = slots if can_pad else 1
        self.end_tokens: Collection[int] = words.end_tokens
        self.vocabulary = words.vocabulary
        self.vocabulary_size = words.vocabulary_size
        self.tool_format = words.tool_format
        self.encode = words.encode
        self.chat_prompt = words.chat_prompt
        self._model = model
        self._words = words
        self._defaults = defaults
        self.steps = 0
        self._pad = words.end_tokens[0] if words.end_tokens else 0
        for name in _OURS:
            setattr(model.generation_config, name, None)
        model.generation_config.do_sample = False

    def generate_batch(
        self, requests: Sequence[TextRequest]
    ) -> Iterator[Sequence[tuple[int, Token]]]:
        """See there."""
        told: queue.SimpleQueue[_News] = queue.SimpleQueue()
        sinks = [_Sink(i, told) for i in range(len(requests))]
        choices = [
            Choice(request, self._defaults, self._words, sink)
            for request, sink in zip(requests, sinks, strict=True)
        ]
        run = _Run(choices, self._pad, told, self._count)
        thread = threading.Thread(target=self._run, args=(requests, run), name="generate")
        thread.start()
        try:
            while (news := told.get()) is not None:
                if isinstance(news, BaseException):
                    raise news
                yield [news]
        finally:
            run.is_closed = True
            thread.join()

    def _run(self, requests: Sequence[TextRequest], run: _Run) -> None:
        """In a thread of its own, for the library calls us and not the other way round."""
        try:
            ids, mask = _padded([request.prompt for request in requests], self._pad)
            masked = {} if len(requests) == 1 else {"attention_mask": mask.to(self._model.device)}
            most = max(request.max_tokens for request in requests)
            with torch.inference_mode():
                self._model.generate(
                    ids.to(self._model.device),
                    **masked,
                    generation_config=self._settings(most),
                    logits_processor=LogitsProcessorList([run.choose]),
                    stopping_criteria=StoppingCriteriaList([run.stops]),
                )
            run.told.put(None)
        except BaseException as e:
            run.told.put(e)

    def _count(self) -> None:
        self.steps += 1

    def _settings(self, max_tokens: int) -> GenerationConfig:
        own = self._model.generation_config
        starts = {
            "decoder_start_token_id": own.decoder_start_token_id,
            "bos_token_id": own.bos_token_id,
        }
        return GenerationConfig(
            do_sample=False,
            max_new_tokens=max_tokens,
            eos_token_id=None,
            pad_token_id=self._pad,
            **starts,
        )


_News = tuple[int, Token] | BaseException | None


@dataclass
class _Sink:
    """Takes the tokens of one sequence."""

    index: int
    told: queue.SimpleQueue[_News]

    def push(self, *tokens: Token) -> None:
        for token in tokens:
            self.told.put((self.index, token))

    def end(self) -> None:
        pass

    def fail(self, error: BaseException) -> None:
        self.told.put(error)


class _Run:
    """One batch: what the library asks between its steps."""

    def __init__(
        self,
        choices: Sequence[Choice],
        pad: int,
        told: queue.SimpleQueue[_News],
        count: Callable[[], None],
    ) -> None:
        self.told = told
        self._count = count
        self.is_closed = False
        self._choices = choices
        self._step = Step(choices, pad)

    def choose(self, input_ids: Any, scores: Any) -> Any:
        """A logits processor: scores of shape (sequences, vocabulary)."""
        self._count()
        return self._step.decide(scores)

    def stops(self, input_ids: Any, scores: Any) -> Any:
        """A stopping criterion: which sequences have ended."""
        ended = [
            self.is_closed or choice.is_over or choice.request.cancel.is_set
            for choice in self._choices
        ]
        return torch.tensor(ended, device=input_ids.device)


def _padded(prompts: Sequence[Sequence[int]], pad: int) -> tuple[Any, Any]:
    """On the left, so that all end together; and which tokens are none."""
    width = max(map(len, prompts))
    ids = [[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids), torch.tensor(mask)
