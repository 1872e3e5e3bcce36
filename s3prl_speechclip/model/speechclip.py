"""SpeechClip: speech, images and captions in one space, and keywords of what was said."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import ModelCard, ModelHubMixin, snapshot_download
from torch import Tensor, nn

from .. import checkpoints
from ..checkpoints.native import INSIDE_LIMIT, StoredModel, write_checkpoint
from ..data.audio import read_audio
from ..data.images import open_image
from ..encoders.clip import ClipEncoder, build_clip, uses_quick_gelu
from ..encoders.shipped import ASSETS, SHIPPED
from ..encoders.speech import S3PRL, build_speech_encoder
from ..encoders.vocabulary import CONTEXT, decode
from ..errors import AudioError, CheckpointError, ConfigError, ImageError, unknown_name
from ..hashing import state_hash
from ..modules.layer_mix import LayerMix
from ..modules.losses import EVERY, MaskedInfoNCE, quantity_loss, repetition_loss
from ..modules.padding import pad_waveforms
from ..structures import Keywords, SpeechBatch, SpeechFeatures, SpeechOutput
from .branch import build_branch
from .card import model_card
from .config import ModelConfig, check_model, find_variant, with_segmenter

logger = logging.getLogger(__name__)

ENCODERS = {"speech_encoder": "speech_encoder.model.", "clip": "clip.clip."}
"""Prefix of each encoder's weights."""


class SpeechClip(nn.Module, ModelHubMixin):
    """A model of the SpeechCLIP family.

    Args:
        config: configuration of every part.
        vocabulary: original BPE ids that keywords are chosen from, (V,).
        weights: whether to load pretrained encoders, or names of those that are loaded; False where
            a checkpoint will fill them.

    Raises:
        EncoderError: an encoder is not available.
        ConfigError: no variant has that name, or a number is out of range.
    """

    def __init__(
        self,
        config: ModelConfig,
        vocabulary: Tensor,
        *,
        weights: bool | Collection[str] = True,
    ) -> None:
        super().__init__()
        loaded = (ENCODERS if weights else ()) if isinstance(weights, bool) else weights
        config = replace(config, clip=replace(config.clip, quick_gelu=uses_quick_gelu(config.clip)))
        self.config = config
        self.about: dict[str, Any] = {}
        self.speech_encoder = build_speech_encoder(
            config.speech_encoder,
            batch_invariant=config.batch_invariant,
            weights="speech_encoder" in loaded,
        )
        keywords = find_variant(config.variant).keywords is not None
        self.clip: ClipEncoder = build_clip(
            config.clip,
            vocabulary,
            weights="clip" in loaded,
            keywords=keywords,
        )
        context = self.clip.context if keywords else CONTEXT
        encoder = self.speech_encoder
        check_model(config, encoder.width, encoder.layers, context - 2, len(vocabulary))
        self.layer_mix = LayerMix(
            self.speech_encoder.layers, normalize=config.speech_encoder.normalize_layers
        )
        self.branch = build_branch(config, self.speech_encoder.width, self.clip)
        self.contrast = MaskedInfoNCE(config.objective)
        with torch.no_grad():
            if self.branch.cls is not None:
                self.branch.cls.mul_(config.attention.cls_std)
            head = self.branch.head
            if head is not None and head.norm is not None:
                head.norm.start_from(self.clip.codebook().detach(), config.keywords.norm_scale)

    def forward(
        self,
        speech: SpeechBatch | SpeechFeatures,
        *,
        scaling: bool = False,
        frames: bool = True,
    ) -> SpeechOutput:
        """Encode padded recordings.

        Args:
            speech: 16 kHz recordings, or their stored features.
            scaling: whether CIF scales alpha to the target quantity in training.
            frames: whether to return the branch's own hidden states.
        """
        features: SpeechFeatures = (
            speech if isinstance(speech, SpeechFeatures) else self.speech_encoder(speech)
        )
        mixed = self.layer_mix(features.hidden_states)
        output = self.branch(mixed, features, self.clip, scaling=scaling, frames=frames)
        return replace(output, hidden_states=features.hidden_states + output.hidden_states)

    def objective(
        self, output: SpeechOutput, images: Tensor, pair_ids: Tensor, rows: slice = EVERY
    ) -> dict[str, Tensor]:
        """Compute the weighted loss terms of a batch.

        Args:
            output: output for the recordings.
            images: unit vectors, (B, E), in the same order.
            pair_ids: (B,) int64; rows with one id are not negatives of each other.
            rows: see `MaskedInfoNCE`.

        Returns:
            Scalars by name; training minimises their sum.
        """
        config = self.config.objective
        weights = {"parallel": config.parallel_weight, "cascaded": config.cascaded_weight}
        losses = {
            name: weights[name] * self.contrast(embedding, images, pair_ids, rows)
            for name, embedding in output.embeddings.items()
        }
        if output.firing is not None:
            loss = quantity_loss(output.firing.quantity, output.firing.target)
            losses["quantity"] = self.config.cif.quantity_weight * loss
        chosen = output.keywords
        if config.repetition_weight and chosen is not None and chosen.probabilities is not None:
            loss = repetition_loss(chosen.probabilities, chosen.lengths)
            losses["repetition"] = config.repetition_weight * loss
        return losses

    @torch.no_grad()
    def encode_speech(self, recordings: Sequence[str | Path | Tensor | np.ndarray]) -> SpeechOutput:
        """Encode recordings, in evaluation mode whatever mode the model is in.

        Args:
            recordings: paths of audio files, see `data.audio.read_audio`, or 1-D float tensors or
                NumPy arrays, 16 kHz.

        Returns:
            `.parallel`, `.cascaded` (B, E) unit vectors or None; `.keywords`, with their `.words`,
            or None; `.hidden_states` of (B, T, D) each, `.lengths` (B,) valid frames.

        Raises:
            AudioError: no recording, a file that cannot be read, or an array that is not 1-D,
                floating-point and non-empty, or has samples that are no finite float32.
        """
        if isinstance(recordings, (str, Path)) or recordings is None:
            raise AudioError(f"expected a list of recordings, such as ['{recordings}']")
        waveforms = [read_audio(r) if isinstance(r, (str, Path)) else r for r in recordings]
        speech = pad_waveforms(waveforms)
        finite = speech.waveforms.isfinite().all(1)
        if not finite.all():
            raise AudioError(
                f"recording {int(finite.int().argmin())} has samples that are NaN or infinite"
            )
        speech = speech.to(self.clip.vocabulary.device)
        training = self.training
        self.eval()
        try:
            output: SpeechOutput = self(speech)
        finally:
            self.train(training)
        if output.keywords is None:
            return output
        return replace(output, keywords=replace(output.keywords, words=spell(output.keywords)))

    @torch.no_grad()
    def encode_images(self, images: Tensor | Sequence[str | Path]) -> Tensor:
        """Embed images.

        Args:
            images: paths of image files, see `data.images.open_image`, or pixels (B, 3, H, W),
                output of `clip.preprocess()`.

        Returns:
            (B, E) unit vectors.

        Raises:
            ImageError: a file that cannot be read, or pixels of another shape or not finite.
        """
        if isinstance(images, Tensor):
            if images.ndim == 3 or not images.isfinite().all():
                raise ImageError(
                    "expected finite pixels of shape (B, 3, H, W), as clip.preprocess() makes "
                    f"them, found {images.dtype} of shape {tuple(images.shape)}"
                )
            return self.clip.encode_images(images)
        if isinstance(images, (str, Path)) or images is None:
            raise ImageError(f"expected a list of images, such as ['{images}']")
        paths = list(images)
        if not paths:
            raise ImageError("no images given; expected a list of paths")
        if strange := [one for one in paths if not isinstance(one, (str, Path))]:
            raise ImageError(f"expected paths of images, found a {type(strange[0]).__name__}")
        transform = self.clip.preprocess()
        pixels = torch.stack([transform(open_image(path)) for path in paths])
        return self.clip.encode_images(pixels.to(self.clip.vocabulary.device))

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Embed written captions, one or more; (B, E) unit vectors.

        Raises:
            ConfigError: one caption in place of a list, or none, or one that is no text.
        """
        captions = [] if isinstance(texts, str) or texts is None else list(texts)
        if not captions or not all(isinstance(caption, str) for caption in captions):
            raise ConfigError(f"expected a list of captions, such as ['a dog'], found {texts!r}")
        return self.clip.encode_text(captions)

    @property
    def batch_invariant(self) -> bool:
        """Whether an utterance's output is independent of its batch; see `ModelConfig`."""
        return self.config.batch_invariant

    def trainable_parameters(self) -> int:
        """Count the parameters that training changes."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def stored(self, about: Mapping[str, Any] | None = None) -> StoredModel:
        """Return the model in the form of a checkpoint.

        Args:
            about: origin of the weights; None: as it was loaded.
        """
        state = dict(self.state_dict())
        outside = {}
        for name in self._outside():
            part = self._weights_of(name)
            outside[name] = state_hash(part)
            state = {k: v for k, v in state.items() if k not in part}
        config, speech = self.config, self.config.speech_encoder
        if speech.pretrained and "speech_encoder" not in outside:
            # The folder that the weights came from may be gone when they are loaded again.
            speech = replace(speech, architecture=self.speech_encoder.architecture)
            config = replace(config, speech_encoder=speech)
        return StoredModel(config, state, outside, dict(self.about if about is None else about))

    @classmethod
    def from_stored(cls, stored: StoredModel) -> SpeechClip:
        """Build the model of a checkpoint, in evaluation mode.

        Raises:
            CheckpointError: weights are missing, unknown or of other shapes, or an encoder that
                the checkpoint names is not the one that it was trained with.
        """
        model = cls(stored.config, stored.vocabulary, weights=stored.encoders.keys())
        own = model.state_dict()
        unknown = sorted(set(stored.state) - set(own))
        missing = sorted(
            name
            for name in set(own) - set(stored.state)
            if not any(name.startswith(f"{encoder}.") for encoder in stored.encoders)
        )
        if unknown or missing:
            raise CheckpointError(
                f"the checkpoint does not fit its configuration: {len(missing)} weights missing "
                f"({', '.join(missing[:3])}), {len(unknown)} unknown ({', '.join(unknown[:3])})"
            )
        try:
            model.load_state_dict(dict(stored.state), strict=False)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"the checkpoint does not fit: {reason}") from error
        for name, digest in stored.encoders.items():
            found = state_hash(model._weights_of(name))
            if found != digest:
                raise CheckpointError(
                    f"the checkpoint was trained with another {name} than {model._origin(name)} "
                    f"(SHA-256 {digest[:12]} expected, {found[:12]} found)"
                )
        model.about = dict(stored.about)
        return model.eval()

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        batch_invariant: bool | None = None,
        speech_encoder: str | None = None,
        clip: str | None = None,
        segmenter: str | None = None,
        **hub: Any,
    ) -> SpeechClip:
        """Load a trained model.

        Args:
            pretrained_model_name_or_path: an experiment or checkpoint folder, an official
                SpeechCLIP or SpeechCLIP+ .ckpt, the name of a shipped mini model
                (`speechclip_plus`) or of a checkpoint that the authors released
                (`speechclip/models/large/flickr/parallel`), or a Hugging Face Hub id.
            batch_invariant: replacement for the checkpoint's own `ModelConfig.batch_invariant`;
                None: the checkpoint's own, with which it was trained.
            speech_encoder: folder of the speech encoder, for a checkpoint that only names it.
            clip: file of CLIP's weights, for a checkpoint that only names them.
            segmenter: replacement for `WordsConfig.inference_segmenter` of a `speechclip_words`.
            **hub: options of huggingface_hub's download, such as `revision` and `token`.

        Returns:
            The model in evaluation mode.

        Raises:
            CheckpointError: there is no such checkpoint, or it cannot be used.
            ConfigError: the model has no such segmenter, or there is no such option.
        """
        known = inspect.signature(snapshot_download).parameters
        for name in hub:
            if name not in known:
                raise ConfigError(unknown_name("option of from_pretrained", name, known))
        if not isinstance(batch_invariant, bool | None):
            raise ConfigError(f"batch_invariant must be True or False, found {batch_invariant!r}")
        stored = checkpoints.read(pretrained_model_name_or_path, **hub)
        config = stored.config
        if batch_invariant is not None:
            config = replace(config, batch_invariant=batch_invariant)
        if speech_encoder is not None:
            named = replace(config.speech_encoder, name=speech_encoder)
            config = replace(config, speech_encoder=named)
        if clip is not None:
            config = replace(config, clip=replace(config.clip, pretrained=clip))
        if segmenter is not None:
            config = with_segmenter(config, segmenter)
        return cls.from_stored(replace(stored, config=config))

    def _save_pretrained(self, save_directory: Path) -> None:
        write_checkpoint(Path(save_directory), self.stored())

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """Write the model card that goes with the checkpoint."""
        return ModelCard(model_card(self.config, self.about, self.trainable_parameters()))

    def _outside(self) -> list[str]:
        """Name the encoders that a checkpoint names with a hash instead of holding them."""
        speech, clip = self.config.speech_encoder, self.config.clip
        frozen = {
            "speech_encoder": speech.pretrained and not speech.trainable,
            "clip": bool(clip.pretrained) and not clip.trainable,
        }
        by_name = {name: self._is_shipped(name) for name in frozen}
        by_name["speech_encoder"] |= speech.name.startswith(S3PRL)
        return [
            name
            for name, named in frozen.items()
            if named and (by_name[name] or _size(self.get_submodule(name)) > INSIDE_LIMIT)
        ]

    def _is_shipped(self, name: str) -> bool:
        if name == "clip":
            return self.config.clip.pretrained == SHIPPED
        return self.config.speech_encoder.pretrained and self.config.speech_encoder.name == SHIPPED

    def _weights_of(self, name: str) -> dict[str, Tensor]:
        return {k: v for k, v in self.state_dict().items() if k.startswith(ENCODERS[name])}

    def _origin(self, name: str) -> str:
        if self._is_shipped(name):
            return f"the package's '{ASSETS / ('clip' if name == 'clip' else 'hubert')}'"
        config = self.config.clip if name == "clip" else self.config.speech_encoder
        return f"'{config.name}'"


def spell(keywords: Keywords) -> tuple[tuple[str, ...], ...]:
    """Return the text of each utterance's tokens; a token may be a part of a word."""
    rows = zip(keywords.token_ids.tolist(), keywords.lengths.tolist(), strict=True)
    return tuple(tuple(decode([token]) for token in row[:count]) for row, count in rows)


def _size(module: nn.Module) -> int:
    """Return the size of the parameters, bytes."""
    return sum(p.numel() * p.element_size() for p in module.parameters())
