"""The attention of each branch."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from ..model.config import AttentionConfig
from .fast_dropout import Dropout


class Attended(NamedTuple):
    """Output of a branch's attention; positions of padding have no meaning."""

    output: Tensor
    """(B, T, D)."""
    layers: tuple[Tensor, ...]
    """(B, T, D) of each layer, before any norm that follows the last."""


class AttentionNorm(nn.Module):
    """Multi-head self-attention, residual and layer norm: the cascaded and hybrid branches'.

    SpeechCLIP (arXiv 2210.00705), section 3.3: a transformer layer without its feed-forward part,
    so that the keyword positions stay mixtures of frames.
    """

    def __init__(self, width: int, config: AttentionConfig) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(
            width, config.heads, dropout=config.dropout, batch_first=True
        )
        self.norm = nn.LayerNorm(width, eps=config.norm_eps)

    def forward(self, states: Tensor, padding: Tensor, first: int | None = None) -> Attended:
        """Let every position attend to every valid one.

        Args:
            states: (B, T, D).
            padding: (B, T) bool, True at padding.
            first: number of leading positions to compute; None: all.
        """
        queries = states[:, :first]
        attended, _ = self.attention(
            queries, states, states, key_padding_mask=padding, need_weights=False
        )
        output = self.norm(attended + queries)
        return Attended(output, (output,))

    def last_weights(self, states: Tensor, padding: Tensor) -> Tensor:
        """Compute the attention weights, (B, heads, T, T)."""
        return attention_weights(self.attention, states, padding)


class AttentionEncoder(nn.Module):
    """Transformer encoder layers and a final layer norm: the parallel branch's.

    SpeechCLIP (arXiv 2210.00705), section 3.2.
    """

    def __init__(self, width: int, config: AttentionConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width,
                config.heads,
                dim_feedforward=config.feedforward,
                dropout=config.dropout,
                activation="gelu",
                layer_norm_eps=config.norm_eps,
                batch_first=True,
                norm_first=config.norm_first,
            )
            for _ in range(config.layers)
        )
        for layer in self.layers:
            for name in ("dropout", "dropout1", "dropout2"):
                setattr(layer, name, Dropout(config.dropout))
        self.norm = nn.LayerNorm(width, eps=1e-5)

    def forward(self, states: Tensor, padding: Tensor, first: int | None = None) -> Attended:
        """Encode; arguments as in `AttentionNorm.forward`, `layers` is empty with `first`."""
        outputs = []
        *before, last = self.layers
        for layer in before:
            states = layer(states, src_key_padding_mask=padding)
            outputs.append(states)
        if first is not None:
            assert isinstance(last, nn.TransformerEncoderLayer)
            return Attended(self.norm(first_positions(last, states, padding, first)), ())
        states = last(states, src_key_padding_mask=padding)
        return Attended(self.norm(states), (*outputs, states))

    def last_weights(self, states: Tensor, padding: Tensor) -> Tensor:
        """Compute the attention weights of the last layer, (B, heads, T, T)."""
        *before, last = self.layers
        for layer in before:
            states = layer(states, src_key_padding_mask=padding)
        assert isinstance(last, nn.TransformerEncoderLayer)
        states = last.norm1(states) if last.norm_first else states
        return attention_weights(last.self_attn, states, padding)


def first_positions(
    layer: nn.TransformerEncoderLayer, states: Tensor, padding: Tensor, first: int
) -> Tensor:
    """Compute a transformer layer's output at the leading positions alone.

    Nothing reads the last layer's frames in training. Measured: 100 instead of 384 ms per training
    step of speechclip_parallel (mini preset, batch 64, 120 frames from stored features, one CPU
    thread).

    Args:
        layer: a transformer encoder layer.
        states: its input, (B, T, D).
        padding: (B, T) bool, True at padding.
        first: number of positions.

    Returns:
        (B, first, D).
    """
    keys = layer.norm1(states) if layer.norm_first else states
    queries = states[:, :first]
    attended, _ = layer.self_attn(
        keys[:, :first], keys, keys, key_padding_mask=padding, need_weights=False
    )
    queries = queries + layer.dropout1(attended)
    if not layer.norm_first:
        queries = layer.norm1(queries)
    inner = layer.norm2(queries) if layer.norm_first else queries
    inner = layer.linear2(layer.dropout(layer.activation(layer.linear1(inner))))
    queries = queries + layer.dropout2(inner)
    return queries if layer.norm_first else layer.norm2(queries)


def attention_weights(attention: nn.Module, states: Tensor, padding: Tensor) -> Tensor:
    """Compute the self-attention weights of one layer, (B, heads, T, T)."""
    _, weights = attention(
        states, states, states, key_padding_mask=padding, average_attn_weights=False
    )
    return weights


def build_attention(
    width: int, config: AttentionConfig, *, encoder: bool
) -> AttentionNorm | AttentionEncoder:
    """Build a branch's attention; `encoder` says whether `auto` means whole transformer layers."""
    whole = encoder if config.kind == "auto" else config.kind == "encoder"
    return AttentionEncoder(width, config) if whole else AttentionNorm(width, config)
