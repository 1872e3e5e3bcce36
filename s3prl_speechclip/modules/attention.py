"""The attention of each branch."""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import Tensor, nn

from .dropout import Dropout


class Attended(NamedTuple):
    """What attention gives; positions of padding have no meaning."""

    output: Tensor
    """(B, T, D)."""
    layers: tuple[Tensor, ...]
    """(B, T, D) of each layer, before any norm that follows the last."""


class AttentionNorm(nn.Module):
    """Multi-head self-attention, residual and layer norm: the cascaded and hybrid branches'.

    SpeechCLIP (arXiv 2210.00705), section 3.3: a transformer layer without its feed-forward part,
    so that the keyword positions stay mixtures of frames.
    """

    def __init__(self, *, width: int, heads: int, dropout: float, norm_eps: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.norm = nn.LayerNorm(width, eps=norm_eps)

    def forward(self, states: Tensor, padding: Tensor, first: int | None = None) -> Attended:
        """Let every position attend to every valid one.

        Args:
            states: (B, T, D).
            padding: (B, T) bool, True at padding.
            first: give only so many positions, the first; None: all.
        """
        asking = states if first is None else states[:, :first]
        attended, _ = self.attention(
            asking, states, states, key_padding_mask=padding, need_weights=False
        )
        output = self.norm(attended + asking)
        return Attended(output, (output,))

    def weights(self, states: Tensor, padding: Tensor) -> Tensor:
        """Give the attention weights themselves, (B, heads, T, T)."""
        _, weights = self.attention(
            states, states, states, key_padding_mask=padding, average_attn_weights=False
        )
        return weights


class AttentionEncoder(nn.Module):
    """Transformer encoder layers and a final layer norm: the parallel branch's.

    SpeechCLIP (arXiv 2210.00705), section 3.2.
    """

    def __init__(
        self,
        *,
        width: int,
        heads: int,
        layers: int,
        feedforward: int,
        dropout: float,
        norm_eps: float,
        norm_first: bool,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width,
                heads,
                dim_feedforward=feedforward,
                dropout=dropout,
                activation="gelu",
                layer_norm_eps=norm_eps,
                batch_first=True,
                norm_first=norm_first,
            )
            for _ in range(layers)
        )
        for layer in self.layers:
            for name in ("dropout", "dropout1", "dropout2"):
                setattr(layer, name, Dropout(dropout))
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
            return Attended(self.norm(_first_positions(last, states, padding, first)), ())
        states = last(states, src_key_padding_mask=padding)
        return Attended(self.norm(states), (*outputs, states))


def _first_positions(
    layer: nn.TransformerEncoderLayer, states: Tensor, padding: Tensor, first: int
) -> Tensor:
    """Do what the layer does, for the first positions alone; gives (B, first, D)."""
    keys = layer.norm1(states) if layer.norm_first else states
    asking = states[:, :first]
    attended, _ = layer.self_attn(
        keys[:, :first], keys, keys, key_padding_mask=padding, need_weights=False
    )
    asking = asking + layer.dropout1(attended)
    if not layer.norm_first:
        asking = layer.norm1(asking)
    inner = layer.norm2(asking) if layer.norm_first else asking
    inner = layer.linear2(layer.dropout(layer.activation(layer.linear1(inner))))
    asking = asking + layer.dropout2(inner)
    return asking if layer.norm_first else layer.norm2(asking)


def build_attention(
    kind: Literal["encoder", "norm"],
    *,
    width: int,
    heads: int,
    layers: int,
    feedforward: int,
    dropout: float,
    norm_eps: float,
    norm_first: bool,
) -> nn.Module:
    """Make a branch's attention.

    Args:
        kind: `encoder` for `AttentionEncoder`, `norm` for `AttentionNorm`.
        width: D.
        heads: attention heads.
        layers, feedforward, norm_first: of the encoder only.
        dropout: of both.
        norm_eps: of both.
    """
    if kind == "norm":
        return AttentionNorm(width=width, heads=heads, dropout=dropout, norm_eps=norm_eps)
    return AttentionEncoder(
        width=width,
        heads=heads,
        layers=layers,
        feedforward=feedforward,
        dropout=dropout,
        norm_eps=norm_eps,
        norm_first=norm_first,
    )
