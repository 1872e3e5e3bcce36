"""Evaluation of the mini encoders: words by linear probes, unseen pictures by captions."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ...benchmarks.formulas.retrieval_scores import image_recall
from ...data.audio import read_audio
from ...data.manifest import Manifest, Utterance, Word
from ...encoders.clip import load_shipped
from ...encoders.image_features import load_image_table
from ...encoders.speech import build_speech_encoder
from ...errors import CorpusError
from ...hashing import file_hash
from ...model.config import SpeechEncoderConfig
from ...results import result_record
from ...structures import HOP, SAMPLE_RATE, WINDOW, TaskResult
from ..sets.stamps import UNSEEN
from ..synthesis.voices import HELD_OUT_VOICES
from .units import Array, Features, encoded, hidden_states, mfcc

STEPS = 50  # of L-BFGS
PENALTY = 1e-3  # weight of the squared weights beside the mean cross-entropy
TRAINED_ON = ("flite-slt", "flite-awb", "flite-kal16", "espeak-en-us", "espeak-en-us+f3")
TESTED_ON = tuple(HELD_OUT_VOICES)
"""The stamps' synthetic voices; these are never trained on, HuBERT included."""
FEWEST = 2  # training captions that a word is in
WORDS = {
    "words": f"word times in read captions; trained on {', '.join(TRAINED_ON)}, tested on "
    f"{', '.join(TESTED_ON)}, captions of images that are not trained on; words of {FEWEST} or "
    "more training captions, by the mean of their frames",
    "normalisation": "zero mean and unit variance per speaker, of frames, for all features",
    "probe": "one linear layer, L-BFGS",
    "mfcc": "13 coefficients with first and second differences",
    "layer_0": "what enters the first transformer layer",
}

PICTURES = {
    "recall": "percent of queries with a right answer among the first k; zero-shot, by cosine",
    "text_to_image": "queries: the distinct written captions; right: the image with its id",
    "image_to_text": "right: any caption with the image's id",
    "candidates": "stamps that share a caption, a recording or a picture are one image, the first",
    "ties": "a wrong candidate with the right one's score is placed before it",
}

Examples = tuple[Array, NDArray[np.str_]]
"""Features of N words, (layers, N, D), or (N, D) of one layer, and the words, (N,)."""


def evaluate_hubert(folder: Path, stamps: Manifest) -> TaskResult:
    """Probe a HuBERT that ships for words, beside the spectrum of what it reads.

    Raises:
        EncoderError: the folder holds no such model.
        CorpusError: the corpus has no word times.
    """
    started = time.perf_counter()
    train = list(_readings(stamps, TRAINED_ON, ("train",)))
    test = list(_readings(stamps, TESTED_ON, ("test_image", "dev_image")))
    captions = Counter(word for word, _ in {(w.text, u.caption) for u, w in train})
    common = {word for word, count in captions.items() if len(word) > 1 and count >= FEWEST}
    known = common & {word.text for _, word in test}
    if len(known) < 2:
        raise CorpusError("the stamps have no words in both training and test captions")
    config = SpeechEncoderConfig(name=str(folder), pretrained=True, normalize_waveform=True)
    encoder = build_speech_encoder(config, batch_invariant=True).float().eval()
    scores = {}
    for name, encode in (("mfcc", mfcc), ("trained", partial(hidden_states, encoder))):
        features, words = _examples(encode, stamps, train, known)
        tested, expected = _examples(encode, stamps, test, known)
        for layer, (own, other) in enumerate(zip(features, tested, strict=True)):
            feature = name if name == "mfcc" else f"{name}/layer_{layer}"
            scores[feature] = word_probe((own, words), (other, expected))
    said = Counter(word.text for _, word in test if word.text in known)
    metrics = {"words": scores, "chance": {"words": 100 * max(said.values()) / said.total()}}
    return result_record(
        started=started, task="probe", metrics=metrics, protocol=WORDS, **_about(folder)
    )


@torch.no_grad()
def evaluate_clip(folder: Path, stamps: Manifest) -> TaskResult:
    """Measure zero-shot retrieval between written captions and unseen images, beside chance."""
    started = time.perf_counter()
    encoder = load_shipped(folder)
    metrics: dict[str, Any] = {}
    for split in UNSEEN:
        distinct = {(u.caption, u.pair_id): u for u in stamps.split(split)}
        captions = [distinct[key] for key in sorted(distinct)]
        ids = {u.image: u.pair_id for u in stamps.split(split)}
        images, _ = load_image_table(
            encoder, stamps, (split,), skip_broken=False, show_progress=False
        )
        texts = encoder.encode_text([u.caption for u in captions])
        found = image_recall(
            {"trained": texts},
            torch.tensor([u.pair_id for u in captions]),
            captions,
            encoder.embed_image_features(images.of(list(ids))),
            torch.tensor(list(ids.values())),
        )
        metrics[split] = {
            "texts": len(captions),
            "images": found["images"],
            "chance": _written(found["chance"]),
            "trained": {
                **_written(found["trained"]),
                "interval_95": _written(found["trained"]["interval_95"]),
            },
        }
    return result_record(
        started=started,
        task="image_text_retrieval",
        metrics=metrics,
        protocol=PICTURES,
        **_about(folder),
    )


def word_probe(train: Examples, test: Examples) -> dict[str, float]:
    """Train a linear layer to tell words by their features, and test it on others.

    Returns:
        `accuracy` in percent, and `class_accuracy`, where every word weighs alike.
    """
    # scikit-learn weighs the sum of the losses by C, and half of the squared weights by 1.
    layer = LogisticRegression(C=1 / (2 * PENALTY * len(train[1])), max_iter=STEPS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        probe = make_pipeline(StandardScaler(), layer).fit(*train)
    features, words = test
    right = probe.predict(features) == words
    by_word = [right[words == word].mean() for word in np.unique(words)]
    return {"accuracy": 100 * float(right.mean()), "class_accuracy": 100 * float(np.mean(by_word))}


def _readings(
    stamps: Manifest, voices: Sequence[str], splits: Sequence[str]
) -> Iterator[tuple[Utterance, Word]]:
    """Yield the words, in small letters, of some voices' readings of the captions of splits."""
    seen = {u.caption for u in stamps.utterances if u.split in splits}
    chosen = [u for u in stamps.utterances if u.speaker in voices and u.caption in seen]
    for utterance in {(u.speaker, u.caption): u for u in chosen}.values():
        for word in utterance.words:
            yield utterance, Word(word.text.casefold(), word.start, word.end)


def _examples(
    encode: Features, stamps: Manifest, spoken: Sequence[tuple[Utterance, Word]], known: set[str]
) -> Examples:
    """Average the features over the time of each known word, normalised by speaker."""
    said: dict[str, list[Word]] = {}
    speakers: dict[str, list[str]] = {}
    for utterance, word in spoken:
        if word.text in known:
            said.setdefault(utterance.audio, []).append(word)
            speakers.setdefault(utterance.speaker, []).append(utterance.audio)
    means, words = [], []
    for paths in map(list, map(dict.fromkeys, speakers.values())):
        read = [read_audio(stamps.path(path)) for path in paths]
        features = dict(encoded(encode, read.__getitem__, list(map(len, read))))
        found = {i: frames.reshape(-1, *frames.shape[-2:]) for i, frames in features.items()}
        frames = np.concatenate(list(found.values()), axis=1)
        mean, scale = frames.mean(1), frames.std(1) + 1e-5
        for index, path in enumerate(paths):
            centres = (np.arange(found[index].shape[1]) * HOP + WINDOW / 2) / SAMPLE_RATE
            for word in said[path]:
                within = (centres >= word.start) & (centres < word.end)
                if within.any():
                    means.append((found[index][:, within].mean(1) - mean) / scale)
                    words.append(word.text)
    return np.stack(means, axis=1), np.array(words)


def _written(recall: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the directions of retrieval with speech to those with text."""
    names = {"speech_to_image": "text_to_image", "image_to_speech": "image_to_text", "mean": "mean"}
    return {new: recall[old] for old, new in names.items() if old in recall}


def _about(folder: Path) -> dict[str, Any]:
    """Return the fields that the results of both encoders share."""
    return {
        "system": f"mini_{folder.name}",
        "size": "mini",
        "corpus": "stamps",
        "checkpoint": str(folder),
        "checkpoint_hash": file_hash(folder / "model.safetensors"),
        "seed": 0,
        "mini": True,
    }
