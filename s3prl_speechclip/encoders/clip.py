"""CLIP: images, written captions and keywords in one joint space."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import open_clip
import torch
from open_clip.timm_model import TimmModel
from open_clip.transform import image_transform
from PIL.Image import Image
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import EncoderError
from .vocabulary import (
    BPE_SIZE,
    CONTEXT,
    END_OF_TEXT,
    PADDING,
    SPECIAL_TOKENS,
    START_OF_TEXT,
    check_vocabulary,
    encode,
    spelled,
)

logger = logging.getLogger(__name__)


class ClipEncoder(nn.Module):
    """A CLIP model, and the part of its token table that keywords are chosen from.

    Args:
        clip: an open_clip model.
        vocabulary: original BPE ids of the codebook, (V,). A model whose token table is smaller
            than BPE's has exactly these rows, in this order.
        trainable: train text tower and image projection; the image trunk is always frozen.
        image_resize: see `ClipConfig`.
    """

    def __init__(
        self,
        clip: open_clip.CLIP,
        vocabulary: Tensor,
        *,
        trainable: bool = False,
        image_resize: str = "shortest",
    ) -> None:
        super().__init__()
        check_vocabulary(vocabulary, "CLIP")
        self.clip = clip
        self.trainable = trainable
        self.image_resize = image_resize
        self.whole_table = clip.token_embedding.num_embeddings == BPE_SIZE
        if not self.whole_table and clip.token_embedding.num_embeddings != len(vocabulary):
            raise EncoderError(
                f"CLIP's token table has {clip.token_embedding.num_embeddings} rows, "
                f"the vocabulary {len(vocabulary)}"
            )
        self.vocabulary: Tensor
        self.register_buffer("vocabulary", vocabulary)
        rows = torch.full((BPE_SIZE,), -1)
        rows[vocabulary] = torch.arange(len(vocabulary))
        self._reduced_ids: Tensor
        self._banned: Tensor
        self.register_buffer("_reduced_ids", rows, persistent=False)
        self._row_of = {token: row for row, token in enumerate(vocabulary.tolist())}
        self.register_buffer("_banned", rows[list(SPECIAL_TOKENS)], persistent=False)
        clip.requires_grad_(trainable)
        clip.logit_scale.requires_grad_(False)
        image_trunk(clip).requires_grad_(False)
        self.train(self.training)

    @property
    def token_width(self) -> int:
        """D of token embeddings."""
        return int(self.clip.token_embedding.embedding_dim)

    @property
    def joint_width(self) -> int:
        """E."""
        projection = self.clip.text_projection
        if isinstance(projection, nn.Linear):
            return int(projection.out_features)
        return int(projection.shape[1])

    @property
    def banned_rows(self) -> Tensor:
        """Codebook rows of padding, start and end of text, (3,)."""
        return self._banned

    def train(self, mode: bool = True) -> ClipEncoder:
        super().train(mode and self.trainable)
        image_trunk(self.clip).eval()
        return self

    def codebook(self) -> Tensor:
        """Give the embeddings of the vocabulary's tokens, (V, D)."""
        table = self.clip.token_embedding.weight
        return table[self.vocabulary] if self.whole_table else table

    def original_ids(self, rows: Tensor) -> Tensor:
        """Turn codebook rows into original BPE ids, any shape."""
        return self.vocabulary[rows]

    def image_features(self, pixels: Tensor) -> Tensor:
        """Run the frozen image trunk.

        Args:
            pixels: (B, 3, H, W), as `preprocess` makes them.

        Returns:
            (B, F), to be kept and given to `embed_image_features`.
        """
        with torch.no_grad():
            return image_trunk(self.clip)(pixels)

    def embed_image_features(self, features: Tensor) -> Tensor:
        """Project what the trunk gave into the joint space; unit vectors (B, E)."""
        with nullcontext() if self.trainable else torch.no_grad():
            return F.normalize(image_head(self.clip)(features).float(), dim=-1)

    def encode_images(self, images: Tensor) -> Tensor:
        """Embed images.

        Args:
            images: pixels (B, 3, H, W), or the trunk's features (B, F).

        Returns:
            Unit vectors (B, E).
        """
        features = self.image_features(images) if images.ndim == 4 else images
        return self.embed_image_features(features)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Embed written captions.

        Args:
            texts: B captions; what exceeds 75 tokens is cut, as CLIP does. Tokens that a small
                model's table lacks are spelled by its letters, or left out with a warning where
                it lacks those.

        Returns:
            Unit vectors (B, E).
        """
        tokens = [self._known_rows(text) for text in texts]
        lengths = torch.tensor([len(row) for row in tokens])
        rows = torch.zeros(len(tokens), max(1, int(lengths.max())), dtype=torch.int64)
        for row, ids in zip(rows, tokens, strict=True):
            row[: len(ids)] = torch.tensor(ids, dtype=torch.int64)
        device = self.vocabulary.device
        with nullcontext() if self.trainable else torch.no_grad():
            embeddings = self.clip.token_embedding(rows.to(device))
            return self.encode_keywords(embeddings, lengths.to(device))

    def encode_keywords(self, keywords: Tensor, lengths: Tensor) -> Tensor:
        """Read keywords as if they were a written caption (SpeechCLIP, section 3.3).

        Start of text, the keywords, end of text; the text tower is causal, so what would follow
        the end changes nothing and is left out.

        Args:
            keywords: token embeddings, (B, K, D).
            lengths: keywords per utterance, (B,), at most 75.

        Returns:
            Unit vectors (B, E), read at the end of text.
        """
        clip = self.clip
        batch, count = keywords.shape[0], min(keywords.shape[1], CONTEXT - 2)
        start, end, padding = self._special_embeddings()
        states = padding.expand(batch, count + 2, -1).clone()
        states[:, 0] = start
        slots = torch.arange(count, device=lengths.device)
        inside = (slots.unsqueeze(0) < lengths.unsqueeze(1)).unsqueeze(-1)
        states[:, 1 : count + 1] = torch.where(
            inside, keywords[:, :count].to(states.dtype), states[:, 1 : count + 1]
        )
        ends = lengths.clamp_max(count) + 1
        utterances = torch.arange(batch, device=lengths.device)
        states[utterances, ends] = end

        width = count + 2
        states = states + clip.positional_embedding[:width]
        states = clip.transformer(states, attn_mask=clip.attn_mask[:width, :width])
        pooled = clip.ln_final(states)[utterances, ends]
        projection = clip.text_projection
        embedded = projection(pooled) if isinstance(projection, nn.Linear) else pooled @ projection
        return F.normalize(embedded.float(), dim=-1)

    def preprocess(self) -> Callable[[Image], Tensor]:
        """Give the transform from an RGB image to pixels (3, H, W)."""
        visual = self.clip.visual
        return image_transform(
            visual.image_size,
            is_train=False,
            mean=getattr(visual, "image_mean", None),
            std=getattr(visual, "image_std", None),
            resize_mode=self.image_resize,
            fill_color=255,
        )

    def _special_embeddings(self) -> tuple[Tensor, Tensor, Tensor]:
        ids = torch.tensor([START_OF_TEXT, END_OF_TEXT, PADDING], device=self.vocabulary.device)
        rows = ids if self.whole_table else self._reduced_ids[ids]
        start, end, padding = self.clip.token_embedding(rows)
        return start, end, padding

    def _known_rows(self, text: str) -> list[int]:
        ids = encode(text)
        if self.whole_table:
            return ids
        rows: list[int] = []
        unknown = 0
        for token in ids:
            row = self._row_of.get(token)
            letters = [row] if row is not None else [self._row_of.get(i) for i in spelled(token)]
            if None in letters:
                unknown += 1
            else:
                rows += letters  # type: ignore[arg-type]
        if unknown:
            logger.warning("%d tokens of '%s' are not in this CLIP's table", unknown, text)
        return rows[: CONTEXT - 2]


def image_trunk(clip: open_clip.CLIP) -> nn.Module:
    """Give the part of the image tower that is always frozen: all of it, or timm's network."""
    return clip.visual.trunk if isinstance(clip.visual, TimmModel) else clip.visual


def image_head(clip: open_clip.CLIP) -> nn.Module:
    """Give what follows the trunk: timm's projection, or nothing."""
    return clip.visual.head if isinstance(clip.visual, TimmModel) else nn.Identity()
