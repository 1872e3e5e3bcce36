"""The six variants, and the configuration of every part of a SpeechCLIP model."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

from ..errors import ConfigError, unknown_name

Size = Literal["mini", "base", "large", "custom"]


@dataclass(frozen=True)
class Variant:
    """One of the family's architectures."""

    name: str
    """Hub name."""
    paper_name: str
    parallel: bool
    """An utterance embedding from a CLS token of its own."""
    keywords: Literal["cls", "cif", "words"] | None
    """Where keywords come from: a fixed number of CLS tokens, CIF segments, word segments, or
    nowhere."""
    branch: str = "branch"
    """Module of the package `model` that defines its class `Branch`."""


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("speechclip_parallel", "Parallel SpeechCLIP", True, None),
        Variant("speechclip_cascaded", "Cascaded SpeechCLIP", False, "cls"),
        Variant("speechclip_plus", "Cascaded SpeechCLIP+", False, "cif"),
        Variant("speechclip_hybrid", "Hybrid SpeechCLIP", True, "cls"),
        Variant("speechclip_hybrid_plus", "Hybrid SpeechCLIP+", True, "cif"),
        Variant("speechclip_words", "SpeechCLIP by words", False, "words", branch="words"),
    )
}

ENCODER = "speechclip_encoder"
"""Hub name of the speech encoder of any of them, alone."""


def find_variant(name: str) -> Variant:
    """Look a variant up by its hub name.

    Raises:
        ConfigError: no variant has that name; the message names the nearest.
    """
    if name not in VARIANTS:
        raise ConfigError(unknown_name("model", name, VARIANTS))
    return VARIANTS[name]


@dataclass(frozen=True, kw_only=True)
class SpeechEncoderConfig:
    name: str = "facebook/hubert-base-ls960"
    """Hugging Face Hub id, or folder, of a HuBERT, wav2vec 2.0, WavLM or data2vec-audio model;
    `mini`: the HuBERT that the package ships; `s3prl:NAME`: any upstream of s3prl whose frames are
    320 samples apart, frozen."""
    pretrained: bool = True
    """Take weights from `name`; otherwise start from random weights of `architecture`."""
    architecture: dict[str, Any] = field(default_factory=dict)
    """transformers configuration, with its `model_type`; empty: that of `name`."""
    trainable: bool = False
    """Whether the encoder is trained; frozen in the papers."""
    normalize_waveform: bool = False
    """Zero mean and unit variance per recording, as in HuBERT Large's training."""
    normalize_layers: bool = False
    """Layer-normalise every hidden state before the weighted sum."""


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    name: str = "ViT-B-32"
    """open_clip model; without keywords also one with another tokenizer, such as SigLIP's, or
    `timm:NAME`, an image network of timm."""
    pretrained: str = "openai"
    """open_clip tag or path of weights; `mini`: the CLIP that the package ships; empty: random
    weights of the architecture."""
    architecture: dict[str, Any] = field(default_factory=dict)
    """open_clip model configuration; empty: that of `name`."""
    quick_gelu: bool | None = None
    """Activation that the weights were trained with, QuickGELU in OpenAI's; None: as open_clip
    knows for the tag, QuickGELU for a file or random weights."""
    trainable: bool = False
    """Whether text encoder and image projection are trained; all of CLIP is frozen in the
    papers."""
    image_resize: Literal["shortest", "longest"] = "shortest"
    """shortest: resize and crop the centre, as CLIP does; longest: keep the whole image on
    white."""
    vocabulary: str = "corpus"
    """Reduced BPE vocabulary of the quantiser: `flickr8k` or `spokencoco` (the official ones),
    `corpus` (the tokens of the training captions), `mini` (those of the shipped CLIP), `full`, or
    the path of a (V, 2) .npy."""


@dataclass(frozen=True, kw_only=True)
class AttentionConfig:
    kind: Literal["auto", "encoder", "norm"] = "auto"
    """`encoder`: whole transformer layers; `norm`: one attention, residual and layer norm, without
    feed-forward part; `auto`: as published, whole layers in the parallel variant only."""
    heads: int = 8
    layers: int = 1
    """Transformer encoder layers, where `kind` is `encoder`."""
    feedforward: int = 3072
    """Inner width of those layers."""
    dropout: float = 0.1
    norm_eps: float = 1e-5
    norm_first: bool = False
    cls_std: float = 1.0
    """Initial standard deviation of CLS tokens, 1 as published. They enter the residual: with
    small frame states, large ones keep all utterances alike for a long time."""


@dataclass(frozen=True, kw_only=True)
class KeywordConfig:
    number: int = 8
    """Keywords per utterance where they come from CLS tokens."""
    projection: tuple[int, ...] = ()
    """Widths of hidden layers between frames and CLIP's token space; empty: one linear layer."""
    projection_dropout: float = 0.1
    norm: Literal["per_keyword", "shared", "none"] = "per_keyword"
    """Batch norm to the statistics of CLIP's token embeddings; CIF keywords always share one."""
    norm_scale: float = 1.0
    """Factor of the batch norm's initial standard deviation."""
    norm_learnable: bool = True
    temperature: float = 0.1
    """Divides cosine scores in the quantiser's softmax."""
    learn_temperature: bool = False
    straight_through: bool = True
    """Hard tokens forward, soft gradients backward; False: soft in training."""
    gumbel: bool = False
    """Gumbel softmax instead, as an ablation."""
    banned_rows: tuple[int, ...] = ()
    """Rows of the vocabulary that are never chosen; empty: padding, start and end of text. The
    official code bans rows 0, 2 and 3, which are these in the released vocabularies."""


@dataclass(frozen=True, kw_only=True)
class CifConfig:
    conv_width: int = 3
    """Kernel size of the weight network, frames."""
    conv_layers: int = 1
    dropout: float = 0.5
    """0.5 in all released models, whatever their files say."""
    initial_alpha: float | None = None
    """Frame weight that the bias of a new weight network stands for, such as 0.05, a keyword in 20
    frames; None: torch's default, about 0.5."""
    threshold: float = 1.0
    tail_threshold: float = 0.5
    """Smallest remainder that fires one more keyword."""
    max_fires: int = 75
    """Maximum number of keywords: CLIP's 77 positions less start and end of text; fewer where its
    text encoder has fewer."""
    frames_per_keyword: float = 20.0
    """The target of the quantity loss is frames / 20, rounded: a keyword in 0.4 s."""
    scaling_steps: int = 5000
    """Training steps in which alpha is scaled to the target quantity; -1: all, 0: none."""
    quantity_weight: float = 0.25


Segmentation = Literal["times", "cif", "mincut", "windows"]
SEGMENTATIONS = get_args(Segmentation)


@dataclass(frozen=True, kw_only=True)
class WordsConfig:
    """How `speechclip_words` segments and pools frames."""

    segmenter: Segmentation = "times"
    """In training: `times`, the corpus's word times, minimum cut for recordings without; `cif`,
    integrate-and-fire, trained along; `mincut`, minimum cut of a hidden state's self-similarity;
    `windows`, equal parts."""
    inference_segmenter: Literal["", Segmentation] = ""
    """In evaluation; empty: as in training, but `mincut` for `times`, which a bare recording does
    not have. `times` measures with the word times of the corpus."""
    pooling: Literal["mean", "attention"] = "mean"
    """Mean of a segment's frames, or their sum weighted by a learned softmax."""
    frames_per_word: float = 20.0
    """Of windows: 0.4 s."""
    layer: int | None = None
    """Hidden state that minimum cut compares, 0 is the input of the first layer; None: the middle
    one."""
    frames_per_part: float = 8.0
    """Of the parts that minimum cut makes and then merges: 0.16 s, a syllable."""
    merge_above: float = 0.0
    """Cosine of two neighbouring parts' means from which on they are one; 2: never."""

    @property
    def at_inference(self) -> Segmentation:
        """The segmenter in evaluation."""
        if self.inference_segmenter:
            return self.inference_segmenter
        return "mincut" if self.segmenter == "times" else self.segmenter


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    parallel_weight: float = 1.0
    cascaded_weight: float = 1.0
    text_weight: float = 1.0
    """Weight of written captions to images, only if CLIP itself is trained."""
    temperature: float = 0.07
    """Divides cosine scores; the initial value if it is learned."""
    learn_temperature: bool = True
    max_logit_scale: float = 100.0
    """Upper bound of the learned scale; 0: none, as in the official code."""
    margin: float = 0.0
    """Subtracted from the positives' scores."""
    decoupled: bool = False
    """Whether the positive is left out of the denominator (arXiv 2110.06848)."""
    repetition_weight: float = 0.0
    """Weight of the share of an utterance's pairs of keywords that are one token, as loss; 0: none,
    as published. CLS tokens tend to name one word all together. It costs a word as well that CIF
    names twice because it is spoken twice."""
    perplexity_weight: float = 0.0
    """Weight of the keywords' cross entropy under a small language model of captions that are not
    those of the speech; 0: no such model."""
    adversarial_weight: float = 0.0
    """Weight of the loss against a discriminator between keywords and such captions; 0: none."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    variant: str = "speechclip_hybrid"
    size: Size = "base"
    batch_invariant: bool = True
    """Whether an utterance's output is independent of its batch: masked group-norm statistics,
    exact frame counts, nothing read from padding. False as in the official code, with which the
    released checkpoints were trained: padding enters HuBERT Base's group norm, the CIF convolution
    and the keyword norm (in training with what has not fired); a frame count is samples / 320
    rounded; the padding mask is folded from the waveform's."""
    speech_encoder: SpeechEncoderConfig = field(default_factory=SpeechEncoderConfig)
    clip: ClipConfig = field(default_factory=ClipConfig)
    attention: AttentionConfig = field(default_factory=AttentionConfig)
    keywords: KeywordConfig = field(default_factory=KeywordConfig)
    cif: CifConfig = field(default_factory=CifConfig)
    words: WordsConfig = field(default_factory=WordsConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)


def with_segmenter(config: ModelConfig, name: str) -> ModelConfig:
    """Return the configuration with another segmenter in evaluation.

    Raises:
        ConfigError: there is no such segmenter, or the model has none.
    """
    if find_variant(config.variant).keywords != "words":
        raise ConfigError(f"a segmenter is for speechclip_words, not for {config.variant}")
    known: dict[str, Segmentation] = {segmenter: segmenter for segmenter in SEGMENTATIONS}
    if name not in known:
        raise ConfigError(unknown_name("segmenter", name, known))
    return replace(config, words=replace(config.words, inference_segmenter=known[name]))


def check_model(
    config: ModelConfig, width: int, layers: int, most_keywords: int, vocabulary: int
) -> None:
    """Check the numbers of a configuration.

    Args:
        config: configuration of the model.
        width: D of its speech encoder.
        layers: hidden states of its speech encoder.
        most_keywords: positions of its CLIP's text encoder, without start and end of text.
        vocabulary: number of tokens that keywords are chosen from.

    Raises:
        ConfigError: names the key.
    """
    if config.attention.heads < 1 or width % config.attention.heads:
        raise ConfigError(
            f"model.attention.heads must divide the speech encoder's width {width}, found "
            f"{config.attention.heads}"
        )
    if not 1 <= config.keywords.number <= most_keywords:
        raise ConfigError(
            f"model.keywords.number must be 1 to {most_keywords} (CLIP's limit), found "
            f"{config.keywords.number}"
        )
    cif = config.cif
    for name, number in (
        ("attention.layers", config.attention.layers),
        ("attention.feedforward", config.attention.feedforward),
        ("keywords.projection", min(config.keywords.projection, default=1)),
        ("cif.conv_layers", cif.conv_layers),
        ("cif.max_fires", cif.max_fires),
    ):
        if number < 1:
            raise ConfigError(f"model.{name} must be at least 1, found {number}")
    if not all(0 <= row < vocabulary for row in config.keywords.banned_rows):
        raise ConfigError(
            f"model.keywords.banned_rows must be 0 to {vocabulary - 1}, rows of the vocabulary, "
            f"found {list(config.keywords.banned_rows)}"
        )
    if cif.conv_width < 1 or cif.conv_width % 2 == 0:
        raise ConfigError(f"model.cif.conv_width must be odd, found {cif.conv_width}")
    words = config.words
    by_words = find_variant(config.variant).keywords == "words"
    if by_words and words.at_inference == "cif" != words.segmenter:
        raise ConfigError(
            "model.words.inference_segmenter=cif needs a model whose CIF was trained, with "
            f"model.words.segmenter=cif; found {words.segmenter}"
        )
    if by_words and words.layer is not None and not 0 <= words.layer < layers:
        raise ConfigError(
            f"model.words.layer must be 0 to {layers - 1}, a hidden state of the speech encoder, "
            f"found {words.layer}"
        )
    alpha = config.cif.initial_alpha
    if alpha is not None and not 0 < alpha < 1:
        raise ConfigError(f"model.cif.initial_alpha must be between 0 and 1, found {alpha}")
    for name, value in (
        ("objective.temperature", config.objective.temperature),
        ("keywords.temperature", config.keywords.temperature),
        ("cif.threshold", config.cif.threshold),
        ("cif.tail_threshold", config.cif.tail_threshold),
        ("cif.frames_per_keyword", config.cif.frames_per_keyword),
        ("words.frames_per_word", words.frames_per_word),
        ("words.frames_per_part", words.frames_per_part),
    ):
        if value <= 0:
            raise ConfigError(f"model.{name} must be above 0, found {value}")
    for section in ("objective", "cif"):
        for name, value in asdict(getattr(config, section)).items():
            if name.endswith("_weight") and value < 0:
                raise ConfigError(f"model.{section}.{name} must be at least 0, found {value}")
    for name, value in (
        ("attention.dropout", config.attention.dropout),
        ("keywords.projection_dropout", config.keywords.projection_dropout),
        ("cif.dropout", config.cif.dropout),
    ):
        if not 0 <= value < 1:
            raise ConfigError(f"model.{name} must be at least 0 and below 1, found {value}")
