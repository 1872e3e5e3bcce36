"""The released SpeechCLIP and SpeechCLIP+ checkpoints, without their code.

    python -m s3prl_speechclip.checkpoints convert official.ckpt FOLDER

A converted model computes what the official code does. Where that differs from the default, the
configuration of the converted model says so:

`batch_invariant: false`
    Padding enters HuBERT Base's group norm, the CIF convolution and the keywords' batch norm, which
    in training also holds what CIF has not fired; the padding mask is folded from the waveform's as
    fairseq does; a frame count is samples / 320 rounded, at most the encoder's. With `true` an
    utterance's output depends on itself alone: masked statistics, exact masks and counts.
`cif.dropout: 0.5`
    In the CIF weight network, whatever the file's `conv_cif_dropout` says.
`cif.frames_per_keyword: 20`
    The quantity loss asks for frames / 20 keywords, rounded to even at halves.
`cif.max_fires: 75`
    Maximum number of keywords.
`objective.max_logit_scale: 0`
    The scale is learned as log(1 / temperature), without an upper bound.
`keywords.banned_rows: [0, 2, 3]`
    Rows of the vocabulary that are never chosen, whatever they are; in the released vocabularies
    they are padding, start and end of text. `[]` means these three wherever they are.
`speech_encoder.normalize_layers`, `speech_encoder.normalize_waveform`
    As in the file, and by the form of its HuBERT (Large: normalised).
"""

from __future__ import annotations

import math
from pathlib import Path

import torch

from ...hashing import file_hash
from ..native import StoredModel
from .branch import convert_branch, official_variant
from .clip import convert_clip
from .hubert import convert_hubert
from .ledger import Ledger
from .reading import open_official
from .settings import corpus, model_config

__all__ = ["convert_official", "read_official"]


def read_official(path: Path) -> StoredModel:
    """Read an official SpeechCLIP or SpeechCLIP+ checkpoint.

    Nothing is downloaded: the encoders are in the file. Nothing in the file is run.

    Raises:
        CheckpointError: it is damaged, refers to classes that such files do not hold, or holds
            weights or settings that this version does not know.
    """
    return convert_official(path)[0]


def convert_official(path: Path, digest: str = "") -> tuple[StoredModel, Ledger]:
    """Read an official checkpoint, with the account of its weights; see `read_official`.

    Args:
        path: the file.
        digest: its SHA-256; empty: to be computed.
    """
    official = open_official(path)
    settings = official.settings
    ledger = Ledger(official.state, str(path))
    variant = official_variant(settings)
    speech = convert_hubert(ledger, settings)
    clip, vocabulary = convert_clip(ledger, str(path))
    shape = convert_branch(ledger, variant)
    ledger.close()
    learned_scale = "criterion.temperature" in ledger
    config = model_config(
        settings,
        variant,
        speech=speech,
        clip=clip,
        shape=shape,
        vocabulary=vocabulary,
        learned_scale=learned_scale,
    )
    # A fixed value is a buffer here and may be no weight there.
    if not learned_scale:
        log_scale = -math.log(config.objective.temperature)
        ledger.add("contrast.log_scale", torch.tensor(log_scale))
    if variant.keywords and "branch.head.quantizer.temperature" not in ledger.native:
        ledger.add("branch.head.quantizer.temperature", torch.tensor([config.keywords.temperature]))
    about = {
        "source": f"official {variant.paper_name} checkpoint",
        "file": path.name,
        "sha256": digest or file_hash(path),
        "corpus": corpus(settings),
        "step": official.step,
        "epoch": official.epoch,
    }
    return StoredModel(config, ledger.native, about=about), ledger
