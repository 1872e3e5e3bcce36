"""CLIP: images, written captions and keywords in one joint space."""

from __future__ import annotations

import json
import logging
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeAlias

import open_clip
import timm
import torch
from open_clip.model import set_model_preprocess_cfg
from open_clip.openai import load_openai_model
from open_clip.timm_model import TimmModel
from open_clip.transform import PreprocessCfg, image_transform
from PIL.Image import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import EncoderError, first_line
from ..hashing import file_hash
from ..model.config import ClipConfig
from .efficientnet import load_efficientnet_lite0
from .shipped import SHIPPED, shipped_folder
from .vocabulary import BPE_SIZE, SPECIAL_TOKENS, check_vocabulary, encode, spelled

logger = logging.getLogger(__name__)

EFFICIENTNET = "efficientnet-lite0"  # an image trunk with ImageNet weights, all else random
WEIGHTS = "model.safetensors"
TOKENS = "clip.token_embedding.weight"
TRUNK = "clip.visual.trunk."  # what the names of the trunk's weights begin with
TIMM = "timm:"  # what names of image towers alone begin with
PREPROCESSING = ("mean", "std", "interpolation", "resize_mode")
NO_TEXT = {"context_length": 1, "vocab_size": 1, "width": 8, "heads": 1, "layers": 1}


class ImageTower(nn.Module):
    """An image encoder alone, for models without keywords: a model's half, or timm's network."""

    def __init__(self, visual: nn.Module, joint_width: int) -> None:
        super().__init__()
        self.visual = visual
        self.joint_width = joint_width


Clip: TypeAlias = open_clip.CLIP | open_clip.CustomTextCLIP | ImageTower


class ClipEncoder(nn.Module):
    """A CLIP model, and the part of its token table that keywords are chosen from.

    Args:
        clip: an open_clip model whose text encoder reads CLIP's tokens, or an image tower alone.
        vocabulary: original BPE ids of the codebook, (V,). A model whose token table is smaller
            than BPE's has exactly these rows, in this order.
        trainable: whether text encoder and image projection are trained; the image trunk is always
            frozen.
        image_resize: see `ClipConfig`.
    """

    def __init__(
        self,
        clip: Clip,
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
        images_only = isinstance(clip, ImageTower)
        table = BPE_SIZE if images_only else self.text.token_embedding.num_embeddings
        self.whole_table = table == BPE_SIZE
        if not self.whole_table and table != len(vocabulary):
            raise EncoderError(
                f"CLIP's token table has {table} rows, the vocabulary {len(vocabulary)}"
            )
        self._row_of = {token: row for row, token in enumerate(vocabulary.tolist())}
        banned = torch.tensor([self._row_of[token] for token in SPECIAL_TOKENS])
        self.vocabulary: Tensor
        self.banned_rows: Tensor
        """Codebook rows of padding, start and end of text, (3,)."""
        self.register_buffer("vocabulary", vocabulary)
        self.register_buffer("banned_rows", banned, persistent=False)
        clip.requires_grad_(trainable)
        for name, parameter in clip.named_parameters(recurse=False):
            if name in ("logit_scale", "logit_bias"):
                parameter.requires_grad_(False)
        image_trunk(clip).requires_grad_(False)
        self.train(self.training)

    @property
    def text(self) -> Any:
        """The text encoder; raises EncoderError where there is an image tower alone."""
        if isinstance(self.clip, ImageTower):
            raise EncoderError("this model has an image tower alone, which reads no text")
        return self.clip.text if isinstance(self.clip, open_clip.CustomTextCLIP) else self.clip

    @property
    def token_width(self) -> int:
        """D of token embeddings."""
        return int(self.text.token_embedding.embedding_dim)

    @property
    def joint_width(self) -> int:
        """E."""
        if isinstance(self.clip, ImageTower):
            return self.clip.joint_width
        projection = self.text.text_projection
        if isinstance(projection, nn.Linear):
            return int(projection.out_features)
        return int(projection.shape[1])

    @property
    def context(self) -> int:
        """Positions of the text encoder, start and end of text included."""
        return len(self.text.positional_embedding)

    def train(self, mode: bool = True) -> ClipEncoder:
        super().train(mode and self.trainable)
        image_trunk(self.clip).eval()
        return self

    def codebook(self) -> Tensor:
        """Return the embeddings of the vocabulary's tokens, (V, D)."""
        table: Tensor = self.text.token_embedding.weight
        return table[self.vocabulary] if self.whole_table else table

    def original_ids(self, rows: Tensor) -> Tensor:
        """Convert codebook rows to original BPE ids, any shape."""
        return self.vocabulary[rows]

    def codebook_rows(self, text: str) -> list[int]:
        """Return the codebook rows of a text's tokens, as many as the text encoder reads."""
        rows = [self._row_of[token] for token in encode(text) if token in self._row_of]
        return rows[: self.context - 2]

    def image_features(self, pixels: Tensor) -> Tensor:
        """Run the frozen image trunk on pixels (B, 3, H, W); returns features (B, F)."""
        with torch.no_grad():
            return image_trunk(self.clip)(pixels)

    def embed_image_features(self, features: Tensor) -> Tensor:
        """Project the trunk's features, (B, F), to the joint space; unit vectors (B, E)."""
        visual = self.clip.visual
        with nullcontext() if self.trainable else torch.no_grad():
            projected = visual.head(features) if isinstance(visual, TimmModel) else features
            return F.normalize(projected.float(), dim=-1)

    def encode_images(self, images: Tensor) -> Tensor:
        """Embed pixels (B, 3, H, W) or the trunk's features (B, F); unit vectors (B, E)."""
        features = self.image_features(images) if images.ndim == 4 else images
        return self.embed_image_features(features)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Embed written captions.

        Args:
            texts: B captions, cut to the text encoder's context. Tokens that a small model's table
                lacks are spelled in letters, or left out with a warning if it lacks those.

        Returns:
            Unit vectors (B, E).
        """
        device = self.vocabulary.device
        found = [self._known_rows(text) for text in texts]
        short = [text for text, (_, unknown) in zip(texts, found, strict=True) if unknown]
        if short:
            logger.warning(
                "%d of %d texts are read without some tokens that are not in this CLIP's table: "
                "'%s'%s",
                len(short),
                len(texts),
                short[0][:60],
                ", ..." if len(short) > 1 else "",
            )
        rows = [torch.tensor(known, dtype=torch.int64) for known, _ in found]
        lengths = torch.tensor([len(row) for row in rows], device=device)
        padded = nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device)
        with nullcontext() if self.trainable else torch.no_grad():
            return self.encode_keywords(self.text.token_embedding(padded), lengths)

    def encode_keywords(self, keywords: Tensor, lengths: Tensor) -> Tensor:
        """Encode keywords as a written caption (SpeechCLIP, section 3.3).

        Start of text, the keywords, end of text. Padding after the end changes nothing in a causal
        text encoder and is left out; an unmasked one reads it, to the end of its context.

        Args:
            keywords: token embeddings, (B, K, D).
            lengths: keywords per utterance, (B,); what exceeds the context is left out.

        Returns:
            Unit vectors (B, E), taken at the end of text.
        """
        text = self.text
        keywords = keywords[:, : self.context - 2]
        batch, count, _ = keywords.shape
        width = self.context if text.attn_mask is None else count + 2
        special = self.vocabulary[self.banned_rows] if self.whole_table else self.banned_rows
        padding, start, end = text.token_embedding(special)
        states = padding.expand(batch, width, -1).clone()
        states[:, 0] = start
        slots = torch.arange(count, device=lengths.device)
        inside = (slots.unsqueeze(0) < lengths.unsqueeze(1)).unsqueeze(-1)
        states[:, 1 : count + 1] = torch.where(
            inside, keywords.to(states.dtype), states[:, 1 : count + 1]
        )
        ends = lengths.clamp_max(count) + 1
        utterances = torch.arange(batch, device=lengths.device)
        states[utterances, ends] = end

        mask = None if text.attn_mask is None else text.attn_mask[:width, :width]
        states = text.transformer(states + text.positional_embedding[:width], attn_mask=mask)
        pooled = text.ln_final(states)[utterances, ends]
        projection = text.text_projection
        embedded = projection(pooled) if isinstance(projection, nn.Linear) else pooled @ projection
        return F.normalize(embedded.float(), dim=-1)

    def preprocess(self) -> Callable[[Image], Tensor]:
        """Return the transform from an RGB image to pixels (3, H, W)."""
        visual = self.clip.visual
        known = getattr(visual, "preprocess_cfg", {})  # open_clip's, where it knows the weights
        shortest = self.image_resize == "shortest"
        return image_transform(
            visual.image_size,
            is_train=False,
            mean=getattr(visual, "image_mean", None),
            std=getattr(visual, "image_std", None),
            interpolation=known.get("interpolation"),
            resize_mode=known.get("resize_mode", "shortest") if shortest else self.image_resize,
            fill_color=255,
        )

    def _known_rows(self, text: str) -> tuple[list[int], int]:
        """Return the rows of a text's tokens, and the number of those that the table lacks."""
        ids = encode(text)
        if self.whole_table:
            return ids[: self.context - 2], 0
        rows: list[int] = []
        unknown = 0
        for token in ids:
            pieces = (token,) if token in self._row_of else spelled(token)
            known = [self._row_of[piece] for piece in pieces if piece in self._row_of]
            if len(known) == len(pieces):
                rows += known
            else:
                unknown += 1
        return rows[: self.context - 2], unknown


def image_trunk(clip: Clip) -> nn.Module:
    """Return the part of the image encoder that is always frozen: all of it, or timm's network."""
    visual: nn.Module = clip.visual
    return visual.trunk if isinstance(visual, TimmModel) else visual


def build_clip(
    config: ClipConfig, vocabulary: Tensor, *, weights: bool = True, keywords: bool = True
) -> ClipEncoder:
    """Build the CLIP that a configuration describes.

    Args:
        config: model, weights, activation.
        vocabulary: original BPE ids of the codebook, (V,).
        weights: whether to load pretrained weights; False where a checkpoint will fill them.
        keywords: whether keywords are to be encoded; without them any image tower will do.

    Raises:
        EncoderError: the model is not available, or keywords are wanted and its text encoder does
            not read CLIP's tokens.
    """
    if config.pretrained == SHIPPED:
        shipped = load_shipped(
            shipped_folder("clip"), vocabulary, trainable=config.trainable, weights=weights
        )
        if config.image_resize != shipped.image_resize:
            raise EncoderError(
                "the mini CLIP that ships was trained on images of another resizing; set "
                f"model.clip.image_resize={shipped.image_resize}"
            )
        return shipped
    if config.quick_gelu is None:
        config = replace(config, quick_gelu=uses_quick_gelu(config))
    fetched = bool(config.pretrained) and weights and config.pretrained != EFFICIENTNET
    values = config.architecture or open_clip.get_model_config(config.name)
    clip: Clip
    if config.name.startswith(TIMM):
        if keywords:
            raise _other_text_encoder(config.name)
        clip = _timm_tower(config, fetched)
    elif values is None:
        raise EncoderError(f"open_clip knows no model '{config.name}'")
    elif not _reads_bpe(values):
        if keywords or "multimodal_cfg" in values:
            raise _other_text_encoder(config.name)
        visual = _load_pretrained(config).visual if fetched else _without_weights(config, values, 0)
        clip = ImageTower(visual, values["embed_dim"])
    elif fetched:
        clip = _load_pretrained(config)
    else:
        size = len(vocabulary) if config.architecture else BPE_SIZE
        clip = _without_weights(config, values, size)
        if weights and config.pretrained == EFFICIENTNET:
            load_efficientnet_lite0(image_trunk(clip))
    return ClipEncoder(
        clip, vocabulary, trainable=config.trainable, image_resize=config.image_resize
    )


def load_shipped(
    folder: Path, vocabulary: Tensor | None = None, *, trainable: bool = False, weights: bool = True
) -> ClipEncoder:
    """Load a mini CLIP as the package ships it; its image trunk comes from a package of its own.

    Args:
        folder: folder with `config.json` and `model.safetensors`.
        vocabulary: original BPE ids, (V,), a subset of its own in any order; None: its own.
        trainable: see `ClipConfig`.
        weights: whether to load weights, or build the architecture only.

    Raises:
        EncoderError: the folder is damaged, or lacks tokens of the vocabulary.
    """
    try:
        about = _read_about(folder)
        stored = load_file(folder / WEIGHTS)
        known = check_vocabulary(stored.pop("vocabulary"), str(folder))
        state = {name: value.float() for name, value in stored.items()}
        vocabulary = known if vocabulary is None else vocabulary
        architecture = about["architecture"]
        text = {**architecture["text_cfg"], "vocab_size": len(vocabulary)}
        config = ClipConfig(
            name=SHIPPED,
            pretrained=EFFICIENTNET,
            architecture={**architecture, "text_cfg": text},
            quick_gelu=about["quick_gelu"],
            trainable=trainable,
            image_resize=about["image_resize"],
        )
        table = state[TOKENS]
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise _damaged(folder, error) from error
    row_of = {token: row for row, token in enumerate(known.tolist())}
    missing = [token for token in vocabulary.tolist() if token not in row_of]
    if missing:
        raise EncoderError(
            f"the mini CLIP lacks {len(missing)} of the vocabulary's {len(vocabulary)} tokens; "
            "set model.clip.vocabulary=mini"
        )
    encoder = build_clip(config, vocabulary, weights=weights).eval()
    if weights:
        state[TOKENS] = table[[row_of[token] for token in vocabulary.tolist()]]
        own = {name for name in encoder.state_dict() if not name.startswith(TRUNK)}
        if own - {"vocabulary"} != state.keys():
            raise _damaged(folder, "it does not fit its configuration")
        encoder.load_state_dict(state, strict=False)
    return encoder


def uses_quick_gelu(config: ClipConfig) -> bool:
    """Determine the activation of a configuration's CLIP, and warn where it is a guess.

    A wrong activation loads without an error and only computes worse embeddings.
    """
    if config.pretrained == SHIPPED:
        return bool(_read_about(shipped_folder("clip"))["quick_gelu"])
    if config.name.startswith(TIMM):
        return False  # timm's networks have their own
    trained = _trained_with_quick_gelu(config)
    if config.quick_gelu is None:
        if trained is None and config.pretrained not in ("", EFFICIENTNET):
            logger.warning(
                "CLIP weights '%s' do not say their activation; assuming QuickGELU, as in OpenAI's "
                "(set model.clip.quick_gelu=false for weights trained with GELU)",
                config.pretrained,
            )
        return trained is None or trained
    if trained is not None and trained != config.quick_gelu:
        logger.warning(
            "CLIP '%s' with weights '%s' was trained with %s; overridden by quick_gelu=%s",
            config.name,
            config.pretrained,
            "QuickGELU" if trained else "GELU",
            str(config.quick_gelu).lower(),
        )
    return config.quick_gelu


def _trained_with_quick_gelu(config: ClipConfig) -> bool | None:
    """Look the activation of an open_clip tag up; None for a file or no weights."""
    tag = open_clip.get_pretrained_cfg(config.name, config.pretrained) if config.pretrained else {}
    if not tag:
        return None
    own = open_clip.get_model_config(config.name) or {}
    return bool(tag.get("quick_gelu", own.get("quick_gelu", False)))


def _read_about(folder: Path) -> dict[str, Any]:
    try:
        about: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(folder, error) from error
    return about


def _damaged(folder: Path, reason: object) -> EncoderError:
    return EncoderError(f"the mini CLIP in '{folder}' is damaged ({reason}); reinstall the package")


def _other_text_encoder(name: str) -> EncoderError:
    return EncoderError(
        f"keywords need a CLIP whose text encoder reads CLIP's own tokens; '{name}' has another: "
        "set model.clip.name to one such as ViT-B-32"
    )


def _reads_bpe(values: Mapping[str, Any]) -> bool:
    """Return whether a model's text encoder is a transformer that reads CLIP's BPE tokens."""
    text = values["text_cfg"]
    other = ("hf_model_name", "hf_tokenizer_name", "embed_cls")
    if any(text.get(key) for key in other) or text.get("pool_type", "argmax") != "argmax":
        return False
    return int(text.get("vocab_size", 0)) <= BPE_SIZE


def _timm_tower(config: ClipConfig, fetched: bool) -> ImageTower:
    name = config.name.removeprefix(TIMM)
    try:
        trunk: Any = timm.create_model(name, pretrained=fetched, num_classes=0)
    except Exception as error:
        # timm and the Hub client raise many kinds for one cause: there is no such network.
        raise EncoderError(f"timm has no network '{name}' ({first_line(error)})") from error
    about = timm.data.resolve_data_config({}, model=trunk)
    trunk.image_size = tuple(about["input_size"][1:])
    trunk.image_mean, trunk.image_std = about["mean"], about["std"]
    return ImageTower(trunk, int(trunk.num_features))


def _load_pretrained(config: ClipConfig) -> Any:
    try:
        if _is_torchscript(Path(config.pretrained)):
            return _load_openai_release(config)
        return open_clip.create_model(
            config.name,
            pretrained=config.pretrained,
            force_quick_gelu=bool(config.quick_gelu),
            force_preprocess_cfg=_preprocessing(config),
        )
    except EncoderError:
        raise
    except Exception as error:
        # open_clip and the Hub client raise many kinds for one cause: the weights are not there.
        raise EncoderError(
            f"CLIP '{config.name}' with weights '{config.pretrained}' is not available "
            f"({first_line(error)}): give the file of its weights "
            "(open_clip_model.safetensors or OpenAI's .pt) with --clip PATH, or go online once"
        ) from error


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _load_openai_release(config: ClipConfig) -> nn.Module:
    """Load OpenAI's .pt, which is a program as well as weights: only the released file is run."""
    path = Path(config.pretrained)
    digest = file_hash(path)
    if digest not in open_clip.get_pretrained_cfg(config.name, "openai").get("url", "").split("/"):
        raise EncoderError(
            f"'{path}' is a TorchScript program and not OpenAI's release of {config.name}; it is "
            "not run: give open_clip_model.safetensors with --clip PATH"
        )
    return load_openai_model(str(path), precision="fp32", device="cpu")


def _preprocessing(config: ClipConfig) -> dict[str, Any]:
    """Return how images are prepared for a model's weights; for a file, as for its first tag."""
    tags = open_clip.list_pretrained_tags_by_model(config.name)
    of_tag = open_clip.get_pretrained_cfg(config.name, config.pretrained)
    if of_tag or not tags:
        return {key: of_tag[key] for key in PREPROCESSING if key in of_tag}
    known = [open_clip.get_pretrained_cfg(config.name, tag) for tag in tags]
    ways = [{key: one[key] for key in PREPROCESSING if key in one} for one in known]
    others = [tag for tag, way in zip(tags, ways, strict=True) if way != ways[0]]
    if others:
        logger.warning(
            "images are prepared for '%s' as for the weights %s of %s; where it holds those of %s, "
            "name that tag in model.clip.pretrained instead",
            *(config.pretrained, tags[0], config.name, ", ".join(others)),
        )
    return ways[0]


def _without_weights(config: ClipConfig, values: Mapping[str, Any], vocabulary_size: int) -> Any:
    """Build a model, or with a vocabulary of 0 its image half, with random weights."""
    vision = dict(values["vision_cfg"])
    mean, std = vision.pop("image_mean", None), vision.pop("image_std", None)
    custom = values.get("custom_text") or not vocabulary_size
    text = {"vocab_size": vocabulary_size, **values["text_cfg"]} if vocabulary_size else NO_TEXT
    clip = (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(
        embed_dim=values["embed_dim"],
        vision_cfg=vision,
        text_cfg=text,
        quick_gelu=config.quick_gelu,
    )
    tag = _preprocessing(config) if config.pretrained else {}
    if mean is not None:
        clip.visual.image_mean, clip.visual.image_std = tuple(mean), tuple(std)
    elif tag:
        # A checkpoint fills the weights of a model that open_clip knows how to preprocess for.
        known = {**asdict(PreprocessCfg(clip.visual.image_size)), **tag}
        set_model_preprocess_cfg(clip, {key: known[key] for key in PREPROCESSING})
    return clip if vocabulary_size else clip.visual
