"""Convert the configuration of an official file."""

from __future__ import annotations

import logging
from typing import Any

from ...errors import CheckpointError
from ...model.config import (
    AttentionConfig,
    CifConfig,
    ClipConfig,
    KeywordConfig,
    ModelConfig,
    ObjectiveConfig,
    Size,
    SpeechEncoderConfig,
    Variant,
)
from .branch import BranchShape
from .reading import Settings

logger = logging.getLogger(__name__)

OFFICIAL_CIF_DROPOUT = 0.5  # whatever conv_cif_dropout says
OFFICIAL_BANNED_ROWS = (0, 2, 3)  # padding, start and end of text in the released vocabularies

_BASE = ("facebook/hubert-base-ls960", "ViT-B-32")
_LARGE = ("facebook/hubert-large-ll60k", "ViT-L-14")
_TRANSFORMERS = {"encoder": "TransformerEncoder", "norm": "MultiheadAttentionAndNorm"}
_CORPORA = {"flickr": "flickr8k", "coco": "spokencoco", "places": "places"}


def model_config(
    settings: Settings,
    variant: Variant,
    *,
    speech: dict[str, Any],
    clip: dict[str, Any],
    shape: BranchShape,
    vocabulary: str,
    learned_scale: bool,
) -> ModelConfig:
    """Build the configuration of the converted model.

    It computes what the official code does, see `checkpoints.official`.

    Raises:
        CheckpointError: a setting means something that this version does not compute.
    """
    _refuse_unknown(settings)
    size, hubert_name, clip_name = _size(speech, clip)
    return ModelConfig(
        variant=variant.name,
        size=size,
        batch_invariant=False,
        speech_encoder=SpeechEncoderConfig(
            name=hubert_name,
            pretrained=False,
            architecture=speech,
            trainable=bool(settings.get("audio_encoder.trainable", False)),
            normalize_waveform=speech["do_stable_layer_norm"],
            # The s3prl encoder of the official code has no such switch.
            normalize_layers=settings.get("audio_encoder.type") != "s3prl_plus"
            and bool(settings.get("audio_encoder.normalize_hiddenstates", False)),
        ),
        clip=ClipConfig(
            name=clip_name,
            pretrained="",
            architecture=clip,
            quick_gelu=True,
            trainable=bool(settings.get("clip.text_encoder_trainable", False)),
            vocabulary=vocabulary,
        ),
        attention=_attention(settings, variant, shape),
        keywords=_keywords(settings, shape) if variant.keywords else KeywordConfig(),
        cif=_cif(settings, shape) if variant.keywords == "cif" else CifConfig(),
        objective=_objective(settings, learned_scale),
    )


def corpus(settings: Settings) -> str:
    """Return the name of the corpus that the model was trained on."""
    name = str(settings.get("data.dataset.name", "unknown"))
    return _CORPORA.get(name, name)


def _size(speech: dict[str, Any], clip: dict[str, Any]) -> tuple[Size, str, str]:
    vision = clip["vision_cfg"]
    widths = (speech["hidden_size"], speech["num_hidden_layers"], vision["width"])
    patches = (vision["patch_size"], vision["image_size"])
    if widths == (768, 12, 768) and patches == (32, 224):
        return "base", *_BASE
    if widths == (1024, 24, 1024) and patches == (14, 224):
        return "large", *_LARGE
    return "custom", "custom", "custom"


def _attention(settings: Settings, variant: Variant, shape: BranchShape) -> AttentionConfig:
    """Convert the configuration of the transformer whose weights the file holds.

    A file configures two transformers and its branch has one. The code that stores a hybrid's CLS
    tokens as one parameter made it from the parallel block, unless that is of another type.
    """
    blocks = ["cascaded_branch", "parallel_branch"]
    kind = settings.get("model_settings.cascaded_branch.type", "")
    if variant.keywords is None or (kind == "HybridBranch" and shape.shared_cls):
        blocks.reverse()
    wanted = _TRANSFORMERS[shape.attention]
    for block in blocks:
        where = f"model_settings.{block}"
        found = settings.get(f"{where}.transformer_type", None)
        if settings.get(f"{where}.transformer_args.type", found) == wanted:
            break
    else:
        where = f"model_settings.{blocks[0]}"
    arguments = f"{where}.transformer_args"
    if settings.get(f"{arguments}.activation", "gelu") != "gelu":
        raise CheckpointError(f"'{settings.where}': {arguments}.activation must be gelu")
    encoder = shape.attention == "encoder"
    return AttentionConfig(
        kind="encoder" if encoder else "norm",
        heads=settings.get(f"{arguments}.nhead", 8),
        layers=settings.get(f"{arguments}.n_layers", 1) if encoder else 1,
        feedforward=settings.get(f"{arguments}.dim_feedforward", 3072),
        dropout=settings.get(f"{arguments}.dropout", 0.1),
        norm_eps=settings.get(f"{arguments}.layer_norm_eps", 1e-5),
        norm_first=bool(settings.get(f"{arguments}.norm_first", False)) and encoder,
    )


def _keywords(settings: Settings, shape: BranchShape) -> KeywordConfig:
    branch = "model_settings.cascaded_branch"
    quantizer = settings.get(f"{branch}.vq.type")
    if quantizer != "SimpleVectorQuantizer":
        raise CheckpointError(
            f"'{settings.where}': its quantiser is a {quantizer}; SimpleVectorQuantizer can be read"
        )
    kind, _, temperature = str(settings.get(f"{branch}.vq.args.temp")).partition("=")
    if kind not in ("fixed", "learnable") or not temperature:
        raise CheckpointError(
            f"'{settings.where}': {branch}.vq.args.temp must be fixed=... or learnable=..., found "
            f"'{kind}'"
        )
    scale = settings.get(f"{branch}.keyword.batchnorms.std_scale", 1.0)
    return KeywordConfig(
        number=shape.keywords,
        projection=shape.projection,
        projection_dropout=settings.get(f"{branch}.keyword.kw_projection.dropout", 0.1),
        norm=shape.norm,  # type: ignore[arg-type]
        norm_scale=float(scale[0] if isinstance(scale, list) else scale),
        norm_learnable=bool(settings.get(f"{branch}.keyword.batchnorms.learnable", True)),
        temperature=float(temperature),
        learn_temperature=kind == "learnable",
        straight_through=bool(settings.get(f"{branch}.vq.args.hard", True)),
        gumbel=bool(settings.get(f"{branch}.vq.args.use_gumbel", False)),
        banned_rows=OFFICIAL_BANNED_ROWS,
    )


def _cif(settings: Settings, shape: BranchShape) -> CifConfig:
    cif = "model_settings.cascaded_branch.downsampling.cif"
    threshold = float(settings.get(f"{cif}.cif_threshold", 1.0))
    tail = float(settings.get(f"{cif}.tail_handling_firing_threshold", 0.5))
    if not settings.get(f"{cif}.apply_tail_handling", True):
        tail = 2 * threshold  # no remainder is as large
    steps = int(settings.get(f"{cif}.scaling_step", -1))
    if settings.get("model_settings.cascaded_branch.downsampling.using_gt_len", False):
        logger.warning(
            "'%s' was trained with the captions' token counts as CIF's targets; continued training "
            "uses a keyword per 0.4 s instead",
            settings.where,
        )
    return CifConfig(
        conv_width=shape.conv_width,
        conv_layers=shape.conv_layers,
        dropout=OFFICIAL_CIF_DROPOUT,
        threshold=threshold,
        tail_threshold=tail,
        scaling_steps=steps if settings.get(f"{cif}.apply_scaling", True) else 0,
        quantity_weight=float(settings.get(f"{cif}.quantity_loss_weight", 1.0)),
    )


def _objective(settings: Settings, learned_scale: bool) -> ObjectiveConfig:
    loss = "cl_loss.args"
    return ObjectiveConfig(
        parallel_weight=float(settings.get("model_settings.parallel_objective_weight")),
        cascaded_weight=float(settings.get("model_settings.cascaded_objective_weight")),
        temperature=float(settings.get(f"{loss}.temperature", 0.07)),
        learn_temperature=learned_scale,
        max_logit_scale=0.0,
        margin=float(settings.get(f"{loss}.margin", 0.0)),
        decoupled=bool(settings.get(f"{loss}.dcl", False)),
    )


def _refuse_unknown(settings: Settings) -> None:
    """Refuse settings that would silently compute something else."""
    expected = {
        "cl_loss.type": "MaskedContrastiveLoss",
        "cl_loss.args.a2b": True,
        "cl_loss.args.b2a": True,
        "audio_encoder.feat_select_idx": "weighted_sum",
        "model_settings.image_encoder_projection": None,
        "model_settings.parallel_branch_projection": None,
        "model_settings.cascaded_branch_projection": None,
        "model_settings.parallel_branch.need_projection": True,
    }
    if settings.get("audio_encoder.normalize_hiddenstates", False):
        expected["audio_encoder.normalize_type"] = "s3prl"
    for name, value in expected.items():
        found = settings.get(name, value)
        if found != value:
            raise CheckpointError(
                f"'{settings.where}': {name} is '{found}'; only '{value}' can be read"
            )
