"""What an engine that computes in its own child gives to the kit: an object for each thing that
its model can do.

Nothing here is inherited: an object that has the attributes and the methods is one. Unless it says
otherwise, a method is called in a compute thread, one call at a time for each object; what it
raises is told to whoever asked: a ``ModelPoolError`` as it is, anything else as the engine's
failure. The loop that serves runs in the main thread meanwhile and answers, so long as what
computes lets other threads run (numpy, torch, onnxruntime and the like do).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, runtime_checkable

from .cancel import Cancel

# -- text ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. None: as the model's own defaults say.

    Only those are ever set that the engine's ``honours`` name.

    Attributes:
        temperature: 0 takes the likeliest token always.
        top_k: 0 for all.
        repeat_penalty: 1 for none.
        logit_bias: what is added to the logits of tokens, by their ids.
        seed: the same request gives the same answer again; never negative. Each of ``n`` choices
            has another.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None


class Constraint(Protocol):
    """Which tokens may come next, of an answer that has to follow a grammar. A step of the engine
    asks ``mask`` before it samples; the kit is told nothing, the engine tells ``accept``."""

    def mask(self) -> bytes:
        """A bit for each token of the vocabulary, 1 where it may come: token ``i`` is bit ``i % 8``
        of byte ``i // 8`` (``numpy.unpackbits(…, bitorder="little")``). At its end only end tokens
        may come."""
        ...

    def accept(self, token: int) -> None:
        """That one has come, an end token too."""
        ...


@dataclass(frozen=True)
class TextRequest:
    """One sequence to be generated.

    Attributes:
        prompt: token ids, at least one, at most ``context_length - 1``.
        max_tokens: the engine stops after so many, at least 1; with the prompt they fit into
            ``context_length``.
        alternatives: for how many of the likeliest tokens log probabilities are wanted beside that
            of the chosen one; None: no log probabilities at all.
        constraint: see there; always None for a model without ``vocabulary``.
        cancel: to be looked at before each step.
        id: different for each sequence of this process.
    """

    prompt: Sequence[int]
    max_tokens: int
    sampling: Sampling
    cancel: Cancel
    alternatives: int | None = None
    constraint: Constraint | None = None
    id: str = ""


@dataclass(frozen=True)
class Token:
    """One that was generated.

    Attributes:
        id: an id of ``end_tokens`` ends the sequence, and is not told.
        data: what it adds to the text, UTF-8, perhaps only a part of a character, perhaps nothing.
            Whoever has no bytes but a library that decodes lists of ids: ``detokenize.Pieces``.
        logprob: its natural logarithm, where ``alternatives`` were asked for.
        alternatives: id, data and log probability of the likeliest, best first.
    """

    id: int
    data: bytes
    logprob: float | None = None
    alternatives: Sequence[tuple[int, bytes, float]] = ()


@dataclass(frozen=True)
class Vocabulary:
    """What grammars need to know of a model's tokens.

    Attributes:
        tokens: the bytes of each, by its id; as many as there are logits.
        special: ids that stand for no text.
        end: the id that ends an answer.
    """

    tokens: Sequence[bytes]
    special: Collection[int]
    end: int


class TextModel(Protocol):
    """What every model that writes has: how texts become tokens. A model that generates is one of
    ``StepText``, ``BatchText`` and ``ContinuousText``, too.

    These methods run in a thread of their own, beside what computes.

    Attributes:
        context_length: tokens, prompt and answer together.
        end_tokens: ids of those that end an answer.
        slots: sequences that are worked on at once; more wait. For ``StepText``: threads.
    """

    context_length: int
    end_tokens: Collection[int]
    slots: int

    def encode(self, text: str) -> list[int]:
        """Of a prompt that is no chat, with the begin token if the model wants one."""
        ...

    def chat_prompt(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]],
        settings: Mapping[str, Any],
    ) -> list[int]:
        """Tokens of a chat by the model's template, with what opens the answer.

        Args:
            messages: OpenAI's, ``content`` a text (or parts, where some are no text), arguments of
                tool calls objects as templates want them.
            tools: OpenAI's; empty for none.
            settings: more variables for the template (``chat_template_kwargs``).

        Raises:
            InvalidRequest: the template refuses it.
        """
        ...


@runtime_checkable
class StepText(TextModel, Protocol):
    """A model that answers one request at a time, step by step; others wait for a free slot."""

    def generate(self, request: TextRequest) -> Iterator[Token]:
        """Token after token. It is closed (``GeneratorExit``) when nothing more is wanted, which
        may also be found out between two steps by ``request.cancel``."""
        ...


@runtime_checkable
class BatchText(TextModel, Protocol):
    """A model that steps several requests side by side, but takes no new ones meanwhile; which
    wait for each other says the option ``batch_policy``."""

    def generate_batch(
        self, requests: Sequence[TextRequest]
    ) -> Iterator[Sequence[tuple[int, Token]]]:
        """After each step the new tokens, each with the index of its request. A request whose
        ``cancel`` is set gets no more; the iterator ends when all have ended."""
        ...


class TokenSink(Protocol):
    """Takes what is generated for one sequence. Every method may be called in any thread, and
    after the request was cancelled, when it does nothing."""

    def push(self, *tokens: Token) -> None:
        """The next ones."""

    def end(self) -> None:
        """There are no more. Not needed after an end token or ``max_tokens`` tokens."""

    def fail(self, error: BaseException) -> None:
        """It went wrong."""


@runtime_checkable
class ContinuousText(TextModel, Protocol):
    """A model that takes requests at any time and works on many at once (continuous batching)."""

    def submit(self, request: TextRequest, sink: TokenSink) -> None:
        """Take a request and return at once: called in the thread of the loop that serves.

        ``request.cancel.then(…)`` tells of clients that leave; nothing has to be told to the sink
        then.

        Raises:
            ModelPoolError: it cannot be taken.
        """
        ...


# What a model may have beside, looked for by name:
#   steps: int                      how often it was computed, parts of prompts included, of the
#                                   kinds of text; default: how often it told something
#   busy: int                       sequences that it works on, of ``ContinuousText``; default:
#                                   those whose clients wait
#   vocabulary: Vocabulary          answers can be held to JSON schemas (extra ``grammar``)
#   tool_format: str                how it writes calls of tools, a name of ``tool_calls.FORMATS``
#   vocabulary_size: int            tokens that clients give must be below, also of the models that
#                                   make vectors and classes; default: as many as ``vocabulary`` has


# -- vectors, scores, classes ----------------------------------------------------------------------


class EmbeddingModel(Protocol):
    """A model that makes a vector of a text.

    Attributes:
        context_length: tokens of one text.
    """

    context_length: int

    def encode(self, text: str) -> list[int]:
        """Tokens of a text, with those that the model wants around it. In a thread beside."""
        ...

    def embed(self, batch: Sequence[Sequence[int]]) -> Sequence[Sequence[float]]:
        """A vector for each list of tokens, pooled and normalised as the model is meant to be."""
        ...


class RerankModel(Protocol):
    """A model that says how well a document answers a query.

    Attributes:
        context_length: tokens of one query and one document together.
    """

    context_length: int

    def encode_pair(self, query: str, document: str) -> list[int]:
        """Tokens of both as the model wants them. In a thread beside."""
        ...

    def score(self, batch: Sequence[Sequence[int]]) -> Sequence[float]:
        """For each of these, more is better."""
        ...


class ClassifyModel(Protocol):
    """A model that tells texts apart.

    Attributes:
        context_length: tokens of one text.
        labels: of the classes.
    """

    context_length: int
    labels: Sequence[str]

    def encode(self, text: str) -> list[int]:
        """Tokens of a text. In a thread beside."""
        ...

    def classify(self, batch: Sequence[Sequence[int]]) -> Sequence[Sequence[float]]:
        """For each list of tokens a probability for each of ``labels``."""
        ...


# -- tensors ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TensorSpec:
    """What a model wants or gives under a name.

    Attributes:
        datatype: of the Open Inference Protocol: BOOL, UINT8 … INT64, FP16, FP32, FP64, BF16,
            BYTES.
        shape: -1 where any size will do.
    """

    name: str
    datatype: str
    shape: Sequence[int]


@dataclass(frozen=True)
class Tensor:
    """A named array.

    Attributes:
        data: row-major. Numbers little-endian without gaps, so that
            ``numpy.frombuffer(data, dtype).reshape(shape)`` is it, BF16 as two bytes; elements of
            BYTES are a list.
    """

    name: str
    datatype: str
    shape: Sequence[int]
    data: bytes | bytearray | memoryview | Sequence[bytes]


class TensorModel(Protocol):
    """Any model as arrays in, arrays out.

    Attributes:
        inputs, outputs: as the model's file says.
        is_batched: the first size of every input and output counts samples that have nothing to do
            with each other, so that requests may be computed side by side.
    """

    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    is_batched: bool

    def infer(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> Sequence[Tensor]:
        """The named outputs. Names, datatypes, numbers of dimensions and fixed sizes of the inputs
        are checked already."""
        ...


# -- sounds and pictures ---------------------------------------------------------------------------


@dataclass(frozen=True)
class SpeechRequest:
    """A text to be said. ``voice`` is empty for the model's own; ``speed`` 1 is as usual."""

    text: str
    cancel: Cancel
    voice: str = ""
    speed: float = 1.0
    instructions: str = ""


class SpeechModel(Protocol):
    """A model that speaks; the kit makes a file of it. Beside, looked for by name: ``voices``, the
    names that ``SpeechRequest.voice`` may have.

    Attributes:
        sample_rate: per second, one channel.
    """

    sample_rate: int

    def speak(self, request: SpeechRequest) -> Iterator[bytes]:
        """Samples as signed 16-bit little-endian integers, in pieces as they come; between two of
        them a client that leaves ends it."""
        ...


@dataclass(frozen=True)
class TranscriptionRequest:
    """A recording to be written down.

    Attributes:
        audio: the file as it came; ``sound_files.read_recording`` reads it.
        is_translation: into English is wanted.
        wants_words: with times of words.
    """

    audio: bytes
    filename: str
    cancel: Cancel
    language: str = ""
    prompt: str = ""
    temperature: float | None = None
    is_translation: bool = False
    wants_words: bool = False


@dataclass(frozen=True)
class Word:
    """With seconds from the begin."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Segment:
    """A part of what was said, with seconds from the begin; its text brings its own spaces."""

    text: str
    start: float
    end: float
    words: Sequence[Word] = ()


@dataclass(frozen=True)
class Heard:
    """What is known of a recording beside its words: the language as a code or a name, the length
    in seconds."""

    language: str = ""
    duration: float = 0.0


class TranscriptionModel(Protocol):
    """A model that listens. Beside, looked for by name: ``can_translate``, false for one that has
    no translations into English."""

    def transcribe(self, request: TranscriptionRequest) -> Iterator[Segment | Heard]:
        """Segment after segment, and ``Heard`` whenever that is known.

        Raises:
            InvalidRequest: the recording cannot be read; ``param`` is ``file``.
        """
        ...


@dataclass(frozen=True)
class ImageRequest:
    """A picture to be drawn, or changed.

    Attributes:
        width, height: in pixels; 0 for the model's own.
        image, mask: files as they came; empty for none.
    """

    prompt: str
    cancel: Cancel
    width: int = 0
    height: int = 0
    image: bytes = b""
    mask: bytes = b""


class ImageModel(Protocol):
    """A model that draws.

    Attributes:
        can_edit: takes an image.
    """

    can_edit: bool

    def draw(self, request: ImageRequest) -> bytes:
        """A file: PNG, JPEG or WebP."""
        ...


# -- all of it -------------------------------------------------------------------------------------

AnyText: TypeAlias = StepText | BatchText | ContinuousText


@dataclass(frozen=True)
class Hosted:
    """What a loaded model can do; see ``serve``.

    Attributes:
        chat_error: why chats are to be refused, for a model without a usable template.
        unable: parameters that the engine honours and this model cannot have, with why.
    """

    text: AnyText | None = None
    embeddings: EmbeddingModel | None = None
    rerank: RerankModel | None = None
    classify: ClassifyModel | None = None
    tensors: TensorModel | None = None
    speech: SpeechModel | None = None
    transcription: TranscriptionModel | None = None
    images: ImageModel | None = None
    chat_error: str | None = None
    unable: Mapping[str, str] = field(default_factory=dict)
