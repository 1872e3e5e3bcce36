"""Models with random weights, small enough to run in milliseconds, that several tests share."""

from __future__ import annotations

from typing import Any

import torch

from s3prl_speechclip.model.config import (
    AttentionConfig,
    ClipConfig,
    KeywordConfig,
    ModelConfig,
    SpeechEncoderConfig,
)
from s3prl_speechclip.model.speechclip import SpeechClip
from s3prl_speechclip.structures import SpeechBatch

# Padding, start and end of text, and the tokens of a few words.
VOCABULARY = torch.tensor([0, 320, 49406, 49407, *range(500, 560)])

SPEECH: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "hubert-base": {"model_type": "hubert"},
    "hubert-large": {
        "model_type": "hubert",
        "feat_extract_norm": "layer",
        "conv_bias": True,
        "do_stable_layer_norm": True,
    },
    "wav2vec2-base": {"model_type": "wav2vec2"},
    "wav2vec2-large": {
        "model_type": "wav2vec2",
        "feat_extract_norm": "layer",
        "conv_bias": True,
        "do_stable_layer_norm": True,
    },
    "wavlm-base": {"model_type": "wavlm"},
    "wavlm-large": {
        "model_type": "wavlm",
        "feat_extract_norm": "layer",
        "do_stable_layer_norm": True,
    },
    "data2vec-audio": {
        "model_type": "data2vec-audio",
        "conv_pos_kernel_size": 5,
        "num_conv_pos_embeddings": 3,
    },
    "unispeech-base": {"model_type": "unispeech"},
    "unispeech-sat-large": {
        "model_type": "unispeech-sat",
        "feat_extract_norm": "layer",
        "conv_bias": True,
        "do_stable_layer_norm": True,
    },
}
SPECTRAL: dict[str, dict[str, Any]] = {
    "whisper": {
        "model_type": "whisper",
        "d_model": 32,
        "encoder_layers": 2,
        "decoder_layers": 1,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 48,
        "max_source_positions": 50,
    },
    "wav2vec2-bert": {
        "model_type": "wav2vec2-bert",
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
    },
}
CLIP: dict[str, Any] = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 32, "head_width": 16, "layers": 1},
    "text_cfg": {"context_length": 77, "width": 16, "heads": 2, "layers": 2},
}


def small_config(variant: str, family: str = "hubert-base", **changes: Any) -> ModelConfig:
    """Configure a small model; `changes` are fields of `ModelConfig`."""
    values: dict[str, Any] = {
        "variant": variant,
        "size": "custom",
        "speech_encoder": SpeechEncoderConfig(
            name="small",
            pretrained=False,
            architecture=SPECTRAL.get(family) or {**SPEECH, **FAMILIES[family]},
            normalize_waveform=family.endswith("large"),
        ),
        "clip": ClipConfig(name="small", pretrained="", architecture=CLIP),
        "attention": AttentionConfig(heads=2, feedforward=48),
        "keywords": KeywordConfig(number=3),
    }
    return ModelConfig(**{**values, **changes})


def small_model(
    variant: str, family: str = "hubert-base", seed: int = 0, **changes: Any
) -> SpeechClip:
    """Make a small model with random weights, in evaluation mode."""
    torch.manual_seed(seed)
    model = SpeechClip(small_config(variant, family, **changes), VOCABULARY)
    with torch.no_grad():
        # As initialised, layers weigh alike and keywords have no statistics of their own.
        model.layer_mix.weights.normal_()
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(std=0.1)
    return model.eval()


def waveforms(*lengths: int, seed: int = 0) -> list[torch.Tensor]:
    """Make noise of given lengths, samples."""
    generator = torch.Generator().manual_seed(seed)
    return [0.1 * torch.randn(length, generator=generator) for length in lengths]


def speech_batch(*lengths: int, seed: int = 0) -> SpeechBatch:
    """Make a padded batch of noise of given lengths, samples."""
    padded = torch.nn.utils.rnn.pad_sequence(waveforms(*lengths, seed=seed), batch_first=True)
    return SpeechBatch(padded, torch.tensor(lengths))


def train(model: SpeechClip, steps: int = 10) -> list[float]:
    """Train on one batch of four pairs; returns the loss at each step."""
    size = model.clip.clip.visual.image_size
    height, width = (size, size) if isinstance(size, int) else size
    images = model.encode_images(torch.randn(4, 3, height, width))
    speech, pairs = speech_batch(4_000, 3_000, 2_000, 5_000), torch.arange(4)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.Adam(weights, lr=3e-3)
    model.train()
    losses = []
    for _ in range(steps):
        loss = torch.stack(list(model.objective(model(speech), images, pairs).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    return losses
