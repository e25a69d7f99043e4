"""The Llama network in plain torch; its parameters carry the names that GGUF gives them."""

from __future__ import annotations

import torch
from gguf_export import ModelShape
from torch import Tensor, nn
from torch.nn import functional

_INITIAL_SPREAD = 0.02


class Llama(nn.Module):
    """Token ids ``(batch, length)`` to hidden states; ``scores`` makes logits of them."""

    rotations: Tensor

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.token_embd = nn.Embedding(shape.vocab, shape.hidden)
        self.blk = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.output_norm = nn.RMSNorm(shape.hidden, eps=shape.norm_epsilon)
        self.register_buffer("rotations", _rotations(shape), persistent=False)
        self._initialise(shape.layers)

    def forward(self, ids: Tensor) -> Tensor:
        """The hidden states after the last norm, ``(batch, length, hidden)``."""
        states: Tensor = self.token_embd(ids)
        for block in self.blk:
            states = block(states, self.rotations[: ids.shape[1]])
        normed: Tensor = self.output_norm(states)
        return normed

    def scores(self, states: Tensor) -> Tensor:
        """A logit for each token of the vocabulary; the embedding is the output layer too."""
        return functional.linear(states, self.token_embd.weight)

    def _initialise(self, layers: int) -> None:
        # As GPT-2 does: what is added to the residual stream starts smaller, the deeper the model.
        for name, weights in self.named_parameters():
            into_stream = name.endswith(("attn_output.weight", "ffn_down.weight"))
            if weights.dim() == 2:
                spread = _INITIAL_SPREAD / ((2 * layers) ** 0.5 if into_stream else 1)
                nn.init.normal_(weights, std=spread)


class Block(nn.Module):
    """One layer: attention with grouped key-value heads, then a SwiGLU feed-forward."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        hidden, ffn = shape.hidden, shape.ffn
        self.head_size = shape.head_size
        self.attn_norm = nn.RMSNorm(hidden, eps=shape.norm_epsilon)
        self.attn_q = nn.Linear(hidden, hidden, bias=False)
        self.attn_k = nn.Linear(hidden, shape.kv_size, bias=False)
        self.attn_v = nn.Linear(hidden, shape.kv_size, bias=False)
        self.attn_output = nn.Linear(hidden, hidden, bias=False)
        self.ffn_norm = nn.RMSNorm(hidden, eps=shape.norm_epsilon)
        self.ffn_gate = nn.Linear(hidden, ffn, bias=False)
        self.ffn_up = nn.Linear(hidden, ffn, bias=False)
        self.ffn_down = nn.Linear(ffn, hidden, bias=False)

    def forward(self, states: Tensor, rotations: Tensor) -> Tensor:
        states = states + self._attended(self.attn_norm(states), rotations)
        return states + self._fed_forward(self.ffn_norm(states))

    def _attended(self, states: Tensor, rotations: Tensor) -> Tensor:
        queries = _rotated(self._heads(self.attn_q(states)), rotations)
        keys = _rotated(self._heads(self.attn_k(states)), rotations)
        values = self._heads(self.attn_v(states))
        mixed = functional.scaled_dot_product_attention(
            queries, keys, values, is_causal=True, enable_gqa=True
        )
        joined: Tensor = self.attn_output(mixed.transpose(1, 2).flatten(2))
        return joined

    def _fed_forward(self, states: Tensor) -> Tensor:
        gated = functional.silu(self.ffn_gate(states)) * self.ffn_up(states)
        down: Tensor = self.ffn_down(gated)
        return down

    def _heads(self, projected: Tensor) -> Tensor:
        """``(batch, length, heads * size)`` to ``(batch, heads, length, size)``."""
        return projected.view(*projected.shape[:-1], -1, self.head_size).transpose(1, 2)


def _rotations(shape: ModelShape) -> Tensor:
    """Rotary positions: one unit complex number per position and pair of features."""
    pairs = torch.arange(0, shape.head_size, 2) / shape.head_size
    angles = torch.outer(torch.arange(shape.context), shape.rope_base**-pairs)
    return torch.polar(torch.ones_like(angles), angles)


def _rotated(heads: Tensor, rotations: Tensor) -> Tensor:
    # Neighbours form a pair, as llama.cpp has it for this architecture: nothing to permute later.
    pairs = torch.view_as_complex(heads.reshape(*heads.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * rotations).flatten(-2)
