"""A decoder that onnxruntime-genai's builder made, computed by onnxruntime itself: many sequences
in one step, each with a row of one cache.

Its attention (GroupQueryAttention) takes for each row how much of the cache counts, so that
sequences of any lengths step together, and writes into the cache in place. It reads a prompt behind
what is in the cache for one row only, and prompts from the begin for several, padded behind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_TYPES: Mapping[str, str] = {"tensor(float)": "<f4", "tensor(float16)": "<f2"}
# Which rotations their graphs take depends on the longest of a batch, from so many tokens on.
_TWO_ROTATIONS: Mapping[str, int] = {"phi3": 4096, "phi3small": 8192, "phimoe": 4096}
# Of the difference that another text makes to scores.
_TOLERANCE = 0.25


class Unfit(Exception):
    """Why a graph cannot be computed so."""


@dataclass(frozen=True)
class DecoderNames:
    """Of a graph's inputs and outputs.

    Attributes:
        positions: empty where it takes none.
        past, present: the cache before and after a step, in the same order.
        shape: of a row of each of them, without its tokens: heads, numbers.
        dtype: numpy's, of the cache.
        tells_all: scores of every token of a prompt, not of the last only.
    """

    ids: str
    mask: str
    positions: str
    logits: str
    past: tuple[str, ...]
    present: tuple[str, ...]
    shape: tuple[int, int]
    dtype: str
    tells_all: bool


def decoder_names(
    said: Mapping[str, Any],
    inputs: Mapping[str, tuple[str, Sequence[Any]]],
    outputs: Mapping[str, tuple[str, Sequence[Any]]],
) -> DecoderNames:
    """PURE. Of the ``decoder`` in ``genai_config.json`` and the types and shapes of its graph.

    Raises:
        Unfit: it takes or gives something else.
    """
    named_in, named_out = said.get("inputs") or {}, said.get("outputs") or {}
    layers = range(int(said.get("num_hidden_layers") or 0))

    def each(named: Mapping[str, Any], kind: str) -> tuple[str, ...]:
        patterns = [str(named.get(f"{kind}_{part}_names") or "") for part in ("key", "value")]
        if not all(pattern.count("%d") == 1 for pattern in patterns):
            raise Unfit(f"its {kind} keys and values have no names")
        return tuple(pattern.replace("%d", str(i)) for i in layers for pattern in patterns)

    past, present = each(named_in, "past"), each(named_out, "present")
    ids = str(named_in.get("input_ids") or "input_ids")
    mask = str(named_in.get("attention_mask") or "attention_mask")
    positions = str(named_in.get("position_ids") or "position_ids")
    logits = str(named_out.get("logits") or "logits")
    wanted = {ids, mask, *past}
    if not past or not wanted <= set(inputs) <= {*wanted, positions}:
        raise Unfit(f"it takes {sorted(set(inputs) ^ wanted)[:4]} otherwise than decoders do")
    if not {logits, *present} <= set(outputs):
        raise Unfit("it does not give scores and its cache")
    kinds = {(inputs[name][0], *inputs[name][1][1::2]) for name in past}
    kind, heads, numbers = next(iter(kinds))
    heads = heads if isinstance(heads, int) else said.get("num_key_value_heads")
    numbers = numbers if isinstance(numbers, int) else said.get("head_size")
    if len(kinds) > 1 or kind not in _TYPES or not (heads and numbers):
        raise Unfit("its cache is not of the same numbers in each layer")
    if outputs[logits][0] not in _TYPES:
        raise Unfit(f"its scores are {outputs[logits][0]}")
    return DecoderNames(
        ids=ids,
        mask=mask,
        positions=positions if positions in inputs else "",
        logits=logits,
        past=past,
        present=present,
        shape=(int(heads), int(numbers)),
        dtype=_TYPES[kind],
        tells_all=outputs[logits][1][1] == inputs[ids][1][1],
    )


class Decoder:
    """A graph and its cache.

    Attributes:
        steps: how often the graph was computed.
    """

    def __init__(self, session: Any, names: DecoderNames, rows: int, length: int) -> None:
        """``length``: tokens of each row. Memory of the cache is taken as it is written to."""
        import numpy as np

        self.steps = 0
        self.tells_all = names.tells_all
        self._np = np
        self._session = session
        self._names = names
        heads, numbers = names.shape
        shape = (rows, heads, length, numbers)
        self._cache = [np.zeros(shape, dtype=names.dtype) for _ in names.past]
        self._bound: tuple[tuple[int, int], Any] | None = None

    def read(self, row: int, prompts: Sequence[Sequence[int]], at: int = 0) -> Any:
        """Read prompts into as many rows, the first of them ``row``, or the next part of one whose
        first ``at`` tokens were read. Several have to be of one length unless ``tells_all``.

        Returns:
            float32 of shape (prompts, vocabulary): scores of what comes next.
        """
        np = self._np
        longest = max(map(len, prompts))
        ids = np.zeros((len(prompts), longest), dtype=np.int64)
        for i, tokens in enumerate(prompts):
            ids[i, : len(tokens)] = tokens
        lengths = [at + len(tokens) for tokens in prompts]
        positions = np.broadcast_to(np.arange(at, at + longest, dtype=np.int64), ids.shape)
        scores = self._compute(row, ids, lengths, np.ascontiguousarray(positions))
        if not self.tells_all:
            return scores[:, -1]
        return scores[np.arange(len(prompts)), [len(tokens) - 1 for tokens in prompts]]

    def write(self, tokens: Sequence[int], lengths: Sequence[int]) -> Any:
        """One more token for each of the first rows; ``lengths``: what they have with it.

        Returns:
            float32 of shape (rows, vocabulary): scores of what comes next.
        """
        np = self._np
        ids = np.array(tokens, dtype=np.int64)[:, None]
        positions = np.array(lengths, dtype=np.int64)[:, None] - 1
        return self._compute(0, ids, lengths, positions)[:, -1]

    def move(self, source: int, target: int, length: int) -> None:
        """Put the first tokens of a row in the place of another row's."""
        for part in self._cache:
            part[target, :, :length] = part[source, :, :length]

    def _compute(self, row: int, ids: Any, lengths: Sequence[int], positions: Any) -> Any:
        np, names = self._np, self._names
        mask = np.arange(max(lengths))[None, :] < np.array(lengths)[:, None]
        binding = self._binding(row, len(ids))
        binding.bind_cpu_input(names.ids, ids)
        binding.bind_cpu_input(names.mask, mask.astype(np.int64))
        if names.positions:
            binding.bind_cpu_input(names.positions, positions)
        binding.bind_output(names.logits, "cpu")
        self.steps += 1
        self._session.run_with_iobinding(binding)
        return binding.get_outputs()[-1].numpy().astype(np.float32, copy=False)

    def _binding(self, row: int, count: int) -> Any:
        """With the cache of these rows, which is read and written where it lies."""
        if self._bound is not None and self._bound[0] == (row, count):
            binding = self._bound[1]
            binding.clear_binding_outputs()
        else:
            binding = self._session.io_binding()
            self._bound = (row, count), binding
            for name, part in zip(self._names.past, self._cache, strict=True):
                rows = part[row : row + count]
                place = rows.ctypes.data
                binding.bind_input(name, "cpu", 0, rows.dtype.type, rows.shape, place)
        for name, part in zip(self._names.present, self._cache, strict=True):
            rows = part[row : row + count]
            binding.bind_output(name, "cpu", 0, rows.dtype.type, rows.shape, rows.ctypes.data)
        return binding


def check_decoder(decoder: Decoder, kind: str, length: int) -> None:
    """Two sequences of different lengths step together as one of them does alone.

    Raises:
        Unfit: the graph mixes them up, or cannot take them.
    """
    import numpy as np

    if length > _TWO_ROTATIONS.get(kind, length):
        raise Unfit(f"{kind} reads texts of more than {_TWO_ROTATIONS[kind]} tokens otherwise")
    long, short = [5, 6, 7, 8, 9], [7, 5]
    try:
        decoder.read(0, [short])
        alone = decoder.write([6], [len(short) + 1])[0]
        whole = decoder.read(0, [[*long, 6]])[0]
        decoder.read(0, [long[:3]])
        parts = decoder.read(0, [[*long[3:], 6]], at=3)[0]
        decoder.read(0, [long, short] if decoder.tells_all else [long])
        if not decoder.tells_all:
            decoder.read(1, [short])
        together = decoder.write([9, 6], [len(long) + 1, len(short) + 1])[1]
    except Exception as e:  # the library's have nothing in common
        raise Unfit(str(e)[:500]) from e
    # What the text before a token makes of its scores: quantised models err by a part of that.
    difference = max(float(np.linalg.norm(whole - alone)), 1e-6)
    for found, expected in ((together, alone), (parts, whole)):
        error = float(np.linalg.norm(found - expected)) / difference
        if not error < _TOLERANCE:
            raise Unfit(f"side by side its scores are others, by {error:.0%}")
    decoder.steps = 0


def shapes(nodes: Sequence[Any]) -> dict[str, tuple[str, Sequence[Any]]]:
    """Types and shapes of a session's inputs or outputs, by their names."""
    return {node.name: (node.type, node.shape) for node in nodes}
